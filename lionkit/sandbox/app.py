"""The answer-key teacher behind an OpenAI-shaped HTTP interface, with faults on request.

A Starlette app for the SDK's ASGI transport, in this process and without a port. It answers chat completions as far as
`lionkit.client` asks for them, and misbehaves as `Faults` says. It has no Batch API, streams nothing, counts a token as
four bytes, and is not a model: what it answers comes from `answer`, a plain function. `tests/server.py` builds on it
the server that the client is tested on, with keys, limits, accounts and batches.
"""

import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lionkit.sandbox import Refusal
from lionkit.sandbox.answer_key import reply
from lionkit.sandbox.faults import Faults, draw, misbehave

__all__ = ["Faults", "completion", "create_app"]

UNPARSABLE = "Both answers have their merits, and I would rather not put a number on either."

Answer = Callable[..., "str | tuple[int, dict[str, Any]]"]
"""`answer(messages, temperature=, slot=)`: the reply's text, or an HTTP status with a whole JSON body."""


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
