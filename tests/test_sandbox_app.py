"""The sandbox server over HTTP, spoken to with the plain SDK: what it answers, refuses, counts and breaks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from lionkit.sandbox.app import TRANSIENT, UNPARSABLE, Faults, create_app, serve


def backwards(messages: list[dict[str, str]], **_: Any) -> str:
    return messages[-1]["content"][::-1]


def told(messages: list[dict[str, str]], *, temperature: float, slot: str) -> str:
    return f"temperature {temperature}, slot {slot}"


@pytest.fixture
def sdk(request: pytest.FixtureRequest) -> Iterator[Any]:
    """`sdk(app)`: the official client on the app under uvicorn, without retries."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def connect(app: Any, key: str = "any") -> openai.OpenAI:
            url = stack.enter_context(serve(app))
            return stack.enter_context(openai.OpenAI(base_url=url, api_key=key, max_retries=0))

        yield connect


def chat(client: openai.OpenAI, text: str = "abc", **settings: Any) -> Any:
    messages: Any = [{"role": "user", "content": text}]
    return client.chat.completions.create(messages=messages, **{"model": "m", **settings})


def test_a_chat_completion(sdk: Any) -> None:
    app = create_app(backwards)
    reply = chat(sdk(app))
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason, reply.model) == ("cba", "stop", "m")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (9, 1, None)
    accounts = app.state.accounts
    assert (accounts.requests, accounts.answered, accounts.prompt_tokens, accounts.completion_tokens) == (1, 1, 9, 1)


def test_settings_and_slot_reach_the_answer(sdk: Any) -> None:
    client = sdk(create_app(told))
    assert chat(client).choices[0].message.content == "temperature 1.0, slot 0"
    other = chat(client, temperature=0.2, extra_headers={"x-lionkit-slot": "b"})
    assert other.choices[0].message.content == "temperature 0.2, slot b"


def test_replies_stop_at_the_token_limit(sdk: Any) -> None:
    client = sdk(create_app(backwards))
    cut = chat(client, "a" * 100, max_tokens=5).choices[0]
    assert (cut.message.content, cut.finish_reason) == ("a" * 20, "length")
    whole = chat(client, "a" * 20, max_completion_tokens=5).choices[0]
    assert (whole.message.content, whole.finish_reason) == ("a" * 20, "stop")


def test_it_answers_from_the_answer_key_by_default(sdk: Any) -> None:
    said = chat(sdk(create_app()), "Write a sonnet.").choices[0].message
    assert said.content is None
    assert "no rule" in said.refusal


def test_models_keys_and_quota(sdk: Any) -> None:
    app = create_app(backwards, models={"plain": (), "o": ("max_tokens", "temperature")}, key="sk-right", quota=2)
    client = sdk(app, "sk-right")
    assert [m.id for m in client.models.list()] == ["plain", "o"]
    with pytest.raises(openai.NotFoundError) as missing:
        chat(client)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, model="o", temperature=0.5)
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "temperature")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-wrong").models.list()
    for _ in range(2):
        chat(client, model="plain")
    with pytest.raises(openai.RateLimitError) as spent:
        chat(client, model="plain")
    assert spent.value.code == "insufficient_quota"
    assert app.state.accounts.answered == 2


def test_a_limit_is_a_bucket_one_second_deep(sdk: Any) -> None:
    client = sdk(create_app(backwards, requests_per_minute=120))
    first = client.chat.completions.with_raw_response.create(model="m", messages=[{"role": "user", "content": "a"}])
    assert first.headers["x-ratelimit-limit-requests"] == "120"
    assert first.headers["x-ratelimit-remaining-requests"] == "119"
    assert first.headers["x-ratelimit-reset-requests"].endswith("ms")
    chat(client)
    with pytest.raises(openai.RateLimitError) as limited:
        [chat(client) for _ in range(3)]
    assert limited.value.response.headers["retry-after"] == "0.500"


EFFECTS = {
    "429": openai.RateLimitError,
    "429-wait": openai.RateLimitError,
    "500": openai.InternalServerError,
    "drop": openai.APIConnectionError,
    "malformed": json.JSONDecodeError,
}


@pytest.mark.parametrize("kind", EFFECTS)
def test_faults_that_raise(sdk: Any, kind: str) -> None:
    app = create_app(backwards, faults=Faults(1.0, kinds=(kind,), retry_after=0.2))
    with pytest.raises(EFFECTS[kind]) as raised:
        chat(sdk(app)).choices[0]
    if isinstance(raised.value, openai.RateLimitError):
        assert raised.value.response.headers.get("retry-after") == ("0.2" if kind == "429-wait" else None)
    assert app.state.accounts.answered == app.state.accounts.completion_tokens == 0
    assert app.state.accounts.faults == {kind: 1}


@pytest.mark.parametrize(
    ("kind", "text", "finish", "answered"),
    [("null", None, "stop", 0), ("slow", "fedcba", "stop", 1), ("truncated", "fed", "length", 1),
     ("unparsable", UNPARSABLE, "stop", 1)],
)  # fmt: skip
def test_faults_that_answer(sdk: Any, kind: str, text: str | None, finish: str, answered: int) -> None:
    app = create_app(backwards, faults=Faults(1.0, kinds=(kind,), slow=0.05))
    choice = chat(sdk(app), "abcdef").choices[0]
    assert (choice.message.content, choice.finish_reason) == (text, finish)
    assert app.state.accounts.answered == answered
    assert app.state.accounts.prompt_tokens > 0  # billed all the same


def test_the_same_requests_meet_the_same_faults_in_any_order() -> None:
    def draw(order: list[int]) -> dict[int, list[int]]:
        app = create_app(backwards, faults=Faults(0.5, kinds=("429", "500"), seed=3))
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

    forth = draw(list(range(12)))
    assert forth == draw(list(range(11, -1, -1)))
    assert {status for statuses in forth.values() for status in statuses} == {200, 429, 500}


def test_share_of_faults_is_as_asked() -> None:
    from lionkit.sandbox.faults import draw

    state = create_app(backwards, faults=Faults(0.2)).state
    for i in range(5000):
        draw(state, b"%d" % i)
    assert 900 < 5000 - state.accounts.faults["none"] < 1100
    assert all(90 < state.accounts.faults[kind] < 200 for kind in TRANSIENT)


def test_files_and_batches(sdk: Any) -> None:
    app = create_app(backwards)
    client = sdk(app)
    row = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}
    lines = [
        {**row, "body": {"model": "m", "messages": [{"role": "user", "content": "häß"}]}},
        {**row, "custom_id": "b:7", "body": {"model": "m", "messages": [{"role": "user", "content": "x\r\n--y"}]}},
    ]
    content = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()
    file = client.files.create(file=("calls.jsonl", content), purpose="batch")
    assert app.state.files[file.id] == content
    made = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"k": "v"}
    )
    done = client.batches.retrieve(made.id)
    assert (done.status, done.metadata, done.error_file_id) == ("completed", {"k": "v"}, None)
    got = [json.loads(line) for line in client.files.content(done.output_file_id).text.splitlines()]
    assert [(g["custom_id"], g["response"]["body"]["choices"][0]["message"]["content"]) for g in got] == [
        ("a", "ßäh"),
        ("b:7", "y--\n\rx"),
    ]
    assert [b.id for b in client.batches.list()] == [made.id]
    assert (app.state.accounts.batches, app.state.accounts.answered) == (1, 2)


def test_accounts_can_be_read_over_http_and_the_port_is_freed() -> None:
    with serve(create_app(backwards, faults=Faults(0.0001))) as url:
        chat(openai.OpenAI(base_url=url, api_key="x"))
        books = httpx2.get(url.removesuffix("v1") + "accounts").json()
    assert (books["answered"], books["faults"], list(books["answers"].values())) == (1, {"none": 1}, [1])
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(url)
