"""The cache pool under one's hands: hard and easy side by side, to search, sort, read and mark."""

from collections import Counter
from functools import partial
from html import escape
from typing import Any

import numpy as np
import traitlets

from lionkit.errors import LionkitError
from lionkit.explore import front
from lionkit.explore.card import card, mark_form
from lionkit.explore.front import Act, Explorer, Listing, Regions
from lionkit.explore.source import FILTERS, LABELS, Shelf, shelf, words
from lionkit.explore.static import SYMBOLS, number, one_line
from lionkit.explore.tau import summary, tau_slider, told
from lionkit.pools.tables import Pool, Responses, Verdicts
from lionkit.run import Run, marks
from lionkit.run.marks import Mark

SORTS = ("gap", "teacher score", "student score", "length", "iteration")
START = {"search": "", "sort": 0, "down": True, "with_undecided": False, "marked_only": False}
"""What can be set besides the filters, and what it is at first."""


def pool_browser(
    pool: Run | Pool,
    teacher: Responses = (),
    student: Responses = (),
    verdicts: Verdicts = (),
    tau: float | None = None,
    *,
    follow: Explorer | None = None,
) -> Explorer:
    """Hard and easy side by side, with search, filters and sort; the chosen instruction stands in full beside them.

    `pool`: a run, whose iterations can be chosen and instructions marked, or records. `follow`: a τ explorer whose τ
    this one shares. Of each list one page at a time is sent to the browser. A missing record is shown as missing.
    """
    return _Browser(shelf(pool, teacher, student, verdicts, tau), follow).explorer


class _Browser:
    """What the pool browser shows now."""

    def __init__(self, shown: Shelf, follow: Explorer | None) -> None:
        self.shelf, self.pool, self.followed = shown, len(shown.names) - 1, follow is not None
        self.now: dict[str, Any] = {**START, **dict.fromkeys(FILTERS, 0)}
        self.lists = {label: Listing(label) for label in LABELS}
        events: dict[str, Act] = {name: partial(self.set, name) for name in self.now}
        events |= {label: partial(self.step, label) for label in LABELS} | {"pool": self.turn, "mark": self.mark}
        self.explorer = Explorer("pool browser", {}, events, summary(shown, self.pool), tau=shown.tau)
        self.open()
        self.explorer.regions |= self.listed()
        self.explorer.observe(lambda _: self.explorer.update(self.listed()), "tau")
        if follow:
            self.explorer.tau = follow.tau
            traitlets.link((follow, "tau"), (self.explorer, "tau"))

    def open(self) -> None:
        self.source = self.shelf.open(self.pool)
        self.marks = self.shelf.marks()
        self.options = {name: sorted(Counter(self.source.values[name]).items()) for name in FILTERS}
        self.now |= dict.fromkeys(FILTERS, 0)
        self.source.texts  # noqa: B018  # made now, so that the first search is as quick as the next

    def turn(self, value: Any) -> Regions:
        """To another pool."""
        self.pool = int(value)
        self.open()
        return {**self.listed(), "controls": self.explorer.regions["controls"]}

    def set(self, name: str, value: Any) -> Regions:
        self.now[name] = type(self.now[name])(value)  # the place of a choice comes as text
        return self.listed()

    def controls(self) -> str:
        parts = [
            front.choice("pool", "Pool", self.shelf.names, self.pool),
            front.field("search", "Search", self.now["search"]),
            front.choice("sort", "Sort by", SORTS, self.now["sort"]),
            front.tick("down", "high to low", self.now["down"]),
        ]
        for name, options in self.options.items():
            if len(options) > 1:
                counted = [f"{value if value != '' else 'none'} ({n:,})" for value, n in options]
                parts.append(front.choice(name, name.capitalize(), [f"any {name}", *counted], self.now[name]))
        parts.append(front.tick("with_undecided", "undecided", self.now["with_undecided"]))
        if self.shelf.run:
            parts.append(front.tick("marked_only", "marked only", self.now["marked_only"]))
        if not self.followed:
            parts.append(tau_slider(self.source.gap, self.explorer.tau))
        return "".join(parts)

    def found(self) -> np.ndarray:
        """Places in the pool that are searched for and pass the filters, in order."""
        places, source = np.arange(len(self.source.items)), self.source
        for name in FILTERS:
            if self.now[name]:
                wanted = self.options[name][self.now[name] - 1][0]
                places = places[source.values[name][places] == wanted]
        if self.now["marked_only"]:
            places = np.array([n for n in places if source.items[n].id in self.marks], dtype=int)
        places = source.search(self.words, places)
        key = source.keys[SORTS[self.now["sort"]]][places]
        return places[np.argsort(-key if self.now["down"] else key, kind="stable")]  # NaN stays last both ways

    def listed(self, wanted: str = "") -> Regions:
        """The lists from their beginnings, and the first record, or the wanted one where it is among them."""
        self.words = words(self.now["search"])
        self.labels = self.source.labels(self.explorer.tau, self.marks)
        self.counts = {label: int((self.labels == label).sum()) for label in LABELS}
        places = self.found()
        found = self.labels[places]
        for label, listing in self.lists.items():
            listing.fill(places[found == label])
        drawn = [listing for listing in self.drawn() if len(listing.rows)]
        if drawn:
            drawn[0].choose(0)
        for listing in drawn:
            for at in np.flatnonzero(listing.rows == self.source.place.get(wanted, -1)):
                self.choose(listing, int(at))
        self.explorer.regions["controls"] = self.controls()  # kept for pages opened later; the one in use has its own
        return {"counts": f"<small>{told(self.counts, self.explorer.tau)}</small>", **self.shown()}

    def drawn(self) -> list[Listing]:
        return [each for label, each in self.lists.items() if label != "undecided" or self.now["with_undecided"]]

    def choose(self, listing: Listing, at: int | None) -> None:
        """One place in all the lists."""
        for each in self.lists.values():
            each.choose(at if each is listing else None)

    def shown(self) -> Regions:
        lists = ""
        for listing in self.drawn():
            label, rows, total = listing.name, len(listing.rows), self.counts[listing.name]
            of = f" of {total:,}" if rows != total else ""
            lists += f"<div>{listing.html(f'{SYMBOLS[label]} {label}: {rows:,}{of}', self.row)}</div>"
        return {"lists": lists, "record": self.record()}

    def row(self, n: int) -> str:
        item, source = self.source.items[n], self.source
        scores = f"{number(source.scores['teacher'][n])} : {number(source.scores['student'][n])}"
        mark = self.marks.get(item.id)
        flag = f"<i>✎ {escape(one_line(' '.join((mark.label, mark.tags)), 30))}</i> " if mark else ""
        return front.row(number(source.gap[n], "+"), scores, item.text, self.words, flag)

    def step(self, label: str, value: Any) -> Regions:
        listing = self.lists[label]
        listing.step(value)
        self.choose(listing, listing.at)
        return self.shown()

    def record(self) -> str:
        place = next((listing.chosen for listing in self.lists.values() if listing.at is not None), None)
        if place is None:
            return "<h4>Nothing matches.</h4>"
        id = self.source.items[place].id
        mark = self.marks.get(id)
        form = mark_form(id, mark) if self.shelf.run else ""
        shown = card(self.source, id, self.explorer.tau, self.words, mark)
        return f"<div aria-live='polite'>{shown.html}</div>{form}"

    def mark(self, value: dict[str, str]) -> Regions:
        if self.shelf.run is None:
            raise LionkitError("marks are kept in a run: open the explorer on one, as in explore.pool_browser(run)")
        id, names = value["id"], ("label", "tags", "note")
        before = self.marks.get(id, Mark(id))
        edited = {name: value[name] for name in names if value[name] != front.in_field(getattr(before, name))}
        marks.add(self.shelf.run, [id], **edited)
        self.marks = self.shelf.marks()
        return self.listed(wanted=id)
