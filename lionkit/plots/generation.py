"""What the generator proposed, in figures: each takes a table of `generator.lineage` and returns its `Axes`."""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes

from lionkit.plots.loop import COLOURS, axes, finish, plain


def novelty_histogram(table: pd.DataFrame, novelty: float = 0.7, ax: Axes | None = None) -> Axes:
    """Candidates by ROUGE-L F1 to their nearest text (`lineage.candidate_table`); those right of the cut are rejected.

    Candidates rejected before novelty was measured are counted in the title.
    """
    ax = _by_kind(table, "similarity", ax)
    ax.axvline(novelty, color="#444444", linestyle="--", label=f"cut = {novelty:g}")
    unmeasured = int(table["similarity"].isna().sum())
    rejected = f", {unmeasured} rejected before it was measured" if unmeasured else ""
    title = f"Novelty of {len(table) - unmeasured} candidates{rejected}"
    return _overlaid(ax, title, "highest ROUGE-L F1 to the cache pool", "candidates")


def rejections(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Rejected candidates by rule, hard and easy side by side, the rule that rejected most at the top."""
    ax = axes(ax)
    rejected = table[table["status"] == "rejected"]
    rules = rejected["rule"].value_counts(ascending=True, sort=True).index.tolist()
    places = np.arange(len(rules))
    for shift, kind in ((0.2, "hard"), (-0.2, "easy")):
        counts = rejected.loc[rejected["kind"] == kind, "rule"].value_counts().reindex(rules, fill_value=0)
        ax.barh(places + shift, counts.to_numpy(), height=0.4, color=COLOURS[kind], label=kind)
    ax.set_yticks(places, [plain(rule) for rule in rules])
    ax.locator_params(axis="x", integer=True)
    return finish(ax, f"{len(rejected)} of {len(table)} candidates rejected, by rule", "candidates", "")


def seed_similarity(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Accepted instructions by ROUGE-L F1 to their own seed (needs `candidate_table(..., seeds)`)."""
    ax = _by_kind(table[table["status"] == "accepted"], "seed_similarity", ax)
    return _overlaid(ax, "How close children stay", "ROUGE-L F1 to the seed", "new instructions")


def _by_kind(table: pd.DataFrame, column: str, ax: Axes | None) -> Axes:
    """Easy and hard as histograms over one another; a bin holds its right edge, since what equals the cut is novel."""
    ax = axes(ax)
    for kind in ("easy", "hard"):
        found = table.loc[table["kind"] == kind, column].dropna()
        label = f"{kind} ({len(found)})"
        ax.hist((found - 1e-9).clip(0), bins=20, range=(0, 1), color=COLOURS[kind], alpha=0.6, label=label)
    ax.set_xlim(0, 1)
    ax.locator_params(axis="y", integer=True)
    return ax


def _overlaid(ax: Axes, title: str, xlabel: str, ylabel: str) -> Axes:
    """`finish` with an entry in the legend for the colour where the two kinds cover each other."""
    handles, labels = ax.get_legend_handles_labels()
    both = {"handles": [*handles, tuple(handles[:2])], "labels": [*labels, "both, overlapping"]}
    return finish(ax, title, xlabel, ylabel, **both)


def category_drift(table: pd.DataFrame, ax: Axes | None = None, *, most: int = 12) -> Axes:
    """Share of each category in the cache pool by iteration, in percent (`lineage.category_table`).

    The `most` frequent categories at the end are drawn, the rest as one; instructions without category as `(none)`.
    """
    ax = axes(ax, 6.4, 4.0)
    shares = 100 * table.div(table.sum(axis=1), axis=0)
    order = shares.iloc[-1].sort_values(ascending=False, kind="stable").index if len(shares) else shares.columns
    drawn = [(plain(name) or "(none)", shares[name]) for name in order[:most]]
    if len(order) > most:
        drawn.append(("(others)", shares[order[most:]].sum(axis=1)))
    bottom = np.zeros(len(shares))
    for number, (label, values) in enumerate(drawn):
        colour = colormaps["tab20"](number % 20)
        ax.bar(shares.index, values, bottom=bottom, color=colour, edgecolor="white", linewidth=0.4, label=label)
        bottom = bottom + values.to_numpy()
    ax.set_xticks(list(shares.index))
    # The legend stands outside, in the order in which the bars are stacked.
    outside = {"fontsize": 7, "loc": "center left", "bbox_to_anchor": (1, 0.5), "reverse": True}
    return finish(ax, "Categories of the cache pool", "iteration", "share of the cache pool, %", **outside)
