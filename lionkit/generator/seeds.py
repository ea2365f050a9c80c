"""Which instructions of the cache pool seed new ones: the paper's choice by gap, and controls to hold it against.

Each choice fills the two lists that the generator is asked from, so that calls and prompts are the same for all.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean

from lionkit.pools import Split
from lionkit.records import Instruction, Verdict


def choose(split: Split, verdicts: Iterable[Verdict], by: str = "gap", seed: int = 0) -> Split:
    """The split from whose hard and easy instructions new ones are to be made; undecided ones never are.

    `gap` (section 3.3): as it is. `random`: the same sizes, dealt without regard to the gap. `frontier`: of the hard
    ones the half that the student knows in part, by `credit` nearest to 1/2. `none`: as it is, nothing is made of it.
    """
    if by == "random":
        decided = sorted([*split.hard, *split.easy], key=lambda item: item.id)
        random.Random(f"{seed} seeds").shuffle(decided)
        return Split(decided[: len(split.hard)], decided[len(split.hard) :], split.undecided)
    if by == "frontier":
        known = credit([*split.hard, *split.easy], verdicts)
        order = sorted(split.hard, key=lambda item: (abs(known[item.id] - 0.5), item.id))
        return Split(order[: -(-len(order) // 2)], split.easy, split.undecided)
    return split


def credit(instructions: Sequence[Instruction], verdicts: Iterable[Verdict]) -> dict[str, float]:
    """By id, the student's score as a share of the teacher's, at most 1: the mean of the instruction's category.

    An instruction without a category stands for itself. One without scores (a reader's mark made it hard or easy) has
    its category's mean, or 1/2 where nothing of that was scored.
    """
    shares = {v.instruction_id: min(v.student_score / v.teacher_score, 1.0) for v in verdicts if v.scored}
    groups: dict[str, list[float]] = defaultdict(list)
    for item in instructions:
        if item.id in shares:
            groups[item.category or item.id].append(shares[item.id])
    return {item.id: fmean(groups[item.category or item.id] or [0.5]) for item in instructions}


def replayed(cache: Sequence[Instruction], count: int, iteration: int, seed: int = 0) -> list[Instruction]:
    """Old instructions to train on again beside the new ones: `count` of the cache pool, or all where it has fewer."""
    old = sorted(cache, key=lambda item: item.id)
    return random.Random(f"{seed} {iteration} replay").sample(old, min(count, len(old)))
