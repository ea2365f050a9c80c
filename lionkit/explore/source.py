"""What explorers look at: the judged pools of a run or of records in memory, with look-ups, numbers and search.

A run's iterations are read when they are chosen, and its marks with them. Seventy thousand records are numbers in
arrays and one text each to search in; nothing is sent to the browser but what a page shows.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np

from lionkit.errors import LionkitError
from lionkit.pools.tables import Pool, Responses, Verdicts
from lionkit.records import Instruction, Judged, Judgement, Verdict
from lionkit.run import Run, marks, reading
from lionkit.run.marks import Mark

LABELS = ("hard", "easy", "undecided")
FILTERS = ("category", "iteration", "source")


class Source:
    """One judged pool: records by id, and scores, gaps and lengths by place in the pool (NaN where undecided)."""

    def __init__(self, judged: Judged) -> None:
        self.items: list[Instruction] = [*judged.instructions]
        self.place = {item.id: n for n, item in enumerate(self.items)}
        self.teacher = {r.instruction_id: r for r in judged.teacher}
        self.student = {r.instruction_id: r for r in judged.student}
        self.verdicts: dict[str, Verdict] = {v.instruction_id: v for v in judged.verdicts}
        pairs = [self.verdicts[i.id].judgements if i.id in self.verdicts else () for i in self.items]
        self.scores = {role: _mean(pairs, role) for role in ("teacher", "student")}
        self.gap = np.round(self.scores["teacher"] - self.scores["student"], 6)
        self.scores = {role: np.where(np.isnan(self.gap), np.nan, score) for role, score in self.scores.items()}

    @cached_property
    def texts(self) -> list[str]:
        """Of each instruction all that is searched: itself, both answers, the referee's words, category and id."""
        texts = []
        for item in self.items:
            answers = [by[item.id].text for by in (self.teacher, self.student) if item.id in by]
            verdict = self.verdicts.get(item.id)
            replies = [j.reply for j in verdict.judgements] if verdict else []
            parts = (item.instruction, item.input, *answers, *replies, item.category, item.id)
            texts.append("\n".join(parts).casefold())
        return texts

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """What a reader filters by, by name, as arrays of objects."""
        return {name: np.array([getattr(item, name) for item in self.items], dtype=object) for name in FILTERS}

    @cached_property
    def keys(self) -> dict[str, np.ndarray]:
        """Numbers to sort by, under the names that a reader chooses from."""
        lengths = np.array([len(item.instruction) + len(item.input) for item in self.items], dtype=float)
        scores = {f"{role} score": scores for role, scores in self.scores.items()}
        return {"gap": self.gap, **scores, "length": lengths, "iteration": self.values["iteration"].astype(float)}

    def labels(self, tau: float, marked: Mapping[str, Mark] | None = None) -> np.ndarray:
        """`hard`, `easy` or `undecided` by gap, or as a mark says."""
        found = np.where(np.isnan(self.gap), "undecided", np.where(self.gap >= tau, "hard", "easy")).astype(object)
        for id, mark in (marked or {}).items():
            if mark.label in LABELS and id in self.place:
                found[self.place[id]] = mark.label
        return found

    def search(self, words: Sequence[str], places: np.ndarray) -> np.ndarray:
        """Those of the places whose texts hold every word, in any case."""
        kept, texts = places.tolist(), self.texts
        for word in words:
            kept = [n for n in kept if word in texts[n]]
        return np.array(kept, dtype=int)


def _mean(pairs: Sequence[Sequence[Judgement]], role: str) -> np.ndarray:
    """The role's mean score over the orders asked; NaN where one is missing."""
    columns = [[getattr(pair[order], role) if pair else None for pair in pairs] for order in (0, -1)]
    return np.array(columns, dtype=float).mean(axis=0)


def words(search: str) -> list[str]:
    """What is looked for: words, or phrases between quotation marks (the last may be open still), in lower case."""
    found = (phrase.strip() or word for phrase, word in re.findall(r'"([^"]*)"?|(\S+)', search))
    return [each.casefold() for each in found if each]


class Shelf(NamedTuple):
    """The pools that an explorer offers, by name, and where its marks are kept."""

    names: list[str]
    open: Callable[[int], Source]
    """The pool at a place, kept once it was read."""
    tau: float
    run: Run | None = None

    def marks(self) -> dict[str, Mark]:
        """The marks of the run as they are now; none for records in memory."""
        return marks.read(self.run) if self.run else {}


def shelf(
    pool: Run | Pool,
    teacher: Responses = (),
    student: Responses = (),
    verdicts: Verdicts = (),
    tau: float | None = None,
) -> Shelf:
    """The judged iterations of a run, or one pool of records in memory."""
    if not isinstance(pool, Run):
        judged = Judged([*pool], [*teacher], [*student], [*verdicts])
        return Shelf(["these records"], cache(lambda _: Source(judged)), 1.0 if tau is None else tau)
    iterations = pool.iterations("discrimination")
    if not iterations:
        command = f"python -m lionkit run --run {pool.name}"
        raise LionkitError(f"nothing was judged yet in {pool.name}: run notebook 03 first, or `{command}`")

    @cache
    def read(place: int) -> Source:
        return Source(reading.read_discrimination(pool, iterations[place]))

    names = [f"iteration {n}" for n in iterations]
    return Shelf(names, read, pool.config.tau if tau is None else tau, pool)
