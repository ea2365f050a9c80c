"""What an attempt's result means: replies and HTTP errors, in the shapes that endpoints send, read as an `Outcome`.

An outcome is final for the row (ok, truncated, filtered, refused, failed), or asks for the request to be sent again
(`retry`, `limited`, `unreachable`: after a wait; `adapt`: in another form), or stops the map (`stop`).
"""

import contextlib
import email.utils
import re
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from lionkit.client.calls import Cause, Usage
from lionkit.client.pacing import clock, seconds, span
from lionkit.client.request import parts_of
from lionkit.config import ApiConfig, endpoint
from lionkit.markup import answer

Headers = Mapping[str, str]
LONGEST_WAIT = 600.0
"""Seconds; where the endpoint asks for more, the map stops."""
MOST_TOKENS = 10**9
"""A call cannot have used more; an endpoint's count above it is ignored."""
CUT = ("length", "model_length", "max_tokens", "model_context_window_exceeded")
BROKEN = ("error", "abort", "insufficient_system_resource", "network_error")
BLOCKED = ("content_filter", "sensitive", "safety", "recitation", "prohibited_content", "blocklist", "spii")
"""Beginnings of `finish_reason`s of an unfinished reply: cut at the token limit; broken off by a fault; filtered."""
_READ = tomllib.loads(Path(__file__).with_name("outcomes.toml").read_text("utf-8"))
RULES, NAMED = _READ["rule"], {part: re.compile(pattern, re.I) for part, pattern in _READ["named"].items()}
# how endpoints name a wait, and what may be part of a key
_SOON = re.compile(
    r"(?i)(?:(?:retry|try again|wait)(?: again)?(?: in| after| for)?|retryDelay\W{1,4}) ?"
    r"((?:[\d.]+ ?(?:ms|[smhd])[a-z]*,? ?)+)"
)
_RESET = re.compile(r"(?i)ratelimit-reset\W{1,5}(\d{13})\b")
_SECRET = re.compile(r"(?i)\b\w?(sk|pk|key|hf|xai|nvapi)[-_][\w*.\-]{4,}|\bAIza\S+|Bearer \S+|[^\s'\"]*\*{3,}[^\s'\"]*")


@dataclass(frozen=True)
class Outcome:
    """The result of one attempt."""

    kind: str
    """ok, truncated, filtered, refused, failed: final. retry, limited, unreachable, adapt: ask again. stop: the map."""
    text: str = ""
    """The reply; for `adapt`, the part of the request that is named as refused, if any."""
    error: str = ""
    paid: Usage | None = Usage()
    """None when nobody knows whether the endpoint billed it."""
    wait: float | None = None
    """Seconds the endpoint asked for."""
    headers: Headers = field(default_factory=dict)
    """The reply's, with the endpoint's own limits."""
    replied: bool = False
    """Whether a model is known to have answered."""
    cause: Cause = ""
    setting: str = ""
    """The setting whose change is the remedy, where there is one."""


def read_reply(reply: Any, headers: Headers, sent: Mapping[str, Any], config: ApiConfig) -> Outcome:
    """The meaning of a 200: the first choice's text and how it ended, or the error that OpenRouter puts there."""
    if isinstance(reply, dict) and reply.get("error") and not reply.get("choices"):
        fields = _fields(reply)
        status = int(fields["code"]) if re.fullmatch(r"[45]\d\d", str(fields.get("code"))) else 500
        outcome = read_error(status, fields, headers, sent, config)
        return replace(outcome, paid=None) if outcome.kind == "retry" else outcome
    try:
        choice, paid = reply["choices"][0], _usage(reply.get("usage"))
        message, finish = choice.get("message") or {}, str(choice.get("finish_reason") or "").lower()
        text, refusal = answer(text_of(message.get("content"))), message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError):
        return Outcome("retry", error=f"the reply has no choices that can be read: {message_of(reply)}", paid=None)
    read = partial(Outcome, text=text, paid=paid, replied=True)
    if finish.startswith(BLOCKED):
        return read("filtered", error="the endpoint's content filter ended the reply")
    if refusal:
        return read("refused", text="", error=f"the model refused: {one_line(str(refusal))}")
    if finish in BROKEN or choice.get("error"):
        return read("retry", error=f"the endpoint broke the reply off ({finish}) {message_of(choice.get('error'))}")
    if finish in CUT:
        limit = sent.get("max_tokens") or sent.get("max_completion_tokens") or (paid.completion_tokens if paid else 0)
        where = "" if text.strip() else ", before its answer began (reasoning took it all)"
        return read("truncated", error=f"the reply was cut at {f'{limit} tokens' if limit else 'a token limit'}{where}")
    if not text.strip():
        return read("retry", error="the reply is empty", cause="empty")
    return read("ok")


def text_of(content: Any) -> str:
    """The text of a message's content, which may come in parts, thoughts among them."""
    if isinstance(content, list):
        parts = [p for p in content if isinstance(p, dict) and p.get("type", "text") in ("text", "output_text")]
        content = "".join(part.get("text") or "" for part in parts)
    return content or ""


def _usage(counts: Any) -> Usage | None:
    """The endpoint's count; None where it gave none, or zeros. Gemini and xAI count thoughts in the total alone."""
    try:
        told = (counts["prompt_tokens"], counts.get("completion_tokens"), counts.get("total_tokens"))
        details = counts.get("completion_tokens_details") or {}
        asked, written, total, thoughts = (max(0, int(n or 0)) for n in (*told, details.get("reasoning_tokens")))
        believed = asked > 0 and max(asked, written, total, thoughts) <= MOST_TOKENS
        return Usage(asked, max(written, total - asked), thoughts) if believed else None
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        return None


def _fields(error: Any) -> dict[str, Any]:
    """An error's fields, however it is wrapped: in a list (Gemini), in `error` within `error`, as a text or a page."""
    while isinstance(error, list) and error or isinstance(error, dict) and error.get("error"):
        error = error[0] if isinstance(error, list) else error["error"]
    return error if isinstance(error, dict) else {"message": error} if error else {}


def message_of(error: Any) -> str:
    """Its message, else FastAPI's `detail`, else all of it; one line without API keys and HTML tags."""
    fields = _fields(error)
    return one_line(_SECRET.sub("[key]", str(fields.get("message") or fields.get("detail") or fields or "")))[:300]


def one_line(text: str) -> str:
    """The text on one line, without HTML tags and without what acts on a terminal (escapes, direction overrides)."""
    words = " ".join(re.sub(r"<[^>]*>", " ", text).split())
    return "".join(c for c in words if c.isprintable())


def read_error(status: int, error: Any, headers: Headers, sent: Mapping[str, Any], config: ApiConfig) -> Outcome:
    """The meaning of an HTTP error, by the rules in `outcomes.toml`; the endpoint's own words are always part of it."""
    error = _fields(error)
    said, model, more = message_of(error), sent.get("model"), f"{error.get('details', '')} {error.get('metadata', '')}"
    wait = retry_after(headers, f"{said} {more}")
    line = " ".join(str(part) for part in (status, *map(error.get, ("code", "type", "status", "param"))) if part)
    line += f" {said} {error.get('innererror') or ''} {more}"
    url = endpoint(config).partition("?")[0]
    known = {"url": url, "model": model, "key_env": config.api_key_env, "status": status, "said": said}
    rule = next(r for r in RULES if re.search(r["pattern"], line, re.I | re.S) and not (wait and r.get("unless_told")))
    told, cause, setting = rule["error"].format_map(known).rstrip(": "), rule.get("cause", ""), rule.get("setting", "")
    if said and "{said}" not in rule["error"]:
        told += f" (it says: {said})"
    kind, named = rule["kind"], _named(line, sent)
    if kind == "retry" and named == "system" and re.search(r"support|must|only|alternate", said, re.I):
        kind = "adapt"  # llama.cpp and SGLang fail with 500 where a chat template raises
    if wait and (kind == "stop" or wait > LONGEST_WAIT):
        kind, told = "stop", f"{told}; come back at {clock(wait)}, in {span(wait)}"
    if cause == "model" and model != config.model:
        setting = ""  # a role that names another model has a setting of its own
    return Outcome(kind, named if kind == "adapt" else "", told, wait=wait, cause=cause, setting=setting)


def _named(line: str, sent: Mapping[str, Any]) -> str:
    """The part of the request that an error names; empty where it names none that was sent."""
    named = next((part for part in NAMED if part in parts_of(sent) and NAMED[part].search(line)), "")
    if named == "temperature" and sent["temperature"] == 0 and re.search("positive|great|above|> ?0", line, re.I):
        return "temperature 0"
    return named


def retry_after(headers: Headers, said: str = "") -> float | None:
    """Seconds to wait as the headers say, else the message; None where neither says any."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        told = headers.get(name, "")
        with contextlib.suppress(ValueError, OverflowError):
            try:
                wait = float(told) / unit
            except ValueError:
                wait = email.utils.parsedate_to_datetime(told).timestamp() - time.time()
            if 0 * wait == 0:
                return max(wait, 0.0)
    if soon := _SOON.search(said.replace("milliseconds", "ms")):
        return seconds(soon[1])
    reset = _RESET.search(said)
    return max(int(reset[1]) / 1000 - time.time(), 0.0) if reset else None
