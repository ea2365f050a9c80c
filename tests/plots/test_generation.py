"""Figures of the generation stage, checked by the data they show."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.container import BarContainer

from lionkit.generator.lineage import candidate_table, category_table
from lionkit.plots import generation as plots
from lionkit.records import Candidate, Instruction

SEED = Instruction("name a red fruit", id="s")
TABLE = candidate_table(
    [
        Candidate("name a red flower", "hard", "s", "accepted", similarity=0.75),
        Candidate("list two rivers", "hard", "s", "accepted", similarity=0.12),
        Candidate("name a red fruit now", "hard", "s", "rejected", "not novel", similarity=0.88),
        Candidate("", "hard", "s", "rejected", "empty"),
        Candidate("name a fruit", "easy", "s", "rejected", "not novel", similarity=0.93),
    ],
    [SEED],
)


@pytest.fixture(autouse=True)
def _no_windows() -> Iterator[None]:
    mpl.use("Agg")
    yield
    plt.close("all")


def drifted(ax: Axes) -> list[tuple[str, list[float]]]:
    """Each row of `category_drift`, from the top: its name and its share at each iteration."""
    names = [name.get_text() for name in ax.get_yticklabels()]
    return list(zip(names, zip(*([bar.get_width() for bar in bars] for bars in ax.containers))))


def bars_by_label(ax: Axes) -> dict[str, BarContainer]:
    return {bars[0].get_label(): bars for bars in ax.containers if isinstance(bars, BarContainer)}


def test_novelty_histogram_shows_every_measured_candidate_and_the_cut() -> None:
    ax = plots.novelty_histogram(TABLE, 0.7)
    counted = {label: sum(bar.get_height() for bar in bars) for label, bars in bars_by_label(ax).items()}
    assert counted == {"easy (1)": 1, "hard (3)": 3}
    assert [line.get_xdata()[0] for line in ax.get_lines()] == [0.7]
    assert [text.get_text() for text in ax.texts] == ["4 candidates, 1 more rejected before"]


def test_what_equals_the_cut_is_drawn_on_the_side_of_the_accepted() -> None:
    ax = plots.novelty_histogram(candidate_table([Candidate("a", "hard", "s", "accepted", similarity=0.7)]), 0.7)
    (bar,) = (bar for bar in bars_by_label(ax)["hard (1)"] if bar.get_height())
    assert bar.get_x() + bar.get_width() == pytest.approx(0.7)


def test_rejections_are_counted_by_rule_and_kind() -> None:
    ax = plots.rejections(TABLE)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["empty", "not novel"]
    assert {c.get_label(): [bar.get_width() for bar in c] for c in ax.containers} == {"hard": [1, 1], "easy": [0, 1]}
    assert "3 of 5" in ax.get_title()


def test_seed_similarity_is_of_the_accepted_to_their_seed() -> None:
    assert TABLE["seed_similarity"].iloc[0] == 0.75
    assert TABLE["seed_similarity"].iloc[1] == 0
    assert pd.isna(TABLE["seed_similarity"].iloc[3])
    ax = plots.seed_similarity(TABLE)
    assert [i for i, bar in enumerate(bars_by_label(ax)["hard (2)"]) if bar.get_height()] == [0, 14]


def test_category_drift_adds_up_to_the_whole_pool() -> None:
    pool = [Instruction(str(i), category="ab"[i % 2], iteration=i // 4) for i in range(9)]
    table = category_table(pool)
    assert table.to_dict("list") == {"a": [2, 4, 5], "b": [2, 4, 4]}
    ax = plots.category_drift(table)
    assert drifted(ax) == [("a", pytest.approx((50, 50, 500 / 9))), ("b", pytest.approx((50, 50, 400 / 9)))]
    assert [name.get_text() for name in ax.get_xticklabels()] == ["iteration 0", "iteration 1", "iteration 2"]
    starts = [bars[0].get_x() for bars in ax.containers]
    ends = [max(bar.get_x() + bar.get_width() for bar in bars) for bars in ax.containers]
    assert all(end < start for end, start in zip(ends, starts[1:]))  # no iteration reaches into the next


def test_a_category_named_none_is_not_the_missing_one() -> None:
    pool = [Instruction("a"), Instruction("b", category="(none)"), Instruction("c", category="(none)")]
    table = category_table(pool)
    assert table.to_dict("list") == {"": [1], "(none)": [2]}
    ax = plots.category_drift(table)
    assert drifted(ax) == [("(none)", pytest.approx((200 / 3,))), ("(none)", pytest.approx((100 / 3,)))]


def test_rare_categories_are_drawn_as_one() -> None:
    pool = [Instruction(f"{c} {i}", category=c) for c in "abcd" for i in range(5 - "abcd".index(c))]
    ax = plots.category_drift(category_table(pool), most=2)
    assert drifted(ax) == [
        ("a", pytest.approx((500 / 14,))),
        ("b", pytest.approx((400 / 14,))),
        ("(others)", pytest.approx((500 / 14,))),
    ]


def test_a_category_that_looks_like_a_formula_is_drawn_as_text() -> None:
    ax = plots.category_drift(
        category_table([Instruction("x", category="costs $a_{ $"), Instruction("y", category="\ud83d")])
    )
    ax.figure.canvas.draw()
    assert [name for name, _ in drifted(ax)] == [r"costs \$a_{ \$", "⟨U+D83D⟩"]


def test_a_category_named_others_is_not_overwritten() -> None:
    pool = [Instruction(f"{c} {i}", category=c) for c, n in (("(others)", 3), ("a", 2), ("b", 1)) for i in range(n)]
    ax = plots.category_drift(category_table(pool), most=2)
    shares = [share for _, (share,) in drifted(ax)]
    assert shares == pytest.approx([50, 100 / 3, 100 / 6])


def test_rules_are_drawn_as_text() -> None:
    ax = plots.rejections(candidate_table([Candidate("", "hard", "s", "rejected", r"$\frac{$")]))
    ax.figure.canvas.draw()


def test_figures_take_the_axes_they_are_given_and_empty_tables() -> None:
    empty = candidate_table([])
    for draw, table in (
        (plots.novelty_histogram, empty), (plots.rejections, empty), (plots.seed_similarity, empty),
        (plots.category_drift, category_table([])),
    ):  # fmt: skip
        ax = plt.figure().add_subplot()
        assert draw(table, ax=ax) is ax
