"""The sandbox's app, spoken to with the plain SDK over HTTP: what it answers, refuses and breaks.

What the test server takes over from it is tried on both.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import httpx2
import openai
import pytest

import server
from lionkit.sandbox.app import TRANSIENT, UNPARSABLE, Faults, create_app, draw

BOTH = pytest.mark.parametrize("make", [create_app, server.create_app], ids=["app", "server"])


def backwards(messages: list[dict[str, str]], **_: Any) -> str:
    return messages[-1]["content"][::-1]


def told(messages: list[dict[str, str]], *, temperature: float, slot: str) -> str:
    return f"temperature {temperature}, slot {slot}"


def chat(client: openai.OpenAI, text: str = "abc", **settings: Any) -> Any:
    messages: Any = [{"role": "user", "content": text}]
    return client.chat.completions.create(messages=messages, **{"model": "m", **settings})


@BOTH
def test_a_chat_completion(sdk: Any, make: Any) -> None:
    reply = chat(sdk(make(backwards)))
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason, reply.model) == ("cba", "stop", "m")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (9, 1, None)


@BOTH
def test_settings_and_slot_reach_the_answer(sdk: Any, make: Any) -> None:
    client = sdk(make(told))
    assert chat(client).choices[0].message.content == "temperature 1.0, slot 0"
    other = chat(client, temperature=0.2, extra_headers={"x-lionkit-slot": "b"})
    assert other.choices[0].message.content == "temperature 0.2, slot b"


@BOTH
def test_replies_stop_at_the_token_limit(sdk: Any, make: Any) -> None:
    client = sdk(make(backwards))
    cut = chat(client, "a" * 100, max_tokens=5).choices[0]
    assert (cut.message.content, cut.finish_reason) == ("a" * 20, "length")
    whole = chat(client, "a" * 20, max_completion_tokens=5).choices[0]
    assert (whole.message.content, whole.finish_reason) == ("a" * 20, "stop")


@BOTH
def test_it_answers_from_the_answer_key_by_default(sdk: Any, make: Any) -> None:
    said = chat(sdk(make()), "Write a sonnet.").choices[0].message
    assert said.content is None
    assert "no rule" in said.refusal


EFFECTS = {
    "429": openai.RateLimitError,
    "429-wait": openai.RateLimitError,
    "500": openai.InternalServerError,
    "drop": openai.APIConnectionError,
    "malformed": json.JSONDecodeError,
}


@BOTH
@pytest.mark.parametrize("kind", EFFECTS)
def test_faults_that_raise(sdk: Any, make: Any, kind: str) -> None:
    app = make(backwards, faults=Faults(1.0, kinds=(kind,), retry_after=0.2))
    with pytest.raises(EFFECTS[kind]) as raised:
        chat(sdk(app)).choices[0]
    if isinstance(raised.value, openai.RateLimitError):
        assert raised.value.response.headers.get("retry-after") == ("0.2" if kind == "429-wait" else None)


@BOTH
@pytest.mark.parametrize(
    ("kind", "text", "finish"),
    [("null", None, "stop"), ("slow", "fedcba", "stop"), ("truncated", "fed", "length"),
     ("unparsable", UNPARSABLE, "stop")],
)  # fmt: skip
def test_faults_that_answer(sdk: Any, make: Any, kind: str, text: str | None, finish: str) -> None:
    reply = chat(sdk(make(backwards, faults=Faults(1.0, kinds=(kind,), slow=0.05))), "abcdef")
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == (text, finish)
    assert reply.usage.prompt_tokens > 0  # billed all the same


@BOTH
def test_the_same_requests_meet_the_same_faults_in_any_order(make: Any) -> None:
    def statuses(order: list[int]) -> dict[int, list[int]]:
        app = make(backwards, faults=Faults(0.5, kinds=("429", "500"), seed=3))
        transport = httpx2.ASGITransport(app=app)

        async def send() -> dict[int, list[int]]:
            got: dict[int, list[int]] = {i: [] for i in range(12)}
            async with httpx2.AsyncClient(transport=transport, base_url="http://x.invalid") as client:
                for i in order * 3:
                    body = {"model": "m", "messages": [{"role": "user", "content": str(i)}]}
                    got[i].append((await client.post("/v1/chat/completions", json=body)).status_code)
            return got

        import asyncio

        return asyncio.run(send())

    forth = statuses(list(range(12)))
    assert forth == statuses(list(range(11, -1, -1)))
    assert {status for got in forth.values() for status in got} == {200, 429, 500}


def test_share_of_faults_is_as_asked() -> None:
    attempts: Counter[str] = Counter()
    met = Counter(draw(Faults(0.2), attempts, b"%d" % i) for i in range(5000))
    assert 900 < 5000 - met[""] < 1100
    assert all(90 < met[kind] < 200 for kind in TRANSIENT)
