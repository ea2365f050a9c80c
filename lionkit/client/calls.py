"""What is asked and what comes back: `ChatRequest`, `Completion`, `Usage`, the key of a call, and what calls will cost.

Costs here are arithmetic on sizes: no tokenizer is downloaded and no price is built in. Prices are always the
user's (`ApiConfig.price_per_million`); without them, tokens are all that is known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lionkit.config import ApiConfig
from lionkit.errors import ConfigError
from lionkit.records import Status

Cause = Literal["", "key", "model", "empty", "system role"]
"""What a failure came from, where somebody acts on it: a refused key or model, an empty reply, a chat template that
knows no system role."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One call: messages and settings. None leaves a setting to the configuration (`model`) or the endpoint."""

    messages: list[dict[str, str]]
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    """Longest reply, in tokens, reasoning included. A budget needs it."""
    slot: int | str = 0
    """Tells apart calls that are otherwise the same, where several samples are wanted."""
    response_format: dict[str, Any] | None = None
    """Structured output (`json_schema`); left out where the endpoint refuses it."""

    def __post_init__(self) -> None:
        texts = [m.get("content") if isinstance(m, dict) else None for m in self.messages]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ConfigError(f"messages = {self.messages!r:.80}: at least one, each with a role and a text")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the endpoint counted them; where it did not say, the upper bound that was reserved."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Reasoning included."""
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )

    def dollars(self, price_per_million: tuple[float, float] | None) -> float:
        """Cost at (prompt, reply) dollars per million tokens; NaN where the price is unknown."""
        if price_per_million is None:
            return float("nan")
        return (self.prompt_tokens * price_per_million[0] + self.completion_tokens * price_per_million[1]) / 1e6


@dataclass(frozen=True, slots=True)
class Completion:
    """What became of one request. Only `ok` texts are whole answers; every other status has its reason in `error`."""

    status: Status
    text: str
    """The reply; what there is of it when truncated or filtered; empty when refused or failed."""
    usage: Usage
    cached: bool
    """True when it was in the store before this `map` and nothing was paid now."""
    error: str
    call_id: str
    model: str
    cause: Cause = ""


@dataclass
class Call:
    """One distinct request of a map, and its bad luck so far."""

    key: str
    request: ChatRequest
    model: str
    failures: int = 0
    limited: int = 0


def call_key(request: ChatRequest, base_url: str, model: str) -> str:
    """32 hex digits over everything that shapes the reply; the API key is no part of it."""
    parts = (base_url, model, request.messages, request.temperature, request.max_tokens, request.response_format)
    text = json.dumps((*parts, request.slot), sort_keys=True)
    return hashlib.blake2s(text.encode(), digest_size=16).hexdigest()


TEMPLATE = 128
"""Tokens that a chat template may add to a prompt, its own system prompt included."""


def _size(request: ChatRequest) -> int:
    """Bytes of the prompt, with eight tokens' worth for each role."""
    schema = len(json.dumps(request.response_format)) if request.response_format else 0
    return schema + sum(len(message["content"].encode("utf-8", "replace")) + 32 for message in request.messages)


def bound(request: ChatRequest) -> Usage:
    """The most a call can use: a token is at least a byte of text."""
    return Usage(_size(request) + TEMPLATE, request.max_tokens or 0)


BASES = {"sizes": "by size, replies at their longest", "pilot": "as the first replies", "actual": "paid"}
"""What an estimate rests on. By size, a token is four bytes of a prompt."""


@dataclass(frozen=True)
class Estimate:
    """What calls will use, or (`basis` = "actual") have used."""

    calls: int
    usage: Usage
    dollars: float
    """NaN where no price is given."""
    basis: str
    """One of `BASES`."""

    def __str__(self) -> str:
        calls, asked, written = f"{self.calls:,} call", self.usage.prompt_tokens, self.usage.completion_tokens
        tokens = f"{calls}{'s' * (self.calls != 1)}, {asked:,} + {written:,} tokens"
        money = "" if self.dollars != self.dollars else f", ${self.dollars:,.2f}"
        return f"{tokens}{money} ({BASES[self.basis]})"


def total(estimates: Sequence[Estimate]) -> Estimate:
    """Their sum; its basis is the last one's."""
    usage = sum((e.usage for e in estimates), Usage())
    return Estimate(sum(e.calls for e in estimates), usage, sum(e.dollars for e in estimates), estimates[-1].basis)


def estimate(requests: Sequence[ChatRequest], config: ApiConfig) -> Estimate:
    """Before anything was asked: a token is about four bytes of a prompt, and a reply is as long as it may be."""
    usage = Usage(sum(_size(r) // 4 for r in requests), sum(r.max_tokens or 0 for r in requests))
    return priced(len(requests), usage, config, "sizes")


@dataclass(frozen=True)
class Bill:
    """One `map` that asked something: what it was expected to use, and what it did use."""

    label: str
    expected: Estimate
    """From the first replies (`pilot`) where there were enough of them, else from sizes."""
    actual: Estimate

    def __str__(self) -> str:
        return f"{self.label}: {self.actual}; expected were {self.expected}"


def priced(calls: int, usage: Usage, config: ApiConfig, basis: str) -> Estimate:
    """So many calls at the configuration's price."""
    return Estimate(calls, usage, usage.dollars(config.price_per_million), basis)
