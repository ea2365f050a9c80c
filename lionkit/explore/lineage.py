"""Where instructions come from: a seed, its children and theirs, and the siblings that a rule refused."""

from collections import defaultdict
from collections.abc import Iterable
from html import escape

from lionkit.explore import front
from lionkit.explore.front import Explorer, Listing, Regions
from lionkit.explore.source import words
from lionkit.explore.static import SYMBOLS, one_line
from lionkit.explore.words import hits
from lionkit.pools.tables import Pool
from lionkit.records import Candidate, Instruction
from lionkit.run import Run, reading

MOST = 40
"""Refused siblings that are written out."""


def lineage(pool: Run | Pool, candidates: Iterable[Candidate] = (), labels: dict[str, str] | None = None) -> Explorer:
    """Seeds by the number of their descendants, and the tree of the chosen one, refused candidates with their rule.

    `pool`: a run, or the instructions of a cache pool with all `candidates`; `labels`: hard or easy by id, where known.
    """
    if isinstance(pool, Run):
        pool, candidates, labels = _of_run(pool)
    return _Lineage([*pool], [*candidates], labels or {}).explorer


def _of_run(run: Run) -> tuple[list[Instruction], list[Candidate], dict[str, str]]:
    made, judged = run.iterations("generation"), run.iterations("discrimination")
    cache = reading.cache_pool(run, max(made, default=0) + 1)
    found = [candidate for iteration in made for candidate in reading.read_candidates(run, iteration)]
    verdicts = reading.read_discrimination(run, judged[-1]).verdicts if judged else []
    return cache, found, {v.instruction_id: v.label(run.config.tau) for v in verdicts}


class _Lineage:
    """What the lineage shows now."""

    def __init__(self, pool: list[Instruction], candidates: list[Candidate], labels: dict[str, str]) -> None:
        self.items, self.labels = {item.id: item for item in pool}, labels
        self.children: dict[str, list[Instruction]] = defaultdict(list)
        self.refused: dict[str, list[Candidate]] = defaultdict(list)
        for item in pool:
            if item.parent in self.items and item.parent != item.id:
                self.children[item.parent].append(item)
        for candidate in candidates:
            if candidate.status == "rejected":
                self.refused[candidate.seed_id].append(candidate)
        roots = [item for item in pool if item.parent not in self.items or item.parent == item.id]
        self.sizes = {item.id: sum(1 for _ in self.family(item.id)) - 1 for item in roots}
        self.roots = sorted(roots, key=lambda item: (-self.sizes[item.id], item.id))
        self.list = Listing("list", 12, self.shown)
        made, refused = sum(self.sizes.values()), sum(map(len, self.refused.values()))
        summary = f"{len(roots)} seeds, {made} instructions made from them, {refused} refused"
        regions = {"controls": front.field("search", "Search"), **self.look("")}
        self.explorer = Explorer("lineage", regions, {"search": self.find, "list": self.list.step}, summary)

    def family(self, id: str) -> Iterable[tuple[int, Instruction]]:
        """An instruction and all that comes from it, as (generation, instruction), parents before children."""
        waiting, seen = [(0, self.items[id])], {id}
        while waiting:
            depth, item = waiting.pop()
            yield depth, item
            fresh = [child for child in self.children[item.id] if child.id not in seen]
            seen |= {child.id for child in fresh}
            waiting += [(depth + 1, child) for child in reversed(fresh)]

    def find(self, search: str) -> Regions:
        self.explorer.regions["controls"] = front.field("search", "Search", search)  # for pages opened later
        return self.look(search)

    def look(self, search: str) -> Regions:
        self.words = words(search)
        self.list.fill([root for root in self.roots if not self.words or self.holds(root)], at=0)
        return self.shown()

    def holds(self, root: Instruction) -> bool:
        texts = "\n".join(item.text for _, item in self.family(root.id)).casefold()
        return all(word in texts for word in self.words)

    def shown(self) -> Regions:
        def write(root: Instruction) -> str:
            return front.row(f"{self.sizes[root.id]}", f"{len(self.refused[root.id])} refused", root.text, self.words)

        listing = self.list.html(f"{len(self.list.rows):,} seeds, by descendants", write)
        root = self.list.chosen
        tree = f"<div aria-live='polite'>{self.tree(root)}</div>" if root else "<h4>Nothing matches.</h4>"
        return {"lists": f"<div>{listing}</div>", "record": tree}

    def tree(self, root: Instruction) -> str:
        html, before = "<ul class='tree'>", 0
        for n, (depth, item) in enumerate(self.family(root.id)):
            html += "<li><ul class='tree'>" * (depth - before) + "</ul></li>" * (before - depth)
            html += f"<li>{self.node(item)}{self.siblings(item.id, n)}</li>"
            before = depth
        return html + "</ul></li>" * before + "</ul>"

    def node(self, item: Instruction) -> str:
        child = item in self.children[item.parent]
        made = f"as {item.source}, iteration {item.iteration}" if child else "seed"
        now = self.labels.get(item.id, "")
        told = f" · now {SYMBOLS[now]} {now}" if now else ""
        about = escape(f"{one_line(made, 60)}{told}")
        return f"{hits(one_line(item.text, 400), self.words)} <small>{about}</small>"

    def siblings(self, id: str, n: int) -> str:
        """What else was made of an instruction and refused, folded up."""
        refused = self.refused[id]
        if not refused:
            return ""
        rows = "".join(map(_refusal, refused[:MOST]))
        more = f"<li><small>and {len(refused) - MOST} more</small></li>" if len(refused) > MOST else ""
        inside = f"<summary>{len(refused)} refused</summary><ul class='tree'>{rows}{more}</ul>"
        return f"<details id='refused-{n}'>{inside}</details>"


def _refusal(candidate: Candidate) -> str:
    rule, text = escape(one_line(candidate.rule, 40)), escape(one_line(candidate.text or candidate.raw, 200))
    near = ""
    if candidate.similarity is not None:
        near = f" <small>{candidate.similarity:.2f} to: {escape(one_line(candidate.nearest, 120))}</small>"
    return f"<li class='refused'>✗ <b>{rule}</b> {text}{near}</li>"
