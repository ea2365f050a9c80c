"""The pool as a map: instructions with like words lie together, so that one sees what *kind* is hard.

The points come from `neighbourhoods`; `explorer.js` draws them on a canvas. jupyter-scatter would draw them too, but
needs WebGL and has no keyboard.
"""

from collections import Counter
from html import escape
from typing import Any

import numpy as np

from lionkit.errors import LionkitError
from lionkit.explore import front
from lionkit.explore.card import card
from lionkit.explore.front import Act, Explorer, Listing, Regions
from lionkit.explore.neighbourhoods import layout
from lionkit.explore.source import Shelf, shelf
from lionkit.explore.static import number, one_line
from lionkit.plots.discrimination import EASY, HARD
from lionkit.pools.tables import Pool, Responses, Verdicts
from lionkit.run import Run, marks

OTHERS = "#8a8a8a"
COLOURS = ("#4477AA", "#CC6677", "#228833", "#B8860B", "#66A5C8", "#AA3377", "#D98CB3")
"""Of the most frequent categories; the rest are grey."""
RAMP = ("#35609c", "#6c9bd2", "#a8a8a8", "#e0a070", "#c2571a")
"""Gaps from the smallest to the largest, in fifths."""


def pool_map(
    pool: Run | Pool,
    teacher: Responses = (),
    student: Responses = (),
    verdicts: Verdicts = (),
    tau: float | None = None,
    *,
    vectors: np.ndarray | None = None,
) -> Explorer:
    """A judged pool as points, coloured by side, gap, category or iteration, with neighbourhoods and their words.

    A lasso (Shift and drag, or the tool) or a neighbourhood lists its records, which can be tagged in a run; by
    keyboard, arrows, + and - move the map and Enter lists what is in view. `vectors`: a row an instruction, in place of
    TF-IDF.
    """
    return _Map(shelf(pool, teacher, student, verdicts, tau), vectors).explorer


class _Map:
    """What the map shows now."""

    def __init__(self, shown: Shelf, vectors: np.ndarray | None) -> None:
        self.shelf, self.vectors, self.colouring, self.tool = shown, vectors, 0, "pan"
        self.list = Listing("list", shown=self.listed)
        events: dict[str, Act] = {"pool": self.open, "colour": self.colour, "tool": self.take, "kinds": self.kind}
        events |= {"lasso": self.lasso, "point": self.point, "list": self.list.step, "tag": self.tag}
        self.explorer = Explorer("map of the pool", {}, events, "")
        self.explorer.regions |= self.open(len(shown.names) - 1)
        counts = f"{len(self.source.items)} instructions in {len(self.words)} neighbourhoods"
        self.explorer.summary = f"{counts}. Run this cell in JupyterLab to move in it."

    def open(self, value: Any) -> Regions:
        self.pool = int(value)
        self.source = self.shelf.open(self.pool)
        self.points, self.kinds, self.words = layout([item.text for item in self.source.items], self.vectors)
        self.neighbourhoods = Listing("kinds", len(self.words))
        self.neighbourhoods.fill([kind for kind, _ in Counter(self.kinds.tolist()).most_common()])
        self.labels = self.source.labels(self.shelf.tau, self.shelf.marks())
        self.list.fill(np.arange(0))
        self.explorer.buffers["points"] = self.points.astype("<f4").tobytes()
        return {"controls": self.controls(), **self.paint(), **self.listed()}

    def controls(self) -> str:
        pools = front.choice("pool", "Pool", self.shelf.names, self.pool)
        colours = front.choice("colour", "Colour", ("side", "gap", "category", "iteration"), self.colouring)
        return f"{pools}{colours}{front.button('tool', 'lasso', 'lasso', self.tool == 'lasso')}"

    def codes(self) -> tuple[np.ndarray, list[str], list[str]]:
        """A colour's number for every point, the colours, and what each means."""
        source = self.source
        if self.colouring == 0:
            names = ["hard", "easy", "undecided"]
            return np.array([names.index(label) for label in self.labels], dtype=int), [HARD, EASY, OTHERS], names
        if self.colouring == 1:
            known = source.gap[~np.isnan(source.gap)]
            limits = np.quantile(known, [0, 0.2, 0.4, 0.6, 0.8, 1]) if len(known) else np.zeros(6)
            codes = np.where(np.isnan(source.gap), len(RAMP), np.searchsorted(limits[1:-1], source.gap, side="right"))
            spans = [f"{low:+.2g} to {high:+.2g}" for low, high in zip(limits, limits[1:])]
            return codes, [*RAMP, OTHERS], [*spans, "undecided"]
        values = [str(value) or "none" for value in source.values[("", "", "category", "iteration")[self.colouring]]]
        most = [value for value, _ in Counter(values).most_common(len(COLOURS))]
        codes = np.array([most.index(value) if value in most else len(most) for value in values], dtype=int)
        return codes, [*COLOURS[: len(most)], OTHERS], [*most, "others"]

    def paint(self) -> Regions:
        codes, colours, names = self.codes()
        chosen = np.zeros(len(codes), dtype=int)
        chosen[self.list.rows] = 128
        self.explorer.buffers["codes"] = (codes + chosen).astype("u1").tobytes()
        legend = "".join(
            f"<span><i style='background:{colour}'></i>{escape(one_line(name, 24))} ({(codes == n).sum():,})</span>"
            for n, (colour, name) in enumerate(zip(colours, names))
            if (codes == n).any()
        )
        keys = "arrows move, plus and minus zoom, Enter lists what is in view"
        label = f"map of {len(codes):,} instructions, {len(self.list.rows):,} chosen; {keys}"
        listed = escape(str(colours).replace("'", '"'), quote=True)
        data = f"data-tool='{self.tool}' data-colours='{listed}'"
        canvas = f"<canvas tabindex='0' role='application' aria-label='{label}' {data}></canvas>"
        told = "Drag to move, wheel or + and − to zoom, Shift and drag to choose, 0 for all of it."
        below = f"<div class='legend'>{legend}</div><small class='wakes'>{told}</small>"
        return {"map": f"{canvas}{self.still(codes, colours)}{below}"}

    def still(self, codes: np.ndarray, colours: list[str]) -> str:
        """A picture of the map for pages without a kernel, which is what a map is opened as."""
        if "map" in self.explorer.regions:
            return ""
        from IPython.core.pylabtools import print_figure
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4.4), dpi=80)
        axes = figure.add_axes((0, 0, 1, 1))
        some = np.arange(len(codes))[:: max(len(codes) // 6000, 1)]
        x, y = self.points[some].T
        axes.scatter(x, y, s=5, c=[colours[code] for code in codes[some]], linewidths=0)
        axes.invert_yaxis()
        axes.axis("off")
        data = print_figure(figure, bbox_inches=None, base64=True, facecolor="none")
        alt = f"points of {len(codes):,} instructions, coloured by side"
        return f"<img class='still' alt='{alt}' src='data:image/png;base64,{data}'>"

    def colour(self, value: Any) -> Regions:
        self.colouring = int(value)
        self.labels = self.source.labels(self.shelf.tau, self.shelf.marks())  # marks may have been made elsewhere
        return {"controls": self.controls(), **self.paint(), **self.listed()}

    def take(self, _: Any) -> Regions:
        self.tool = "pan" if self.tool == "lasso" else "lasso"
        return {"controls": self.controls(), **self.paint()}

    def choose(self, rows: np.ndarray) -> Regions:
        self.list.fill(rows, at=0)
        return {**self.paint(), **self.listed()}

    def kind(self, value: Any) -> Regions:
        self.neighbourhoods.step(value)
        return self.choose(np.flatnonzero(self.kinds == self.neighbourhoods.chosen))

    def lasso(self, outline: list[list[float]]) -> Regions:
        from matplotlib.path import Path

        self.neighbourhoods.choose(None)
        return self.choose(np.flatnonzero(Path(np.array(outline, dtype=float)).contains_points(self.points)))

    def point(self, value: Any) -> Regions:
        self.neighbourhoods.choose(None)
        return self.choose(np.array([int(value)]))

    def listed(self) -> Regions:
        kinds = self.neighbourhoods.html("Neighbourhoods: size, share hard, words", self.kind_row)
        return {"lists": f"<div>{kinds}</div><div>{self.selection()}</div>", "record": self.record()}

    def kind_row(self, kind: int) -> str:
        own = self.labels[self.kinds == kind]
        return front.row(f"{len(own):,}", f"{(own == 'hard').mean():.0%} hard", one_line(self.words[kind], 60))

    def selection(self) -> str:
        chosen = f"{len(self.list.rows):,}"
        if self.list.chosen is None:
            return "<small>Choose a neighbourhood, or points on the map, to list their instructions.</small>"
        listing = self.list.html(f"{chosen} chosen", self.row)
        if not self.shelf.run:
            return listing
        tag = front.field("", "Tag", "", "text")
        return f"{listing}<form class='controls' data-on='tag'>{tag}<button>Tag these {chosen}</button></form>"

    def row(self, n: int) -> str:
        return front.row(number(self.source.gap[n], "+"), self.labels[n], self.source.items[n].text)

    def record(self) -> str:
        if self.list.chosen is None:
            return ""
        id = self.source.items[self.list.chosen].id
        shown = card(self.source, id, self.shelf.tau, mark=self.shelf.marks().get(id))
        return f"<div aria-live='polite'>{shown.html}</div>"

    def tag(self, value: dict[str, str]) -> Regions:
        if not value["tag"].strip():
            raise LionkitError("a tag is a word: write one, then press the button")
        if self.shelf.run:
            marks.add(self.shelf.run, [self.source.items[n].id for n in self.list.rows], add_tag=value["tag"])
        return self.listed()
