"""The Batch API as another way to the same store: half the price, up to a day's wait, resumed after a restart.

A batch's calls are claimed in the store under a token before it is submitted, and the token travels as the batch's
metadata: a kernel that died between submission and note finds its batch again instead of submitting twice. Rows
that failed are asked again in the next batch. Cancelling a batch is left to the provider's own page.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

import openai

from lionkit.client.calls import Call, ChatRequest, endpoint
from lionkit.client.wire import Outcome, read_error, read_reply

if TYPE_CHECKING:
    from lionkit.client.live import Stage

ROWS = 50_000
"""Rows a batch may have (the API's own limit)."""
OVER = ("completed", "expired", "cancelled", "failed")


async def run(stage: Stage, client: openai.AsyncOpenAI, *, submit: bool) -> None:
    """Bring in the open batches that hold calls of this stage; with `submit`, ask the rest in new ones."""
    client = client.with_options(max_retries=stage.config.max_attempts)
    try:
        await _collect(stage, client)
        while submit and stage.queue and not stage.halted.is_set():
            for start in range(0, len(stage.queue), ROWS):
                await _submit(stage, client, list(stage.queue)[start : start + ROWS])
            await _collect(stage, client)
    except openai.APIStatusError as error:
        said = read_error(error.status_code, error.body, {}, {}, stage.config).error
        stage.halt(f"the Batch API of {endpoint(stage.config)} failed: {said}; set batch=False where there is none")
    except openai.APIConnectionError:
        stage.halt(f"{endpoint(stage.config)} gives no reply: check base_url and the network")


async def _submit(stage: Stage, client: openai.AsyncOpenAI, calls: list[Call]) -> None:
    """Claim the calls, as far as the budget goes, and submit them as one batch."""
    token, lines = uuid.uuid4().hex, []
    stage.store.open_batch(token)
    for call in calls:
        state = stage.claim(call, token)
        if state == "claimed":
            row = {"method": "POST", "url": "/v1/chat/completions", "body": stage.body(call)}
            slot = f":{call.request.slot}" if stage.local else ""
            lines.append(json.dumps({"custom_id": call.key + slot, **row}))
        elif state in ("wait", "over"):
            break
    if not lines:
        stage.store.close_batch(token)
        stage.store.sweep()
        return await stage.rest(1.0)  # others are asking these, or the budget waits for them
    file = await client.files.create(file=("calls.jsonl", "\n".join(lines).encode()), purpose="batch")
    made = await client.with_options(max_retries=0).batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"lionkit": token},
    )
    stage.store.open_batch(token, made.id)


async def _collect(stage: Stage, client: openai.AsyncOpenAI) -> None:
    """Wait for the open batches of this stage and store what they bring; the queue keeps what they did not."""
    for token, batch_id in stage.store.batches([call.key for call in stage.queue]):
        batch_id = batch_id or await _find(client, token)
        batch = await _wait(stage, client, batch_id) if batch_id else None
        if batch_id and batch is None:
            return  # halted: the batch goes on without us
        for file in (batch.output_file_id, batch.error_file_id) if batch else ():
            if file:
                _enter(stage, (await client.files.content(file)).text, token, batch_id)
        stage.store.close_batch(token)
        if batch and batch.status == "failed":
            faults = batch.errors.data if batch.errors and batch.errors.data else []
            stage.halt(f"batch {batch_id} was not accepted: {'; '.join(str(f.message) for f in faults[:3])}")
    stage.queue = deque(call for call in stage.queue if call.key not in stage.done)


async def _find(client: openai.AsyncOpenAI, token: str) -> str | None:
    async for batch in client.batches.list(limit=100):
        if (batch.metadata or {}).get("lionkit") == token:
            return batch.id
    return None


async def _wait(stage: Stage, client: openai.AsyncOpenAI, batch_id: str) -> Any:
    """The batch once it is over, or None when the stage halts first. Looks less often the longer it takes."""
    started = time.monotonic()
    while not stage.halted.is_set():
        batch = await client.batches.retrieve(batch_id)
        if batch.status in OVER:
            return batch
        await stage.rest(min(60.0, max(0.2, (time.monotonic() - started) / 20)))
    return None


def _enter(stage: Stage, lines: str, token: str, batch_id: str | None) -> None:
    """Settle each row of a result file like a call that was sent alone."""
    calls = {call.key: call for call in stage.queue}
    for line in filter(None, lines.split("\n")):  # splitlines would also cut at line separators inside a reply
        row = json.loads(line)
        response = row.get("response") or {}
        status, body = response.get("status_code"), response.get("body") or {}
        key = row["custom_id"].partition(":")[0]
        call = calls.get(key) or Call(key, ChatRequest([]), body.get("model", ""))
        sent = {name: value for name, value in stage.body(call).items() if name != "messages"}
        if status == 200:
            outcome = read_reply(body, {})
        elif status:
            outcome = read_error(status, body.get("error", body), {}, stage.body(call), stage.config)
        else:
            outcome = Outcome("retry", error=f"the batch did not answer it: {(row.get('error') or {}).get('message')}")
        stage.settle(call, outcome, {**sent, "batch": batch_id}, token)
