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

import openai

from lionkit.client.calls import ChatRequest, Completion, Usage, bound, endpoint
from lionkit.client.pacing import Pacer
from lionkit.client.store import Store
from lionkit.client.wire import NOTHING, Outcome, attempt, body_of
from lionkit.config import ApiConfig
from lionkit.errors import LionkitError
from lionkit.records import Status

POLL = 0.1
"""Seconds before looking again at a call another kernel is asking, or at a budget that may free up."""
LONGEST_BACKOFF = 30.0
PATIENCE = 10
"""Rate-limit answers a call may meet, in multiples of `max_attempts`: they are requests to wait, not failures."""


@dataclass
class Call:
    """One distinct request of a map, and its bad luck so far."""

    key: str
    request: ChatRequest
    model: str
    failures: int = 0
    limited: int = 0


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
    queue: deque[Call]
    done: dict[str, Completion] = field(default_factory=dict)
    failed: int = 0
    paid: Usage = NOTHING
    problem: str = ""
    halted: asyncio.Event = field(default_factory=asyncio.Event)
    loop: asyncio.AbstractEventLoop | None = None
    task: asyncio.Task[None] | None = None

    def halt(self, problem: str) -> None:
        self.problem = self.problem or self.hide(problem)
        self.halted.set()

    def fits(self, usage: Usage) -> bool:
        """Whether so much in all is within the budget."""
        dollars, tokens = self.config.budget_usd, self.config.budget_tokens
        cheap = dollars is None or usage.dollars(self.config.price_per_million) <= dollars
        return cheap and (tokens is None or usage.total_tokens <= tokens)


async def run(stage: Stage, client: openai.AsyncOpenAI) -> None:
    """Ask everything in the queue. Each model's first call goes alone, until one has been answered."""
    stage.loop, stage.task = asyncio.get_running_loop(), asyncio.current_task()
    if stage.config.stage_timeout:
        late = f"the stage took longer than its stage_timeout of {stage.config.stage_timeout:g} s"
        stage.loop.call_later(stage.config.stage_timeout, stage.halt, late)
    async with client:
        for model in {call.model: None for call in stage.queue if call.model not in stage.habits}:
            first = next(call for call in stage.queue if call.model == model)
            stage.queue.remove(first)
            await _work(stage, client, deque([first]))
        workers = min(stage.config.concurrency, len(stage.queue))
        await asyncio.gather(*(_work(stage, client, stage.queue) for _ in range(workers)))


async def _work(stage: Stage, client: openai.AsyncOpenAI, queue: deque[Call]) -> None:
    while queue and not stage.halted.is_set():
        call = queue.popleft()
        try:
            state = stage.store.claim(call.key, bound(call.request), stage.fits)
            if isinstance(state, Completion):
                stage.done[call.key] = state
            elif state == "over":
                stage.halt("the budget is used up (a call counts at its longest until it is answered): raise it")
            elif state == "claimed":
                await _attempt(stage, client, queue, call)
            else:
                queue.append(call)
                await _rest(stage, POLL)
                stage.store.sweep()
        except LionkitError as error:
            stage.halt(str(error))


async def _attempt(stage: Stage, client: openai.AsyncOpenAI, queue: deque[Call], call: Call) -> None:
    """Send a claimed call once and settle it; one that has to be sent again goes back into the queue."""
    most, habits = bound(call.request), stage.habits.get(call.model, {})
    body, tokens = body_of(call.request, call.model, habits), most.prompt_tokens // 4 + most.completion_tokens
    try:
        if not await _admitted(stage, tokens):
            return stage.store.release(call.key, NOTHING)
        try:
            outcome = await attempt(client, body, stage.config, str(call.request.slot) if stage.local else "")
        finally:
            stage.seats.release()
    except asyncio.CancelledError:
        stage.store.release(call.key, most)  # nobody knows whether it was billed
        raise
    paid = most if outcome.paid is None else outcome.paid
    stage.paid += paid
    stage.pacer.heed(outcome.headers)
    stage.pacer.settle(tokens - paid.total_tokens)
    if outcome.replied:
        stage.habits.setdefault(call.model, {})
    if outcome.kind in ("ok", "truncated", "filtered", "refused"):
        sent = {name: value for name, value in body.items() if name != "messages"}
        reply = _completion(call, outcome.kind, outcome.text, paid, stage.hide(outcome.error))
        stage.store.put(reply, json.dumps(sent))
        stage.done[call.key] = reply
        return
    stage.store.release(call.key, paid)
    if outcome.kind == "stop":
        return stage.halt(outcome.error)
    if outcome.kind == "adapt":
        new = "max_completion_tokens" if outcome.text == "max_tokens" else None
        stage.habits.setdefault(call.model, {})[outcome.text] = new
    elif not await _retry(stage, call, outcome):
        return
    queue.appendleft(call)


async def _retry(stage: Stage, call: Call, outcome: Outcome) -> bool:
    """Wait before the next attempt; False where there is none left: the row has failed."""
    most = stage.config.max_attempts
    call.failures += outcome.kind == "retry"
    call.limited += outcome.kind == "limited"
    if outcome.kind == "failed" or call.failures >= most or call.limited >= PATIENCE * most:
        error = outcome.error if outcome.kind == "failed" else f"{outcome.error} (the last of {most} attempts)"
        if outcome.kind != "failed" and call.model not in stage.habits:
            stage.halt(f"{endpoint(stage.config)} gives no reply: {error}: check base_url and the network")
            return False
        stage.failed += 1
        stage.done[call.key] = _completion(call, "failed", "", NOTHING, stage.hide(error))
        return False
    if outcome.wait is not None:
        stage.pacer.pause(outcome.wait)
        return True
    longest = min(LONGEST_BACKOFF, 0.5 * 2 ** (call.failures + call.limited - 1))
    await _rest(stage, longest * random.uniform(0.5, 1.0))
    return True


def _completion(call: Call, status: Status, text: str, usage: Usage, error: str) -> Completion:
    return Completion(status, text, usage, False, error, call.key, call.model)


async def _admitted(stage: Stage, tokens: int) -> bool:
    """Wait for this call's turn; False when the stage was halted meanwhile. Takes a seat."""
    while not stage.halted.is_set():
        epoch, wait = stage.pacer.reserve(tokens)
        await _rest(stage, wait)
        while epoch == stage.pacer.epoch and not stage.halted.is_set():
            if stage.seats.acquire(blocking=False):
                return True
            await _rest(stage, POLL / 5)
    return False


async def _rest(stage: Stage, seconds: float) -> None:
    if seconds > 0:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stage.halted.wait(), seconds)
