"""Pools split, grown and freed of duplicates: pure functions on lists of records."""

import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lionkit.errors import LionkitError
from lionkit.records import Instruction, Verdict


class Split(NamedTuple):
    """The cache pool after discrimination; the three lists together are the input, in its order."""

    hard: list[Instruction]
    easy: list[Instruction]
    undecided: list[Instruction]


def split_by_gap(instructions: Sequence[Instruction], verdicts: Iterable[Verdict], tau: float = 1.0) -> Split:
    """hard: gap >= tau; easy: gap < tau; undecided: an order unscored, or no verdict at all (section 3.2).

    Of several verdicts on an instruction the last counts.
    """
    labels = {v.instruction_id: v.label(tau) for v in verdicts}
    split = Split([], [], [])
    for item in instructions:
        getattr(split, labels.get(item.id, "undecided")).append(item)
    return split


def deduplicate(instructions: Sequence[Instruction]) -> tuple[list[Instruction], int]:
    """First of each id, and of each text, in order; and how many were left out."""
    seen: set[str] = set()
    kept = []
    for item in instructions:
        if item.id not in seen and item.text not in seen:
            seen |= {item.id, item.text}
            kept.append(item)
    return kept, len(instructions) - len(kept)


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
        problem = f"{size} instructions cannot be held out of {len(instructions)}"
        raise LionkitError(f"{problem}: give more seeds or a smaller heldout_size", setting="heldout_size")
    rng = random.Random(seed)
    groups: dict[str, list[int]] = {}
    for index in rng.sample(range(len(instructions)), len(instructions)):
        groups.setdefault(instructions[index].category, []).append(index)
    turns = sorted((-place, key, i) for key, group in groups.items() for place, i in enumerate(group, -len(group) + 1))
    chosen = {i for _, _, i in turns[:size]}  # the last of each category first, then the last but one
    rest = [item for i, item in enumerate(instructions) if i not in chosen]
    return rest, [item for i, item in enumerate(instructions) if i in chosen]
