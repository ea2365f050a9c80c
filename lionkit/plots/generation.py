"""What the generator proposed, in figures: each takes a table of `generator.lineage` and returns its `Axes`."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lionkit.markup import visible
from lionkit.plots.style import BODY, COLOURS, INK, OTHERS, axes, finish, plain


def novelty_histogram(table: pd.DataFrame, novelty: float = 0.7, ax: Axes | None = None) -> Axes:
    """Candidates by ROUGE-L F1 to their nearest text (`lineage.candidate_table`); those right of the cut are rejected.

    Candidates rejected before novelty was measured are counted below the title.
    """
    ax = _by_kind(table, "similarity", ax)
    ax.axvline(novelty, color=INK, linestyle="--", linewidth=1.2, label=f"cut = {novelty:g}")
    unmeasured = int(table["similarity"].isna().sum())
    counted = f"{len(table) - unmeasured} candidates" + f", {unmeasured} more rejected before" * (unmeasured > 0)
    return finish(ax, "Novelty", "highest ROUGE-L F1 to the cache pool", "candidates", counted=counted)


def rejections(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Rejected candidates by rule, hard and easy side by side, the rule that rejected most at the top."""
    ax = axes(ax, 7)
    rejected = table[table["status"] == "rejected"]
    rejected = rejected.assign(rule=rejected["rule"].map(visible))  # pandas cannot count a lone surrogate
    rules = rejected["rule"].value_counts(ascending=True).index.tolist()
    places = np.arange(len(rules))
    for shift, kind in ((0.2, "hard"), (-0.2, "easy")):
        counts = rejected.loc[rejected["kind"] == kind, "rule"].value_counts().reindex(rules, fill_value=0)
        ax.barh(places + shift, counts.to_numpy(), height=0.4, color=COLOURS[kind], label=kind)
    ax.set_yticks(places, [plain(rule) for rule in rules])
    ax.locator_params(axis="x", integer=True)
    return finish(ax, f"{len(rejected)} of {len(table)} candidates rejected, by rule", "candidates", "", grid="x")


def seed_similarity(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Accepted instructions by ROUGE-L F1 to their own seed (needs `candidate_table(..., seeds)`)."""
    ax = _by_kind(table[table["status"] == "accepted"], "seed_similarity", ax)
    return finish(ax, "How close children stay", "ROUGE-L F1 to the seed", "new instructions")


def _by_kind(table: pd.DataFrame, column: str, ax: Axes | None) -> Axes:
    """Easy and hard side by side in each bin; a bin holds its right edge, since what equals the cut is novel."""
    ax = axes(ax)
    found = {kind: table.loc[table["kind"] == kind, column].dropna() for kind in ("easy", "hard")}
    values, labels = [(each - 1e-9).clip(0) for each in found.values()], [f"{k} ({len(v)})" for k, v in found.items()]
    ax.hist(values, bins=20, range=(0, 1), rwidth=1, color=[COLOURS[kind] for kind in found], label=labels)
    ax.set_xlim(0, 1)
    ax.locator_params(axis="y", integer=True)
    return ax


def category_drift(table: pd.DataFrame, ax: Axes | None = None, *, most: int = 12) -> Axes:
    """Share of each category in the cache pool by iteration, in percent (`lineage.category_table`).

    A row a category, a column of bars an iteration, all on one scale. The `most` frequent categories at the end are
    drawn, the rest as one; instructions without category as `(none)`.
    """
    shares = 100 * table.div(table.sum(axis=1), axis=0)
    order = shares.iloc[-1].sort_values(ascending=False, kind="stable").index if len(shares) else shares.columns
    drawn = [(plain(name) or "(none)", shares[name]) for name in order[:most]]
    if len(order) > most:
        drawn.append(("(others)", shares[order[most:]].sum(axis=1)))
    ax = axes(ax, 8, 1.3 + 0.26 * len(drawn))
    places = np.arange(len(drawn))[::-1]
    column = 1.6 * max((values.max() for _, values in drawn), default=1)  # the widest bar, and room for its number
    for number, iteration in enumerate(shares.index):
        percent = [values[iteration] for _, values in drawn]
        name = f"iteration {iteration}"
        bars = ax.barh(places, percent, left=number * column, color=OTHERS[0], height=0.7, label=name)
        if len(shares) < 8:  # else there is no room
            numbers = [f"{p:.0f}" if p >= 9.95 else f"{p:.1f}" for p in percent]
            ax.bar_label(bars, numbers, padding=3, fontsize=BODY, color=INK)
        ax.axvline(number * column, color=INK, linewidth=0.8)
    ax.set_yticks(places, [label for label, _ in drawn])
    ax.set_xticks(np.arange(len(shares)) * column, [f"iteration {name}" for name in shares.index], ha="left")
    ax.set(xlim=(0, column * max(len(shares), 1)), ylim=(-0.7, max(len(drawn), 1) - 0.3))
    ax.tick_params(length=0)
    return finish(ax, "Categories of the cache pool", "share of the cache pool, %", "", grid=None, direct=None)
