"""When the next request may be sent: evenly spaced under the limits, with one pause for all when the endpoint asks.

Limits come from the configuration and from the endpoint's `x-ratelimit-*` headers, whichever is lower. Requests are
spaced and not sent in bursts, because endpoints enforce a limit per minute over shorter spans. Nothing here sleeps:
callers are told how long to wait.
"""

import random
import re
import time
from collections.abc import Mapping

MARGIN = 0.98
"""Share of a limit that is used, so that jitter on the way does not break it."""
MINUTE_LIMIT = 120.0
"""Seconds: a limit that is refilled within them is one per minute; a slower one is a daily allowance, not a pace."""
LONG = 10.0
"""Seconds; a longer wait is said aloud."""
UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """`6m0s`, `1.5s`, `120ms` or a bare number, in seconds; 0 for anything else."""
    parts = re.findall(r"([\d.]+)\s*(ms|[smhd])", text)
    try:
        return sum(float(number) * UNITS[unit] for number, unit in parts) if parts else float(text)
    except ValueError:
        return 0.0


def span(wait: float) -> str:
    """Seconds as people say them: `34 s`, `12 min`, `3 h 5 min`."""
    minutes = round(wait / 60)
    if wait < 120:
        return f"{wait:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def clock(wait: float) -> str:
    """The local time in so many seconds, with its date where that is another day."""
    now, then = time.time(), time.localtime(time.time() + min(wait, 1e9))
    same = time.localtime(now)[:3] == then[:3]
    return time.strftime("%H:%M:%S" if same else "%Y-%m-%d %H:%M", then)


class Pacer:
    """One per client. `reserve` books the next free moment. A pause changes `epoch`: bookings must be made again."""

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self.limits = {"requests": requests_per_minute, "tokens": tokens_per_minute}
        self._paces = dict(self.limits)
        self._free = dict.fromkeys(self.limits, 0.0)
        self._resume = 0.0
        self.epoch = 0

    def reserve(self, tokens: int) -> tuple[int, float]:
        """(epoch, seconds to wait) for a request that may use so many tokens."""
        now = time.monotonic()
        start = max(now, self._resume)
        if now < self._resume and not any(self._paces.values()):
            start += random.uniform(0, 0.1 * (self._resume - now))  # not all at once when the pause ends
        for kind, amount in (("requests", 1), ("tokens", tokens)):
            if pace := self._paces[kind]:
                start = max(start, self._free[kind])
                self._free[kind] = start + amount * 60 / (pace * MARGIN)
        return self.epoch, start - now

    def apart(self, tokens: int) -> float:
        """Seconds between two requests that may use so many tokens each."""
        needs = [(1, self._paces["requests"]), (tokens, self._paces["tokens"])]
        return max(amount * 60 / (pace * MARGIN) if pace else 0.0 for amount, pace in needs)

    def settle(self, unused_tokens: int) -> None:
        """Give back what a finished request had booked and not used."""
        if pace := self._paces["tokens"]:
            self._free["tokens"] -= unused_tokens * 60 / (pace * MARGIN)

    def pause(self, wait: float) -> None:
        """Nobody sends for `wait` seconds; every booking made before is void."""
        resume = time.monotonic() + wait
        if resume > self._resume:
            self._resume, self.epoch = resume, self.epoch + 1
            self._free = dict.fromkeys(self._free, resume)

    def heed(self, headers: Mapping[str, str]) -> None:
        """Take over the endpoint's own limits, where its headers describe one per minute."""
        for kind, own in self.limits.items():
            try:
                limit = float(headers[f"x-ratelimit-limit-{kind}"])
                used = limit - float(headers[f"x-ratelimit-remaining-{kind}"])
            except (KeyError, ValueError):
                continue
            reset = seconds(headers.get(f"x-ratelimit-reset-{kind}", ""))
            if limit > 0 and reset * limit <= MINUTE_LIMIT * max(used, 1):
                self._paces[kind] = min(own or limit, limit)
