"""What the referee said, in pictures: each takes a table of `pools.verdict_table` or `pools.pool_table`.

Undecided pairs have no score to draw; their number stands in the title. Repeated points are drawn once, with an
area that grows with their count, so 70,000 verdicts take no longer than 700.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lionkit import evaluate

HARD, EASY, INK = "#c0504d", "#4f81bd", "#444444"


def _axes(ax: Axes | None, width: float = 5.0, height: float = 4.0) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def _title(ax: Axes, text: str, table: pd.DataFrame) -> None:
    undecided = int(table["gap"].isna().sum())
    ax.set_title(f"{text}\n{len(table) - undecided} pairs, {undecided} undecided", fontsize=10)


def score_scatter(table: pd.DataFrame, tau: float = 1.0, ax: Axes | None = None) -> Axes:
    """Teacher's against student's score (both 1 to 10); hard pairs lie on or right of the line gap = tau."""
    ax = _axes(ax, 4.6, 4.6)
    points = table.dropna(subset="gap").groupby(["teacher", "student", "gap"]).size().rename("count").reset_index()
    largest = max(points["count"].max(), 1) if len(points) else 1
    for label, colour, chosen in (("hard", HARD, points["gap"] >= tau), ("easy", EASY, points["gap"] < tau)):
        some = points[chosen]
        area = 12 + 260 * some["count"] / largest
        name = f"{label} ({some['count'].sum()})"
        ax.scatter(some["teacher"], some["student"], s=area, color=colour, alpha=0.6, linewidths=0, label=name)
    line = np.array([0.5, 10.5])
    ax.plot(line, line, color=INK, linewidth=0.8)
    ax.plot(line, line - tau, color=INK, linewidth=0.8, linestyle="--", label=f"gap = τ = {tau:g}")
    ax.set(xlim=(0.5, 10.5), ylim=(0.5, 10.5), xlabel="teacher's score", ylabel="student's score", aspect="equal")
    ax.legend(loc="lower left", fontsize=8)
    _title(ax, "Scores by role, mean of both orders", table)
    return ax


def gap_histogram(table: pd.DataFrame, tau: float = 1.0, ax: Axes | None = None) -> Axes:
    """Pairs by gap (teacher - student), in bins of half a point that have tau on an edge."""
    ax = _axes(ax)
    gaps = table["gap"].dropna().to_numpy()
    edges = tau + 0.5 * np.arange(np.floor((-9 - tau) / 0.5), np.ceil((9 - tau) / 0.5) + 2)
    for label, colour, some in (("easy", EASY, gaps[gaps < tau]), ("hard", HARD, gaps[gaps >= tau])):
        ax.hist(some, bins=edges, color=colour, alpha=0.8, label=f"{label} ({len(some)})")
    ax.axvline(tau, color=INK, linestyle="--", linewidth=1, label=f"τ = {tau:g}")
    if len(gaps):
        ax.set_xlim(min(gaps.min(), 0) - 0.75, max(gaps.max(), tau) + 0.75)
    ax.set(xlabel="gap: teacher's score - student's score", ylabel="pairs")
    ax.legend(fontsize=8)
    _title(ax, "How far the student is behind", table)
    return ax


def seat_bias(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Mean score of each role in each seat: parallel flat lines are a fair referee, a slope is a favoured seat."""
    ax = _axes(ax)
    both = table.dropna(subset=["teacher_first_teacher", "student_first_student", "gap"])
    for role, colour, columns in (
        ("teacher", HARD, ["teacher_first_teacher", "student_first_teacher"]),
        ("student", EASY, ["student_first_student", "teacher_first_student"]),
    ):
        means = both[columns].mean().to_numpy()
        ax.plot([0, 1], means, marker="o", color=colour, label=role)
    ax.set_xticks([0, 1], ["shown first", "shown second"])
    ax.set(xlim=(-0.3, 1.3), ylim=(1, 10), ylabel="mean score")
    ax.legend(fontsize=8)
    _title(ax, "Score by seat", table)
    return ax


def relative_by_category(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Student's total over the teacher's, in percent, by category and over all (paper figure 4)."""
    totals = evaluate.relative_by_category(table).iloc[::-1]
    ax = _axes(ax, 6, 0.8 + 0.3 * len(totals))
    percent = 100 * totals["score"].to_numpy()
    bars = ax.barh([f"{c} ({n})" for c, n in zip(totals["category"], totals["scored"])], percent, color=EASY)
    ax.bar_label(bars, [f"{p:.1f}" for p in percent], padding=3, fontsize=8)
    ax.axvline(100, color=INK, linestyle="--", linewidth=1)
    ax.set(xlabel="student's total score / teacher's, %", xlim=(0, max(115, 1.12 * np.nanmax([*percent, 100]))))
    _title(ax, "Relative score by category", table)
    return ax
