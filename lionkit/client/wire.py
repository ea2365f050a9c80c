"""One attempt over the OpenAI SDK, and what its result means: the taxonomy of outcomes.

Only this module and `batch` touch the SDK. An attempt never raises for what an endpoint or a network does: it
returns an `Outcome` that is final for the row (ok, truncated, filtered, refused, failed), or asks for the request
to be sent again (`retry`, `limited`: after a wait; `adapt`: in another form), or stops the stage (`stop`).
"""

from __future__ import annotations

import asyncio
import email.utils
import functools
import json
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai

from lionkit.client.calls import ChatRequest, Usage, endpoint
from lionkit.config import ApiConfig

NOTHING = Usage()
LONGEST_WAIT = 600.0
"""Seconds; a Retry-After beyond it is cut to it."""
_UNSUPPORTED = re.compile(r"unsupported|not support|unrecogni[sz]ed|unknown|not permitted|only the default", re.I)
_SCHEMA = re.compile(r"response.?format|(response|json).?schema|structured.?output|additional.?properties", re.I)
_TOO_LONG = re.compile(r"context.?(length|window|size)|maximum context|prompt is too long", re.I)
_FILTER = re.compile(r"content.?(filter|policy|management)|responsible.?ai", re.I)
_NO_MONEY = re.compile(r"insufficient.?(quota|balance|credit)|billing|exceeded your current quota", re.I)
_NO_MODEL = re.compile(r"model.{0,200}(not.?found|not exist|no access)|(unknown|invalid|no such).model", re.I | re.S)
_SECRET = re.compile(r"\b\w?(sk|pk|key)[-_][\w*.\-]{4,}|Bearer \S+", re.I)


@dataclass(frozen=True)
class Outcome:
    """What an attempt came to. `paid` is None when nobody knows whether the endpoint billed it."""

    kind: str
    text: str = ""
    error: str = ""
    paid: Usage | None = NOTHING
    wait: float | None = None
    """Seconds the endpoint asked for."""
    headers: Mapping[str, str] = field(default_factory=dict)
    replied: bool = False
    """Whether a model is known to be behind it."""


def body_of(request: ChatRequest, model: str, habits: Mapping[str, str | None]) -> dict[str, Any]:
    """The request as the model takes it; `habits` maps a setting to its other name, or to None to leave it out."""
    settings = {name: getattr(request, name) for name in ("temperature", "max_tokens", "response_format")}
    named = {habits.get(name, name): value for name, value in settings.items() if value is not None}
    return {"model": model, "messages": request.messages, **{n: v for n, v in named.items() if n is not None}}


def connect(config: ApiConfig, key: str, app: Any) -> openai.AsyncOpenAI:
    """A client for one event loop. The SDK's own retries are off: attempts are counted once, here."""
    limits = httpx2.Limits(max_connections=config.concurrency, max_keepalive_connections=config.concurrency)
    transport = None if app is None else httpx2.ASGITransport(app=app)
    http = openai.DefaultAsyncHttpx2Client(limits=limits, transport=transport, verify=_certificates())
    return openai.AsyncOpenAI(
        api_key=key, base_url=endpoint(config), max_retries=0, timeout=config.timeout, http_client=http
    )


@functools.cache
def _certificates() -> ssl.SSLContext:
    """The trusted certificates, read once: it takes 40 ms."""
    return httpx2.create_ssl_context()


async def attempt(client: openai.AsyncOpenAI, body: dict[str, Any], config: ApiConfig, slot: str) -> Outcome:
    """Send once. `slot`, where given, is told to the server (only servers on this machine are)."""
    options: Any = {"headers": {"x-lionkit-slot": slot}} if slot else {}
    try:
        async with asyncio.timeout(config.timeout):
            response = await client.post("/chat/completions", body=body, cast_to=httpx2.Response, options=options)
    except openai.APIStatusError as error:
        return read_error(error.status_code, error.body, error.response.headers, body, config)
    except (TimeoutError, openai.APITimeoutError):
        return Outcome("retry", error=f"no reply within {config.timeout:g} s", paid=None)
    except (openai.APIConnectionError, ConnectionError) as error:
        cause = error.__cause__
        lost = None if not isinstance(cause, httpx2.ConnectError) else NOTHING
        return Outcome("retry", error=f"the connection failed ({type(cause or error).__name__})", paid=lost)
    except UnicodeEncodeError:
        return Outcome("failed", error="the prompt holds a lone surrogate, which is no text")
    try:
        reply = json.loads(response.content)
    except ValueError:
        return Outcome("retry", error="the reply is not JSON", paid=None, headers=response.headers)
    return read_reply(reply, response.headers)


def read_reply(reply: Any, headers: Mapping[str, str]) -> Outcome:
    """The meaning of a 200: the first choice's text and how it ended."""
    try:
        choice, counts = reply["choices"][0], reply.get("usage")
        message, finish = choice["message"], choice.get("finish_reason")
        text, refusal = message.get("content") or "", message.get("refusal")
        paid = _usage(counts) if counts else None
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        return Outcome("retry", error="the reply has no choices, or none that can be read", paid=None, headers=headers)
    if not isinstance(text, str):
        text = "".join(part.get("text") or "" for part in text if isinstance(part, dict))
    kind, error = "ok", ""
    if finish == "content_filter":
        kind, error = "filtered", "the endpoint's content filter ended the reply"
    elif refusal:
        kind, text, error = "refused", "", f"the model refused: {refusal}"
    elif finish == "length":
        where = "in its answer" if text.strip() else "before its answer began (reasoning took it all)"
        kind, error = "truncated", f"cut at the token limit {where}: raise max_tokens"
    elif not text.strip():
        kind, error = "retry", "the reply is empty"
    return Outcome(kind, text, error, paid, headers=headers, replied=True)


def _usage(counts: Mapping[str, Any]) -> Usage:
    details = counts.get("completion_tokens_details") or {}
    reasoned = int(details.get("reasoning_tokens") or 0)
    return Usage(int(counts["prompt_tokens"]), int(counts.get("completion_tokens") or 0), reasoned)


def read_error(
    status: int, error: Any, headers: Mapping[str, str], sent: Mapping[str, Any], config: ApiConfig
) -> Outcome:
    """The meaning of an HTTP error: what to do, and for whom."""
    error = error if isinstance(error, dict) else {"message": str(error or "")}
    said = " ".join(_SECRET.sub("[key]", f"{error.get('message') or error.get('detail') or ''}").split())[:300]
    all_of_it = f"{error.get('code') or ''} {error.get('type') or ''} {said} {error.get('innererror') or ''}"
    model, url = sent.get("model"), endpoint(config)
    if status in (400, 403, 404) and _NO_MODEL.search(all_of_it):
        return Outcome("stop", error=f"{url} has no model {model!r} for this account: name one that it lists")
    if status in (401, 403):
        return Outcome("stop", error=f"{url} refuses the key ({status}): check the one in {config.api_key_env}")
    if status == 402 or (status in (400, 429) and _NO_MONEY.search(all_of_it)):
        return Outcome("stop", error="the account's quota is used up: add credit or raise its limit, then run again")
    if status == 404:
        remedy = "check base_url" if url.endswith("/v1") else "base_url usually ends in /v1"
        return Outcome("stop", error=f"{url}/chat/completions does not exist (404): {remedy}")
    if status == 429:
        return Outcome("limited", error="the rate limit was hit", wait=retry_after(headers), headers=headers)
    if status in (408, 409) or status >= 500:
        return Outcome(
            "retry", error=f"the endpoint failed ({status}) {said}", wait=retry_after(headers), headers=headers
        )
    if _FILTER.search(all_of_it):
        return Outcome("filtered", error=f"the endpoint's content filter refused the prompt: {said}")
    if _TOO_LONG.search(all_of_it):
        return Outcome("failed", error=f"the prompt is too long for {model}: {said}")
    for name in ("max_tokens", "temperature", "response_format"):
        refused = (error.get("param") == name or name in said) and _UNSUPPORTED.search(all_of_it)
        if name == "response_format":  # whatever is wrong with it, a reply without it is worth as much
            refused = refused or _SCHEMA.search(said)
        if name in sent and refused:
            return Outcome("adapt", text=name, error=f"{model} does not take {name}: {said}")
    return Outcome("failed", error=f"the endpoint refused the request ({status}): {said}")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as the headers say, at most `LONGEST_WAIT`; None where they do not say."""
    milliseconds, wait = headers.get("retry-after-ms"), headers.get("retry-after", "")
    try:
        seconds = float(milliseconds) / 1000 if milliseconds else float(wait)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(wait).timestamp() - time.time()
        except ValueError:
            return None
    return None if seconds != seconds else min(max(seconds, 0.0), LONGEST_WAIT)
