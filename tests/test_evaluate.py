"""Relative score, wins, interval, categories: by hand, and never over items that one side lacks."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lionkit import pools
from lionkit.evaluate import (
    RelativeScore,
    WinTieLose,
    exact_match,
    relative_by_category,
    relative_interval,
    relative_score,
    win_tie_lose,
)
from lionkit.records import Instruction, Judgement, Response, Verdict

UNREAD = Judgement(None, None, reason="unread")


def verdict(name: str, *scores: tuple[float, float] | None) -> Verdict:
    return Verdict(name, *(Judgement(*s) if s else UNREAD for s in scores))


FOUR = [
    verdict("a", (9, 8), (8, 9)),
    verdict("b", (8, 4), (10, 5)),
    verdict("c", (6, 7), (6, 8)),
    verdict("d", (10, 1), None),
]


def test_totals_pair_both_roles_of_the_same_items() -> None:
    total = relative_score(FOUR)
    assert total == RelativeScore(student_total=20.5, teacher_total=23.5, scored=3, unscored=1)
    assert total.score == 20.5 / 23.5
    assert str(total) == "87.23 % (20.5 : 23.5, 3 scored, 1 unscored)"
    assert relative_score(v for v in FOUR) == total


def test_nothing_scored_is_nan_not_zero() -> None:
    for verdicts in ([], [verdict("a", None, (8, 9))], [verdict("a", None)]):
        total = relative_score(verdicts)
        assert math.isnan(total.score)
        assert (total.scored, total.unscored) == (0, len(verdicts))
        assert all(math.isnan(x) for x in relative_interval(verdicts))


def test_win_tie_lose_from_the_students_side() -> None:
    assert win_tie_lose(FOUR) == WinTieLose(win=1, tie=1, lose=1, undecided=1)
    assert win_tie_lose([]) == WinTieLose(0, 0, 0, 0)


SCORE = st.integers(2, 20).map(lambda n: n / 2)
JUDGED = st.lists(st.tuples(st.tuples(SCORE, SCORE), st.none() | st.tuples(SCORE, SCORE)), max_size=20)


@given(JUDGED)
def test_an_undecided_pair_changes_only_its_count(
    pairs: list[tuple[tuple[float, float], tuple[float, float] | None]],
) -> None:
    verdicts = [verdict(str(i), *pair) for i, pair in enumerate(pairs)]
    total, scored = relative_score(verdicts), [v for v in verdicts if v.scored]
    assert (total.student_total, total.teacher_total) == (
        sum(v.student_score for v in scored), sum(v.teacher_score for v in scored))  # fmt: skip
    assert (total.scored, total.unscored) == (len(scored), len(verdicts) - len(scored))
    assert sum(win_tie_lose(verdicts)) == len(verdicts)


def test_interval_holds_the_score_repeats_itself_and_shrinks() -> None:
    few = [verdict(str(i), (9, 5 + i % 5)) for i in range(20)]
    many = [verdict(str(i), (9, 5 + i % 5)) for i in range(2000)]
    low, high = relative_interval(few)
    assert low < relative_score(few).score < high
    assert relative_interval(few) == (low, high)
    assert relative_interval(few, seed=1) != (low, high)
    narrow = relative_interval(many, draws=500)
    assert narrow[1] - narrow[0] < (high - low) / 5
    assert relative_interval([verdict("a", (8, 4))] * 5) == (0.5, 0.5)


def test_categories_in_order_with_all_last() -> None:
    items = [Instruction(n, id=n, category=c) for n, c in zip("abcde", ["math", "generic", "math", "generic", ""])]
    table = relative_by_category(pools.pool_table(items, verdicts=FOUR))
    assert table.to_dict("list")["category"] == ["math", "generic", "none", "all"]
    assert list(table["scored"]) == [2, 1, 0, 3]
    assert list(table["unscored"]) == [0, 1, 1, 2]
    assert list(table["student_total"]) == [16, 4.5, 0, 20.5]
    assert list(table["score"][[0, 1, 3]]) == [16 / 14.5, 0.5, 20.5 / 23.5]
    assert math.isnan(table["score"][2])


def test_exact_match_ignores_spacing_and_incomplete_teacher_answers() -> None:
    teacher = [Response("a", "one two"), Response("b", "three"), Response("c", "four"), Response("d", "x", "truncated")]
    student = [Response("a", " one\ntwo "), Response("b", "Three"), Response("d", "x")]
    assert exact_match(teacher, student) == pytest.approx(1 / 3)
    assert math.isnan(exact_match([], student))
