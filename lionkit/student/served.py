"""The student behind an OpenAI-compatible URL: vLLM with its LoRA adapters, `transformers serve`, llama.cpp.

Training stays with `student`; only answers come from the URL, through the client, and are stored like every other
reply. A name on a server may stand for other weights tomorrow, so the adapter's digest is part of each call's key.
The prompt is what `student.encode` trains on: an empty system message (the client leaves it out if a template refuses
the role), then the instruction. Control tokens spelt out in an instruction are the server's to handle. llama-cpp-python
punishes repetition unless it is told not to, which makes greedy answers others.
"""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lionkit.client import ChatClient, ChatRequest, Completion
from lionkit.client.wire import connect as open_sdk
from lionkit.config import ApiConfig, Config
from lionkit.errors import StageStopped
from lionkit.records import Instruction, Response
from lionkit.student.encode import messages

KEY_ENV = "LIONKIT_STUDENT_KEY"
"""The variable with the server's key, if it wants one: the teacher's key and headers are none of its business."""
REMEDY = "serve the adapter under that name, or set student_name"
LIST_SECONDS = 10.0
"""How long the server may take to list its models."""


def connect(config: Config, store: Path, *, app: Any = None, replay: bool = False) -> ChatClient:
    """A client for the student's URL. Its store is its own, since what it uses is not on the teacher's bill."""
    own = {"base_url": config.student_url, "api_key_env": KEY_ENV, "concurrency": config.student.response_batch}
    shared = {name: getattr(config.api, name) for name in ("model", "timeout", "max_attempts", "stage_timeout")}
    api = ApiConfig(**own, **shared)
    return ChatClient(api, store, app=app, replay=replay, ambient=False)


def respond(
    client: ChatClient,
    instructions: Sequence[Instruction],
    *,
    model: str,
    weights: str,
    max_tokens: int,
    temperature: float = 0.0,
) -> list[Response]:
    """The student's answers, in order; `weights` identifies the adapter behind `model`.

    An answer that was cut or is empty counts, as a student's own mistake; what the server failed at has its status
    and reason, and is `missing` where it may be asked again. Before anything is asked, the server's list of models
    is read. Raises StageStopped where it lists others and not this one, and as the client does.
    """
    how: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens, "slot": weights, "repeat_penalty": 1.0}
    requests = [ChatRequest(messages(i.text), model, **how) for i in instructions]
    if not (client.replay or client.stored(requests)):
        _check_name(client, model)
    try:
        completions = client.map(requests, progress="student" if len(instructions) > 1 else False)
    except StageStopped as stopped:
        if stopped.cause == "model":
            raise StageStopped(f"{stopped}; {REMEDY}", "model", setting="student_name") from None
        if stopped.setting == "api.base_url":  # as the client calls it
            said = str(stopped).replace("base_url", "student_url")
            raise StageStopped(said, stopped.cause, setting="student_url") from None
        raise
    return [_response(i, c, max_tokens) for i, c in zip(instructions, completions, strict=True)]


def _check_name(client: ChatClient, model: str) -> None:
    """A server that ignores names answers with whatever it has: its list says whether it has this model."""

    async def ask() -> list[str]:
        key = os.environ.get(KEY_ENV, "").strip() or "none-needed"
        async with open_sdk(client.config, key, client.app, ambient=False) as sdk:
            return [listed.id async for listed in sdk.models.list(timeout=LIST_SECONDS)]

    try:
        with ThreadPoolExecutor(1) as thread:  # a notebook's own event loop is running in this one
            names = thread.submit(asyncio.run, ask()).result()
    except Exception:  # whatever is wrong with the list, answers may be had without it
        names = []
    url = client.config.base_url
    if not names:
        print(f"{url} does not list its models: that {model!r} stands for this student's weights is not checked.")
    elif not {model, f"{model}:latest"} & set(names):  # Ollama adds its tag
        problem = f"{url} has no model {model!r}, it lists {', '.join(names[:10])}; {REMEDY}"
        raise StageStopped(problem, "model", setting="student_name")


def _response(item: Instruction, reply: Completion, max_tokens: int) -> Response:
    status = "ok" if reply.status == "truncated" or reply.cause in ("empty", "mute") else reply.status
    reason = f"cut at {max_tokens} tokens" if reply.status == "truncated" else reply.error
    return Response(item.id, reply.text, status, reason, reply.model, reply.call_id, missing=reply.cause == "outage")
