"""The pace: even spacing under a limit, the endpoint's own headers, one pause for all."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from lionkit.client import ChatClient, ChatRequest
from lionkit.client import pacing as pacing_module
from lionkit.client.pacing import MARGIN, Pacer, seconds
from lionkit.config import ApiConfig
from server import create_app, serve


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pacing_module.time, "monotonic", clock.monotonic)
    return clock


def waits(pacer: Pacer, count: int, tokens: int = 0) -> list[float]:
    return [round(pacer.reserve(tokens)[1] * MARGIN, 6) for _ in range(count)]


def test_requests_are_spaced_evenly(clock: Clock) -> None:
    pacer = Pacer(600, None)
    assert waits(pacer, 4) == [0.0, 0.1, 0.2, 0.3]
    clock.now += 60  # unused time is not saved up for a burst
    assert waits(pacer, 3) == [0.0, 0.1, 0.2]


def test_without_a_limit_nothing_waits(clock: Clock) -> None:
    assert waits(Pacer(None, None), 1000, 500) == [0.0] * 1000


def test_tokens_are_booked_at_their_most_and_given_back(clock: Clock) -> None:
    pacer = Pacer(None, 60_000)
    assert waits(pacer, 3, 1000) == [0.0, 1.0, 2.0]
    pacer.settle(900)
    pacer.settle(900)
    assert waits(pacer, 1, 1000) == [1.2]
    assert waits(Pacer(60, 60_000), 3, 2000) == [0.0, 2.0, 4.0]  # the slower of the two limits counts


def test_a_pause_voids_bookings_and_holds_everybody(clock: Clock) -> None:
    pacer = Pacer(600, None)
    epoch, _ = pacer.reserve(0)
    waits(pacer, 50)
    pacer.pause(20)
    pacer.pause(5)  # a shorter one within it changes nothing
    assert pacer.epoch == epoch + 1
    assert [round(pacer.reserve(0)[1], 2) for _ in range(3)] == [20.0, 20.1, 20.2]
    clock.now += 30
    free = Pacer(None, None)
    free.pause(10)
    ends = [free.reserve(0)[1] for _ in range(50)]
    assert 10 <= min(ends) < max(ends) <= 11  # not all at once when it ends


def headers(limit: Any, remaining: Any, reset: str, kind: str = "requests") -> dict[str, str]:
    names = (f"x-ratelimit-{name}-{kind}" for name in ("limit", "remaining", "reset"))
    return dict(zip(names, (str(limit), str(remaining), reset)))


@pytest.mark.parametrize(
    ("told", "spacing"),
    [
        (headers(600, 599, "100ms"), 0.1),
        (headers(10_000, 9_998, "12ms"), 0.006),
        (headers(60, 0, "1m0s"), 1.0),
        (headers(200, 199, "7m12s"), 0.0),  # 200 a day: an allowance, not a pace
        (headers(200, 0, "24h0m0s"), 0.0),
        (headers(0, 0, "1s"), 0.0),
        (headers("", "", ""), 0.0),
        (headers("nan", "1", "1s"), 0.0),
        ({}, 0.0),
    ],
)
def test_limits_are_taken_from_headers(clock: Clock, told: dict[str, str], spacing: float) -> None:
    pacer = Pacer(None, None)
    pacer.heed(told)
    assert waits(pacer, 3) == [0.0, spacing, round(2 * spacing, 6)]


def test_the_lower_of_own_and_told_limit_counts(clock: Clock) -> None:
    pacer = Pacer(120, None)
    pacer.heed(headers(600, 599, "100ms"))
    assert waits(pacer, 2) == [0.0, 0.5]
    pacer = Pacer(6000, None)
    pacer.heed(headers(600, 599, "100ms"))
    assert waits(pacer, 2) == [0.0, 0.1]
    pacer = Pacer(None, None)
    pacer.heed(headers(60_000, 59_000, "1s", "tokens"))
    assert waits(pacer, 2, 500) == [0.0, 0.5]


def test_durations() -> None:
    texts = {
        "6m0s": 360.0,
        "1.5s": 1.5,
        "120ms": 0.12,
        "1h2m3s": 3723.0,
        "2d": 172800.0,
        "7": 7.0,
        "soon": 0.0,
        "": 0.0,
    }
    assert {text: seconds(text) for text in texts} == texts


@pytest.mark.parametrize("told", [True, False])
def test_the_servers_limit_is_used_and_not_broken(tmp_path: Path, told: bool) -> None:
    """Short form of the measurement in tests/bench/client.py: 3,000 a minute, told by headers or by us."""
    app = create_app(lambda messages, **_: "ok", requests_per_minute=3000, rate_headers=told)
    with serve(app) as url:
        config = ApiConfig(base_url=url, model="m", concurrency=32, requests_per_minute=None if told else 3000)
        asked = [ChatRequest([{"role": "user", "content": str(i)}], max_tokens=5) for i in range(150)]
        started = time.monotonic()
        ChatClient(config, tmp_path / "calls.sqlite").map(asked)
        took = time.monotonic() - started
    assert app.state.accounts.requests - 150 <= 3
    assert 2.9 < took < 4.5  # 150 / 50 a second = 3 s
