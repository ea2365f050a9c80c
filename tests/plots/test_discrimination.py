"""The referee's figures show the table's numbers, use the axes they are given, and bear empty tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from lionkit import plots, pools
from lionkit.records import Instruction, Judgement, Response, Verdict
from lionkit.referee import trust

SCORES: dict[str, Any] = {
    "a": ((9, 7), (8, 8)),  # gap 1: exactly tau, hard
    "b": ((9, 7), (8, 8)),
    "c": ((8, 8), (7, 7.2)),  # gap -0.1
    "d": ((10, 1), (10, 2)),  # gap 8.5
    "e": ((9, 1), None),  # undecided
}
ITEMS = [Instruction(f"q {name}", id=name, category="math" if name in "ad" else "writing") for name in SCORES]
VERDICTS = [
    Verdict(name, *(Judgement(*map(float, s)) if s else Judgement(None, None, reason="unread") for s in orders))
    for name, orders in SCORES.items()
]
ANSWERS = [[Response(i.id, who * n) for n, i in enumerate(ITEMS, start=1)] for who in ("tt", "s")]
TABLE = pools.pool_table(ITEMS, *ANSWERS, VERDICTS)
DRAWINGS: list[Callable[..., Axes]] = [
    plots.score_scatter,
    plots.gap_histogram,
    plots.seat_bias,
    plots.length_bias,
    plots.score_distribution,
    plots.relative_by_category,
    plots.tau_shift,
    lambda table, ax=None: plots.shares(trust.audit(table), ax=ax),
    lambda table, ax=None: plots.agreement(table, table, ax=ax),
]


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def heights(ax: Axes) -> list[float]:
    return [patch.get_height() for patch in ax.patches]  # type: ignore[attr-defined]


def labels(ax: Axes) -> list[str]:
    return ax.get_legend_handles_labels()[1]


def test_scatter_shows_each_distinct_pair_once_by_label() -> None:
    ax = plots.score_scatter(TABLE, tau=1.0)
    hard, easy = ax.collections[:2]
    assert sorted(map(tuple, np.asarray(hard.get_offsets()).tolist())) == [(8.5, 7.5), (10, 1.5)]
    assert np.asarray(easy.get_offsets()).tolist() == [[7.5, 7.6]]
    area = dict(zip(map(tuple, np.asarray(hard.get_offsets()).tolist()), hard.get_sizes()))  # type: ignore[attr-defined]
    assert area[(8.5, 7.5)] > area[(10, 1.5)]
    assert labels(ax)[:2] == ["hard (3)", "easy (1)"]
    assert [text.get_text() for text in ax.texts] == ["4 pairs, 1 undecided"]
    line = ax.get_lines()[1].get_xydata()
    assert np.allclose(line[:, 0] - line[:, 1], 1.0)  # type: ignore[index]
    assert labels(plots.score_scatter(TABLE, tau=1.01))[:2] == ["hard (1)", "easy (3)"]


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0, 2.5, 9.0])
def test_histogram_parts_the_pairs_at_tau(tau: float) -> None:
    ax = plots.gap_histogram(TABLE, tau=tau)
    hard = int((TABLE["gap"] >= tau).sum())
    assert labels(ax) == [f"easy ({4 - hard})", f"hard ({hard})", f"τ = {tau:g}"]
    assert sum(heights(ax)) == 4
    right = sum(p.get_height() for p in ax.patches if p.get_x() >= tau - 1e-9)  # type: ignore[attr-defined]
    assert right == hard
    assert ax.get_lines()[0].get_xdata()[0] == tau  # type: ignore[index]


def test_histogram_holds_the_widest_gaps() -> None:
    extreme = pd.DataFrame({"gap": [-9.0, 9.0, 9.0, -8.9]})
    assert sum(heights(plots.gap_histogram(extreme, tau=0.7))) == 4


def test_seat_lines_are_the_mean_scores_by_seat() -> None:
    ax = plots.seat_bias(TABLE)
    teacher, student = (line.get_ydata() for line in ax.get_lines())
    assert list(teacher) == [9, 8.25]  # type: ignore[arg-type]
    assert list(student) == pytest.approx([6.3, 5.75])  # type: ignore[arg-type]
    assert "0.65 points" in ax.get_title()


def test_categories_show_percent_best_first_with_all_at_the_bottom() -> None:
    ax = plots.relative_by_category(TABLE)
    widths = {t.get_text(): p.get_width() for t, p in zip(ax.get_yticklabels(), ax.patches)}  # type: ignore[attr-defined]
    assert list(widths) == ["all (4)", "math (2)", "writing (2)"]
    assert widths["math (2)"] == pytest.approx(100 * 9 / 18.5)
    assert widths["all (4)"] == pytest.approx(100 * 24.1 / 34.5)


def test_categories_are_drawn_as_short_plain_text_and_never_merge() -> None:
    ax = plots.relative_by_category(TABLE.assign(category=[r"in $\alpha_{$", "x" * 400, "x" * 401, "all", "all"]))
    ax.figure.canvas.draw()
    cut = "x" * 27 + "… (1)"
    names = sorted(t.get_text() for t in ax.get_yticklabels())
    assert names == ["all (1)", "all (4)", r"in \$\alpha_{\$ (1)", cut, cut]


def test_scores_given_are_counted_once_an_order_to_the_nearest_half() -> None:
    scores = [Verdict("a", Judgement(9, 8.5), Judgement(10, 8.26)), Verdict("b", Judgement(1, 10))]
    ax = plots.score_distribution(pools.verdict_table(scores))
    drawn = [{round(bar.get_x() + shift, 6): bar.get_height() for bar in bars if bar.get_height()}
             for bars, shift in zip(ax.containers, (0.2, 0.0))]  # fmt: skip
    assert drawn == [{1: 1, 9: 1, 10: 1}, {8.5: 2, 10: 1}]


def test_scores_of_files_from_elsewhere_are_drawn_where_they_lie() -> None:
    ax = plots.score_distribution(
        pools.verdict_table([Verdict("a", Judgement(0, 12)), Verdict("b", Judgement(0.5, 3))])
    )
    drawn = [sum(bar.get_height() for bar in bars) for bars in ax.containers]
    assert drawn == [2, 2]


def test_distribution_and_lengths_and_agreement() -> None:
    assert sum(heights(plots.score_distribution(TABLE))) == 18
    lengths = plots.length_bias(TABLE).collections[0].get_array()
    assert lengths is not None
    assert np.asarray(lengths).sum() == 4
    other = TABLE.assign(gap=[1.0, 0.5, 0.0, 8.0, 1.0])
    assert labels(plots.agreement(TABLE, other)) == ["same label (3)", "other label (1)"]


def test_tau_shift_and_shares_show_the_audits_rows() -> None:
    found = trust.audit(TABLE).set_index("measure")
    ax = plots.tau_shift(TABLE)
    assert dict(zip(*np.asarray(ax.get_lines()[0].get_xydata()).T))[1.5] == 50  # two of four pairs have a gap of 1
    assert labels(ax) == ["τ = 0.5: 0.0 %", "τ = 1.5: 50.0 %", "τ = 1"]
    ax = plots.shares(found.reset_index())
    drawn = dict(zip((t.get_text() for t in ax.get_yticklabels()), ax.get_lines()[0].get_xdata()))
    assert drawn == {name: 100 * found.loc[name, "value"] for name in drawn}
    assert {"ties", "label flips", "undecided", "sides changed at tau 1.5"} < set(drawn)


@pytest.mark.parametrize("draw", DRAWINGS)
def test_given_axes_are_used_and_no_figure_is_made(draw: Callable[..., Axes]) -> None:
    figure = matplotlib.figure.Figure()  # type: ignore[attr-defined]
    ax = figure.subplots()
    assert draw(TABLE, ax=ax) is ax
    assert plt.get_fignums() == []


def test_tables_without_a_row_or_a_type_give_empty_axes(recwarn: pytest.WarningsRecorder) -> None:
    untyped = pd.DataFrame({name: [] for name in TABLE})
    for draw in [*DRAWINGS[:-2], DRAWINGS[-1]]:
        draw(untyped).figure.canvas.draw()
    found = trust.audit(TABLE)
    for empty in (found.iloc[:0], pd.DataFrame({name: [] for name in found})):
        ax = plots.shares(empty)
        ax.figure.canvas.draw()
        assert not any(len(line.get_xdata()) for line in ax.get_lines())
    assert [str(w.message) for w in recwarn] == []


@pytest.mark.parametrize("draw", DRAWINGS)
def test_empty_and_undecided_tables_draw_without_warnings(
    draw: Callable[..., Axes], recwarn: pytest.WarningsRecorder
) -> None:
    for items, verdicts in (([], []), (ITEMS[:1], []), (ITEMS[4:], VERDICTS[4:])):
        draw(pools.pool_table(items, *ANSWERS, verdicts)).figure.canvas.draw()
    assert [str(w.message) for w in recwarn] == []
