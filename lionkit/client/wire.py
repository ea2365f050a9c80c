"""One attempt over the OpenAI SDK, and what its result means: the taxonomy of outcomes.

Only this module and `batch` touch the SDK. An attempt never raises for what an endpoint or a network does: it
returns an `Outcome` that is final for the row (ok, truncated, filtered, refused, failed), or asks for the request
to be sent again (`retry`, `limited`: after a wait; `adapt`: in another form), or stops the stage (`stop`).
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
import openai

from lionkit.client.calls import Cause, ChatRequest, Usage
from lionkit.client.pacing import seconds
from lionkit.config import ApiConfig, endpoint

NOTHING = Usage()
LONGEST_WAIT = 600.0
"""Seconds; a Retry-After beyond it is cut to it."""
LONGEST_CONNECT = 15.0
"""Seconds; until then nothing was sent, so nothing can have been billed."""
MOST_TOKENS = 10**9
"""What one call may be said to have used; beyond it, the count is taken for none."""
CUT = ("length", "model_length", "max_tokens")
BROKEN = ("error", "abort", "insufficient_system_resource")
"""Reasons to finish that mean an unfinished reply: at the token limit; by a fault of the server."""
_UNSUPPORTED = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown|unavailable|not permitted|only the default", re.I
)
_SCHEMA = re.compile(r"response.?format|(response|json).?schema|structured.?output|additional.?properties", re.I)
_TOO_LONG = re.compile(r"context.?(length|window|size)|maximum context|prompt is too long", re.I)
_FILTER = re.compile(r"content.?(filter|policy|management)|responsible.?ai|requires moderation|input was flagged", re.I)
_NO_MONEY = re.compile(r"insufficient.?(quota|balance|credit)|billing|exceeded your current quota", re.I)
_NO_KEY = re.compile(r"api.?key.{0,30}(not valid|invalid|not found|expired)", re.I)
_NO_MODEL = re.compile(
    r"(model|deployment).{0,200}(not.?found|not exist|no access)|(unknown|invalid|no such).model"
    r"|not.found.{0,20} model|no endpoints found",
    re.I | re.S,
)
_NO_SYSTEM = re.compile(
    r"system.?(role|message|prompt)s?.{0,40}(not|un).{0,12}(support|allow|permit|accept)"
    r"|(not|un|n't).{0,12}support.{0,40}system.?(role|message|prompt)"
    r"|only user and (assistant|model) roles|roles must alternate",
    re.I | re.S,
)
_SOON = re.compile(r"(?:retry|try again) in ((?:[\d.]+(?:ms|[smh]))+)", re.I)
_SECRET = re.compile(
    r"\b\w?(sk|pk|key|hf|xai|nvapi)[-_][\w*.\-]{4,}|\bAIza\S+|Bearer \S+|[^\s'\"]*\*{3,}[^\s'\"]*", re.I
)


@dataclass(frozen=True)
class Outcome:
    """What an attempt came to. `paid` is None when nobody knows whether the endpoint billed it."""

    kind: str
    """ok, truncated, filtered, refused, failed: final. retry, limited, unreachable, adapt: again. stop: none again."""
    text: str = ""
    error: str = ""
    paid: Usage | None = NOTHING
    wait: float | None = None
    """Seconds the endpoint asked for."""
    headers: Mapping[str, str] = field(default_factory=dict)
    replied: bool = False
    """Whether a model is known to be behind it."""
    cause: Cause = ""


def body_of(request: ChatRequest, model: str, habits: Mapping[str, str | None]) -> dict[str, Any]:
    """The request as the model takes it; `habits` maps a setting to its other name, or to None to leave it out."""
    settings = {name: getattr(request, name) for name in ("temperature", "max_tokens", "response_format")}
    named = {habits.get(name, name): value for name, value in settings.items() if value is not None}
    return {"model": model, "messages": request.messages, **{n: v for n, v in named.items() if n is not None}}


def connect(config: ApiConfig, key: str, app: Any, ambient: bool = True) -> openai.AsyncOpenAI:
    """A client for one event loop. The SDK's own retries are off: attempts are counted once, here.

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
    """Send once. `slot`, where given, is told to the server (only servers on this machine are)."""
    options: Any = {"headers": {"x-lionkit-slot": slot}} if slot else {}
    try:
        async with asyncio.timeout(config.timeout):
            response = await client.post("/chat/completions", body=body, cast_to=httpx2.Response, options=options)
    except openai.APIStatusError as error:
        return read_error(error.status_code, error.body, error.response.headers, body, config)
    except (TimeoutError, openai.APIConnectionError, ConnectionError) as error:
        cause = error.__cause__
        said = f"the connection failed ({type(cause or error).__name__})"
        if isinstance(cause, (httpx2.ConnectError, httpx2.ConnectTimeout)):
            return Outcome("unreachable", error=said)
        late = isinstance(error, (TimeoutError, openai.APITimeoutError))
        return Outcome("retry", error=f"no reply within {config.timeout:g} s" if late else said, paid=None)
    except UnicodeEncodeError:
        return Outcome("failed", error="the prompt holds a lone surrogate, which is no text")
    try:
        reply = json.loads(response.content)
    except ValueError:
        start = _plain(response.content[:200].decode("utf-8", "replace"))[:60]
        return Outcome("retry", error=f"the reply is not JSON: {start}", paid=None, headers=response.headers)
    return read_reply(reply, response.headers, body, config)


def read_reply(reply: Any, headers: Mapping[str, str], sent: Mapping[str, Any], config: ApiConfig) -> Outcome:
    """The meaning of a 200: the first choice's text and how it ended, or the error that some put there (OpenRouter)."""
    if isinstance(reply, dict) and reply.get("error") and not reply.get("choices"):
        fields = _fields(reply)
        status = int(fields["code"]) if re.fullmatch(r"[45]\d\d", str(fields.get("code"))) else 500
        outcome = read_error(status, fields, headers, sent, config)
        return replace(outcome, paid=None) if outcome.kind == "retry" else outcome
    try:
        choice, paid = reply["choices"][0], _usage(reply.get("usage"))
        message, finish = choice["message"], str(choice.get("finish_reason") or "").lower()
        text, refusal = message.get("content") or "", message.get("refusal")
        if not isinstance(text, str):
            text = "".join(part.get("text") or "" for part in text if isinstance(part, dict))
    except (KeyError, IndexError, TypeError, AttributeError):
        return Outcome("retry", error="the reply has no choices, or none that can be read", paid=None, headers=headers)
    kind, text, error = "ok", _answer(text), ""
    cause: Cause = ""
    if finish.startswith("content_filter"):
        kind, error = "filtered", "the endpoint's content filter ended the reply"
    elif refusal:
        kind, text, error = "refused", "", f"the model refused: {_plain(str(refusal))}"
    elif finish in BROKEN or choice.get("error"):
        kind, error = "retry", f"the endpoint broke the reply off ({finish}) {message_of(choice.get('error'))}"
    elif finish in CUT:
        where = "in its answer" if text.strip() else "before its answer began (reasoning took it all)"
        kind, error = "truncated", f"cut at the token limit {where}: raise max_tokens"
    elif not text.strip():
        kind, error, cause = "retry", "the reply is empty", "empty"
    return Outcome(kind, text, error, paid, headers=headers, replied=True, cause=cause)


def _answer(text: str) -> str:
    """The text behind the thoughts, which endpoints without a reasoning parser leave at its head. Where the prompt's
    template opened them, only the closing tag is there.
    """
    head, closed, rest = text.partition("</think>")
    opened = head.lstrip().startswith("<think>")
    alone = closed and "<think>" not in head and head.endswith("\n") and rest.startswith("\n")
    return rest.lstrip() if opened or alone else text


def _usage(counts: Any) -> Usage | None:
    """The tokens told; None where they are not, or are zeros. Gemini and xAI count thoughts in the total alone."""
    try:
        asked, written, total = (
            max(0, int(n or 0))
            for n in (counts["prompt_tokens"], counts.get("completion_tokens"), counts.get("total_tokens"))
        )
        thoughts = max(0, int((counts.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0))
        believed = asked > 0 and max(asked, written, total, thoughts) <= MOST_TOKENS
        return Usage(asked, max(written, total - asked), thoughts) if believed else None
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        return None


def _fields(error: Any) -> dict[str, Any]:
    """An error's fields, whatever it is wrapped in: a list (Gemini), `error` within `error`, a text, a page."""
    while isinstance(error, list) and error or isinstance(error, dict) and error.get("error"):
        error = error[0] if isinstance(error, list) else error["error"]
    return error if isinstance(error, dict) else {"message": error} if error else {}


def message_of(error: Any) -> str:
    """Its message, else FastAPI's `detail`, else all of it; without keys, and without tags of a proxy's page."""
    fields = _fields(error)
    return _plain(_SECRET.sub("[key]", str(fields.get("message") or fields.get("detail") or fields or "")))[:300]


def _plain(text: str) -> str:
    """On one line, without tags, and without what acts on a terminal (escapes, right-to-left overrides)."""
    words = " ".join(re.sub(r"<[^>]*>", " ", text).split())
    return "".join(c for c in words if c.isprintable())


def read_error(
    status: int, error: Any, headers: Mapping[str, str], sent: Mapping[str, Any], config: ApiConfig
) -> Outcome:
    """The meaning of an HTTP error: what to do, and for whom."""
    error = _fields(error)
    said, code = message_of(error), f"{error.get('code') or ''} {error.get('type') or ''}"
    all_of_it, wait = f"{code} {said} {error.get('innererror') or ''}", retry_after(headers)
    if wait is None and (soon := _SOON.search(said)):
        wait = min(seconds(soon[1]), LONGEST_WAIT)
    model, url = sent.get("model"), endpoint(config)
    if status in (400, 403, 404) and _NO_MODEL.search(all_of_it):
        said = f"{url} has no model {model!r} for this account: name one that it lists"
        return Outcome("stop", error=said, cause="model")
    if status in (400, 403) and _FILTER.search(all_of_it):
        return Outcome("filtered", error=f"the endpoint's content filter refused the prompt: {said}")
    if status in (401, 403) or (status == 400 and _NO_KEY.search(said)):
        said = f"{url} refuses the key ({status}): check the one in {config.api_key_env}"
        return Outcome("stop", error=said, cause="key")
    # Gemini words its limit per minute like a used-up quota, but says when it ends
    poor = _NO_MONEY.search(code) or (wait is None and _NO_MONEY.search(said))
    if status == 402 or (status in (400, 429) and poor):
        return Outcome("stop", error="the account's quota is used up: add credit or raise its limit, then run again")
    if status in (404, 405):
        remedy = "check base_url" if url.endswith("/v1") else "base_url usually ends in /v1"
        return Outcome("stop", error=f"{url}/chat/completions does not exist ({status}): {remedy}")
    if status == 429:
        return Outcome("limited", error="the rate limit was hit", wait=wait, headers=headers)
    if status in (408, 409) or status >= 500:
        return Outcome("retry", error=f"the endpoint failed ({status}) {said}", wait=wait, headers=headers)
    if _TOO_LONG.search(all_of_it):
        return Outcome("failed", error=f"the prompt is too long for {model}: {said}")
    for name in ("max_tokens", "temperature", "response_format"):
        named = error.get("param") == name or name in said.replace(" ", "_")
        refused = named and _UNSUPPORTED.search(all_of_it)
        if name == "response_format":  # whatever is wrong with it, a reply without it is worth as much
            refused = refused or _SCHEMA.search(said)
        if name in sent and refused:
            return Outcome("adapt", text=name, error=f"{model} does not take {name}: {said}")
    cause: Cause = "system role" if _NO_SYSTEM.search(said) else ""
    error = f"the endpoint refused the request ({status}): {said}".rstrip(": ")
    return Outcome("failed", error=error, cause=cause)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as the headers say, at most `LONGEST_WAIT`; None where they do not say."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        told = headers.get(name, "")
        try:
            wait = float(told) / unit
        except ValueError:
            try:
                wait = email.utils.parsedate_to_datetime(told).timestamp() - time.time()
            except (ValueError, OverflowError):
                continue
        if wait == wait:
            return min(max(wait, 0.0), LONGEST_WAIT)
    return None
