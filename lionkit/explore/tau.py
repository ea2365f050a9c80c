"""Move τ over a pool's gaps: counts, their histogram, and which instructions change sides."""

import math
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from lionkit.errors import LionkitError
from lionkit.explore import front
from lionkit.explore.front import Explorer, Regions
from lionkit.explore.source import Shelf, Source, shelf
from lionkit.explore.static import SYMBOLS, one_line
from lionkit.pools.tables import Pool, Verdicts
from lionkit.run import Run

MOVED = 10
"""Instructions shown that change sides."""


def tau_explorer(pool: Run | Pool, verdicts: Verdicts = (), tau: float | None = None) -> Explorer:
    """Move τ over the gaps there are and see counts, their histogram, and what changes sides from where τ started.

    `pool`: a run, or instructions with their verdicts. Counts are those of `pools.split_by_gap` at the τ shown.
    Raises LionkitError for a τ that is beyond both 9 and every gap.
    """
    shown = shelf(pool, verdicts=verdicts, tau=tau)
    place = [len(shown.names) - 1]

    def draw(now: float) -> Regions:
        source = shown.open(place[0])
        moved = _moved(source, shown.tau, now)
        return {"counts": _counts(source.gap, now), "plot": histogram(source.gap, now), "moved": moved}

    def choose(value: Any) -> Regions:
        place[0] = int(value)
        return {"controls": controls(), **draw(explorer.tau)}

    def controls() -> str:
        return front.choice("pool", "Pool", shown.names, place[0]) + tau_slider(shown.open(place[0]).gap, explorer.tau)

    explorer = Explorer("τ explorer", {"controls": ""}, {"pool": choose}, summary(shown, place[0]), tau=shown.tau)
    explorer.regions |= {"controls": controls(), **draw(shown.tau)}

    def move(change: Any) -> None:
        explorer.regions["controls"] = controls()  # kept for pages opened later; the one in use has moved its own
        explorer.update(draw(change["new"]))

    explorer.observe(move, "tau")
    return explorer


def tau_slider(gaps: np.ndarray, tau: float) -> str:
    """τ as a number among the gaps, sent as it moves."""
    limits = "min='{:g}' max='{:g}' step='0.1' value='{:g}'".format(*gap_range(gaps, tau), tau)
    return f"<label class='wide'>τ, from where on a gap is hard<input type='range' data-on='tau' {limits}></label>"


def gap_range(gaps: np.ndarray, tau: float) -> tuple[float, float]:
    """From below the smallest gap to above the largest, τ within; LionkitError for one beyond both that and 9."""
    known = gaps[~np.isnan(gaps)]
    least, most = (float(known.min()), float(known.max())) if len(known) else (-1.0, 1.0)
    first, last = min(math.floor(least), -9), max(math.ceil(most + 0.1), 9)
    if not first <= tau <= last:
        raise LionkitError(f"tau = {tau}: gaps lie between {first} and {last}, so choose it there (the paper's is 1.0)")
    return math.floor(min(least, tau)), math.ceil(max(most, tau) + 0.1)


def summary(shown: Shelf, place: int) -> str:
    return told(count_labels(shown.open(place).gap, shown.tau), shown.tau)


def count_labels(gaps: np.ndarray, tau: float) -> dict[str, int]:
    """Instructions by label; a gap of NaN is undecided."""
    hard, easy = int((gaps >= tau).sum()), int((gaps < tau).sum())
    return {"hard": hard, "easy": easy, "undecided": len(gaps) - hard - easy}


def told(counts: Mapping[str, int], tau: float) -> str:
    return f"{', '.join(f'{n:,} {label}' for label, n in counts.items())} at τ = {tau:g}"


def _counts(gaps: np.ndarray, tau: float) -> str:
    card = "<div class='card {0}'><b>{1:,}</b> {2} {0}</div>".format
    cards = "".join(card(label, n, SYMBOLS[label]) for label, n in count_labels(gaps, tau).items())
    note = f"<small>of {len(gaps):,} instructions in the cache pool at τ = {tau:g}</small>"
    return f"<div role='status' aria-atomic='true'><div class='row'>{cards}</div>{note}</div>"


def histogram(gaps: np.ndarray, tau: float) -> str:
    """Pairs by gap in bins of half a point with τ on an edge, as SVG in the colours of the sides."""
    known = gaps[~np.isnan(gaps)]
    low, high = gap_range(gaps, tau)
    below, above = math.ceil((tau - low) / 0.5), math.ceil((high - tau) / 0.5)
    edges = tau + 0.5 * np.arange(-below, above + 1)
    counts = np.histogram(np.round(known, 6), np.round(edges, 6))[0]
    unit, tall = 640 / len(counts), 110 / max(counts.max(), 1)
    bars = "".join(
        f"<rect class='{'hard' if n >= below else 'easy'}' x='{n * unit + 1:.1f}' width='{unit - 2:.1f}' "
        f"y='{130 - count * tall:.1f}' height='{count * tall:.1f}'>"
        f"<title>{edges[n]:g} to {edges[n + 1]:g}: {count:,}</title></rect>"
        + (f"<text x='{(n + 0.5) * unit:.1f}' y='{126 - count * tall:.1f}'>{count:,}</text>" if count else "")
        for n, count in enumerate(counts)
    )
    line = f"<path d='M{below * unit:.1f} 8V130'/><text x='{below * unit:.1f}' y='8' class='tau'>τ = {tau:g}</text>"
    ticks = "".join(
        f"<text x='{(gap - edges[0]) / 0.5 * unit:.1f}' y='146'>{gap:+d}</text>"
        for gap in range(math.ceil(edges[0]), math.floor(edges[-1]) + 1)
    )
    label = f"histogram of gaps with a line at τ = {tau:g}"
    name = "<text x='320' y='160'>gap: teacher's score − student's score</text>"
    return f"<svg role='img' aria-label='{label}' viewBox='-12 -4 664 168'>{bars}{line}{ticks}{name}</svg>"


def _moved(source: Source, start: float, now: float) -> str:
    low, high = sorted((start, now))
    found = np.flatnonzero((source.gap >= low) & (source.gap < high))
    between = f"between τ = {start:g} and τ = {now:g}"
    if start == now:
        return "<h4>Move τ to see which instructions change sides.</h4>"
    if not len(found):
        return f"<h4>No instruction changes sides {between}</h4>"
    nearest = found[np.argsort(np.abs(source.gap[found] - start), kind="stable")][:MOVED]
    texts = (escape(one_line(source.items[i].text, 110)) for i in nearest)
    rows = "".join(f"<tr><td>{gap:+.3g}<td>{text}</tr>" for gap, text in zip(source.gap[nearest], texts))
    more = f"<small>and {len(found) - MOVED:,} more</small>" if len(found) > MOVED else ""
    way = "from hard to easy" if now > start else "from easy to hard"
    return f"<h4>{len(found):,} move {way} {between}</h4><table>{rows}</table>{more}"
