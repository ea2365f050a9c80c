"""The server that the client is tested on: the sandbox's app with what an endpoint and an account may have.

On top of chat completions it lists models, takes files and batches, wants a key, enforces a rate limit and a quota,
and keeps its own accounts (`app.state.accounts`, also at `/accounts`). Used in process, or under uvicorn on 127.0.0.1
(`serve`). `tests/test_server.py` says what to expect of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from inspect import signature
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lionkit.sandbox import app as sandbox
from lionkit.sandbox.app import Faults, draw, misbehave


@dataclass
class Accounts:
    """The server's own books. Tokens are what it would bill, useless replies included."""

    requests: int = 0
    answered: int = 0
    """Whole, usable replies."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    batches: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    """Whole replies by digest of model, messages and slot: anything above 1 was paid twice."""


def create_app(
    answer: sandbox.Answer | None = None,
    *,
    faults: Faults | None = None,
    latency: float = 0.0,
    requests_per_minute: float | None = None,
    rate_headers: bool = True,
    models: Mapping[str, tuple[str, ...]] | None = None,
    key: str | None = None,
    quota: int | None = None,
    batch_seconds: float = 0.0,
) -> Starlette:
    """The server. `answer` and `faults` are those of the sandbox's app; `latency` in seconds; `requests_per_minute` is
    enforced by a token bucket one second deep and told in headers; `models` maps each name that is served to the
    parameters it refuses (None: every name, nothing refused); `key`, if set, is the only one let in; `quota` is the
    number of replies before `insufficient_quota`; a batch is done `batch_seconds` after it was made.
    """
    app = sandbox.create_app(answer, faults=faults)
    app.router.routes[:] = [
        Route("/v1/chat/completions", _guarded(_chat), methods=["POST"]),
        Route("/v1/models", _guarded(_models)),
        Route("/v1/files", _guarded(_upload), methods=["POST"]),
        Route("/v1/files/{id}/content", _guarded(_download)),
        Route("/v1/batches", _guarded(_list_batches)),
        Route("/v1/batches", _guarded(_make_batch), methods=["POST"]),
        Route("/v1/batches/{id}", _guarded(_show_batch)),
        Route("/accounts", lambda request: JSONResponse(vars(request.app.state.accounts))),
    ]
    app.state._state |= {
        **{"latency": latency, "rpm": requests_per_minute, "rate_headers": rate_headers, "models": models, "key": key},
        **{"quota": quota, "batch_seconds": batch_seconds, "accounts": Accounts(), "files": {}, "batches": {}},
        **{"level": _depth(requests_per_minute), "levelled": time.monotonic()},
    }
    return app


@contextlib.contextmanager
def serve(app: Starlette) -> Iterator[str]:
    """Run the app under uvicorn in a thread on a free port of 127.0.0.1; yields the base URL, with /v1."""
    quiet = {"log_level": 60, "log_config": None}  # setting logging up would close the streams of others' handlers
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", **quiet))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise OSError("the test server did not start on 127.0.0.1")
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


def _guarded(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint, for those who have the key."""

    async def guarded(request: Request) -> Response:
        key, given = request.app.state.key, request.headers.get("authorization", "")
        if key is not None and given != f"Bearer {key}":
            said = f"Incorrect API key provided: {given[7:14]}****{given[-4:]}"  # as the real one puts it
            return JSONResponse(_fail(said, "invalid_api_key"), 401)
        return await endpoint(request)

    return guarded


async def _chat(request: Request) -> Response:
    """The sandbox's own steps (a draw, its fault, the answer), with the account's limits and books between them."""
    state, raw = request.app.state, await request.body()
    slot = request.headers.get("x-lionkit-slot", "0")
    state.accounts.requests += 1
    if state.latency:
        await asyncio.sleep(state.latency)
    admitted, headers = _admit(state)
    if not admitted:
        headers |= {"retry-after": f"{60 / state.rpm:.3f}"}
        return JSONResponse(_fail("Rate limit reached", "rate_limit_exceeded"), 429, headers)
    fault = _draw(state, raw + slot.encode())
    if spoilt := await misbehave(state.faults, fault):
        return spoilt
    if await request.is_disconnected():
        return Response(status_code=499)
    status, body = _complete(state, json.loads(raw), slot, fault)
    return JSONResponse(body, status, headers)


def _draw(state: Any, call: bytes) -> str:
    fault = draw(state.faults, state.attempts, call)
    if state.faults.rate:
        state.accounts.faults[fault or "none"] += 1
    return fault


def _complete(state: Any, asked: dict[str, Any], slot: str, fault: str) -> tuple[int, dict[str, Any]]:
    """(HTTP status, JSON body) of one chat call, and its entry in the accounts."""
    model, accounts = asked.get("model", ""), state.accounts
    if state.models is not None and model not in state.models:
        return 404, _fail(f"The model {model!r} does not exist", "model_not_found")
    for name in state.models[model] if state.models else ():
        if name in asked:
            return 400, _fail(f"{name!r} is not supported with this model", "unsupported_parameter", name)
    if state.quota is not None and accounts.answered >= state.quota:
        return 429, _fail("You exceeded your current quota", "insufficient_quota")
    told = {name: asked.get(name) for name in ("repeat_penalty",) if name in signature(state.answer).parameters}
    text = state.answer(asked["messages"], temperature=asked.get("temperature", 1.0), slot=slot, **told)
    if not isinstance(text, str):
        return text
    body = sandbox.completion(asked, text, fault)
    accounts.prompt_tokens += body["usage"]["prompt_tokens"]
    accounts.completion_tokens += body["usage"]["completion_tokens"]
    if fault != "null":
        accounts.answered += 1
        whole = body["choices"][0]["finish_reason"] != "length"
        accounts.answers[hashlib.blake2s((model + json.dumps(asked["messages"]) + slot).encode()).hexdigest()] += whole
    return 200, body


def _fail(message: str, code: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code, "param": param}}


def _depth(rpm: float | None) -> float:
    return max(1.0, rpm / 60) if rpm else 0.0


def _admit(state: Any) -> tuple[bool, dict[str, str]]:
    """Whether the bucket lets a request through, and the headers that tell its state the way OpenAI does."""
    if not state.rpm:
        return True, {}
    now, rate, deep = time.monotonic(), state.rpm / 60, _depth(state.rpm)
    state.level, state.levelled = min(deep, state.level + (now - state.levelled) * rate), now
    admitted = state.level >= 1
    state.level -= admitted
    headers = {
        "x-ratelimit-limit-requests": f"{state.rpm:.0f}",
        "x-ratelimit-remaining-requests": f"{max(0, math.floor(state.rpm - deep + state.level))}",
        "x-ratelimit-reset-requests": f"{math.ceil((deep - state.level) / rate * 1000)}ms",
    }
    return admitted, headers if state.rate_headers else {}


async def _models(request: Request) -> Response:
    names = request.app.state.models or ["answer-key"]
    return JSONResponse({"object": "list", "data": [{"id": name, "object": "model", "created": 0} for name in names]})


async def _upload(request: Request) -> Response:
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    for part in message_from_bytes(head + await request.body()).walk():
        if part.get_param("name", header="content-disposition") == "file":
            content = part.get_payload(decode=True)
    return JSONResponse(_keep(request.app.state, content))


def _keep(state: Any, content: Any) -> dict[str, Any]:
    name = f"file-{len(state.files) + 1}"
    state.files[name] = content
    return {"id": name, "object": "file", "bytes": len(content), "created_at": 0, "filename": "f", "purpose": "batch"}


async def _download(request: Request) -> Response:
    return Response(request.app.state.files[request.path_params["id"]])


async def _make_batch(request: Request) -> Response:
    state, asked = request.app.state, await request.json()
    name, due = f"batch-{len(state.batches) + 1}", time.monotonic() + state.batch_seconds
    state.accounts.batches += 1
    state.batches[name] = {**asked, "id": name, "object": "batch", "created_at": 0, "status": "in_progress", "due": due}
    return JSONResponse(_looked_at(state, name))


async def _show_batch(request: Request) -> Response:
    name, state = request.path_params["id"], request.app.state
    if name not in state.batches:
        return JSONResponse(_fail(f"No batch found with id {name!r}", "not_found"), 404)
    return JSONResponse(_looked_at(state, name))


async def _list_batches(request: Request) -> Response:
    state = request.app.state
    made = [_looked_at(state, name) for name in reversed(state.batches)]
    return JSONResponse({"object": "list", "data": made, "has_more": False})


def _looked_at(state: Any, name: str) -> dict[str, Any]:
    """The batch as the API shows it; once it is due, its lines are answered, each with its own draw of a fault."""
    batch = state.batches[name]
    if batch["status"] == "in_progress" and time.monotonic() >= batch["due"]:
        done: dict[str, list[str]] = {"output_file_id": [], "error_file_id": []}
        for line in state.files[batch["input_file_id"]].splitlines():
            row = json.loads(line)
            fault = _draw(state, line)
            status, body = 500, _fail("a fault on purpose", "fault")
            if fault not in ("429", "429-wait", "500", "drop", "malformed"):
                status, body = _complete(state, row["body"], row["custom_id"].partition(":")[2] or "0", fault)
            row = {"custom_id": row["custom_id"], "response": {"status_code": status, "body": body}, "error": None}
            done["output_file_id" if status == 200 else "error_file_id"].append(json.dumps(row, ensure_ascii=False))
        files = {kind: _keep(state, "\n".join(lines).encode())["id"] for kind, lines in done.items() if lines}
        batch |= {"status": "completed", **files}
    return {key: value for key, value in batch.items() if key != "due"}
