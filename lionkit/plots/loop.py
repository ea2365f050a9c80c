"""Figures of the loop itself: its shape, the training loss, and the scores and pools by iteration.

Each takes a table or a list of numbers and returns the `Axes` it drew on.
"""

import uuid
from collections.abc import Callable, Sequence
from itertools import count, cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lionkit.markup import visible
from lionkit.plots.alt import carry
from lionkit.plots.style import BODY, COLOURS, INK, OTHERS, TITLE, axes, finish, plain
from lionkit.progress import in_kernel

ITERATION = "iteration (0 = before training)"


def method(ax: Axes | None = None) -> Axes:
    """The loop as a diagram: three stages, what flows between them, who is asked."""
    ax = axes(ax, 8.4, 3.2)
    ax.set(xlim=(0, 10.2), ylim=(0, 3.6))
    finish(ax, "", "", "").axis("off")
    centred: Any = {"ha": "center", "va": "center", "color": INK, "size": BODY}
    for x, title, text, colour in (
        (1.55, "1 Imitation", "the student is fine-tuned on\nthe teacher's answers", "student"),
        (5.05, "2 Discrimination", "the referee scores both,\nin both orders", "teacher"),
        (8.55, "3 Generation", "new hard and easy\ninstructions, 1:1, novel", "teacher"),
    ):
        ax.add_patch(Rectangle((x - 1.45, 1.5), 2.9, 1.5, facecolor="none", edgecolor=COLOURS[colour], linewidth=2))
        ax.text(x, 2.68, title, **{**centred, "size": TITLE}, weight="bold")
        ax.text(x, 2.05, text, **centred)
    arrow = {"arrowstyle": "-|>", "mutation_scale": 16, "color": INK}
    for x in (3.0, 6.5):
        ax.annotate("", (x + 0.6, 2.25), (x, 2.25), arrowprops=arrow)
    ax.annotate("", (1.5, 1.5), (8.5, 1.5), arrowprops={**arrow, "connectionstyle": "arc3,rad=-0.22"})
    ax.text(5.05, 0.28, "the new instructions replace the train pool and are added to the cache pool", **centred)
    ax.text(5.05, 3.35, "teacher, referee and generator are one closed model, asked in three ways", **centred)
    carry(ax, "The loop: " + ". ".join(text.get_text().replace("\n", " ") for text in ax.texts if text.get_text()))
    return ax


def loss(losses: Sequence[float], ax: Axes | None = None, *, validation: Sequence[tuple[int, float]] = ()) -> Axes:
    """Training loss (nats per supervised token) by optimizer step, and (step, validation loss) where there is one."""
    ax = axes(ax)
    ax.plot(range(1, len(losses) + 1), losses, color=COLOURS["student"], linewidth=1.5, label="training")
    if validation:
        ax.plot(*zip(*validation), color=INK, marker="o", label="validation")
    return finish(ax, "Training loss", "optimizer step", "loss, nats per supervised token", grid="both")


def live_loss() -> Callable[..., None]:
    """What `loop.imitate` and `student.train` take as `watch`: draws `loss` in the cell and redraws it in place.

    A saved notebook keeps only the last drawing. Outside a notebook nothing is drawn.
    """
    name, drawn = uuid.uuid4().hex, count()

    def draw(losses: Sequence[float], validation: Sequence[tuple[int, float]] = ()) -> None:
        if not in_kernel():
            return
        from IPython.display import display

        figure = Figure(figsize=(6.0, 3.6), layout="constrained")
        loss(losses, figure.subplots(), validation=validation)
        display(figure, display_id=name, update=next(drawn) > 0)

    return draw


def scores(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Held-out scores by iteration; columns iteration, relative_score and exact_match (shares of 1), and, where there
    are low and high, the relative score's interval."""
    ax = axes(ax)
    percent = 100 * table[table.columns.intersection(["relative_score", "exact_match", "low", "high"])].astype(float)
    colour, at, ends = COLOURS["student"], table["iteration"], []
    if "low" in percent:
        ax.fill_between(at, percent["low"], percent["high"], color=colour, alpha=0.25, linewidth=0)
    for name, label, style in (
        ("relative_score", "relative score, % of the teacher's", "o-"),
        ("exact_match", "answers equal to the teacher's, %", "s--"),
    ):
        ax.plot(at, percent[name], style, color=colour, label=label)
        ends += [(last, colour, f"{name.replace('_', ' ')} {last:.1f} %") for last in percent[name].iloc[-1:]]
    ax.set_ylim(0, 105)
    ax.set_xticks(at.unique())
    counted = "band: 95 % interval" if "low" in percent else ""
    return finish(ax, "Held-out score", ITERATION, "%", counted=counted, direct=ends)


def comparison(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Held-out relative score of several runs by iteration, a line a run in the table's order, with 95 % intervals.

    Columns run, iteration, relative_score, low, high; scores are shares of 1, low and high may be NaN.
    """
    ax = axes(ax, 7.0)
    ends = []
    runs = table.groupby(table["run"].map(visible), sort=False)  # pandas cannot group by a lone surrogate
    for (run, rows), colour, marker in zip(runs, cycle(OTHERS), cycle("os^D")):
        score, low, high = (100 * rows[name].to_numpy(float) for name in ("relative_score", "low", "high"))
        name, around = plain(run), [score - low, high - score]
        ax.errorbar(rows["iteration"], score, around, color=colour, marker=marker, capsize=3, label=name)
        ends.append((score[-1], colour, name))
    ax.set_xticks(table["iteration"].unique())
    return finish(ax, "Held-out score by run", ITERATION, "relative score, % of the teacher's", direct=ends)


FLOW = {"easy as before": ("easy", ""), "learned": ("easy", "//"), "lost": ("hard", "xx"), "hard still": ("hard", "")}
"""What can become of an instruction: the side it is on now, and how that is drawn."""


def flow(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """What became of the same instructions since the iteration before, stacked; columns as in `FLOW`, iteration as
    index, counts."""
    ax = axes(ax)
    ends = _stacked(ax, table.index.astype(str), table, FLOW)
    title = "The same instructions, from one iteration to the next"
    return finish(ax, title, "after iteration", "instructions", direct=ends)


def arms(table: pd.DataFrame, base: str, ax: Axes | None = None) -> Axes:
    """Each arm's relative score less the base's after the last iteration, in points, with its 95 % interval.

    Columns arm, iteration, difference, low, high (shares of 1). An interval that crosses the line shows no difference.
    """
    rows = table[(table["iteration"] == table["iteration"].max()) & (table["arm"] != base)].iloc[::-1]
    ax = intervals(rows["arm"].map(plain), rows[["difference", "low", "high"]], ax)
    ax.axvline(0, color=INK, linestyle="--", linewidth=1)
    title = f"Held-out relative score, less that of the arm {plain(base)!r}"
    return finish(ax, title, "points, 95 % interval", "", grid="x")


def intervals(names: pd.Series, shares: pd.DataFrame, ax: Axes | None) -> Axes:
    """In percent, a row a name from the bottom up: value and interval, the columns of `shares` (of 1) in this order."""
    ax = axes(ax, 6, 1.2 + 0.35 * len(names))
    value, low, high = 100 * shares.to_numpy(float).T
    places = np.arange(len(value))
    ax.errorbar(value, places, xerr=[value - low, high - value], fmt="o", color=INK, capsize=3)
    ax.set_yticks(places, list(names))
    ax.set_ylim(-0.6, max(len(value), 1) - 0.4)
    return ax


def pool_sides(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """The cache pool by iteration, stacked; columns iteration, hard, easy, undecided (counts)."""
    ax, places = axes(ax), table["iteration"].astype(int).astype(str)
    ends = _stacked(ax, places, table, {side: (side, "") for side in ("hard", "easy", "undecided")})
    return finish(ax, "Cache pool", ITERATION, "instructions", direct=ends)


def _stacked(ax: Axes, places: Any, table: pd.DataFrame, parts: dict[str, tuple[str, str]]) -> list[Any]:
    """Bars of counts, one at each place: a part a column, as (side of its colour, hatch); returns the last one's ends.

    A part that no bar has is not named.
    """
    bottom, ends = np.zeros(len(table), int), []
    style: Any = {"width": 0.62, "edgecolor": "white", "linewidth": 0}
    for name, (side, hatch) in parts.items():
        counts = table[name].to_numpy(int)
        ax.bar(places, counts, bottom=bottom, color=COLOURS[side], hatch=hatch, label=name, **style)
        if counts.any():
            ends.append((bottom[-1] + counts[-1] / 2, COLOURS[side], f"{name} {counts[-1]}"))
        bottom = bottom + counts
    ax.set_ylim(0, 1.04 * bottom.max(initial=1))
    return ends
