"""Figures of the loop, checked by the data they show."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from lionkit.plots import loop as plots

TABLE = pd.DataFrame(
    {"iteration": [0, 1, 2], "relative_score": [0.3, 0.7, 0.75], "exact_match": [0.0, 0.5, 0.55],
     "hard": [10, 4, 5], "easy": [0, 5, 7], "undecided": [0, 1, 0]}
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_windows() -> Iterator[None]:
    mpl.use("Agg")
    yield
    plt.close("all")


def test_scores_are_percent_by_iteration() -> None:
    ax = plots.scores(TABLE)
    lines = {line.get_label(): list(line.get_ydata()) for line in ax.get_lines()}
    assert lines["relative score, % of the teacher's"] == pytest.approx([30, 70, 75])
    assert lines["answers equal to the teacher's, %"] == pytest.approx([0, 50, 55])
    assert list(ax.get_xticks()) == [0, 1, 2]


def test_iterations_without_a_score_leave_a_gap() -> None:
    ax = plots.scores(TABLE.assign(relative_score=pd.Series([None] * 3, dtype=object)))
    ax.figure.canvas.draw()
    assert pd.isna(list(ax.get_lines()[0].get_ydata())).all()


RUNS = pd.DataFrame(
    [("a", 0, 0.3, 0.25, 0.4), ("b $x$", 0, 0.3, None, None), ("a", 1, 0.7, 0.6, 0.75), ("b $x$", 1, 0.8, 0.7, 0.9)],
    columns=["run", "iteration", "relative_score", "low", "high"],
)


def test_runs_are_compared_as_a_line_each_with_their_intervals() -> None:
    ax = plots.comparison(RUNS)
    ax.figure.canvas.draw()
    lines = {bars.get_label(): bars.lines for bars in ax.containers}
    assert list(lines) == ["a", r"b \$x\$"]
    assert list(lines["a"][0].get_xdata()) == [0, 1]
    assert list(lines["a"][0].get_ydata()) == pytest.approx([30, 70])
    ends = [[part[:, 1].tolist() for part in bars[2][0].get_segments() if len(part)] for bars in lines.values()]
    assert ends[0] == [pytest.approx([25, 40]), pytest.approx([60, 75])]
    assert ends[1] == [pytest.approx([70, 90])]  # no bar without an interval
    assert list(ax.get_xticks()) == [0, 1]


def test_sides_add_up_to_the_pool() -> None:
    ax = plots.pool_sides(TABLE)
    heights = [[bar.get_height() for bar in bars] for bars in ax.containers]
    assert heights == [[10, 4, 5], [0, 5, 7], [0, 1, 0]]
    tops = [bar.get_y() + bar.get_height() for bar in ax.containers[-1]]
    assert tops == [10, 10, 12]
    assert [text.get_text() for text in ax.texts] == ["●", "hard 5", "●", "easy 7", "●", "undecided 0"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1", "2"]


def test_loss_by_step() -> None:
    [line] = plots.loss([3.0, 2.0, 1.5]).get_lines()
    assert list(line.get_xdata()) == [1, 2, 3]
    assert list(line.get_ydata()) == [3.0, 2.0, 1.5]


def test_validation_loss_stands_at_the_ends_of_the_epochs() -> None:
    lines = plots.loss([3.0, 2.0, 1.5, 1.0], validation=[(2, 2.5), (4, 1.8)]).get_lines()
    assert [list(lines[1].get_xdata()), list(lines[1].get_ydata())] == [[2, 4], [2.5, 1.8]]


def test_the_live_plot_is_one_picture_that_is_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[bool, bytes]] = []
    names: set[str] = set()

    def display(picture: Any, *, display_id: str, update: bool) -> None:
        data, metadata = picture._repr_mimebundle_()
        shown.append((update, b64decode(data["image/png"])))
        assert metadata["image/png"]["alt"].startswith("Training loss. across: optimizer step")
        names.add(display_id)

    draw = plots.live_loss()
    monkeypatch.setattr("IPython.display.display", display)
    draw([3.0])
    assert shown == []  # no notebook
    monkeypatch.setattr(plots, "in_kernel", lambda: True)
    draw([3.0])
    draw([3.0, 2.0], [(2, 2.5)])
    draw([3.0, 2.0], [(2, 2.5)])
    assert [update for update, _ in shown] == [False, True, True]
    assert len(names) == 1
    assert shown[0][1] != shown[1][1] == shown[2][1]
    assert shown[0][1].startswith(b"\x89PNG")
    assert plt.get_fignums() == []


@pytest.mark.parametrize("draw", [plots.scores, plots.pool_sides, plots.comparison])
@pytest.mark.parametrize("typed", [True, False])
def test_empty_tables_give_empty_axes(draw: Callable[..., Axes], typed: bool, recwarn: pytest.WarningsRecorder) -> None:
    columns = RUNS if draw is plots.comparison else TABLE
    ax = draw(columns.iloc[:0] if typed else pd.DataFrame({name: [] for name in columns}))
    ax.figure.canvas.draw()
    assert not any(len(line.get_xdata()) for line in ax.get_lines())
    assert not ax.patches
    assert plots.loss([]).get_lines()[0].get_xdata().size == 0
    assert [str(w.message) for w in recwarn] == []


def test_given_axes_are_used_and_nothing_else_is_made() -> None:
    _, ax = plt.subplots()
    for draw, *arguments in (
        (plots.loss, [1.0]), (plots.scores, TABLE), (plots.pool_sides, TABLE), (plots.method,), (plots.comparison, RUNS)
    ):  # fmt: skip
        assert draw(*arguments, ax=ax) is ax
    assert len(plt.get_fignums()) == 1


def test_the_method_names_its_stages() -> None:
    words = " ".join(text.get_text() for text in plots.method().texts)
    for stage in ("Imitation", "Discrimination", "Generation", "train pool", "cache pool"):
        assert stage in words
