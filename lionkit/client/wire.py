"""One attempt over the OpenAI SDK. It never raises for what an endpoint or a network does: it returns an `Outcome`.

Only this module and `batch` use the SDK.
"""

import asyncio
import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import httpx2
import openai

from lionkit.client.outcomes import Outcome, one_line, read_error, read_reply, text_of
from lionkit.config import ApiConfig, endpoint
from lionkit.errors import LionkitError, first_line

LONGEST_CONNECT = 15.0
"""Seconds; until then nothing was sent, so nothing can have been billed."""


def connect(config: ApiConfig, key: str, app: Any, ambient: bool = True) -> openai.AsyncOpenAI:
    """A client for one event loop, without the SDK's own retries, which would multiply ours.

    The SDK takes OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS from the environment; without `ambient`
    they are not sent.
    """
    base, _, query = endpoint(config).partition("?")
    azure = {"api-key": key} if "api-version" in query else {}
    own: dict[str, Any] = {"default_query": dict(parse_qsl(query)), "default_headers": azure}
    limits = httpx2.Limits(max_connections=config.concurrency, max_keepalive_connections=config.concurrency)
    transport = None if app is None else httpx2.ASGITransport(app=app)
    try:
        http = openai.DefaultAsyncHttpx2Client(limits=limits, transport=transport)
    except (ValueError, ImportError, OSError) as error:
        raise LionkitError(f"{first_line(error)}: check ALL_PROXY, HTTP_PROXY, HTTPS_PROXY, SSL_CERT_FILE") from None
    timeout = httpx2.Timeout(config.timeout, connect=min(config.timeout, LONGEST_CONNECT))
    made = openai.AsyncOpenAI(api_key=key, base_url=base, max_retries=0, timeout=timeout, http_client=http, **own)
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
    text = response.content.decode("utf-8", "replace")
    try:
        outcome = read_reply(_joined(text) or json.loads(text), response.headers, body, config)
    except ValueError:
        outcome = Outcome("retry", error=f"the reply is not JSON: {one_line(text[:200])[:60]}", paid=None)
    return replace(outcome, headers=response.headers)


def _joined(text: str) -> dict[str, Any] | None:
    """A stream's chunks as the reply that they make up, which broke off where no chunk says how it ended; None if the
    text is no stream."""
    lines = [line[5:].strip() for line in text.split("\n") if line.startswith("data:")]
    chunks = [json.loads(line) for line in lines if line.startswith("{")]
    choices = [chunk["choices"][0] for chunk in chunks if chunk.get("choices")]
    if not choices:
        return next((chunk for chunk in chunks if chunk.get("error")), None)
    parts = [choice.get("delta") or choice.get("message") or {} for choice in choices]
    message = {name: "".join(text_of(part.get(name)) for part in parts) for name in ("content", "refusal")}

    def last(name: str, found: list[Any]) -> Any:
        return next((each[name] for each in reversed(found) if each.get(name)), None)

    choice = {"message": message, "finish_reason": last("finish_reason", choices) or "error"}
    return {"choices": [choice | {"error": last("error", chunks)}], "usage": last("usage", chunks)}


def failure(error: Exception, sent: dict[str, Any], config: ApiConfig) -> Outcome:
    """What an error that the SDK raised means for the request."""
    if isinstance(error, openai.APIStatusError):
        headers = error.response.headers
        return replace(read_error(error.status_code, error.body, headers, sent, config), headers=headers)
    cause = error.__cause__
    said = f"the connection failed ({type(cause or error).__name__}: {first_line(cause or error)})"
    if isinstance(cause, (httpx2.ConnectError, httpx2.ConnectTimeout)):
        return Outcome("unreachable", error=said, setting="api.base_url")
    if isinstance(error, (TimeoutError, openai.APITimeoutError)):
        return Outcome("retry", error=f"no reply within {config.timeout:g} s", paid=None, setting="api.timeout")
    return Outcome("retry", error=said, paid=None)
