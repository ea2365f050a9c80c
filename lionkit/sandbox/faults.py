"""What goes wrong on purpose in the sandbox: faults drawn per request, dropped connections.

Drawn from the request and its attempt number, so that the same requests meet the same faults in whatever order
they arrive: a notebook that shows robustness shows the same thing each time.
"""

import asyncio
import hashlib
import random
from collections import Counter
from typing import Any, NamedTuple

from starlette.responses import JSONResponse, Response

TRANSIENT = ("429", "429-wait", "500", "drop", "malformed", "null", "slow")
"""Faults a client can mend by asking again (`slow`: by waiting)."""


class Faults(NamedTuple):
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


def draw(faults: Faults, attempts: Counter[str], call: bytes) -> str:
    """The fault this attempt meets, or nothing. `attempts` counts those of each call, this one included."""
    if not faults.rate:
        return ""
    name = hashlib.blake2s(call).hexdigest()
    attempts[name] += 1
    rng = random.Random(f"{faults.seed} {name} {attempts[name]}")
    return rng.choice(faults.kinds) if rng.random() < faults.rate else ""


async def misbehave(faults: Faults, fault: str) -> Response | None:
    """The response that is sent in place of a reply; None where a reply is sent, if late or spoilt."""
    if fault in ("429", "429-wait", "500"):
        error = {"message": "a fault on purpose", "type": "invalid_request_error", "code": "fault", "param": None}
        wait = {"retry-after": f"{faults.retry_after:g}"} if fault == "429-wait" else {}
        return JSONResponse({"error": error}, int(fault[:3]), wait)
    if fault in ("drop", "malformed"):
        half = '{"choices": [{"message": {"content": "never fin'
        return (Dropped if fault == "drop" else Response)(half, media_type="application/json")
    if fault == "slow":
        await asyncio.sleep(faults.slow)
    return None


class Dropped(Response):
    """Half of a reply, then a closed connection."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body[: len(self.body) // 2], "more_body": True})
        raise ConnectionResetError("the sandbox dropped this connection on purpose")
