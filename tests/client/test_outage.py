"""An endpoint that goes down in the middle of a map: the map returns, what was answered is kept, the rest is open."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lionkit.client import ChatClient, ChatRequest, Usage, wire
from lionkit.client.outcomes import Outcome
from lionkit.config import SANDBOX_URL, ApiConfig
from lionkit.errors import StageStopped
from lionkit.sandbox.app import Faults
from server import create_app, serve


def backwards(messages: list[dict[str, str]], **_: Any) -> str:
    return messages[-1]["content"][::-1]


def asks(*texts: str, **settings: Any) -> list[ChatRequest]:
    return [ChatRequest([{"role": "user", "content": text}], **{"max_tokens": 50, **settings}) for text in texts]


def problem(status: int, text: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"message": text}}


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lionkit.client.live.BACKOFF", 0.01)
    monkeypatch.setattr("lionkit.client.live.LONGEST_BACKOFF", 0.05)


@pytest.fixture
def client(tmp_path: Path) -> Callable[..., ChatClient]:
    def make(app: Any, **fields: Any) -> ChatClient:
        config = ApiConfig(**{"base_url": SANDBOX_URL, "model": "answer-key", **fields})
        return ChatClient(config, tmp_path / "calls.sqlite", app=app)

    return make


def test_a_server_that_is_down_for_a_while_ends_the_map_and_a_second_one_asks_exactly_the_others(
    tmp_path: Path,
) -> None:
    asked: Counter[str] = Counter()
    down: list[bool] = []
    mended: list[bool] = []

    def answer(messages: list[dict[str, str]], **_: Any) -> Any:
        text = messages[-1]["content"]
        if down:
            return problem(503, "overloaded")
        asked[text] += 1
        if len(asked) == 60 and not mended:
            down.append(True)
        return text[::-1]

    texts = [f"row {i}" for i in range(200)]
    with serve(create_app(answer, latency=0.005)) as url:
        made = ChatClient(ApiConfig(base_url=url, model="m", concurrency=8), tmp_path / "calls.sqlite")
        started = time.monotonic()
        out = made.map(asks(*texts), progress=False)
        assert time.monotonic() - started < 5
        assert Counter(c.status for c in out) == {"ok": 60, "failed": 140}
        lost = [c for c in out if c.status == "failed"]
        assert {c.cause for c in lost} == {"outage"}
        said = Counter(c.error for c in lost)
        failed = r"the endpoint failed \(503\) overloaded \(given up after 6 attempts\)$"
        since = r"answered nothing since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
        own = [error for error in said if re.search(f"^{failed}", error)]
        [rest] = [error for error in said if re.search(rf"^{url} has {since}: {failed}", error)]
        assert set(said) == {*own, rest}
        # One row may be its own fault, and so may the others in flight if a reply still came after their first failure;
        # then a next one tells that the endpoint is down.
        assert len(own) == 1 <= said[own[0]] <= made.config.concurrency
        before = asked.copy()
        assert sum(before.values()) == 60
        down.clear()
        mended.append(True)
        asked.clear()
        again = made.map(asks(*texts), progress=False)
    assert [c.text for c in again] == [text[::-1] for text in texts]
    assert sum(c.cached for c in again) == 60
    assert asked == Counter(c for c in texts if c not in before)


@pytest.mark.parametrize("bad", ["row 0", "row 3", "row 5"])
def test_one_row_that_always_fails_does_not_end_the_map(client: Any, bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(messages: list[dict[str, str]], **_: Any) -> Any:
        text = messages[-1]["content"]
        return problem(500, "cannot") if text == bad else text[::-1]

    for attempts in (1, 2):
        made = client(create_app(answer), max_attempts=attempts, concurrency=1)
        out = made.map(asks(*(f"row {i}" for i in range(6))))
        assert [c.status for c in out] == ["failed" if f"row {i}" == bad else "ok" for i in range(6)]
    assert made.map(asks(bad))[0].cause == "outage"  # alone, on a store that has replies: not raised


def test_a_connection_that_is_refused_midway_is_an_outage_and_a_short_one_costs_no_row(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[bool] = []

    async def leaving(*args: Any) -> Outcome:
        if gone:
            return Outcome("unreachable", error="the connection failed (ConnectError)")
        return await attempt(*args)

    attempt = wire.attempt
    monkeypatch.setattr("lionkit.client.live.attempt", leaving)
    made = client(create_app(backwards), max_attempts=2, concurrency=4)
    made.map(asks("a"))
    gone.append(True)
    out = made.map(asks(*"bcdefghij"))
    assert {(c.status, c.cause, c.usage) for c in out} == {("failed", "outage", Usage())}
    assert "given up after 20 attempts" in out[8].error
    threading.Timer(0.05, gone.clear).start()
    assert {c.status for c in made.map(asks(*"bcdefghij"))} == {"ok"}


def test_a_row_that_the_endpoint_fails_at_while_it_answers_others(client: Any) -> None:
    """Its own 500s do not end the map, and it may be asked again; a refusal for its own sake is no outage."""

    def answer(messages: list[dict[str, str]], **_: Any) -> Any:
        text = messages[-1]["content"]
        return {"bad": problem(500, "crashed"), "long": problem(400, "prompt is too long")}.get(text, text)

    made = client(create_app(answer, latency=0.01), concurrency=2, max_attempts=3)
    made.map(asks("warm"))
    out = made.map(asks("bad", "long", *map(str, range(60))))
    assert [(c.status, c.cause) for c in out[:2]] == [("failed", "outage"), ("failed", "")]
    assert out[0].error == "the endpoint failed (500) crashed (given up after 3 attempts)"
    assert {c.status for c in out[2:]} == {"ok"}


@pytest.mark.parametrize(
    ("reply", "cause"),
    [(problem(418, "no"), "outage"), (problem(425, "early"), "outage"), (problem(400, "no"), "outage"), ("", "mute")],
)
@pytest.mark.parametrize("since", [0, 3])
def test_what_every_row_gets_is_no_final_word_about_any(client: Any, reply: Any, cause: str, since: int) -> None:
    """From the first call of a map on, or in the middle of it, by an endpoint that has answered before."""
    well: list[int] = [since + 1]

    def answer(messages: list[dict[str, str]], **_: Any) -> Any:
        well[0] -= 1
        return reply if well[0] < 0 else "fig"

    made = client(create_app(answer), concurrency=1, max_attempts=2)
    made.map(asks("warm"))
    out = made.map(asks(*"abcdef"))
    assert [(c.cause, c.missing) for c in out] == [("", False)] * since + [(cause, True)] * (6 - since)
    well[0] = 99
    assert {c.status for c in made.map(asks(*"abcdef"))} == {"ok"}


@pytest.mark.parametrize(("reply", "cause"), [(problem(400, "no"), "refused"), ("", "empty")])
@pytest.mark.parametrize("bad", ["ac", "f"])
def test_what_some_rows_get_and_others_do_not_is_final(client: Any, reply: Any, cause: str, bad: str) -> None:
    app = create_app(lambda messages, **_: reply if messages[-1]["content"] in bad else "fig")
    out = client(app, concurrency=1, max_attempts=2).map(asks(*"abcdef"))
    assert [(c.cause, c.missing) for c in out] == [(cause * (text in bad), False) for text in "abcdef"]


@pytest.mark.parametrize(
    ("kind", "setting", "said"),
    [
        ("500", "api.max_attempts", r"the endpoint failed \(500\)"),
        ("429", "api.max_attempts", "the rate limit was hit"),
        ("drop", "api.max_attempts", "the connection failed"),
    ],
)
def test_an_endpoint_that_never_answered_raises(client: Any, kind: str, setting: str, said: str) -> None:
    made = client(create_app(backwards, faults=Faults(1.0, kinds=(kind,))), max_attempts=2)
    with pytest.raises(StageStopped, match=f"gives no reply: {said}.*0 of 2 replies are stored") as stopped:
        made.map(asks("a", "b"))
    assert stopped.value.setting == setting


def test_each_problem_names_its_setting(client: Any) -> None:
    async def never(*_: Any) -> None:
        await asyncio.sleep(9)

    def stopped(app: Any, *, requests: list[ChatRequest] | None = None, **fields: Any) -> str:
        with pytest.raises(StageStopped) as error:
            client(app, **{"max_attempts": 1, **fields}).map(requests or asks("a", "b"))
        return error.value.setting

    well = create_app(backwards)
    assert stopped(well, budget_tokens=100) == "api.budget_tokens"
    priced = {"budget_usd": 1e-5, "price_per_million": (1.0, 1.0)}
    assert stopped(well, **priced) == "api.budget_usd"
    assert stopped(well, **priced, budget_tokens=100_000) == "api.budget_usd"
    assert stopped(create_app(backwards, latency=0.5), stage_timeout=0.2) == "api.stage_timeout"
    assert stopped(create_app(backwards, key="k"), requests=asks("c")) == "api.api_key_env"
    assert stopped(create_app(backwards, models={"x": ()}), requests=asks("c")) == "api.model"
    assert stopped(create_app(backwards, models={"x": ()}), requests=asks("c", model="judge")) == ""
    assert stopped(None, base_url="http://127.0.0.1:9/v1") == "api.base_url"
    assert stopped(never, timeout=0.1, model="slow", requests=asks("c")) == "api.timeout"
    with serve(well) as url:
        assert stopped(None, base_url=url.removesuffix("/v1")) == "api.base_url"
