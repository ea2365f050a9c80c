"""One attempt over the OpenAI SDK. It never raises for what an endpoint or a network does: it returns an `Outcome`.

Only this module and `batch` use the SDK.
"""

import asyncio
import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import httpx2
import openai

from lionkit.client.calls import ChatRequest
from lionkit.client.outcomes import Outcome, one_line, read_error, read_reply
from lionkit.config import ApiConfig, endpoint

LONGEST_CONNECT = 15.0
"""Seconds; until then nothing was sent, so nothing can have been billed."""


def body_of(request: ChatRequest, model: str, refused: Collection[str]) -> dict[str, Any]:
    """The request's JSON, without the settings that the model refuses; `max_tokens` then goes by its newer name."""
    settings = {name: getattr(request, name) for name in ("temperature", "max_tokens", "response_format")}
    if "max_tokens" in refused:
        settings["max_completion_tokens"] = request.max_tokens
    taken = {name: value for name, value in settings.items() if value is not None and name not in refused}
    return {"model": model, "messages": request.messages, **taken}


def connect(config: ApiConfig, key: str, app: Any, ambient: bool = True) -> openai.AsyncOpenAI:
    """A client for one event loop, without the SDK's own retries, which would multiply ours.

    The SDK takes OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS from the environment; without `ambient`
    they are not sent.
    """
    limits = httpx2.Limits(max_connections=config.concurrency, max_keepalive_connections=config.concurrency)
    transport = None if app is None else httpx2.ASGITransport(app=app)
    http = openai.DefaultAsyncHttpx2Client(limits=limits, transport=transport)
    timeout = httpx2.Timeout(config.timeout, connect=min(config.timeout, LONGEST_CONNECT))
    made = openai.AsyncOpenAI(api_key=key, base_url=endpoint(config), max_retries=0, timeout=timeout, http_client=http)
    if not ambient:
        made.organization = made.project = None
        made._custom_headers = {}  # no argument takes away what the variable names
    return made


async def attempt(client: openai.AsyncOpenAI, body: dict[str, Any], config: ApiConfig, slot: str) -> Outcome:
    """Send once. `slot` goes along as a header, where given (only to servers on this machine)."""
    options: Any = {"headers": {"x-lionkit-slot": slot}} if slot else {}
    try:
        async with asyncio.timeout(config.timeout):
            response = await client.post("/chat/completions", body=body, cast_to=httpx2.Response, options=options)
    except (openai.APIError, TimeoutError, ConnectionError) as error:
        return failure(error, body, config)
    except UnicodeEncodeError:
        return Outcome("failed", error="the prompt holds a lone surrogate, which is no text")
    try:
        outcome = read_reply(json.loads(response.content), response.headers, body, config)
    except ValueError:
        start = one_line(response.content[:200].decode("utf-8", "replace"))[:60]
        outcome = Outcome("retry", error=f"the reply is not JSON: {start}", paid=None)
    return replace(outcome, headers=response.headers)


def failure(error: Exception, sent: dict[str, Any], config: ApiConfig) -> Outcome:
    """What an error that the SDK raised means for the request."""
    if isinstance(error, openai.APIStatusError):
        headers = error.response.headers
        return replace(read_error(error.status_code, error.body, headers, sent, config), headers=headers)
    cause = error.__cause__
    said = f"the connection failed ({type(cause or error).__name__})"
    if isinstance(cause, (httpx2.ConnectError, httpx2.ConnectTimeout)):
        return Outcome("unreachable", error=said, setting="api.base_url")
    if isinstance(error, (TimeoutError, openai.APITimeoutError)):
        return Outcome("retry", error=f"no reply within {config.timeout:g} s", paid=None, setting="api.timeout")
    return Outcome("retry", error=said, paid=None)
