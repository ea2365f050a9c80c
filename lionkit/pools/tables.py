"""A pool and its verdicts as tables, a row an instruction: what plots, explorers and notebooks look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from lionkit.records import Instruction, Judgement, Response, Verdict


def verdict_table(verdicts: Iterable[Verdict], tau: float = 1.0) -> pd.DataFrame:
    """One row a verdict. Columns: instruction_id, iteration; teacher_first_teacher, teacher_first_student,
    student_first_teacher, student_first_student (scores by order and role, NaN where unscored or not asked);
    teacher, student, gap (means over the orders, NaN when undecided); label; reason.
    """
    rows = []
    for v in verdicts:
        first, second = v.teacher_first, v.student_first or Judgement(None, None)
        scores = (first.teacher, first.student, second.teacher, second.student, v.teacher_score, v.student_score, v.gap)
        rows.append((v.instruction_id, v.iteration, *scores, v.label(tau), v.reason))
    columns = ("instruction_id iteration teacher_first_teacher teacher_first_student student_first_teacher "
               "student_first_student teacher student gap label reason").split()  # fmt: skip
    table = pd.DataFrame(rows, columns=columns, dtype=object)  # pandas' own str cannot hold a lone surrogate
    return table.astype({"iteration": "int64"} | dict.fromkeys(columns[2:9], "float64"))


def pool_table(
    instructions: Sequence[Instruction],
    teacher: Iterable[Response] = (),
    student: Iterable[Response] = (),
    verdicts: Iterable[Verdict] = (),
    tau: float = 1.0,
) -> pd.DataFrame:
    """One row an instruction, for browsing. Columns: id, instruction, input, category, source, parent, iteration,
    teacher_response, student_response (empty where there is none), and verdict_table's columns from
    teacher_first_teacher on, with label `undecided` where there is no verdict. Of several verdicts the last counts.
    """
    answers = [{r.instruction_id: r.text for r in responses} for responses in (teacher, student)]
    table = pd.DataFrame(
        {
            "id": [i.id for i in instructions],
            "instruction": [i.instruction for i in instructions],
            "input": [i.input for i in instructions],
            "category": [i.category for i in instructions],
            "source": [i.source for i in instructions],
            "parent": [i.parent for i in instructions],
            "iteration": [i.iteration for i in instructions],
            "teacher_response": [answers[0].get(i.id, "") for i in instructions],
            "student_response": [answers[1].get(i.id, "") for i in instructions],
        },
        dtype=object,
    ).astype({"iteration": "int64"})
    scores = verdict_table(verdicts, tau).drop(columns="iteration").drop_duplicates("instruction_id", keep="last")
    table = table.merge(scores, how="left", left_on="id", right_on="instruction_id").drop(columns="instruction_id")
    return table.fillna({"label": "undecided", "reason": "not judged"})
