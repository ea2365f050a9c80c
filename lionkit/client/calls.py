"""Requests, completions, their tokens, the key of a call, and estimates of what calls will cost.

Estimates are computed from text sizes: no tokenizer is downloaded and no price is built in. Prices come from the user
(`ApiConfig.price_per_million`); without them, only tokens are given.
"""

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property
from operator import add
from typing import Any, Literal

from lionkit.config import ApiConfig
from lionkit.errors import ConfigError
from lionkit.records import Status

Cause = Literal["", "key", "model", "empty", "refused", "outage", "mute"]
"""What a failure came from, where callers act on it: a refused key or model, an empty reply, a refusal without a reason
that is known, an endpoint or a network that failed (`outage`) or has nothing but empty replies (`mute`)."""
OPEN: dict[Cause, Cause] = {"refused": "outage", "empty": "mute"}
"""What an empty reply and an unknown refusal are where no other row was answered: no word about the row."""
Price = tuple[float, float] | None
"""Dollars per million (prompt, reply) tokens; None where unknown."""
LOOPBACK = re.compile(r"(?<=://)(localhost|127\.0\.0\.1)(?=[:/]|$)")
"""This machine, in an address: two names for one host."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One call: messages and settings. None leaves `model` to the configuration, other settings to the endpoint."""

    messages: list[dict[str, str]]
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    """Longest reply, in tokens, reasoning included. A budget needs it."""
    slot: int | str = 0
    """Distinguishes calls that are otherwise equal, where several samples are wanted."""
    response_format: dict[str, Any] | None = None
    """Structured output (`json_schema`); left out if the endpoint refuses it."""
    repeat_penalty: float | None = None
    """1.0: none, where a server of llama.cpp's kind has one of its own (no word of OpenAI's; left out if refused). No
    part of the key: older replies are without it."""

    def __post_init__(self) -> None:
        texts = [m.get("content") if isinstance(m, dict) else None for m in self.messages]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ConfigError(f"messages = {self.messages!r:.80}: at least one, each with a role and a text")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the endpoint counted them; the call's upper bound where the endpoint gave no count."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Reasoning included."""
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*map(add, astuple(self), astuple(other)))

    def dollars(self, price: Price) -> float:
        """The cost in dollars; NaN where the price is unknown."""
        asked, written = price or (math.nan, math.nan)
        return (self.prompt_tokens * asked + self.completion_tokens * written) / 1e6


@dataclass(frozen=True, slots=True)
class Completion:
    """The result of one request. Only `ok` texts are whole answers; every other status has its reason in `error`."""

    status: Status
    text: str
    """The reply; the part that arrived when truncated or filtered; empty when refused or failed."""
    usage: Usage
    cached: bool
    """True when the reply was stored before this `map` asked for it, so that nothing was paid now."""
    error: str
    call_id: str
    """Key of the reply in the call store."""
    model: str
    cause: Cause = ""

    @property
    def missing(self) -> bool:
        """Whether the endpoint, and not the row, is why there is no reply: asking again later may succeed."""
        return self.cause in OPEN.values()


def call_key(request: ChatRequest, base_url: str, model: str) -> str:
    """32 hex digits over everything that shapes the reply. The API key is not part of it."""
    parts = (base_url, model, request.messages, request.temperature, request.max_tokens, request.response_format)
    text = json.dumps((*parts, request.slot), sort_keys=True)
    return hashlib.blake2s(text.encode(), digest_size=16).hexdigest()


@dataclass
class Call:
    """One distinct request of a map, and the attempts so far. In keys, `localhost` is `127.0.0.1`."""

    request: ChatRequest
    url: str
    model: str
    tries: int = 0
    limited: int = 0
    """Tries that met a rate limit, or an unreachable endpoint that had answered before."""
    failing_since: float = 0.0
    """When the first try failed, in seconds since the epoch."""
    without: set[str] = field(default_factory=set)
    """What it is sent without, because the endpoint refused it with (`request.PARTS`)."""
    trials: list[set[str]] | None = None
    """What to try without next, where the endpoint does not say what it refuses; None before the first such refusal."""
    refusal: str = ""
    """What the endpoint said when it last refused it."""

    def __post_init__(self) -> None:
        self.url = LOOPBACK.sub("127.0.0.1", self.url)
        self.key = call_key(self.request, self.url, self.model)

    @cached_property
    def family(self) -> str:
        """The key without the token limit: calls of one family differ in nothing else."""
        return call_key(replace(self.request, max_tokens=None), self.url, self.model)

    @property
    def keys(self) -> set[str]:
        """The keys under which the reply may be stored: older stores kept `localhost` apart from `127.0.0.1`."""
        older = LOOPBACK.sub("localhost", self.url)
        return {self.key} if older == self.url else {self.key, call_key(self.request, older, self.model)}


def serves(reply: Completion, limit: int, wanted: int | None) -> bool:
    """Whether the reply to a call with the token limit `limit` (0: none) answers one with the limit `wanted`."""
    given, room, written = limit or math.inf, wanted or math.inf, reply.usage.completion_tokens
    if reply.status == "truncated":
        return room <= given
    known = written > 0 or reply.status != "ok"  # of a reply without a limit, the endpoint may not have told the length
    return room >= given or (known and written <= room)


TEMPLATE = 128
"""Tokens that a chat template may add to a prompt, including a system prompt of its own."""


def _size(request: ChatRequest) -> int:
    """Bytes of the prompt, plus eight tokens (32 bytes) for each message's role."""
    schema = len(json.dumps(request.response_format)) if request.response_format else 0
    return schema + sum(len(message["content"].encode("utf-8", "replace")) + 32 for message in request.messages)


def bound(request: ChatRequest) -> Usage:
    """The most tokens a call can use: a token is at least one byte of text. Without `max_tokens`, 0 reply tokens."""
    return Usage(_size(request) + TEMPLATE, request.max_tokens or 0)


BASES = {"sizes": "by size, replies at their longest", "pilot": "as the first replies", "actual": "paid"}
"""What an estimate is based on, and how it is described. By size, four bytes of a prompt are one token."""


@dataclass(frozen=True)
class Estimate:
    """What calls are expected to use or, with `basis` "actual", have used."""

    calls: int
    usage: Usage
    basis: str
    """One of `BASES`."""
    price: Price

    @property
    def dollars(self) -> float:
        """NaN where no price is given."""
        return self.usage.dollars(self.price)

    def __str__(self) -> str:
        calls, asked, written = f"{self.calls:,} call", self.usage.prompt_tokens, self.usage.completion_tokens
        money = f", ${self.dollars:,.2f}" if self.price else ""
        return f"{calls}{'s' * (self.calls != 1)}, {asked:,} + {written:,} tokens{money} ({BASES[self.basis]})"


def total(estimates: Sequence[Estimate]) -> Estimate:
    """Their sum, with the basis and the price of the last one."""
    usage = sum((e.usage for e in estimates), Usage())
    return replace(estimates[-1], calls=sum(e.calls for e in estimates), usage=usage)


def estimate(requests: Sequence[ChatRequest], config: ApiConfig) -> Estimate:
    """Tokens and dollars before anything is asked: four bytes of a prompt a token, replies as long as allowed."""
    usage = Usage(sum(_size(r) // 4 for r in requests), sum(r.max_tokens or 0 for r in requests))
    model = (requests[0].model if requests else None) or config.model
    return Estimate(len(requests), usage, "sizes", config.price(model))


@dataclass(frozen=True)
class Bill:
    """One `map` that asked something, finished or not: what its calls were expected to use, and what they used."""

    label: str
    expected: Estimate
    """For the calls in `actual`; from the first replies (`pilot`) where there were enough, else from sizes."""
    actual: Estimate
    """Attempts that were answered or may have been billed; those that a kill or an interrupt cut off, at their most."""

    def __str__(self) -> str:
        return f"{self.label}: {self.actual}; expected were {self.expected}"
