"""The generation stage: hard instructions seed new hard ones, easy ones new easy ones, 1:1 (paper section 3.3).

Seeds are asked in rounds, each seed once before any is asked again, until both counts are met. Every reply ends
as one `Candidate` of the ledger, accepted or with the rule that rejected it. The stage never runs on in vain: it
stops with `GenerationStopped`, which says what it has and why, and carries the ledger. Calls are in the client's
store, so that asking again is free. Same inputs and replies give the same result, whatever the order of the seeds.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Literal, NamedTuple

from lionkit.client import ChatClient, ChatRequest, Completion
from lionkit.errors import StageStopped
from lionkit.generator.filters import broken_rule, unwrap
from lionkit.novelty import NoveltyIndex
from lionkit.pools import Split
from lionkit.prompts import generator_messages
from lionkit.records import Candidate, Instruction, content_id

Kind = Literal["hard", "easy"]
PROBE = 64
"""Calls of the first round, at most, and of a fruitless row: a generator that only refuses costs this much."""


class Generation(NamedTuple):
    """What the stage made: the new instructions, hard before easy, and the ledger in the order of the calls."""

    instructions: list[Instruction]
    candidates: list[Candidate]


class GenerationStopped(StageStopped):
    """The counts cannot be met; `generation` holds what there is, ledger included."""

    def __init__(self, message: str, generation: Generation) -> None:
        super().__init__(message)
        self.generation = generation


@dataclass
class _Line:
    """One kind's production: its seeds in the order of their turns, and what has come of them."""

    kind: Kind
    size: int
    seeds: list[Instruction]
    children: int
    attempts: int
    made: list[Instruction] = field(default_factory=list)
    rules: Counter[str] = field(default_factory=Counter)
    born: Counter[str] = field(default_factory=Counter)  # by seed: children accepted
    asked: Counter[str] = field(default_factory=Counter)  # by seed: calls made
    barren: int = 0  # calls since the last one accepted

    @property
    def missing(self) -> int:
        return self.size - len(self.made)

    def turns(self) -> list[Instruction]:
        """The seeds to ask next, those asked least first, as many as acceptance so far makes needful; none: stuck."""
        calls = self.asked.total()
        if self.barren >= PROBE or not self.missing:
            return []
        rate = max(len(self.made) / calls, 1 / self.attempts) if calls else 1.0
        count = min(math.ceil(self.missing / rate), self.attempts * self.size - calls)
        room = {s.id: self.children - self.born[s.id] for s in self.seeds}
        order = sorted(self.seeds, key=lambda s: self.asked[s.id])
        laps = ([s for s in order if lap < room[s.id]] for lap in range(self.children))
        return list(islice(chain.from_iterable(laps), count if calls else min(count, PROBE)))

    def next_attempt(self, seed: Instruction) -> int:
        """How often this seed has been asked before, and count this time."""
        self.asked[seed.id] += 1
        return self.asked[seed.id] - 1

    def enter(self, candidate: Candidate, seed: Instruction) -> None:
        """Book one candidate; an accepted one becomes an instruction that inherits its seed's category."""
        self.barren = 0 if candidate.status == "accepted" else self.barren + 1
        if candidate.status == "rejected":
            self.rules[candidate.rule] += 1
            return
        self.born[seed.id] += 1
        child = Instruction(candidate.text, source=self.kind, category=seed.category, parent=seed.id)
        self.made.append(replace(child, iteration=candidate.iteration))

    def __str__(self) -> str:
        worst = ", ".join(f"{rule} {n}" for rule, n in self.rules.most_common(3))
        return f"{len(self.made)} of {self.size} {self.kind} from {self.asked.total()} calls" + (
            f" (rejected: {worst})" if worst else ""
        )


def generate(
    client: ChatClient,
    split: Split,
    cache: Sequence[Instruction],
    *,
    hard_size: int,
    easy_size: int,
    novelty: float = 0.7,
    seed: int = 0,
    iteration: int = 1,
    model: str | None = None,
    temperature: float = 1.0,
    max_tokens: int = 512,
    children: int | None = None,
    attempts: int = 6,
    avoid: Sequence[Instruction] = (),
) -> Generation:
    """`hard_size` + `easy_size` new instructions whose ROUGE-L F1 to the cache pool and to each other is <= `novelty`.

    `children`: most new instructions from one seed; by default twice the even share. `attempts`: most calls per
    wanted instruction. `avoid`: instructions outside the cache pool to keep away from in the same way, such as the
    held-out ones. Undecided instructions are never seeds. Raises GenerationStopped when a count cannot be met, and
    whatever stops the client (StageStopped).
    """
    wanted: tuple[tuple[Kind, int, list[Instruction]], ...] = (
        ("hard", hard_size, split.hard),
        ("easy", easy_size, split.easy),
    )
    lines = [_line(kind, size, seeds, children, attempts, f"{seed} {iteration} {kind}") for kind, size, seeds in wanted]
    index, known = NoveltyIndex(novelty), {item.text for item in (*cache, *avoid)}
    for item in (*cache, *avoid):
        index.add(item.text)
    ledger: list[Candidate] = []
    while any(line.missing for line in lines):
        rounds = [line.turns() for line in lines]
        if any(line.missing and not turns for line, turns in zip(lines, rounds)):
            raise GenerationStopped(_why(lines), _generation(lines, ledger))
        calls = [(line, item, line.next_attempt(item)) for line, turns in zip(lines, rounds) for item in turns]
        requests = [
            ChatRequest(
                generator_messages(item.text, line.kind), model, temperature, max_tokens, f"{iteration}.{attempt}"
            )
            for line, item, attempt in calls
        ]
        label = "generator (" + ", ".join(f"{len(line.made)}/{line.size} {line.kind}" for line in lines) + ")"
        for (line, item, attempt), completion in zip(calls, client.map(requests, progress=label, batch=False)):
            candidate = _judge(completion, line, item, index, known)
            ledger.append(replace(candidate, iteration=iteration, attempt=attempt))
            line.enter(ledger[-1], item)
    return _generation(lines, ledger)


def _line(kind: Kind, size: int, seeds: Sequence[Instruction], children: int | None, attempts: int, draw: str) -> _Line:
    order = sorted(seeds, key=lambda s: s.id)
    random.Random(draw).shuffle(order)
    return _Line(kind, size, order, children or 2 * math.ceil(size / max(1, len(order))), attempts)


def _judge(completion: Completion, line: _Line, seed: Instruction, index: NoveltyIndex, known: set[str]) -> Candidate:
    """The candidate that one reply makes, with the first rule it breaks: the call's, the text's, the pool's. `known`
    are the texts of the index: the same text again is a duplicate at every threshold.
    """
    text = unwrap(completion.text or "")
    candidate = Candidate(text, line.kind, seed.id, "rejected", raw=completion.text or "", call_id=completion.call_id)
    if completion.status != "ok":
        return replace(candidate, rule="cut" if completion.status == "truncated" else completion.status)
    if rule := broken_rule(text, seed):
        return replace(candidate, rule=rule)
    similarity, nearest = index.nearest(text)
    candidate = replace(candidate, similarity=similarity, nearest=nearest or "")
    if similarity > index.threshold or text in known:
        return replace(candidate, rule="duplicate" if similarity == 1 or text in known else "not novel")
    if not line.missing:
        return replace(candidate, rule="surplus")
    index.add(text)
    known.add(text)
    return replace(candidate, status="accepted", instruction_id=content_id(text, ""))


def _generation(lines: list[_Line], ledger: list[Candidate]) -> Generation:
    return Generation([item for line in lines for item in line.made], ledger)


def _why(lines: list[_Line]) -> str:
    """The one line that says what was made, from how much, and what stood in the way."""
    stuck = next(line for line in lines if line.missing and not line.turns())
    if not any(line.seeds for line in lines):
        return _UNDECIDED
    if not stuck.seeds:
        return _NO_SEEDS[stuck.kind]
    remedy = next((_REMEDIES[rule] for rule, _ in stuck.rules.most_common() if rule in _REMEDIES), _OTHERWISE)
    return f"generation stopped: {'; '.join(map(str, lines))}: {remedy}"


_UNDECIDED = "no instruction to start from: none was judged hard or easy; see the reasons (pools.verdict_table)"
_NO_SEEDS = {
    "hard": "no hard instruction to start from: the student is within tau of the teacher on all that was judged; "
    "end here, lower tau, or add harder seeds",
    "easy": "no easy instruction to start from: the student is behind by tau on all that was judged; "
    "train longer, raise tau, or add easier seeds",
}
_REMEDIES = {
    "not novel": "add seeds, ask for fewer, or raise the novelty threshold",
    "duplicate": "add seeds, ask for fewer, or raise the generator's temperature",
    "same as seed": "raise the generator's temperature or use a stronger model",
    "cut": "raise generator_max_tokens",
    "failed": "mend the endpoint (see the calls' errors), then run again",
}
_OTHERWISE = "read the ledger's raw replies, then change the model or the seeds"
