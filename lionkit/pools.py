"""Train pool and cache pool: pure functions on lists of records and the tables made from them.

The *train pool* is what the student is fine-tuned on in an iteration; the *cache pool* is what it is
examined on and what novelty is measured against (paper section 3.1). Nothing here reads a model or a
network; files are read by `readers` and re-exported here.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from lionkit.errors import LionkitError
from lionkit.readers import read_instructions as read_instructions
from lionkit.records import Instruction, Judgement, Response, Verdict
from lionkit.reviews import read_fastchat_reviews as read_fastchat_reviews


class Split(NamedTuple):
    """The cache pool after discrimination; the three lists together are the input, in its order."""

    hard: list[Instruction]
    easy: list[Instruction]
    undecided: list[Instruction]


def split_by_gap(instructions: Sequence[Instruction], verdicts: Iterable[Verdict], tau: float = 1.0) -> Split:
    """hard: gap >= tau; easy: gap < tau; undecided: an order unscored, or no verdict at all (section 3.2).

    Of several verdicts on an instruction the last counts.
    """
    by_id = {v.instruction_id: v for v in verdicts}
    split = Split([], [], [])
    for item in instructions:
        verdict = by_id.get(item.id)
        label = "undecided" if verdict is None else verdict.label(tau)
        getattr(split, label).append(item)
    return split


def deduplicate(instructions: Iterable[Instruction]) -> tuple[list[Instruction], int]:
    """First of each id, and of each text, in order; and how many were left out."""
    seen: set[str] = set()
    kept, dropped = [], 0
    for item in instructions:
        if item.id in seen or item.text in seen:
            dropped += 1
            continue
        seen |= {item.id, item.text}
        kept.append(item)
    return kept, dropped


def grow(cache: Sequence[Instruction], new: Sequence[Instruction]) -> list[Instruction]:
    """The cache pool with the new instructions added; refuses an id that is there already."""
    known = {item.id for item in cache}
    for item in new:
        if item.id in known:
            raise LionkitError(f"instruction {item.id} is in the cache pool already: {item.text[:60]!r}")
        known.add(item.id)
    return [*cache, *new]


def hold_out(instructions: Sequence[Instruction], size: int, seed: int) -> tuple[list[Instruction], list[Instruction]]:
    """(rest, held out): `size` instructions set apart, drawn evenly over categories where there are any."""
    if size >= len(instructions):
        raise LionkitError(
            f"{size} instructions cannot be held out of {len(instructions)}: give more seeds or a smaller heldout_size"
        )
    rng = random.Random(seed)
    groups: dict[str, list[int]] = {}
    for index in rng.sample(range(len(instructions)), len(instructions)):
        groups.setdefault(instructions[index].category, []).append(index)
    chosen: set[int] = set()
    while len(chosen) < size:
        for key in sorted(groups):
            if groups[key] and len(chosen) < size:
                chosen.add(groups[key].pop())
    rest = [item for i, item in enumerate(instructions) if i not in chosen]
    return rest, [item for i, item in enumerate(instructions) if i in chosen]


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
