"""The test server, spoken to with the plain SDK: keys, models, limits, files, batches, and its own books."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import httpx2
import openai
import pytest

from lionkit.sandbox.app import Faults
from server import create_app, serve


def backwards(messages: list[dict[str, str]], **_: Any) -> str:
    return messages[-1]["content"][::-1]


def chat(client: openai.OpenAI, text: str = "abc", **settings: Any) -> Any:
    messages: Any = [{"role": "user", "content": text}]
    return client.chat.completions.create(messages=messages, **{"model": "m", **settings})


def test_the_books_of_a_call(sdk: Any) -> None:
    app = create_app(backwards)
    chat(sdk(app))
    accounts = app.state.accounts
    assert (accounts.requests, accounts.answered, accounts.prompt_tokens, accounts.completion_tokens) == (1, 1, 9, 1)


@pytest.mark.parametrize("kind", ["429", "429-wait", "500", "drop", "malformed"])
def test_the_books_of_a_fault_that_leaves_no_reply(sdk: Any, kind: str) -> None:
    app = create_app(backwards, faults=Faults(1.0, kinds=(kind,)))
    with contextlib.suppress(openai.OpenAIError, json.JSONDecodeError):
        chat(sdk(app))
    assert app.state.accounts.requests == 1
    assert app.state.accounts.answered == app.state.accounts.completion_tokens == 0
    assert app.state.accounts.faults == {kind: 1}


@pytest.mark.parametrize(("kind", "answered"), [("null", 0), ("slow", 1), ("truncated", 1), ("unparsable", 1)])
def test_the_books_of_a_fault_that_spoils_or_delays_a_reply(sdk: Any, kind: str, answered: int) -> None:
    app = create_app(backwards, faults=Faults(1.0, kinds=(kind,), slow=0.05))
    chat(sdk(app), "abcdef")
    assert app.state.accounts.answered == answered
    assert app.state.accounts.prompt_tokens > 0  # billed all the same
    assert app.state.accounts.faults == {kind: 1}


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
