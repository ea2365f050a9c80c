"""The generation stage: hard instructions seed new hard ones, easy ones new easy ones, 1:1 (paper section 3.3).

Seeds are asked in rounds, each seed once before any is asked again, until both counts are met. Every reply becomes one
`Candidate`, accepted or with the rule that rejected it. Where a count cannot be met the stage stops with
`GenerationStopped`, which says what there is and why there is no more, and carries all candidates. Calls are in the
client's store, so asking again is free. Same inputs and replies give the same result, in whatever order the seeds come.
"""

import math
import random
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from itertools import islice
from typing import Literal, NamedTuple

from lionkit.client import ChatClient, ChatRequest, Completion
from lionkit.errors import StageStopped
from lionkit.generator.filters import broken_rule, unwrap
from lionkit.novelty import NoveltyIndex
from lionkit.pools import Split
from lionkit.prompts import generator_messages
from lionkit.records import Candidate, Instruction, content_id

PROBE = 64
"""Most calls of the first round for one kind; and rejected candidates in a row after which a kind is given up."""
ATTEMPTS = 6
"""Most calls for each wanted instruction."""
_STOPS = tomllib.loads((files(__package__) / "stops.toml").read_text(encoding="utf-8"))


class Generation(NamedTuple):
    """What the stage made: the new instructions, hard before easy, and all candidates in the order of the calls."""

    instructions: list[Instruction]
    candidates: list[Candidate]


class GenerationStopped(StageStopped):
    """The counts are not met; `result` is the `Generation` there is. `cause` is "outage" where replies are missing."""


@dataclass
class _Side:
    """The new instructions of one kind: how many are wanted, from which seeds, and what came of the calls so far."""

    kind: Literal["hard", "easy"]
    size: int
    seeds: list[Instruction]
    made: list[Instruction] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)  # by id of the seed
    rules: Counter[str] = field(default_factory=Counter)  # rejected candidates by rule
    rejected_in_a_row: int = 0

    @property
    def missing(self) -> int:
        return self.size - len(self.made)

    def next_turns(self) -> "list[_Turn]":
        """The calls of the next round, seeds asked least first; none where the count is met or cannot be met.

        The round is as long as it must be if the same share of candidates is accepted as so far. A seed is asked
        again only after all others, and has at most twice its even share of the new instructions.
        """
        calls, children = self.calls.total(), Counter(item.parent for item in self.made)
        if self.rejected_in_a_row >= PROBE or not self.missing:
            return []
        accepted = max(len(self.made) / calls, 1 / ATTEMPTS) if calls else 1.0
        count = min(math.ceil(self.missing / accepted), ATTEMPTS * self.size - calls)
        most = 2 * math.ceil(self.size / max(1, len(self.seeds)))
        order = sorted(self.seeds, key=lambda seed: self.calls[seed.id])
        turns = ((self, s, self.calls[s.id] + n) for n in range(most) for s in order if children[s.id] + n < most)
        return list(islice(turns, count if calls else min(count, PROBE)))

    def take(self, candidate: Candidate, seed: Instruction) -> None:
        """Count the candidate; an accepted one becomes an instruction that inherits its seed's category."""
        self.calls[seed.id] += 1
        if candidate.status == "rejected":
            self.rejected_in_a_row += 1
            self.rules[candidate.rule] += 1
            return
        self.rejected_in_a_row = 0
        child = Instruction(candidate.text, source=self.kind, category=seed.category, parent=seed.id)
        self.made.append(replace(child, iteration=candidate.iteration))

    def __str__(self) -> str:
        worst = ", ".join(f"{rule} {n}" for rule, n in self.rules.most_common(3))
        made = f"{len(self.made)} of {self.size} {self.kind} from {self.calls.total()} calls"
        return f"{made} (rejected: {worst})" if worst else made


_Turn = tuple[_Side, Instruction, int]
"""One call to make: for which side, from which seed, and how often that seed was asked before."""


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
    avoid: Sequence[Instruction] = (),
    short: bool = False,
    draw: int = 0,
) -> Generation:
    """`hard_size` + `easy_size` new instructions whose ROUGE-L F1 to the cache pool and to each other is <= `novelty`.

    `avoid`: instructions outside the cache pool to keep away from in the same way, such as the held-out ones.
    Undecided instructions are never seeds. `draw`: another number asks every call anew, for a generator that has
    changed under the same name. Raises GenerationStopped when a count cannot be met, unless `short` is set and there is
    at least one new instruction of each kind: then that is returned. Raises it with the cause "outage" when replies
    are missing because the endpoint was out of reach, and StageStopped for whatever stops the client.
    """
    sides = [_Side("hard", hard_size, [*split.hard]), _Side("easy", easy_size, [*split.easy])]
    for side in sides:
        side.seeds.sort(key=lambda item: item.id)
        random.Random(f"{seed} {iteration} {side.kind}").shuffle(side.seeds)
    index, known = NoveltyIndex(novelty), {item.text for item in (*cache, *avoid)}
    for item in (*cache, *avoid):
        index.add(item.text)
    candidates: list[Candidate] = []
    while turns := _next_round(sides, candidates, short):
        slots = [f"{iteration}.{attempt}" + (f".{draw}" if draw else "") for _, _, attempt in turns]
        messages = [generator_messages(parent.text, side.kind) for side, parent, _ in turns]
        requests = [ChatRequest(m, model, temperature, max_tokens, slot) for m, slot in zip(messages, slots)]
        label = "generator (" + ", ".join(f"{len(side.made)}/{side.size} {side.kind}" for side in sides) + ")"
        completions = client.map(requests, progress=label, batch=False)
        for (side, parent, attempt), completion in zip(turns, completions, strict=True):
            if not completion.missing:
                judged = _judge(completion, side, parent, index, known)
                candidates.append(replace(judged, iteration=iteration, attempt=attempt))
                side.take(candidates[-1], parent)
        if lost := [c for c in completions if c.missing]:
            problem = f"the endpoint left {len(lost)} of {len(turns)} calls to the generator unanswered"
            problem += f" ({lost[0].error}): run it again to ask only these"
            raise GenerationStopped(problem, "outage", result=_made(sides, candidates))
    return _made(sides, candidates)


def _made(sides: list[_Side], candidates: list[Candidate]) -> Generation:
    return Generation([item for side in sides for item in side.made], candidates)


def _next_round(sides: list[_Side], candidates: list[Candidate], short: bool) -> list[_Turn]:
    """The next calls for both kinds; none when all is done. GenerationStopped where a count cannot be met."""
    rounds = [side.next_turns() for side in sides]
    for side, turns in zip(sides, rounds):
        if side.missing and not turns and not (short and side.made):
            problem, setting = _why(side, sides)
            raise GenerationStopped(problem, setting=setting, result=_made(sides, candidates))
    return [turn for turns in rounds for turn in turns]


def _judge(completion: Completion, side: _Side, seed: Instruction, index: NoveltyIndex, known: set[str]) -> Candidate:
    """The candidate that one reply makes, with the first rule it breaks: the call's, the text's, the pool's.

    `known` are the texts of the index: the same text again is a duplicate at every threshold.
    """
    text = unwrap(completion.text)
    candidate = Candidate(text, side.kind, seed.id, "rejected", raw=completion.text, call_id=completion.call_id)
    if completion.status != "ok":
        return replace(candidate, rule="cut" if completion.status == "truncated" else completion.status)
    if rule := broken_rule(text, seed):
        return replace(candidate, rule=rule)
    similarity, nearest = index.nearest(text)
    candidate = replace(candidate, similarity=similarity, nearest=nearest or "")
    if similarity > index.threshold or text in known:
        return replace(candidate, rule="duplicate" if similarity == 1 or text in known else "not novel")
    if not side.missing:
        return replace(candidate, rule="surplus")
    index.add(text)
    known.add(text)
    return replace(candidate, status="accepted", instruction_id=content_id(text, ""))


def _why(stuck: _Side, sides: list[_Side]) -> tuple[str, str]:
    """What was made, from how much, what stood in the way and what to do; and the setting to change."""
    if not any(side.seeds for side in sides):
        return _STOPS["undecided"], ""
    if not stuck.seeds:
        return _STOPS["no_seeds"][stuck.kind], "tau"
    worst = max(stuck.rules, key=stuck.rules.__getitem__, default="otherwise")
    remedy, setting = _STOPS["remedies"].get(worst, _STOPS["remedies"]["otherwise"])
    short = ", or set short_generation = true to go on with what there is" if all(side.made for side in sides) else ""
    return f"generation stopped: {'; '.join(map(str, sides))}: {remedy}{short}", setting.format(kind=stuck.kind)
