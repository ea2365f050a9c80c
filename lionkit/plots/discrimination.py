"""What the referee said, in figures: each takes a table of `pools.verdict_table` or `pools.pool_table`.

Undecided pairs have no score to draw; their number stands below the title. Repeated points are drawn once, with an
area that grows with their count, so 70,000 verdicts take no longer than 700.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from lionkit import evaluate
from lionkit.markup import visible
from lionkit.plots.loop import intervals
from lionkit.plots.style import BODY, COLOURS, INK, OTHERS, axes, finish, plain
from lionkit.referee import trust

HARD, EASY = COLOURS["hard"], COLOURS["easy"]
DENSITY = LinearSegmentedColormap.from_list("density", [COLOURS["undecided"], OTHERS[3]])


def _counted(ax: Axes, table: pd.DataFrame, title: str, xlabel: str, ylabel: str, **more: Any) -> Axes:
    """`finish` with a line that counts the table's pairs."""
    undecided = int(table["gap"].isna().sum())
    return finish(ax, title, xlabel, ylabel, counted=f"{len(table) - undecided} pairs, {undecided} undecided", **more)


def _dots(ax: Axes, x: pd.Series, y: pd.Series, colour: str, label: str) -> None:
    points = pd.DataFrame({"x": x, "y": y}).value_counts().reset_index()
    area = 12 + 260 * points["count"] / max(points["count"].max(), 8) if len(points) else 12
    style: Any = {"facecolors": [(colour, 0.5)] * len(points), "edgecolors": colour, "label": f"{label} ({len(x)})"}
    ax.scatter(points["x"], points["y"], s=area, **style)


def score_scatter(table: pd.DataFrame, tau: float = 1.0, ax: Axes | None = None) -> Axes:
    """Teacher's against student's score (both 1 to 10); hard pairs lie on or below the line gap = tau."""
    ax = axes(ax, 4.8, 5.0)
    for label, colour, some in (("hard", HARD, table[table["gap"] >= tau]), ("easy", EASY, table[table["gap"] < tau])):
        _dots(ax, some["teacher"], some["student"], colour, label)
    line = np.array([0.5, 10.5])
    ax.plot(line, line, color=INK, linewidth=0.8)
    ax.plot(line, line - tau, color=INK, linewidth=0.8, linestyle="--", label=f"gap = τ = {tau:g}")
    ax.fill_between(line, line - tau, line, color=INK, alpha=0.08, linewidth=0)
    ax.set(xlim=(0.5, 10.5), ylim=(0.5, 10.5), aspect="equal")
    title = "Scores by role, mean of both orders"
    return _counted(ax, table, title, "teacher's score", "student's score", grid="both")


def gap_histogram(table: pd.DataFrame, tau: float = 1.0, ax: Axes | None = None) -> Axes:
    """Pairs by gap (teacher - student), in bins of half a point that have tau on an edge."""
    ax = axes(ax, 5, 4)
    gaps = table["gap"].dropna().to_numpy()
    edges = list(tau + 0.5 * np.arange(np.floor((-9 - tau) / 0.5), np.ceil((9 - tau) / 0.5) + 2))
    for label, colour, some in (("easy", EASY, gaps[gaps < tau]), ("hard", HARD, gaps[gaps >= tau])):
        ax.hist(some, bins=edges, color=colour, rwidth=0.92, label=f"{label} ({len(some)})")
    ax.axvline(tau, color=INK, linestyle="--", linewidth=1.2, label=f"τ = {tau:g}")
    if len(gaps):
        ax.set_xlim(min(gaps.min(), 0) - 0.75, max(gaps.max(), tau) + 0.75)
    return _counted(ax, table, "How far the student is behind", "gap: teacher's score - student's score", "pairs")


def seat_bias(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Mean score of each role in each seat: flat lines show a fair referee, a slope shows a favoured seat."""
    ax = axes(ax, 5, 4)
    both, ends = table.dropna(subset=trust.SEATS), []
    for role, first, second in (("teacher", 0, 2), ("student", 3, 1)):
        means = both[[trust.SEATS[first], trust.SEATS[second]]].mean().to_numpy()
        ax.plot([0, 1], means, marker="o", color=COLOURS[role], label=role)
        ends.append((means[1], COLOURS[role], role))
    ax.set_xticks([0, 1], ["shown first", "shown second"])
    ax.set(xlim=(-0.3, 1.3), ylim=(0.7, 10.3))
    favoured = f"First seat favoured by {trust.seat_advantage(both).mean():.2f} points"
    return _counted(ax, table, favoured, "", "mean score", direct=ends)


def length_bias(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Gap against length difference (teacher - student, characters), of a `pool_table` with responses."""
    ax = axes(ax, 5, 4)
    decided = table.dropna(subset="gap")
    ax.hexbin(trust.length_difference(decided), decided["gap"], gridsize=30, mincnt=1, cmap=DENSITY, bins="log")
    return _counted(ax, table, "Does the longer answer win?", "teacher's length - student's length, characters", "gap")


def score_distribution(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """How often each score (1 to 10, to the nearest half) was given, by role, all orders."""
    ax = axes(ax, 5, 4)
    for role, shift in (("teacher", -0.1), ("student", 0.1)):
        given = table[[name for name in trust.SEATS if name.endswith(role)]].to_numpy().ravel()
        counts = np.bincount(np.rint(2 * given[~np.isnan(given)]).astype(int), minlength=21)
        low = 0 if counts[:2].any() else 2  # files from elsewhere may hold a 0, or a score beyond 10
        ax.bar(np.arange(low, len(counts)) / 2 + shift, counts[low:], width=0.2, color=COLOURS[role], label=role)
    return _counted(ax, table, "Scores given", "score", "times given")


def agreement(table: pd.DataFrame, other: pd.DataFrame, tau: float = 1.0, ax: Axes | None = None) -> Axes:
    """Gaps of two referees (or runs) on the same instructions; lines at tau divide equal labels from different ones."""
    ax = axes(ax, 4.8, 5.0)
    both = trust.paired_gaps(table, other)
    same = (both["gap_x"] >= tau) == (both["gap_y"] >= tau)
    for label, colour, some in (("same label", INK, both[same]), ("other label", OTHERS[3], both[~same])):
        _dots(ax, some["gap_x"], some["gap_y"], colour, label)
    ax.axvline(tau, color=INK, linestyle="--", linewidth=0.8)
    ax.axhline(tau, color=INK, linestyle="--", linewidth=0.8)
    title = "Do two judgements agree?"
    return _counted(ax, table, title, "gap, first judgement", "gap, second judgement", grid="both")


def tau_shift(table: pd.DataFrame, tau: float = 1.0, ax: Axes | None = None) -> Axes:
    """Share of pairs that change sides when tau is moved, with its 95 % band; half a point up and down is marked."""
    ax = axes(ax, 5, 4)
    moved = trust.sides_by_tau(table, tau)
    at, percent = moved["tau"], 100 * moved[["share", "low", "high"]]
    ax.plot(at, percent["share"], color=INK, drawstyle="steps-mid")
    ax.fill_between(at, percent["low"], percent["high"], step="mid", color=INK, alpha=0.15, linewidth=0)
    for half in (len(moved) // 2 - 5, len(moved) // 2 + 5):
        share = percent["share"][half]
        ax.plot(at[half], share, "o", color=INK, label=f"τ = {at[half]:g}: {share:.1f} %")
    ax.axvline(tau, color=INK, linestyle="--", linewidth=1, label=f"τ = {tau:g}")
    ax.set_ylim(0, None)
    return _counted(ax, table, "How much hangs on τ", "τ moved to", "pairs that change sides, %")


def shares(found: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """The shares of a `referee.audit` table (undecided, flips, ties, changed sides) with their 95 % intervals."""
    rows = found[found["measure"].astype(str).str.contains("undecided|flips|ties|sides")].iloc[::-1]
    ax = intervals(rows["measure"], rows[["value", "low", "high"]], ax)
    ax.set_xlim(0, 1.05 * np.nanmax([*(100 * rows["high"].astype(float)), 10]))
    return finish(ax, "Shares in the audit", "% of pairs, with 95 % interval", "", grid="x")


def relative_by_category(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Student's total over the teacher's, in percent, by category, the best at the top, and over all at the bottom.

    After the paper's figure 4. The number in brackets is the pairs that were scored.
    """
    table = table.assign(category=table["category"].map(visible))  # pandas cannot group by a lone surrogate
    totals = evaluate.relative_by_category(table)
    categories = totals.iloc[:-1].sort_values("score", kind="stable", na_position="first")
    totals = pd.concat([totals.iloc[-1:], categories])
    ax = axes(ax, 7, 1.3 + 0.28 * len(totals))
    percent = 100 * totals["score"].to_numpy()
    places = np.arange(len(totals))
    bars = ax.barh(places, percent, color=COLOURS["student"])
    ax.set_yticks(places, [f"{plain(c)} ({n})" for c, n in zip(totals["category"], totals["scored"])])
    ax.bar_label(bars, fmt="%.1f", padding=3, fontsize=BODY, color=INK)
    ax.axvline(100, color=INK, linestyle="--", linewidth=1)
    ax.set(xlim=(0, 1.15 * np.nanmax([*percent, 100])), ylim=(-0.7, len(totals) - 0.3))
    return _counted(ax, table, "Relative score by category", "student's total score / teacher's, %", "", grid="x")
