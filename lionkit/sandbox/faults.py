"""What goes wrong on purpose in the sandbox: faults drawn per request, dropped connections, a rate limit.

Drawn from the request and its attempt number, so that the same requests meet the same faults whatever the order
of their arrival: a notebook that shows robustness shows the same thing each time.
"""

from __future__ import annotations

import hashlib
import math
import random
import time
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

TRANSIENT = ("429", "429-wait", "500", "drop", "malformed", "null", "slow")
"""Faults a client can mend by asking again (`slow`: by waiting)."""


@dataclass(frozen=True)
class Faults:
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


def draw(state: Any, call: bytes) -> str:
    """The fault this attempt meets, or nothing."""
    if not state.faults.rate:
        return ""
    name = hashlib.blake2s(call).hexdigest()
    state.attempts[name] += 1
    rng = random.Random(f"{state.faults.seed} {name} {state.attempts[name]}")
    fault = rng.choice(state.faults.kinds) if rng.random() < state.faults.rate else ""
    state.accounts.faults[fault or "none"] += 1
    return fault


class Dropped(Response):
    """Half of a reply, then a closed connection."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body[: len(self.body) // 2], "more_body": True})
        raise ConnectionResetError("the sandbox dropped this connection on purpose")


def depth(rpm: float | None) -> float:
    return max(1.0, rpm / 60) if rpm else 0.0


def admit(state: Any) -> tuple[bool, dict[str, str]]:
    """Whether the bucket lets a request through, and the headers that tell its state the way OpenAI does."""
    if not state.rpm:
        return True, {}
    now, rate, deep = time.monotonic(), state.rpm / 60, depth(state.rpm)
    state.level, state.levelled = min(deep, state.level + (now - state.levelled) * rate), now
    admitted = state.level >= 1
    state.level -= admitted
    headers = {
        "x-ratelimit-limit-requests": f"{state.rpm:.0f}",
        "x-ratelimit-remaining-requests": f"{max(0, math.floor(state.rpm - deep + state.level))}",
        "x-ratelimit-reset-requests": f"{math.ceil((deep - state.level) / rate * 1000)}ms",
    }
    return admitted, headers if state.rate_headers else {}
