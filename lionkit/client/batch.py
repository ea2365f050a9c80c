"""The Batch API as another way to the same store: half the price, up to a day's wait, resumed after a restart.

A batch's calls are claimed in the store under a token before it is submitted, and the token travels as the batch's
metadata: a kernel that died between submission and note finds its batch again instead of submitting twice. Rows
that failed or are missing are asked again in the next batch. Cancelling is left to the provider's own page.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

import openai

from lionkit.client.wire import Outcome, message_of, read_error, read_reply
from lionkit.config import endpoint

if TYPE_CHECKING:
    from lionkit.client.live import Stage

ROWS, BYTES = 50_000, 190_000_000
"""What a batch may have (the API's own limits; it says 200 MB). All its rows name one model."""
OUTAGES = 30
"""Times in a row that looking for a batch may fail: a night's wait outlives an hour without a network."""
CROWDED = "token_limit_exceeded"
"""The account may not have so many tokens waiting: the batch is refused, to be asked again in parts."""


async def run(stage: Stage, client: openai.AsyncOpenAI, *, submit: bool) -> None:
    """Bring in the open batches that hold calls of this stage; with `submit`, ask the rest in new ones."""
    client, share = client.with_options(max_retries=stage.config.max_attempts), ROWS
    try:
        await _collect(stage, client)
        while submit and stage.queue and not stage.halted.is_set():
            if not await _submit(stage, client, share):
                await stage.rest(1.0)  # others are asking these, or the budget waits for them
            while share == ROWS and await _submit(stage, client, share):
                pass
            if refused := await _collect(stage, client):
                share = min(share, len(stage.queue)) // 2
                if not share:
                    stage.halt(f"a batch was not accepted: {refused}")
    except openai.APIStatusError as error:
        outcome = read_error(error.status_code, error.body, {}, {}, stage.config)
        said = outcome.error
        if error.status_code in (404, 405):
            said = "it has none (then set batch=False), or not this batch (then use the key and project that made it)"
        stage.halt(f"the Batch API of {endpoint(stage.config)} failed: {said}", outcome.cause)
    except openai.APIConnectionError:
        stage.halt(f"{endpoint(stage.config)} gives no reply: check base_url and the network")


async def _submit(stage: Stage, client: openai.AsyncOpenAI, share: int) -> bool:
    """Claim what fits into one batch and the budget, at most `share` calls, and submit it; False: there was nothing."""
    token, model, lines, size = uuid.uuid4().hex, "", list[str](), 0
    stage.store.open_batch(token)
    for call in stage.queue:
        row = {"method": "POST", "url": "/v1/chat/completions", "body": stage.body(call)}
        slot = f":{call.request.slot}" if stage.local else ""
        line = json.dumps({"custom_id": call.key + slot, **row})
        if lines and (len(lines) == share or size + len(line) >= BYTES):
            break
        if lines and call.model != model:
            continue
        state = stage.claim(call, token)
        if state == "claimed":
            lines.append(line)
            model, size = call.model, size + len(line) + 1
        elif state in ("wait", "over"):
            break
    if not lines:
        stage.store.close_batch(token)
        stage.store.sweep()
        return False
    file = await client.files.create(file=("calls.jsonl", "\n".join(lines).encode()), purpose="batch")
    made = await client.with_options(max_retries=0).batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"lionkit": token, "model": model},
    )
    stage.store.open_batch(token, made.id)
    return True


async def _collect(stage: Stage, client: openai.AsyncOpenAI) -> str:
    """Wait for the open batches of this stage and store what they bring; the queue keeps what they did not.

    Returns why the account had no room for one, where that was so.
    """
    crowded = ""
    for token, batch_id in stage.store.batches([call.key for call in stage.queue]):
        batch_id = batch_id or await _find(client, token)
        batch = await _wait(stage, client, batch_id) if batch_id else None
        if batch_id and batch is None:
            return ""  # halted: the batch goes on without us
        if batch:
            rows: dict[str, Any] = {}
            for file in filter(None, (batch.error_file_id, batch.output_file_id)):
                rows |= _rows((await client.files.content(file)).text)
            sent = {"batch": batch_id, "model": (batch.metadata or {}).get("model", "")}
            _enter(stage, rows, token, sent, missing=batch.status in ("completed", "expired"))
        stage.store.close_batch(token)
        faults = batch.errors.data or [] if batch and batch.errors else []
        said = "; ".join(str(fault.message) for fault in faults[:3])
        if batch and batch.status == "failed" and any(fault.code == CROWDED for fault in faults):
            crowded = said
        elif batch and batch.status == "failed":
            stage.halt(f"batch {batch_id} was not accepted: {said}")
        elif batch and batch.status == "cancelled":
            stage.halt(f"batch {batch_id} was cancelled at the provider; what it had answered is stored")
    stage.queue = deque(call for call in stage.queue if call.key not in stage.done)
    return crowded


async def _find(client: openai.AsyncOpenAI, token: str) -> str | None:
    async for batch in client.batches.list(limit=100):
        if (batch.metadata or {}).get("lionkit") == token:
            return batch.id
    return None


async def _wait(stage: Stage, client: openai.AsyncOpenAI, batch_id: str) -> Any:
    """The batch once it is over, or None when the stage halts first. Looks less often the longer it takes."""
    started, outages = time.monotonic(), 0
    while not stage.halted.is_set():
        try:
            batch, outages = await client.batches.retrieve(batch_id), 0
            if batch.status in ("completed", "expired", "cancelled", "failed"):
                return batch
        except (openai.APIConnectionError, openai.InternalServerError):
            outages += 1
            if outages == OUTAGES:
                raise
        await stage.rest(min(60.0, max(0.2, (time.monotonic() - started) / 20)))
    return None


def _rows(lines: str) -> dict[str, Any]:
    """The rows of a result file by call; those that cannot be read are left out, and so asked again."""
    rows = {}
    for line in lines.split("\n"):  # splitlines would also cut at line separators inside a reply
        try:
            row = json.loads(line)
            rows[row["custom_id"].partition(":")[0]] = row
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return rows


def _enter(stage: Stage, rows: dict[str, Any], token: str, sent: dict[str, Any], *, missing: bool) -> None:
    """Settle each call that the batch still holds like one that was sent alone; with `missing`, also those without
    a row. Calls of other maps are kept for them. `sent` is known of them all: the batch and its model.
    """
    calls = {call.key: call for call in stage.queue}
    for key, most in stage.store.claims(token).items():
        if key not in rows and not missing:
            continue
        row, call = rows.get(key) or {}, calls.get(key)
        response = row["response"] if isinstance(row.get("response"), dict) else {}
        status, body = response.get("status_code"), response.get("body")
        asked = sent | (stage.body(call) if call else {})
        if status == 200:
            outcome = read_reply(body, {}, asked, stage.config)
        elif status and isinstance(status, int):
            outcome = read_error(status, body, {}, asked, stage.config)
        else:
            fault = message_of(row.get("error")) or ("its row is unreadable" if row else "it is not in the results")
            outcome = Outcome("retry", error=f"the batch did not answer it: {fault}")
        kept = {name: value for name, value in asked.items() if name != "messages"}
        if call:
            stage.settle(call, outcome, kept, token)
        else:
            stage.keep(key, sent["model"], outcome, most, kept, token)
