"""Relative score, wins, interval, categories: by hand, and never over items that one side lacks."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lionkit import pools
from lionkit.errors import LionkitError
from lionkit.evaluate import (
    RelativeScore,
    WinTieLose,
    exact_match,
    harness,
    paired_difference,
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


def test_the_paired_difference_is_over_what_both_were_scored_on() -> None:
    first = [verdict("a", (8, 4)), verdict("b", (10, 5)), verdict("c", (9, 1)), verdict("d", None)]
    second = [
        verdict("b", (10, 9)),
        verdict("a", (8, 6)),
        verdict("c", None),
        verdict("d", (8, 8)),
        verdict("e", (9, 9)),
    ]
    found = paired_difference(first, second)
    assert found.n == 2
    assert found.difference == pytest.approx(15 / 18 - 9 / 18)
    assert (found.low, found.high) == pytest.approx((2 / 8, 4 / 10))  # one of the two redrawn twice
    back = paired_difference(second, first)
    assert (back.difference, back.low, back.high) == pytest.approx((-found.difference, -found.high, -found.low))


def test_the_paired_interval_is_narrow_where_both_vary_alike() -> None:
    first = [verdict(str(i), (9, 1 + i % 8)) for i in range(80)]
    second = [verdict(str(i), (9, 2 + i % 8)) for i in range(80)]  # one point more on each
    found = paired_difference(first, second)
    assert (found.difference, found.low, found.high) == pytest.approx((1 / 9, 1 / 9, 1 / 9))
    assert found == paired_difference(iter(first), iter(second))
    alone = relative_interval(second)
    assert alone[1] - alone[0] > 0.05
    mixed = [verdict(str(i), (9, 2 + (i * 5) % 8)) for i in range(80)]
    wide, other = paired_difference(first, mixed), paired_difference(first, mixed, seed=1)
    assert wide.low < wide.difference < wide.high
    assert (wide.low, wide.high) != (other.low, other.high)
    assert paired_difference(first, first).difference == 0


def test_nothing_in_both_is_nan_and_counts_none() -> None:
    for first, second in (([], []), ([verdict("a", (9, 8))], [verdict("b", (9, 8))]), ([verdict("a", None)], FOUR)):
        found = paired_difference(first, second)
        assert found.n == 0
        assert all(math.isnan(x) for x in (found.difference, found.low, found.high))


def test_categories_in_order_with_all_last() -> None:
    items = [Instruction(n, id=n, category=c) for n, c in zip("abcde", ["math", "generic", "math", "generic", ""])]
    table = relative_by_category(pools.pool_table(items, verdicts=FOUR))
    assert table.to_dict("list")["category"] == ["math", "generic", "none", "all"]
    assert list(table["scored"]) == [2, 1, 0, 3]
    assert list(table["unscored"]) == [0, 1, 1, 2]
    assert list(table["student_total"]) == [16, 4.5, 0, 20.5]
    assert list(table["score"][[0, 1, 3]]) == [16 / 14.5, 0.5, 20.5 / 23.5]
    assert math.isnan(table["score"][2])


def test_categories_named_as_the_total_or_as_none_are_their_own_rows() -> None:
    items = [Instruction(n, id=n, category=c) for n, c in zip("abc", ["all", "none", ""])]
    table = relative_by_category(pools.pool_table(items, verdicts=FOUR[:3]))
    assert list(table["category"]) == ["all", "none", "none", "all"]
    assert list(table["teacher_total"]) == [8.5, 9, 6, 23.5]


def test_exact_match_ignores_spacing_and_incomplete_teacher_answers() -> None:
    teacher = [Response("a", "one two"), Response("b", "three"), Response("c", "four"), Response("d", "x", "truncated")]
    student = [Response("a", " one\ntwo "), Response("b", "Three"), Response("d", "x")]
    assert exact_match(teacher, student) == pytest.approx(1 / 3)
    assert math.isnan(exact_match([], student))


def test_harness_runs_the_tasks_on_base_and_adapter_and_returns_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def simple_evaluate(model: str, **settings: Any) -> dict[str, Any]:
        asked.update(settings, model=model)
        if "no_such_task" in settings["tasks"]:
            raise KeyError("task no_such_task\nnot found")
        arc = {"alias": "arc_easy", "sample_len": 20, "acc,none": 0.45, "acc_stderr,none": 0.1, "acc_norm,none": 0.4}
        maths = {"alias": " - gsm8k", "exact_match,strict-match": 0.0, "exact_match_stderr,strict-match": "N/A"}
        samples = {"arc_easy": {"original": 2376, "effective": 20}, "gsm8k": {"original": 1319, "effective": 20}}
        return {"results": {"arc_easy": arc, "gsm8k": maths}, "n-samples": samples}

    stand_in = ModuleType("lm_eval")
    stand_in.simple_evaluate = simple_evaluate  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lm_eval", stand_in)
    table = harness("my/base", ["arc_easy", "gsm8k"], Path("run/adapter"), limit=20)
    assert asked == {
        "model": "hf", "model_args": {"pretrained": "my/base", "peft": "run/adapter"}, "tasks": ["arc_easy", "gsm8k"],
        "limit": 20, "batch_size": 8, "log_samples": False,
    }  # fmt: skip
    rows = table.astype(object).where(table.notna(), None).to_numpy().tolist()
    assert rows == [
        ["arc_easy", "acc", "none", 0.45, 0.1, 20],
        ["arc_easy", "acc_norm", "none", 0.4, None, 20],
        ["gsm8k", "exact_match", "strict-match", 0.0, None, 20],
    ]
    harness("my/base", ["arc_easy"], batch_size=1)
    assert (asked["model_args"], asked["batch_size"]) == ({"pretrained": "my/base"}, 1)
    with pytest.raises(LionkitError, match="lm-eval on no_such_task: 'task no_such_task.* found'$"):
        harness("my/base", ["no_such_task"])


def test_harness_without_the_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(LionkitError, match="pip install lm-eval$"):
        harness("my/base", ["arc_easy"])
