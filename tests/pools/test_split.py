"""Pools: nothing lost or doubled by splitting, holding out and growing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lionkit import pools
from lionkit.errors import LionkitError
from lionkit.records import Instruction, Judgement, Response, Verdict

SCORES = st.one_of(st.none(), st.integers(10, 100).map(lambda n: n / 10))
PAIRS = st.lists(st.tuples(SCORES, SCORES, SCORES, SCORES), max_size=30)


def judged(rows: list[tuple]) -> tuple[list[Instruction], list[Verdict]]:
    items = [Instruction(f"do {n}") for n in range(len(rows))]
    verdicts = [Verdict(i.id, Judgement(a, b), Judgement(c, d)) for i, (a, b, c, d) in zip(items, rows, strict=True)]
    return items, verdicts


@given(PAIRS, st.sampled_from([0.0, 0.5, 1.0, 2.5]))
def test_split_loses_nothing_and_agrees_with_the_scores(rows: list[tuple], tau: float) -> None:
    items, verdicts = judged(rows)
    split = pools.split_by_gap(items, verdicts, tau)
    assert sorted(i.id for part in split for i in part) == sorted(i.id for i in items)
    for name, part in zip(("hard", "easy", "undecided"), split, strict=True):
        for item in part:
            a, b, c, d = rows[items.index(item)]
            if None in (a, b, c, d):
                assert name == "undecided"
            else:  # in tenths, where arithmetic is exact
                twice_gap = round(10 * a) + round(10 * c) - round(10 * b) - round(10 * d)
                assert name == ("hard" if twice_gap >= 20 * tau else "easy")
    assert list(pools.verdict_table(verdicts, tau)["label"]) == [v.label(tau) for v in verdicts]


def test_an_instruction_without_verdict_is_undecided() -> None:
    items, verdicts = judged([(9, 1, 9, 1)])
    extra = Instruction("never judged")
    assert pools.split_by_gap([*items, extra], verdicts).undecided == [extra]


def test_hold_out_is_even_over_categories_and_repeatable() -> None:
    items = [Instruction(f"{c} {n}", category=c) for c in "abc" for n in range(20)]
    rest, held = pools.hold_out(items, 9, seed=3)
    assert sorted(i.category for i in held) == sorted("aaabbbccc")
    assert sorted(i.id for i in rest + held) == sorted(i.id for i in items)
    assert pools.hold_out(items, 9, seed=3) == (rest, held)
    assert pools.hold_out(items, 9, seed=4)[1] != held
    with pytest.raises(LionkitError, match="cannot be held out"):
        pools.hold_out(items, 60, seed=0)


def test_grow_and_deduplicate() -> None:
    a, b, c = Instruction("a"), Instruction("b"), Instruction("a", id="other")
    assert pools.grow([a], [b]) == [a, b]
    with pytest.raises(LionkitError, match="already"):
        pools.grow([a, b], [Instruction("a")])
    assert pools.deduplicate([a, b, a, c]) == ([a, b], 2)


def test_pool_table_joins_by_id_and_keeps_order() -> None:
    items, verdicts = judged([(9, 1, 9, 1), (5, 5, None, 5)])
    extra = Instruction("unjudged", category="x")
    table = pools.pool_table([extra, *items], [Response(items[0].id, "t")], [Response(items[1].id, "s")], verdicts)
    assert list(table["id"]) == [extra.id, *(i.id for i in items)]
    assert list(table["label"]) == ["undecided", "hard", "undecided"]
    assert list(table["teacher_response"]) == ["", "t", ""]
    assert list(table["student_response"]) == ["", "", "s"]
    assert table["gap"].iloc[1] == 8
    assert math.isnan(table["gap"].iloc[2])
    assert table["reason"].iloc[0] == "not judged"


def test_of_several_verdicts_the_last_counts_and_no_row_is_doubled() -> None:
    items, first = judged([(9, 1, 9, 1), (5, 5, 5, 5)])
    again = judged([(5, 6, 5, 6)])[1]
    table = pools.pool_table(items, verdicts=[*first, *again])
    assert list(table["id"]) == [i.id for i in items]
    assert list(table["gap"]) == [-1, 0]
    assert pools.split_by_gap(items, [*first, *again]).hard == []
