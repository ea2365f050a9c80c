"""Waits are said aloud, with their end; too long a one stops the map. The clock is a false one: nothing sleeps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from lionkit.client import ChatClient, ChatRequest
from lionkit.client.asking import Asking
from lionkit.client.outcomes import Outcome, read_error, retry_after
from lionkit.client.pacing import clock, span
from lionkit.config import SANDBOX_URL, ApiConfig
from lionkit.errors import StageStopped


def asks(count: int) -> list[ChatRequest]:
    return [ChatRequest([{"role": "user", "content": str(n)}], max_tokens=9) for n in range(count)]


def mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *outcomes: Outcome, count: int = 2, **limits: Any) -> Any:
    """What a map of `count` calls gives where the attempts end like this, one after the other; rests take no time."""
    coming = list(outcomes)

    async def attempt(*_: Any) -> Outcome:
        return coming.pop(0) if coming else Outcome("ok", "fig", replied=True)

    async def rest(self: Asking, seconds: float) -> None:
        now[0] += max(seconds, 0)

    now = [time.monotonic()]
    monkeypatch.setattr("lionkit.client.live.attempt", attempt)
    monkeypatch.setattr("lionkit.client.pacing.time.monotonic", lambda: now[0])
    monkeypatch.setattr(Asking, "rest", rest)
    config = ApiConfig(base_url=SANDBOX_URL, model="m", concurrency=1, **limits)
    return ChatClient(config, tmp_path / "calls.sqlite", app=object()).map(asks(count), progress=False)


@pytest.mark.parametrize(("wait", "told"), [(9.0, 0), (34.0, 1), (599.0, 1)])
def test_a_long_wait_is_said_with_its_length_and_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wait: float, told: int
) -> None:
    out = mapped(tmp_path, monkeypatch, Outcome("limited", error="the rate limit was hit", wait=wait))
    assert [c.text for c in out] == ["fig", "fig"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == told
    assert all(line.startswith(f"the rate limit was hit: waiting {span(wait)}, until ") for line in lines)


TWO = {f"x-ratelimit-{name}-requests": told for name, told in (("limit", "2"), ("remaining", "1"), ("reset", "30s"))}


@pytest.mark.parametrize(
    ("limits", "headers", "told"),
    [
        ({"requests_per_minute": 1}, {}, "one call in 61 s: waiting 3 min, until "),
        ({}, TWO, "one call in 31 s: waiting 61 s, until "),
        ({"tokens_per_minute": 60}, {}, "waiting "),
        ({"requests_per_minute": 60}, {}, ""),
        ({}, {}, ""),
    ],
)
def test_a_pace_that_looks_like_a_standstill_is_said_once_for_all_calls(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    limits: Any,
    headers: Any,
    told: str,
) -> None:
    monkeypatch.setattr("lionkit.client.asking.time.time", lambda: time.monotonic() + 1e9)
    mapped(tmp_path, monkeypatch, Outcome("ok", "fig", replied=True, headers=headers), count=4, **limits)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == bool(told)
    assert told in "".join(lines)


def test_a_wait_beyond_the_limit_stops_and_keeps_what_was_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = read_error(429, {"message": "slow down"}, {"retry-after": "10800"}, {"model": "m"}, ApiConfig())
    assert told.kind == "stop"
    with pytest.raises(StageStopped, match=r"come back at .*, in 3 h 0 min; 1 of 3 replies are stored"):
        mapped(tmp_path, monkeypatch, Outcome("ok", "fig", replied=True), told, count=3)


@pytest.mark.parametrize(
    "said",
    [
        "Limit 10000 requests per day (RPD). Please try again in 8.64s.",
        "tokens per day (TPD): Limit 100000, Used 99336. Please try again in 19m14.304s.",
        "Rate limit exceeded: free-models-per-day",
        "You have reached your daily quota",
        "limit of 50 requests/day",
    ],
)
def test_a_limit_of_a_day_stops_the_stage(said: str) -> None:
    outcome = read_error(429, {"message": said}, {}, {}, ApiConfig())
    assert outcome.kind == "stop"
    assert said in outcome.error


@pytest.mark.parametrize(
    "said", ["tokens per min (TPM): Limit 9", "requests per minute", "slow down", "per 10 seconds"]
)
def test_a_limit_of_a_minute_does_not(said: str) -> None:
    assert read_error(429, {"message": said}, {}, {}, ApiConfig()).kind == "limited"


def test_waits_are_read_in_the_words_of_the_field() -> None:
    told = {
        "Please retry after 27 seconds.": 27.0,
        "Please wait 5 minutes": 300.0,
        "try again in 3h0m0s": 10800.0,
        "[{'retryDelay': '34s'}]": 34.0,
        "try again in 120 milliseconds": 0.12,
    }
    assert {text: retry_after({}, text) for text in told} == told


def test_spans_and_clocks_are_what_people_say() -> None:
    assert [span(s) for s in (9, 119, 600, 7200, 11100)] == ["9 s", "119 s", "10 min", "2 h 0 min", "3 h 5 min"]
    assert clock(2 * 86400).startswith(time.strftime("%Y-%m-%d", time.localtime(time.time() + 2 * 86400)))
