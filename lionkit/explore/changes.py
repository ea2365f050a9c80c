"""What changed between two students: instructions learned, lost, still hard and still easy, with their words."""

from functools import partial
from html import escape
from typing import Any

import numpy as np

from lionkit.errors import LionkitError
from lionkit.explore import front
from lionkit.explore.front import Act, Explorer, Listing, Regions
from lionkit.explore.source import Shelf, shelf, words
from lionkit.explore.static import number
from lionkit.explore.words import block, compared
from lionkit.records import Judged
from lionkit.run import Run

GROUPS = {
    "lost": ("easy", "hard"),
    "learned": ("hard", "easy"),
    "still hard": ("hard", "hard"),
    "still easy": ("easy", "easy"),
}
"""What became of an instruction: its label before and after."""


def what_changed(before: Run | Judged, after: Run | Judged | None = None, tau: float | None = None) -> Explorer:
    """The same instructions under two students: two iterations of a run, of two runs or forks, or two judged pools.

    With one run, its last two iterations are compared, and any two can be chosen. Raises LionkitError where there is
    only one, or where the two have no instruction in common.
    """
    shelves = [
        shelf(given, tau=tau) if isinstance(given, Run) else shelf(*given, tau=tau)
        for given in (before, after or before)
    ]
    if after is None and len(shelves[0].names) < 2:
        raise LionkitError("one judged pool alone has not changed: give two, or a run with two judged iterations")
    return _Changes(shelves[0], shelves[1]).explorer


class _Changes:
    """What the comparison shows now."""

    def __init__(self, before: Shelf, after: Shelf) -> None:
        self.shelves, self.tau = (before, after), after.tau
        runs = [shown.run.path if shown.run else None for shown in self.shelves]
        same = runs[0] is not None and runs[0] == runs[1]
        self.several = None not in runs and not same
        self.search, self.group, self.list = "", 0, Listing("list", shown=self.shown)
        events: dict[str, Act] = {side: partial(self.choose, n) for n, side in enumerate(("before", "after"))}
        events |= {"search": partial(self.set, "search"), "group": partial(self.set, "group"), "list": self.list.step}
        regions = self.compared([len(before.names) - 1 - same, len(after.names) - 1])
        counts = ", ".join(f"{len(ids)} {name}" for name, ids in self.groups.items())
        self.explorer = Explorer("what changed", regions, events, f"{self.named(0)} → {self.named(1)}: {counts}")

    def named(self, side: int) -> str:
        shown = self.shelves[side]
        name = shown.names[self.pools[side]]
        return f"{shown.run.name}, {name}" if self.several and shown.run else name

    def compared(self, pools: list[int]) -> Regions:
        first, second = (shown.open(place) for shown, place in zip(self.shelves, pools))
        common = [id for id in second.place if id in first.place]
        if not common:
            raise LionkitError("the two pools have no instruction in common: compare iterations or forks of one run")
        self.pools, self.sources = pools, [first, second]
        before, after = (dict(zip(source.place, source.labels(self.tau))) for source in self.sources)
        self.groups = {name: [id for id in common if (before[id], after[id]) == pair] for name, pair in GROUPS.items()}
        self.moved = second.gap - first.gap[[first.place.get(item.id, -1) for item in second.items]]  # of those in both
        return {"controls": self.controls(), **self.found()}

    def choose(self, side: int, value: Any) -> Regions:
        return self.compared([int(value) if n == side else place for n, place in enumerate(self.pools)])

    def set(self, name: str, value: Any) -> Regions:
        setattr(self, name, int(value) if name == "group" else value)
        self.explorer.regions["controls"] = self.controls()  # kept for pages opened later; the one in use has its own
        return self.found()

    def controls(self) -> str:
        before, after = (
            front.choice(name, name.capitalize(), shown.names, place)
            for name, shown, place in zip(("before", "after"), self.shelves, self.pools)
        )
        names = [f"{name} ({len(ids):,})" for name, ids in self.groups.items()]
        group = front.choice("group", "Show", names, self.group)
        return f"{before}{after}{group}{front.field('search', 'Search', self.search)}"

    def found(self) -> Regions:
        self.words, source = words(self.search), self.sources[1]
        ids = list(self.groups.values())[self.group]
        places = source.search(self.words, np.array([source.place[id] for id in ids], dtype=int))
        self.list.fill(places[np.argsort(-np.abs(self.moved[places]), kind="stable")], at=0)
        cards = "".join(
            f"<div class='card {after if before != after else ''}'><b>{len(self.groups[name]):,}</b> {name}</div>"
            for name, (before, after) in GROUPS.items()
        )
        names = f"{escape(self.named(0))} → {escape(self.named(1))}"
        note = f"<small>{names}, instructions in both, τ = {self.tau:g}</small>"
        return {"counts": f"<div class='row'>{cards}</div>{note}", **self.shown()}

    def shown(self) -> Regions:
        title = f"{list(GROUPS)[self.group]}: {len(self.list.rows):,} · gap, its change, instruction"
        record = "<h4>Nothing here.</h4>" if self.list.chosen is None else self.record(self.list.chosen)
        return {"lists": f"<div>{self.list.html(title, self.row)}</div>", "record": record}

    def row(self, n: int) -> str:
        source = self.sources[1]
        return front.row(number(source.gap[n], "+"), number(self.moved[n], "+"), source.items[n].text, self.words)

    def record(self, n: int) -> str:
        first, second = self.sources
        item = second.items[n]
        before, after, teacher = (
            by[item.id].text if item.id in by else "" for by in (first.student, second.student, second.teacher)
        )
        titles = [
            f"Student before, {self.named(0)} · score {number(first.scores['student'][first.place[item.id]])}",
            f"Student after, {self.named(1)} · score {number(second.scores['student'][n])}",
        ]
        blocks = compared(before, after, self.words, ("del", "ins"))
        cells = "".join(f"<div><h4>{escape(title)}</h4>{each}</div>" for title, each in zip(titles, blocks))
        return (
            f"<div aria-live='polite'><h4>Instruction</h4>{block(item.text, self.words)}<div class='row'>{cells}</div>"
            f"<h4>Teacher · score {number(second.scores['teacher'][n])}</h4>{block(teacher, self.words)}</div>"
        )
