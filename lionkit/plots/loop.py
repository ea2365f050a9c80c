"""Figures of the loop itself: its shape, the training loss, and the scores and pools by iteration.

Each takes a table or a list of numbers and returns the `Axes` it drew on.
"""

import uuid
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lionkit.progress import in_kernel

COLOURS = {"teacher": "#0072B2", "student": "#D55E00", "hard": "#D55E00", "easy": "#009E73", "undecided": "#999999"}
"""Okabe and Ito's palette, told apart by colour-blind readers."""
INK = "#444444"


def axes(ax: Axes | None, width: float = 6.0, height: float = 3.6) -> Axes:
    """The given axes, or new ones on a figure of this size in inches."""
    return ax if ax is not None else plt.subplots(figsize=(width, height), layout="constrained")[1]


def finish(ax: Axes, title: str, xlabel: str, ylabel: str, **legend: Any) -> Axes:
    """A title, the axes' names, and a legend where something has a label; every figure ends with this."""
    ax.set_title(title, fontsize=10)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(**{"fontsize": 8, **legend})
    return ax


def plain(text: object, most: int = 40) -> str:
    """Somebody's text as a label that matplotlib can draw: one line, cut, no formula, no half of a surrogate pair."""
    line = " ".join(str(text).encode("utf-8", "replace").decode().split())
    return (line if len(line) <= most else f"{line[: most - 1]}…").replace("$", r"\$")


def method(ax: Axes | None = None) -> Axes:
    """The loop as a diagram: three stages, what flows between them, who is asked."""
    ax = axes(ax, 9.0, 3.4)
    ax.set(xlim=(0, 10.2), ylim=(0, 3.6))
    ax.axis("off")
    for x, title, text, colour in (
        (1.55, "1 Imitation", "the student is fine-tuned on\nthe teacher's answers", "student"),
        (5.05, "2 Discrimination", "the referee scores both,\nin both orders", "teacher"),
        (8.55, "3 Generation", "new hard and easy\ninstructions, 1:1, novel", "easy"),
    ):
        ax.add_patch(Rectangle((x - 1.4, 1.5), 2.8, 1.5, facecolor="white", edgecolor=COLOURS[colour], linewidth=2))
        ax.text(x, 2.68, title, ha="center", va="center", weight="bold", size=11)
        ax.text(x, 2.05, text, ha="center", va="center", size=9)
    arrow = {"arrowstyle": "-|>", "mutation_scale": 16, "color": INK}
    for x in (2.95, 6.45):
        ax.annotate("", (x + 0.7, 2.25), (x, 2.25), arrowprops=arrow)
    ax.annotate("", (1.5, 1.5), (8.5, 1.5), arrowprops={**arrow, "connectionstyle": "arc3,rad=-0.22"})
    below = "the new instructions replace the train pool and are added to the cache pool"
    ax.text(5.0, 0.28, below, ha="center", size=9)
    ax.text(5.0, 3.35, "teacher, referee and generator are one closed model, asked in three ways", ha="center", size=9)
    return ax


def loss(losses: Sequence[float], ax: Axes | None = None, *, validation: Sequence[tuple[int, float]] = ()) -> Axes:
    """Training loss (nats per supervised token) by optimizer step, and (step, validation loss) where there is one."""
    ax = axes(ax)
    ax.plot(range(1, len(losses) + 1), losses, color=COLOURS["student"], label="training")
    if validation:
        ax.plot(*zip(*validation), color=COLOURS["teacher"], marker="o", label="validation")
    ax.grid(alpha=0.3)
    return finish(ax, "Training loss", "optimizer step", "loss, nats per supervised token")


def live_loss() -> Callable[..., None]:
    """What `loop.imitate` and `student.train` take as `watch`: draws `loss` in the cell and redraws it in place.

    A saved notebook keeps only the last drawing. Outside a notebook nothing is drawn.
    """
    name, drawn = uuid.uuid4().hex, count()

    def draw(losses: Sequence[float], validation: Sequence[tuple[int, float]] = ()) -> None:
        if not in_kernel():
            return
        from IPython.display import Image, display

        figure, png = Figure(figsize=(6.0, 3.6), layout="constrained"), BytesIO()
        loss(losses, figure.subplots(), validation=validation)
        figure.savefig(png)
        display(Image(png.getvalue()), display_id=name, update=next(drawn) > 0)

    return draw


def scores(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Held-out scores by iteration; columns iteration, relative_score and exact_match (shares of 1), and, where there
    are low and high, the relative score's interval."""
    ax = axes(ax)
    percent = 100 * table[table.columns.intersection(["relative_score", "exact_match", "low", "high"])].astype(float)
    if "low" in percent:
        ax.fill_between(table["iteration"], percent["low"], percent["high"], alpha=0.2, label="its 95 % interval")
    ax.plot(table["iteration"], percent["relative_score"], marker="o", label="relative score, % of the teacher's")
    ax.plot(table["iteration"], percent["exact_match"], marker="s", label="answers equal to the teacher's, %")
    ax.set_ylim(0, 105)
    return _by_iteration(ax, table, "%", "Held-out score")


def comparison(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Held-out relative score of several runs by iteration, a line a run in the table's order, with 95 % intervals.

    Columns run, iteration, relative_score, low, high; scores are shares of 1, low and high may be NaN.
    """
    ax = axes(ax)
    for run, rows in table.groupby("run", sort=False):
        score, low, high = (100 * rows[name].to_numpy(float) for name in ("relative_score", "low", "high"))
        ax.errorbar(rows["iteration"], score, [score - low, high - score], marker="o", capsize=3, label=plain(run))
    return _by_iteration(ax, table, "relative score, % of the teacher's", "Held-out score by run")


FLOW = {"easy as before": ("easy", ""), "learned": ("easy", "//"), "lost": ("hard", "xx"), "hard still": ("hard", "")}
"""What can become of an instruction: the side it is on now, and how that is drawn."""


def flow(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """What became of the same instructions since the iteration before, stacked; columns as in `FLOW`, iteration as
    index, counts."""
    ax = _stacked(axes(ax), table.index.astype(str), table, FLOW)
    return finish(ax, "The same instructions, from one iteration to the next", "after iteration", "instructions")


def arms(table: pd.DataFrame, base: str, ax: Axes | None = None) -> Axes:
    """Each arm's relative score less the base's after the last iteration, in points, with its 95 % interval.

    Columns arm, iteration, difference, low, high (shares of 1). An interval that crosses the line shows no difference.
    """
    rows = table[(table["iteration"] == table["iteration"].max()) & (table["arm"] != base)].iloc[::-1]
    ax = axes(ax, 6, 1.0 + 0.35 * len(rows))
    value, low, high = (100 * rows[name].to_numpy(float) for name in ("difference", "low", "high"))
    ax.errorbar(value, rows["arm"].map(plain), xerr=[value - low, high - value], fmt="o", color=INK, capsize=3)
    ax.axvline(0, color=INK, linestyle="--", linewidth=0.8)
    ax.grid(axis="x", alpha=0.3)
    return finish(ax, f"Held-out relative score, less that of the arm {plain(base)!r}", "points, 95 % interval", "")


def _by_iteration(ax: Axes, table: pd.DataFrame, ylabel: str, title: str) -> Axes:
    ax.set_xticks(table["iteration"].unique())
    ax.grid(alpha=0.3)
    return finish(ax, title, "iteration (0 = before training)", ylabel)


def pool_sides(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """The cache pool by iteration, stacked; columns iteration, hard, easy, undecided (counts)."""
    hatches = {"hard": "//", "easy": "", "undecided": ".."}
    parts = {side: (side, hatch) for side, hatch in hatches.items()}
    ax = _stacked(axes(ax), table["iteration"].astype(int).astype(str), table, parts)
    return finish(ax, "Cache pool", "iteration (0 = before training)", "instructions")


def _stacked(ax: Axes, places: Any, table: pd.DataFrame, parts: dict[str, tuple[str, str]]) -> Axes:
    """Bars of counts, one at each place: a part a column, as (side of its colour, hatch), with room for a legend."""
    bottom = np.zeros(len(table), int)
    for name, (side, hatch) in parts.items():
        ax.bar(places, table[name], bottom=bottom, color=COLOURS[side], edgecolor="white", hatch=hatch, label=name)
        bottom = bottom + table[name].to_numpy(int)
    ax.set_ylim(0, 1.35 * bottom.max(initial=1))
    return ax
