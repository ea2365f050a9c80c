"""The answer-key teacher behind an OpenAI-shaped HTTP interface, with faults on request.

One Starlette app, used two ways: mounted in process on the SDK's ASGI transport (offline mode: no port, no
process), and under uvicorn on 127.0.0.1 (`serve`, the test server). It speaks chat completions, model names,
files and batches as far as `lionkit.client` does, enforces a rate limit where one is set, keeps its own
accounts (`app.state.accounts`, also at `/accounts`), and misbehaves as told by `Faults`. It streams nothing,
counts a token as four bytes, and is not a model: what it answers comes from `answer`, a plain function.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from email import message_from_bytes
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

SLOT_HEADER = "x-lionkit-slot"
TRANSIENT = ("429", "429-wait", "500", "drop", "malformed", "null", "slow")
"""Faults a client can mend by asking again (`slow`: by waiting)."""
UNPARSABLE = "Both answers have their merits, and I would rather not put a number on either."

Answer = Callable[..., "str | tuple[int, dict[str, Any]]"]
"""`answer(messages, temperature=, slot=)`: the reply's text, or an HTTP status with a whole JSON body."""


@dataclass(frozen=True)
class Faults:
    """What goes wrong on purpose; drawn from the request and its attempt number, whatever the order of arrival."""

    rate: float = 0.0
    """Share of requests that meet a fault, in [0, 1]."""
    kinds: tuple[str, ...] = TRANSIENT
    """Drawn evenly from these; `truncated` and `unparsable` (a referee's reply without scores) exist as well."""
    seed: int = 0
    retry_after: float = 0.05
    """Seconds that `429-wait` names in its Retry-After header."""
    slow: float = 0.5
    """Seconds that `slow` adds."""


@dataclass
class Accounts:
    """The server's own books. `answered` counts whole, usable replies; tokens are what it would bill."""

    requests: int = 0
    answered: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    batches: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    """Whole replies by digest of the request: anything above 1 was paid twice."""


class _Dropped(Response):
    """Half of a reply, then a closed connection."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body[: len(self.body) // 2], "more_body": True})
        raise ConnectionResetError("the sandbox dropped this connection on purpose")


def create_app(
    answer: Answer | None = None,
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
    """The server. `answer` defaults to the answer key; `latency` in seconds; `models` maps each name that is served
    to the parameters it refuses (None: every name, nothing refused); `key`, if set, is the only one let in;
    `quota` is the number of replies before `insufficient_quota`; a batch is done `batch_seconds` after it was made.
    """
    if answer is None:
        from lionkit.sandbox.answer_key import reply as answer
    routes = [
        Route("/v1/chat/completions", _chat, methods=["POST"]),
        Route("/v1/models", _models),
        Route("/v1/files", _upload, methods=["POST"]),
        Route("/v1/files/{id}/content", _download),
        Route("/v1/batches", _batches, methods=["GET", "POST"]),
        Route("/v1/batches/{id}", _batch),
        Route("/accounts", lambda request: JSONResponse(asdict(request.app.state.accounts))),
    ]
    app = Starlette(routes=routes)
    app.state.answer, app.state.faults, app.state.latency = answer, faults or Faults(), latency
    app.state.models, app.state.key, app.state.quota = models, key, quota
    app.state.rpm, app.state.rate_headers = requests_per_minute, rate_headers
    app.state.level, app.state.levelled = _burst(requests_per_minute), time.monotonic()
    app.state.accounts, app.state.attempts = Accounts(), Counter()
    app.state.files, app.state.batches, app.state.batch_seconds = {}, {}, batch_seconds
    return app


@contextlib.contextmanager
def serve(app: Starlette, port: int = 0) -> Iterator[str]:
    """Run the app under uvicorn in a thread on 127.0.0.1 (port 0: any free one); yields the base URL, with /v1."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level=60, lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise OSError(f"the test server did not start on 127.0.0.1:{port}")
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


def _burst(rpm: float | None) -> float:
    return max(1.0, rpm / 60) if rpm else 0.0


def _error(status: int, message: str, code: str | None = None, param: str | None = None, **headers: str) -> Response:
    body = {"error": {"message": message, "type": "sandbox", "code": code, "param": param}}
    return JSONResponse(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def _admit(state: Any) -> tuple[bool, dict[str, str]]:
    """One token from the bucket (a second's worth deep), and the x-ratelimit headers that describe it."""
    if not state.rpm:
        return True, {}
    now, rate, burst = time.monotonic(), state.rpm / 60, _burst(state.rpm)
    state.level, state.levelled = min(burst, state.level + (now - state.levelled) * rate), now
    admitted = state.level >= 1
    state.level -= admitted
    used = burst - state.level
    headers = {
        "x-ratelimit-limit-requests": f"{state.rpm:.0f}",
        "x-ratelimit-remaining-requests": f"{max(0, math.floor(state.rpm - used))}",
        "x-ratelimit-reset-requests": f"{math.ceil(used / rate * 1000)}ms",
    }
    return admitted, headers if state.rate_headers else {}


def _complete(state: Any, body: dict[str, Any], slot: str, fault: str = "") -> tuple[int, dict[str, Any]]:
    """(HTTP status, JSON body) of one chat call, and its entry in the accounts."""
    model = body.get("model", "")
    if state.models is not None and model not in state.models:
        return 404, _fail(f"The model {model!r} does not exist", "model_not_found")
    for name in state.models[model] if state.models else ():
        if name in body:
            return 400, _fail(f"{name!r} is not supported with this model", "unsupported_parameter", name)
    text = state.answer(body["messages"], temperature=body.get("temperature", 1.0), slot=slot)
    if not isinstance(text, str):
        return text
    text = {"unparsable": UNPARSABLE, "truncated": text[: len(text) // 2]}.get(fault, text)
    limit = 4 * (body.get("max_tokens") or body.get("max_completion_tokens") or len(text))
    finish = "length" if len(text) > limit or fault == "truncated" else "stop"
    text = text[:limit]
    asked, written = math.ceil(len(json.dumps(body["messages"])) / 4), math.ceil(len(text) / 4)
    accounts = state.accounts
    accounts.prompt_tokens += asked
    accounts.completion_tokens += written
    if fault != "null":
        accounts.answered += 1
        accounts.answers[_digest(json.dumps([body["messages"], slot]).encode())] += 1
    message = {"role": "assistant", "content": None if fault == "null" else text}
    return 200, {
        "id": f"chatcmpl-{accounts.requests}",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "finish_reason": finish, "message": message}],
        "usage": {"prompt_tokens": asked, "completion_tokens": written, "total_tokens": asked + written},
    }


def _fail(message: str, code: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code, "param": param}}


def _digest(raw: bytes) -> str:
    return hashlib.blake2s(raw, digest_size=8).hexdigest()


async def _chat(request: Request) -> Response:
    state, raw = request.app.state, await request.body()
    response = await _reply(request, state, raw, request.headers.get(SLOT_HEADER, "0"))
    state.accounts.statuses[response.status_code] += 1
    return response


async def _reply(request: Request, state: Any, raw: bytes, slot: str) -> Response:
    state.accounts.requests += 1
    if state.latency:
        await asyncio.sleep(state.latency)
    if refusal := _locked(request):
        return refusal
    if state.quota is not None and state.accounts.answered >= state.quota:
        return _error(429, "You exceeded your current quota", "insufficient_quota")
    admitted, headers = _admit(state)
    if not admitted:
        return _error(429, "Rate limit reached", "rate_limit_exceeded", retry_after=f"{60 / state.rpm:.3f}", **headers)
    fault = _draw(state, raw, slot)
    if fault in ("429", "429-wait", "500"):
        wait = {"retry_after": f"{state.faults.retry_after:g}"} if fault == "429-wait" else {}
        return _error(int(fault[:3]), "a fault on purpose", **wait)
    if fault == "slow":
        await asyncio.sleep(state.faults.slow)
    if await request.is_disconnected():
        return Response(status_code=499)
    if fault in ("drop", "malformed"):
        return (_Dropped if fault == "drop" else Response)('{"choices": [{"message": {"conten', headers=headers)
    status, body = _complete(state, json.loads(raw), slot, fault)
    return JSONResponse(body, status, headers)


def _draw(state: Any, raw: bytes, slot: str) -> str:
    """The fault this attempt meets, or nothing."""
    if not state.faults.rate:
        return ""
    call = _digest(raw + slot.encode())
    state.attempts[call] += 1
    rng = random.Random(f"{state.faults.seed} {call} {state.attempts[call]}")
    fault = rng.choice(state.faults.kinds) if rng.random() < state.faults.rate else ""
    state.accounts.faults[fault or "none"] += 1
    return fault


def _locked(request: Request) -> Response | None:
    key, given = request.app.state.key, request.headers.get("authorization", "")
    if key is None or given == f"Bearer {key}":
        return None
    return _error(401, f"Incorrect API key provided: {given[7:14]}****{given[-4:]}", "invalid_api_key")


async def _models(request: Request) -> Response:
    names = request.app.state.models or ["answer-key"]
    return _locked(request) or JSONResponse(
        {
            "object": "list",
            "data": [{"id": name, "object": "model", "created": 0, "owned_by": "lionkit"} for name in names],
        }
    )


async def _upload(request: Request) -> Response:
    if refusal := _locked(request):
        return refusal
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    parts = message_from_bytes(head + await request.body()).get_payload()
    parts = {part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in parts}
    return JSONResponse(_store(request.app.state, parts["file"]))


def _store(state: Any, content: bytes) -> dict[str, Any]:
    name = f"file-{len(state.files) + 1}"
    state.files[name] = content
    return {"id": name, "object": "file", "bytes": len(content), "created_at": 0, "filename": "f", "purpose": "batch"}


async def _download(request: Request) -> Response:
    content = request.app.state.files.get(request.path_params["id"])
    return _locked(request) or (PlainTextResponse(content) if content is not None else _error(404, "no such file"))


async def _batches(request: Request) -> Response:
    state = request.app.state
    if refusal := _locked(request):
        return refusal
    if request.method == "GET":
        made = [_progress(state, name) for name in reversed(state.batches)]
        return JSONResponse({"object": "list", "data": made, "has_more": False})
    asked = await request.json()
    name = f"batch-{len(state.batches) + 1}"
    state.accounts.batches += 1
    state.batches[name] = {
        **{"id": name, "object": "batch", "created_at": 0, "status": "in_progress"},
        **{k: asked.get(k) for k in ("endpoint", "completion_window", "input_file_id", "metadata")},
        "due": time.monotonic() + state.batch_seconds,
    }
    return JSONResponse(_progress(state, name))


async def _batch(request: Request) -> Response:
    state, name = request.app.state, request.path_params["id"]
    known = name in state.batches
    return _locked(request) or (JSONResponse(_progress(state, name)) if known else _error(404, "no such batch"))


def _progress(state: Any, name: str) -> dict[str, Any]:
    """The batch as the API shows it; once it is due, its lines are answered, each with its own draw of a fault."""
    batch = state.batches[name]
    if batch["status"] == "in_progress" and time.monotonic() >= batch["due"]:
        good, bad = [], []
        for line in state.files[batch["input_file_id"]].decode().splitlines():
            row = json.loads(line)
            fault = _draw(state, json.dumps(row["body"]).encode(), row["custom_id"])
            status, body = 500, _fail("a fault on purpose", "server_error")
            if fault in ("", "null", "slow", "truncated", "unparsable"):
                status, body = _complete(state, row["body"], row["custom_id"].partition(":")[2] or "0", fault)
            done = {"custom_id": row["custom_id"], "response": {"status_code": status, "body": body}, "error": None}
            (good if status == 200 else bad).append(json.dumps(done))
        for field_name, lines in (("output_file_id", good), ("error_file_id", bad)):
            batch[field_name] = _store(state, "\n".join(lines).encode())["id"] if lines else None
        batch["status"] = "completed"
    return {key: value for key, value in batch.items() if key != "due"}
