"""Asking through the Batch API: half the price, up to a day's wait, resumed after a restart.

A batch's calls are claimed in the store under a token before it is submitted, and the token travels as the batch's
metadata: after a kill between submission and the note of the batch's id, the batch is found by its token and not
submitted twice. Rows that failed or are missing are asked again in the next batch. To cancel a batch, use the
provider's own page.
"""

import contextlib
import json
import time
import uuid
from collections import deque
from typing import Any, Literal

import openai

from lionkit.client.asking import Asking
from lionkit.client.outcomes import Outcome, message_of, read_error, read_reply
from lionkit.client.wire import failure
from lionkit.config import ApiConfig

PATH: Literal["/v1/chat/completions"] = "/v1/chat/completions"
ROWS, BYTES = 50_000, 190_000_000
"""The most that one batch may hold (the API allows 200 MB). All its rows name one model."""
OUTAGES = 30
"""Times in a row that looking for a batch may fail before the map stops; with the pauses, about an hour."""
CROWDED = "token_limit_exceeded"
"""The error of a batch that was refused because too many tokens of the account are waiting; smaller ones may fit."""
ENDED = ("completed", "expired", "cancelled", "failed")


async def run(asking: Asking, client: openai.AsyncOpenAI, *, submit: bool) -> None:
    """Collect the open batches that hold calls of this map; with `submit`, ask the rest in new ones."""
    client, share = client.with_options(max_retries=asking.config.max_attempts), ROWS
    try:
        await _collect(asking, client)
        while submit and asking.queue and not asking.halted.is_set():
            while asking.queue and await _submit(asking, client, share) and share == ROWS:
                pass
            if refused := await _collect(asking, client):
                share = min(share, len(asking.queue)) // 2
                if not share:
                    asking.halt(f"a batch was not accepted: {refused}", setting="api.batch")
    except openai.APIError as error:
        outcome = failure(error, {}, asking.config)
        said, setting = outcome.error, outcome.setting
        if isinstance(error, openai.APIStatusError) and error.status_code in (404, 405):
            said = "it has none (then set batch=False), or not this batch (then use the key and project that made it)"
            setting = "api.batch"
        asking.halt(f"the Batch API of {asking.url} failed: {said}", outcome.cause, setting)


async def _submit(asking: Asking, client: openai.AsyncOpenAI, share: int) -> bool:
    """Claim what fits into one batch and the budget, at most `share` calls, and submit it; False if nothing did."""
    token, model = uuid.uuid4().hex, asking.queue[0].model
    lines = _claim(asking, token, model, share)
    if not lines:
        return False
    asking.queue = deque(call for call in asking.queue if call.key not in lines)
    file = await client.files.create(file=("calls.jsonl", "\n".join(lines.values()).encode()), purpose="batch")
    once = client.with_options(max_retries=0)  # a second attempt could submit it twice
    metadata = {"lionkit": token, "model": model}
    made = await once.batches.create(input_file_id=file.id, endpoint=PATH, completion_window="24h", metadata=metadata)
    asking.store.note_batch(token, made.id)
    return True


def _claim(asking: Asking, token: str, model: str, share: int) -> dict[str, str]:
    """The lines of a batch's file by call: calls to the model, claimed under the token."""
    lines, size = dict[str, str](), 0
    for call in [call for call in asking.queue if call.model == model]:
        name = f"{call.key}:{call.request.slot}" if asking.local else call.key
        line = json.dumps({"custom_id": name, "method": "POST", "url": PATH, "body": asking.body(call)})
        full = lines and (len(lines) == share or size + len(line) >= BYTES)
        if full or not asking.claim(call, token):
            break
        lines[call.key] = line
        size += len(line) + 1
    return lines


async def _collect(asking: Asking, client: openai.AsyncOpenAI) -> str:
    """Wait for the open batches of this map and store their replies; calls without one stay in the queue.

    Returns the provider's words where the account had no room for a batch, else an empty text.
    """
    crowded = ""
    for token, batch_id in asking.store.batches(asking.calls):
        if batch_id := batch_id or await _find(client, token):
            batch = await _wait(asking, client, batch_id)
            if batch is None:
                return ""  # the map has halted; the batch goes on at the provider
            await _enter(asking, client, batch, token)
            crowded = _refused(asking, batch) or crowded
        asking.store.close_batch(token)
    asking.queue = deque(call for call in asking.calls if call.key not in asking.done)
    return crowded


def _refused(asking: Asking, batch: Any) -> str:
    """Halt for a batch that was not accepted or was cancelled; one that only needs more room: the provider's words."""
    faults = batch.errors.data or [] if batch.errors else []
    said = "; ".join(str(fault.message) for fault in faults[:3])
    if batch.status == "failed" and any(fault.code == CROWDED for fault in faults):
        return said
    if batch.status == "failed":
        asking.halt(f"batch {batch.id} was not accepted: {said}", setting="api.batch")
    elif batch.status == "cancelled":
        asking.halt(f"batch {batch.id} was cancelled at the provider; what it had answered is stored")
    return ""


async def _find(client: openai.AsyncOpenAI, token: str) -> str | None:
    with contextlib.suppress(openai.NotFoundError):  # an endpoint without the API cannot have taken a batch
        async for batch in client.batches.list(limit=100):
            if (batch.metadata or {}).get("lionkit") == token:
                return batch.id
    return None


async def _wait(asking: Asking, client: openai.AsyncOpenAI, batch_id: str) -> Any:
    """The batch once it has ended, or None when the map halts first. Looks less often the longer it takes."""
    started, outages = time.monotonic(), 0
    while not asking.halted.is_set():
        try:
            batch, outages = await client.batches.retrieve(batch_id), 0
            if batch.status in ENDED:
                return batch
        except (openai.APIConnectionError, openai.InternalServerError):
            outages += 1
            if outages == OUTAGES:
                raise
        await asking.rest(min(60.0, max(0.2, (time.monotonic() - started) / 20)))
    return None


async def _results(client: openai.AsyncOpenAI, batch: Any) -> dict[str, Any]:
    """The rows of a batch's result files by call; rows that cannot be read are left out, and so asked again."""
    rows = {}
    for file in filter(None, (batch.error_file_id, batch.output_file_id)):
        for line in (await client.files.content(file)).text.split("\n"):  # splitlines also cuts inside a reply
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                row = json.loads(line)
                rows[row["custom_id"].partition(":")[0]] = row
    return rows


async def _enter(asking: Asking, client: openai.AsyncOpenAI, batch: Any, token: str) -> None:
    """Settle each call that an ended batch still holds like one that was sent alone; those of other maps are stored
    for them. One without a row counts as tried, unless the batch was refused or cancelled."""
    rows = await _results(client, batch)
    tried, calls = batch.status in ("completed", "expired"), {call.key: call for call in asking.calls}
    sent = {"batch": batch.id, "model": (batch.metadata or {}).get("model", "")}
    for key in asking.store.held(token):
        if tried or key in rows:
            call = calls.get(key)
            asked = sent | (asking.body(call) if call else {})
            outcome = _outcome(rows.get(key) or {}, asked, asking.config)
            if call:
                asking.settle(call, outcome, asked)
            else:
                asking.keep(key, sent["model"], outcome, asked)


def _outcome(row: dict[str, Any], asked: dict[str, Any], config: ApiConfig) -> Outcome:
    response = row["response"] if isinstance(row.get("response"), dict) else {}
    status, body = response.get("status_code"), response.get("body")
    if status == 200:
        return read_reply(body, {}, asked, config)
    if status and isinstance(status, int):
        return read_error(status, body, {}, asked, config)
    fault = message_of(row.get("error")) or ("its row is unreadable" if row else "it is not in the results")
    return Outcome("retry", error=f"the batch did not answer it: {fault}")
