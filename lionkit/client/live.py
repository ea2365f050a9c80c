"""Asking one call at a time: workers that claim a call, wait for their turn, send it, store the reply, and retry.

A call is claimed for one attempt. When the map halts, nothing new is sent, and calls in flight still arrive and are
stored.
"""

import asyncio
import random
from collections import deque
from collections.abc import Iterator

import openai

from lionkit.client import batch
from lionkit.client.asking import Asking
from lionkit.client.calls import Call, bound
from lionkit.client.pacing import LONG, span
from lionkit.client.wire import attempt
from lionkit.errors import LionkitError

BACKOFF, LONGEST_BACKOFF = 0.5, 30.0
"""Seconds before the second attempt, doubled for each further one up to the longest; half of it is random."""
HEAD_START = {True: 0.1, False: 2.0}
"""Seconds (server on this machine, elsewhere) that a model's first call of a form is sent ahead of the others: a key, a
model name or a setting is refused within a round trip, and then costs one request instead of one a worker."""


async def run(asking: Asking, client: openai.AsyncOpenAI) -> None:
    """Ask everything in the queue. Each model's first call goes ahead alone: what refuses it would refuse them all."""
    if limit := asking.config.stage_timeout:
        said = f"the map took longer than its stage_timeout of {limit:g} s"
        asyncio.get_running_loop().call_later(limit, asking.halt, said, "", "api.stage_timeout")
    ahead: list[asyncio.Task[None]] = []
    async with client:
        try:
            await batch.run(asking, client, submit=False)  # what an earlier map has left there
            for first in _scouts(asking):
                asking.queue.remove(first)
                ahead.append(asyncio.create_task(_work(asking, client, deque([first]))))
                await asyncio.wait(ahead, timeout=HEAD_START[asking.local] if not asking.batch else None)
            if asking.batch:
                await batch.run(asking, client, submit=True)
            while ahead or (asking.queue and not asking.halted.is_set()):
                workers = min(asking.config.concurrency, len(asking.queue))
                await asyncio.gather(*ahead, *(_work(asking, client, asking.queue) for _ in range(workers)))
                ahead.clear()
        except LionkitError as error:
            asking.halt(str(error), setting=error.setting)
    for call in asking.calls if asking.outage else ():
        if call.key not in asking.done:
            asking.fail(call, asking.outage, "outage")
    asking.reopen()


def _scouts(asking: Asking) -> Iterator[Call]:
    """The first call of each model and form that the model has not answered yet, also not since the last one."""
    seen = set[tuple[str, ...]]()
    for call in list(asking.queue):
        form = (call.model, *asking.untaken(call))
        if len(form) > 1 and form not in seen:
            seen.add(form)
            yield call


async def _work(asking: Asking, client: openai.AsyncOpenAI, queue: deque[Call]) -> None:
    """Ask the calls of the queue, until the budget is held by calls in flight: one that has to wait for them goes back
    to the map's queue, and their workers go on with it."""
    try:
        while queue and not asking.halted.is_set():
            call = queue.popleft()
            most = bound(call.request)
            tokens = most.prompt_tokens // 4 + most.completion_tokens
            async with asking.seats:
                await _turn(asking, tokens)
                if asking.halted.is_set():
                    return
                if not asking.claim(call):
                    asking.endpoint.pacer.settle(tokens)
                    asking.queue.append(call)
                    return
                wait = await _attempt(asking, client, call, tokens)
            if wait is not None:
                await asking.rest(wait)
                queue.appendleft(call)
    except LionkitError as error:  # no budget, or the store cannot be written: the other workers' calls still arrive
        asking.halt(str(error), setting=error.setting)


async def _attempt(asking: Asking, client: openai.AsyncOpenAI, call: Call, tokens: int) -> float | None:
    """Send a claimed call once and settle it; seconds to wait before the next attempt, None where there is none.
    `tokens` is what the pacer booked for it."""
    body, pacer = asking.body(call), asking.endpoint.pacer
    slot = str(call.request.slot) if asking.local else ""
    try:
        outcome = await attempt(client, body, asking.config, slot)
    except asyncio.CancelledError:
        asking.paid += asking.store.settle(call.key, None, asking.bill)  # it may have been billed
        raise
    pacer.heed(outcome.headers)
    pacer.settle(tokens - (outcome.paid or bound(call.request)).total_tokens)
    if not asking.settle(call, outcome, body):
        return None
    backoff = min(LONGEST_BACKOFF, BACKOFF * 2 ** min(call.tries - 1, 9)) * random.uniform(0.5, 1.0)
    wait = 0.0 if outcome.kind == "adapt" else outcome.wait or backoff
    asking.tell_wait(wait, outcome.error)
    if outcome.wait:
        pacer.pause(outcome.wait)  # for everybody, this call included
    return 0.0 if outcome.wait else wait


async def _turn(asking: Asking, tokens: int) -> None:
    """Wait until the pacer lets a call of so many tokens be sent, or the map halts. A pace that looks like a standstill
    is said, with the time that all calls take at it."""
    pacer, epoch = asking.endpoint.pacer, None
    while epoch != pacer.epoch and not asking.halted.is_set():
        epoch, wait = pacer.reserve(tokens)
        if (apart := pacer.apart(tokens)) > LONG:
            reason = f"requests_per_minute, tokens_per_minute or the endpoint allows one call in {span(apart)}"
            asking.tell_wait(wait + apart * len(asking.queue), reason)
        await asking.rest(wait)
