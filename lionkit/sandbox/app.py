"""The answer-key teacher behind an OpenAI-shaped HTTP interface, with faults on request.

A Starlette app for the SDK's ASGI transport, in this process and without a port. It answers chat completions as far as
`lionkit.client` asks for them, and misbehaves as `Faults` says: drawn from the request and its attempt number, so that
the same requests meet the same faults in whatever order they arrive, and a notebook that shows robustness shows the
same thing each time. It has no Batch API, streams nothing, counts a token as four bytes, and is not a model: what it
answers comes from `answer`, a plain function. `tests/server.py` builds on it the server that the client is tested on,
with keys, limits, accounts and batches.
"""

import asyncio
import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lionkit.sandbox import Refusal
from lionkit.sandbox.answer_key import reply

UNPARSABLE = "Both answers have their merits, and I would rather not put a number on either."

Answer = Callable[..., "str | tuple[int, dict[str, Any]]"]
"""`answer(messages, temperature=, slot=)`: the reply's text, or an HTTP status with a whole JSON body."""


TRANSIENT = ("429", "429-wait", "500", "drop", "malformed", "null", "slow")
"""Faults a client can mend by asking again (`slow`: by waiting)."""


class Faults(NamedTuple):
    """Which faults, how often."""

    rate: float = 0.0
    """Share of requests that meet a fault, in [0, 1]."""
    kinds: tuple[str, ...] = TRANSIENT
    """Drawn evenly from these; `truncated` and `unparsable` (a referee's reply without scores) exist as well."""
    seed: int = 0
    retry_after: float = 0.05
    """Seconds that `429-wait` names in its Retry-After header."""
    slow: float = 0.5
    """Seconds that `slow` adds."""


def create_app(answer: Answer | None = None, *, faults: Faults | None = None) -> Starlette:
    """The app, whatever model is named. `answer` defaults to the answer key, `faults` to none."""
    app = Starlette(routes=[Route("/v1/chat/completions", _chat, methods=["POST"])])
    app.state.answer, app.state.faults, app.state.attempts = answer or reply, faults or Faults(), Counter()
    return app


async def _chat(request: Request) -> Response:
    state, raw = request.app.state, await request.body()
    asked, slot = json.loads(raw), request.headers.get("x-lionkit-slot", "0")
    fault = draw(state.faults, state.attempts, raw + slot.encode())
    if spoilt := await misbehave(state.faults, fault):
        return spoilt
    said = state.answer(asked["messages"], temperature=asked.get("temperature", 1.0), slot=slot)
    status, body = (200, completion(asked, said, fault)) if isinstance(said, str) else said
    return JSONResponse(body, status)


def completion(asked: dict[str, Any], text: str, fault: str = "") -> dict[str, Any]:
    """JSON body of the reply that says `text`: cut at the call's token limit, or spoilt by a fault of the text."""
    refused = isinstance(text, Refusal)
    text = {"unparsable": UNPARSABLE, "truncated": text[: len(text) // 2]}.get(fault, text)
    limit = 4 * (asked.get("max_tokens") or asked.get("max_completion_tokens") or len(text))
    finish = "length" if len(text) > limit or fault == "truncated" else "stop"
    prompt = json.dumps(asked["messages"])
    usage = {"prompt_tokens": math.ceil(len(prompt) / 4), "completion_tokens": math.ceil(len(text[:limit]) / 4)}
    content = None if fault == "null" else text[:limit]
    said = {"content": None, "refusal": content} if refused and content else {"content": content}
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **said}}
    head = {"id": "chatcmpl-0", "object": "chat.completion", "created": 0, "model": asked.get("model", "")}
    return {**head, "choices": [choice], "usage": usage}


def draw(faults: Faults, attempts: Counter[str], call: bytes) -> str:
    """The fault this attempt meets, or nothing. `attempts` counts those of each call, this one included."""
    if not faults.rate:
        return ""
    name = hashlib.blake2s(call).hexdigest()
    attempts[name] += 1
    rng = random.Random(f"{faults.seed} {name} {attempts[name]}")
    return rng.choice(faults.kinds) if rng.random() < faults.rate else ""


async def misbehave(faults: Faults, fault: str) -> Response | None:
    """The response that is sent in place of a reply; None where a reply is sent, if late or spoilt."""
    if fault in ("429", "429-wait", "500"):
        error = {"message": "a fault on purpose", "type": "invalid_request_error", "code": "fault", "param": None}
        wait = {"retry-after": f"{faults.retry_after:g}"} if fault == "429-wait" else {}
        return JSONResponse({"error": error}, int(fault[:3]), wait)
    if fault in ("drop", "malformed"):
        half = '{"choices": [{"message": {"content": "never fin'
        return (Dropped if fault == "drop" else Response)(half, media_type="application/json")
    if fault == "slow":
        await asyncio.sleep(faults.slow)
    return None


class Dropped(Response):
    """Half of a reply, then a closed connection."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body[: len(self.body) // 2], "more_body": True})
        raise ConnectionResetError("the sandbox dropped this connection on purpose")
