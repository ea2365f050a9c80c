"""A pool and its verdicts as tables with a row an instruction, which plots, explorers and notebooks show."""

from collections.abc import Iterable, Sequence

import pandas as pd

from lionkit.records import Instruction, Judgement, Response, Verdict
from lionkit.referee.trust import SEATS

Pool = Sequence[Instruction]
Responses = Iterable[Response]
Verdicts = Iterable[Verdict]


def verdict_table(verdicts: Verdicts, tau: float = 1.0) -> pd.DataFrame:
    """One row a verdict. Columns: instruction_id, iteration; teacher_first_teacher, teacher_first_student,
    student_first_teacher, student_first_student (scores by order and role, NaN where unscored or not asked);
    teacher, student, gap (means over the orders, NaN when undecided); label; reason.
    """
    rows = []
    for v in verdicts:
        first, second = v.teacher_first, v.student_first or Judgement(None, None)
        scores = (first.teacher, first.student, second.teacher, second.student, v.teacher_score, v.student_score, v.gap)
        rows.append((v.instruction_id, v.iteration, *scores, v.label(tau), v.reason))
    numbers = [*SEATS, "teacher", "student", "gap"]
    columns = ["instruction_id", "iteration", *numbers, "label", "reason"]
    table = pd.DataFrame(rows, columns=columns, dtype=object)  # pandas' own str cannot hold a lone surrogate
    return table.astype({"iteration": "int64"} | dict.fromkeys(numbers, "float64"))


def pool_table(
    instructions: Pool, teacher: Responses = (), student: Responses = (), verdicts: Verdicts = (), tau: float = 1.0
) -> pd.DataFrame:
    """One row an instruction, for browsing. Columns: id, instruction, input, category, source, parent, iteration,
    teacher_response, student_response (empty where there is none), and verdict_table's columns from
    teacher_first_teacher on, with label `undecided` where there is no verdict. Of several verdicts the last counts.
    """
    fields = ("id", "instruction", "input", "category", "source", "parent", "iteration")
    columns = {name: [getattr(item, name) for item in instructions] for name in fields}
    for role, responses in (("teacher", teacher), ("student", student)):
        texts = {r.instruction_id: r.text for r in responses}
        columns[f"{role}_response"] = [texts.get(item.id, "") for item in instructions]
    table = pd.DataFrame(columns, dtype=object).astype({"iteration": "int64"})
    scores = verdict_table(verdicts, tau).drop(columns="iteration").drop_duplicates("instruction_id", keep="last")
    table = table.merge(scores, how="left", left_on="id", right_on="instruction_id").drop(columns="instruction_id")
    return table.fillna({"label": "undecided", "reason": "not judged"})
