"""The live part of one `map`: workers that claim, wait their turn, send, store, and retry.

A worker holds one call, one attempt at a time, from claim to settlement; between attempts nothing is held, so
another kernel may take the call over. `halt` ends the stage: what is in flight arrives and is stored, and
nothing new is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import openai

from lionkit.client import batch
from lionkit.client.calls import Call, Cause, Completion, Estimate, Usage, bound
from lionkit.client.pacing import Pacer
from lionkit.client.store import Store
from lionkit.client.wire import NOTHING, Outcome, attempt, body_of
from lionkit.config import ApiConfig, endpoint
from lionkit.errors import LionkitError
from lionkit.records import Status

POLL = 0.1
"""Seconds before looking again at a call another kernel is asking, or at a budget that may free up."""
BACKOFF, LONGEST_BACKOFF = 0.5, 30.0
"""Seconds before a second attempt, doubled for each further one, up to the longest; jittered down to half."""
HEAD_START = {True: 0.1, False: 2.0}
"""Seconds the first call to a model is sent ahead of the others, on this machine and elsewhere: a key, a quota or a
name that is refused is refused within a round trip, and costs one request instead of one a worker."""
PATIENCE = 10
"""Rate-limit answers, and refused connections to a server that has answered before, a call may meet, in multiples of
`max_attempts`: they are no failures of the row."""


@dataclass
class Stage:
    """State of one map while it runs. The counters are read by the thread that shows the progress."""

    config: ApiConfig
    store: Store
    pacer: Pacer
    seats: threading.Semaphore
    """Calls in flight, over all maps of the client."""
    habits: dict[str, dict[str, str | None]]
    """Per model that has answered: how it takes its settings (`wire.body_of`)."""
    hide: Callable[[str], str]
    """Takes the key out of a text."""
    local: bool
    batch: bool
    """Whether to ask through the Batch API."""
    queue: deque[Call]
    expected: Estimate
    """What the map will use in all."""
    aside: deque[Call] = field(default_factory=deque)
    """Calls that a batch of another kernel holds: to be collected from there."""
    done: dict[str, Completion] = field(default_factory=dict)
    failed: int = 0
    paid: Usage = NOTHING
    problem: str = ""
    cause: Cause = ""
    """That of the problem."""
    halted: asyncio.Event = field(default_factory=asyncio.Event)
    loop: asyncio.AbstractEventLoop | None = None
    task: asyncio.Task[None] | None = None

    def halt(self, problem: str, cause: Cause = "") -> None:
        if not self.problem:
            self.problem, self.cause = self.hide(problem), cause
        self.halted.set()

    async def rest(self, seconds: float) -> None:
        """Sleep, unless the stage halts."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.halted.wait(), seconds)

    def body(self, call: Call) -> dict[str, Any]:
        return body_of(call.request, call.model, self.habits.get(call.model, {}))

    def claim(self, call: Call, owner: str = "") -> str:
        """As `Store.claim`; `done` where the reply was there; no budget for it halts the stage."""
        config = self.config
        fits = self.fits if config.budget_usd or config.budget_tokens else None
        state = self.store.claim(call.key, bound(call.request), fits, owner)
        if isinstance(state, Completion):
            self.done[call.key] = state
            return "done"
        if state == "over":
            self.halt("the budget is used up (a call counts at its longest until it is answered): raise it")
        return state

    def settle(self, call: Call, outcome: Outcome, sent: dict[str, Any], owner: str = "") -> float | None:
        """Enter an attempt's outcome; seconds to wait before the next one, or None when there is none.

        `owner` holds the claim: this kernel, or a batch's token.
        """
        if outcome.replied:
            self.habits.setdefault(call.model, {})
        paid, reply = self.keep(call.key, call.model, outcome, bound(call.request), sent, owner)
        self.paid += paid
        if reply:
            self.done[call.key] = reply
            return None
        if outcome.kind == "stop":
            self.halt(outcome.error, outcome.cause)
            return None
        if outcome.kind == "adapt":
            other = "max_completion_tokens" if outcome.text == "max_tokens" else None
            self.habits.setdefault(call.model, {})[outcome.text] = other
            return 0.0
        return self._again(call, outcome)

    def keep(
        self, key: str, model: str, outcome: Outcome, most: Usage, sent: dict[str, Any], owner: str
    ) -> tuple[Usage, Completion | None]:
        """Store a reply, or give the call up; what it cost either way (`most`, where nobody knows)."""
        paid = most if outcome.paid is None else outcome.paid
        if outcome.kind not in ("ok", "truncated", "filtered", "refused"):
            self.store.release(key, paid, owner)
            return paid, None
        status, text, error = cast(Status, outcome.kind), self.hide(outcome.text), self.hide(outcome.error)
        reply = Completion(status, text, paid, False, error, key, model)
        self.store.put(reply, json.dumps(sent), owner)
        return paid, reply

    def _again(self, call: Call, outcome: Outcome) -> float | None:
        """After a failed attempt: the wait before the next, or None where the row has failed."""
        away, known = outcome.kind == "unreachable", call.model in self.habits
        call.failures += outcome.kind == "retry" or (away and not known)
        call.limited += outcome.kind == "limited" or (away and known)
        most, tries = self.config.max_attempts, call.failures + call.limited
        spent = call.failures >= most or call.limited >= PATIENCE * most
        error = f"{outcome.error} (given up after {tries} attempts)" if spent else outcome.error
        if spent and (away or not known):
            self.halt(f"{endpoint(self.config)} gives no reply: {error}: check base_url and the network")
            return None
        if spent or outcome.kind == "failed":
            self.failed += 1
            told = (self.hide(error), call.key, call.model, outcome.cause)
            self.done[call.key] = Completion("failed", "", NOTHING, False, *told)
            return None
        if outcome.wait:
            self.pacer.pause(outcome.wait)  # for everybody, this call included
            return 0.0
        return min(LONGEST_BACKOFF, BACKOFF * 2 ** min(tries - 1, 9)) * random.uniform(0.5, 1.0)

    def fits(self, usage: Usage) -> bool:
        """Whether so much in all is within the budget."""
        dollars, tokens = self.config.budget_usd, self.config.budget_tokens
        cheap = dollars is None or usage.dollars(self.config.price_per_million) <= dollars
        return cheap and (tokens is None or usage.total_tokens <= tokens)


async def run(stage: Stage, client: openai.AsyncOpenAI) -> None:
    """Ask everything in the queue. Each model's first call goes ahead alone: what refuses it refuses them all."""
    stage.loop, stage.task = asyncio.get_running_loop(), asyncio.current_task()
    if limit := stage.config.stage_timeout:
        stage.loop.call_later(limit, stage.halt, f"the stage took longer than its stage_timeout of {limit:g} s")
    ahead: list[asyncio.Task[None]] = []
    async with client:
        try:
            await batch.run(stage, client, submit=False)
            for model in sorted({call.model for call in stage.queue} - stage.habits.keys()):
                first = next(call for call in stage.queue if call.model == model)
                stage.queue.remove(first)
                ahead.append(asyncio.create_task(_work(stage, client, deque([first]))))
                await asyncio.wait(ahead, timeout=HEAD_START[stage.local] if not stage.batch else None)
            while True:
                await batch.run(stage, client, submit=stage.batch)
                workers = min(stage.config.concurrency, len(stage.queue))
                await asyncio.gather(*ahead, *(_work(stage, client, stage.queue) for _ in range(workers)))
                stage.queue, stage.aside = stage.aside, deque()
                if not stage.queue or stage.halted.is_set():
                    break
                await stage.rest(10 * POLL)
        except LionkitError as error:
            stage.halt(str(error))


async def _work(stage: Stage, client: openai.AsyncOpenAI, queue: deque[Call]) -> None:
    try:
        while queue and not stage.halted.is_set():
            call = queue.popleft()
            state = stage.claim(call)
            if state == "claimed":
                wait = await _attempt(stage, client, call)
                if wait is not None:
                    await stage.rest(wait)
                    queue.appendleft(call)
            elif state == "batched":
                stage.aside.append(call)
            elif state != "done":
                queue.append(call)
                await stage.rest(POLL)
                stage.store.sweep()
    except LionkitError as error:  # the store cannot be written: let the others bring in what is in flight
        stage.halt(str(error))


async def _attempt(stage: Stage, client: openai.AsyncOpenAI, call: Call) -> float | None:
    """Send a claimed call once and settle it; as `Stage.settle`."""
    body, most = stage.body(call), bound(call.request)
    tokens = most.prompt_tokens // 4 + most.completion_tokens
    try:
        if not await _admitted(stage, tokens):
            stage.store.release(call.key, NOTHING)
            return None
        try:
            outcome = await attempt(client, body, stage.config, str(call.request.slot) if stage.local else "")
        finally:
            stage.seats.release()
    except asyncio.CancelledError:
        stage.store.release(call.key, most)  # nobody knows whether it was billed
        stage.paid += most
        raise
    stage.pacer.heed(outcome.headers)
    stage.pacer.settle(tokens - (most if outcome.paid is None else outcome.paid).total_tokens)
    return stage.settle(call, outcome, {name: value for name, value in body.items() if name != "messages"})


async def _admitted(stage: Stage, tokens: int) -> bool:
    """Wait for this call's turn; False when the stage was halted meanwhile. Takes a seat."""
    while not stage.halted.is_set():
        epoch, wait = stage.pacer.reserve(tokens)
        await stage.rest(wait)
        while epoch == stage.pacer.epoch and not stage.halted.is_set():
            if stage.seats.acquire(blocking=False):
                return True
            await stage.rest(POLL / 5)
    return False
