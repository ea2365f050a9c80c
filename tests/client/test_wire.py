"""What endpoints do in the field, one test a hazard: each names the line of the hazard list it stands for.

The list is the part on APIs of the project's collection of public reports (429, quota, filters, resets, ...).
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import logging
import sqlite3
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lionkit.client import ChatClient, ChatRequest, Usage, wire
from lionkit.client.outcomes import Outcome, read_error, read_reply, retry_after
from lionkit.config import SANDBOX_URL, ApiConfig
from lionkit.errors import LionkitError, StageStopped
from lionkit.sandbox.app import TRANSIENT, Faults
from server import create_app, serve

KEY = "sk-test-0123456789abcdefghij"


def backwards(messages: list[dict[str, str]], **_: Any) -> str:
    return messages[-1]["content"][::-1]


def asks(*texts: str, **settings: Any) -> list[ChatRequest]:
    return [ChatRequest([{"role": "user", "content": text}], **{"max_tokens": 50, **settings}) for text in texts]


def message(content: Any, finish: str = "stop", **more: Any) -> tuple[int, dict[str, Any]]:
    usage = {"prompt_tokens": 7, "completion_tokens": 3, **more.pop("usage", {})}
    return 200, {"choices": [{"finish_reason": finish, "message": {"content": content, **more}}], "usage": usage}


def problem(status: int, text: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"message": text, **more}}


@pytest.fixture
def client(tmp_path: Path) -> Callable[..., ChatClient]:
    def make(app: Any, **fields: Any) -> ChatClient:
        config = ApiConfig(**{"base_url": SANDBOX_URL, "model": "answer-key", **fields})
        return ChatClient(config, tmp_path / "calls.sqlite", app=app)

    return make


# 429 with Retry-After -> wait as told, all workers, not each alone


def test_retry_after_holds_everybody(client: Any) -> None:
    arrivals: list[float] = []

    def answer(messages: Any, **_: Any) -> Any:
        arrivals.append(time.monotonic())
        return problem(429, "slow down") if len(arrivals) == 10 else "ok"

    app = create_app(answer, latency=0.01)

    async def with_header(scope: Any, receive: Any, send: Any) -> None:
        async def marked(event: Any) -> None:
            if event.get("status") == 429:
                event["headers"].append((b"retry-after", b"0.6"))
            await send(event)

        await app(scope, receive, marked)

    out = client(with_header, concurrency=8).map(asks(*map(str, range(60))))
    assert {c.status for c in out} == {"ok"}
    told = arrivals[9]
    in_flight = [t for t in arrivals[10:] if t < told + 0.5]
    assert len(in_flight) <= 8  # sent before the 429 was read
    assert len([t for t in arrivals if t >= told + 0.6]) == len(arrivals) - 10 - len(in_flight)


def test_a_stage_that_halts_does_not_sit_out_a_pause(client: Any) -> None:
    app = create_app(backwards, faults=Faults(1.0, kinds=("429-wait",), retry_after=30))
    started = time.monotonic()
    with pytest.raises(StageStopped, match="stage_timeout"):
        client(app, stage_timeout=0.3).map(asks("a", "b"))
    assert time.monotonic() - started < 2
    assert app.state.accounts.requests == 1


def test_retry_after_0_is_no_licence_to_hammer(client: Any) -> None:
    app = create_app(backwards, faults=Faults(1.0, kinds=("429-wait",), retry_after=0))
    with pytest.raises(StageStopped, match="stage_timeout"):
        client(app, stage_timeout=1.5).map(asks("a"))
    assert app.state.accounts.requests <= 4


def test_429_without_a_header_backs_off_and_is_no_failed_attempt(client: Any) -> None:
    tries: Counter[str] = Counter()

    def answer(messages: Any, **_: Any) -> Any:
        tries[messages[0]["content"]] += 1
        return problem(429, "slow down") if tries[messages[0]["content"]] < 4 else "ok"

    started = time.monotonic()
    out = client(create_app(answer), max_attempts=2).map(asks("a"))
    assert (out[0].status, tries["a"]) == ("ok", 4)
    assert time.monotonic() - started > 0.25 + 0.5 + 1.0  # at least half of 0.5, 1, 2 s


def test_retry_after_is_read_in_every_form() -> None:
    assert retry_after({"retry-after": "3"}) == 3.0
    assert retry_after({"retry-after": "1.5"}) == 1.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after({"retry-after-ms": "soon", "retry-after": "9"}) == 9.0
    assert retry_after({"retry-after-ms": "nan", "retry-after": "9"}) == 9.0
    assert retry_after({"retry-after": "-4"}) == 0.0
    assert retry_after({"retry-after": "999999"}) == 999999.0
    assert retry_after({"retry-after": "inf"}) is None
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "nan"}) is None
    assert retry_after({}) is None


# insufficient_quota, 401, 403, unknown model -> one call, stop the stage, progress kept, remedy named


STOPS = {
    "quota": (problem(429, "You exceeded your current quota", code="insufficient_quota"), "add credit"),
    "quota by type": (problem(429, "no", type="insufficient_quota"), "add credit"),
    "hard limit": (
        problem(400, "Billing hard limit has been reached", code="billing_hard_limit_reached"),
        "add credit",
    ),
    "balance": (problem(402, "Insufficient Balance"), "add credit"),
    "401": (problem(401, f"Incorrect API key provided: {KEY}"), "check the one in OPENAI_API_KEY"),
    "403, no model": (problem(403, "Project has no access to model `x`", code="model_not_found"), "no model"),
    "403": (problem(403, "Country not supported"), "does not serve the place.*Country not supported"),
    "403, unexplained": (problem(403, "Forbidden by rule 9"), "refuses access.*Forbidden by rule 9"),
    "no model": (problem(404, "The model `x` does not exist", code="model_not_found"), "no model 'answer-key'.*lists"),
    "no model, Ollama": (problem(404, 'model "x" not found, try pulling it first'), "no model"),
    "no model, vLLM": ((404, {"object": "error", "message": "The model `x` does not exist."}), "no model"),
    "no model, 400": (problem(400, "invalid model ID", type="invalid_request_error"), "no model"),
}


@pytest.mark.parametrize("name", STOPS)
def test_what_no_row_escapes_stops_after_one_call(name: str, client: Any) -> None:
    reply, remedy = STOPS[name]
    app = create_app(lambda messages, **_: reply)
    with pytest.raises(StageStopped, match=remedy) as stopped:
        client(app, concurrency=64).map(asks(*map(str, range(100))))
    assert app.state.accounts.requests == 1
    assert "\n" not in str(stopped.value)
    assert "0 of 100 replies are stored" in str(stopped.value)
    assert stopped.value.__cause__ is None


def test_quota_that_ends_midway_keeps_progress(client: Any) -> None:
    app = create_app(backwards, quota=30, latency=0.01)
    with pytest.raises(StageStopped, match="30 of 100 replies are stored"):
        client(app, concurrency=8).map(asks(*map(str, range(100))))
    assert app.state.accounts.requests <= 30 + 8
    app.state.quota = None
    out = client(app).map(asks(*map(str, range(100))))
    assert (sum(c.cached for c in out), app.state.accounts.answered) == (30, 100)


# context length -> no identical retry


@pytest.mark.parametrize(
    "reply",
    [
        problem(400, "This model's maximum context length is 8192 tokens", code="context_length_exceeded"),
        problem(400, "the request exceeds the available context size, try increasing it"),
        problem(413, "prompt is too long"),
    ],
)
def test_too_long_a_prompt_fails_its_row_at_once(client: Any, reply: Any) -> None:
    app = create_app(lambda messages, **_: reply if "long" in messages[0]["content"] else "fine")
    out = client(app, max_attempts=1).map(
        asks("long", "a", "b")
    )  # the first call ever, with one attempt: still a row's
    assert [c.status for c in out] == ["failed", "ok", "ok"]
    assert "too long" in out[0].error
    assert app.state.accounts.requests == 3
    assert (out[0].text, out[0].usage) == ("", Usage())


# content filter (as finish_reason, or as a 400) -> that row filtered, run goes on


def test_content_filter_both_ways(client: Any) -> None:
    replies = {
        "by reason": message("partial", "content_filter"),
        "by 400": problem(400, "The response was filtered", code="content_filter"),
        "azure": problem(400, "bad", innererror={"code": "ResponsibleAIPolicyViolation"}),
        "fine": "fine",
    }
    app = create_app(lambda messages, **_: replies[messages[0]["content"]])
    out = client(app).map(asks(*replies))
    assert [c.status for c in out] == ["filtered", "filtered", "filtered", "ok"]
    assert [c.text for c in out] == ["partial", "", "", "fine"]
    assert all("content filter" in c.error for c in out[:3])
    assert client(app).map(asks(*replies))[1].cached  # asking again would change nothing
    assert app.state.accounts.requests == 4


# 200 with empty content -> truncated or failed, never a training target; refusals


def test_empty_replies_are_never_ok(client: Any) -> None:
    reasoning = {"completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 50}}
    replies = {
        "null": message(None),
        "blank": message(" \n"),
        "reasoning only": message("", "length", reasoning_content="hmm", usage=reasoning),
        "cut": message("half an ans", "length"),
        "refusal": message(None, refusal="I can't help with that."),
        "parts": message([{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]),
        "fine": "fine",
    }
    app = create_app(lambda messages, **_: replies[messages[0]["content"]])
    out = dict(zip(replies, client(app, max_attempts=2).map(asks(*replies))))
    assert {name: c.status for name, c in out.items()} == {
        **{"null": "failed", "blank": "failed", "reasoning only": "truncated", "cut": "truncated"},
        **{"refusal": "refused", "parts": "ok", "fine": "ok"},
    }
    assert out["null"].error == "the reply is empty (given up after 2 attempts)"
    assert "reasoning took it all" in out["reasoning only"].error
    assert out["reasoning only"].usage == Usage(7, 50, 50)
    assert (out["cut"].text, out["refusal"].text) == ("half an ans", "")
    assert "I can't help with that." in out["refusal"].error
    assert out["parts"].text == "in parts"
    app.state.answer = backwards
    again = dict(zip(replies, client(app).map(asks(*replies))))
    assert (again["null"].text, again["null"].cached) == ("llun", False)  # a failed row is asked again, others are not
    assert again["cut"] == type(out["cut"])(**{**_fields(out["cut"]), "cached": True})


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


# timeouts and resets -> retried within a cap with jitter


def test_every_fault_at_once_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short form of the measurement in tests/bench/client.py."""
    monkeypatch.setattr("lionkit.client.live.BACKOFF", 0.05)
    faults = Faults(0.2, kinds=TRANSIENT, slow=0.1, retry_after=0.02)
    app = create_app(backwards, faults=faults)
    with serve(app) as url:
        config = ApiConfig(base_url=url, model="answer-key", concurrency=64, max_attempts=10)
        texts = [f"row {i}" for i in range(1000)]
        out = ChatClient(config, tmp_path / "calls.sqlite").map(asks(*texts))
    assert [(c.status, c.text) for c in out] == [("ok", text[::-1]) for text in texts]
    accounts = app.state.accounts
    assert accounts.answered == len(accounts.answers) == 1000  # none paid twice
    assert all(accounts.faults[kind] > 5 for kind in TRANSIENT)
    assert accounts.requests == 1000 + sum(accounts.faults[kind] for kind in TRANSIENT if kind != "slow")


def test_backoff_doubles_and_is_jittered(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def rest(stage: Any, wait: float) -> None:
        waits.append(wait)

    monkeypatch.setattr("lionkit.client.asking.Asking.rest", rest)
    app = create_app(lambda messages, **_: "ok" if messages[0]["content"] == "warm" else problem(500, "broken"))
    made = client(app, max_attempts=10, concurrency=8)
    made.map(asks("warm"))
    made._endpoint.answered_at = float("inf")  # others are answered all the time: each row fails for itself
    waits.clear()
    assert {c.status for c in made.map(asks(*map(str, range(8))))} == {"failed"}
    between = sorted(wait for wait in waits if wait > 0)
    assert len(set(between)) == len(between) == 8 * 9  # no two workers come back together
    firsts, lasts = between[:8], between[-16:]
    assert 0.25 <= firsts[0] <= firsts[-1] <= 0.5
    assert 15 <= lasts[0] <= lasts[-1] <= 30


def test_a_reply_that_does_not_come_is_asked_again_and_then_failed(client: Any) -> None:
    slow: set[str] = {"never"}
    app = create_app(backwards)

    async def sticky(scope: Any, receive: Any, send: Any) -> None:
        async def listening() -> Any:
            event = await receive()
            for text in sorted(slow):
                if text.encode() in event.get("body", b""):
                    slow.discard("once")
                    await asyncio.sleep(30)
            return event

        await app(scope, listening, send)

    made = client(sticky, timeout=0.3, max_attempts=2)
    made.map(asks("warm"))
    slow.add("once")
    started = time.monotonic()
    out = made.map(asks("once", "never", "fine"))
    assert [c.status for c in out] == ["ok", "failed", "ok"]
    assert out[1].error == "no reply within 0.3 s (given up after 2 attempts)"
    assert 0.6 < time.monotonic() - started < 4


def test_a_server_that_is_not_there_stops_the_stage(client: Any) -> None:
    made = client(None, base_url="http://127.0.0.1:9/v1", max_attempts=2)
    with pytest.raises(StageStopped, match=r"127\.0\.0\.1:9/v1 gives no reply.*check base_url"):
        made.map(asks("a", "b"))
    assert made.spent() == Usage()  # a refused connection was not billed


# URL without /v1 -> say so


def test_url_without_v1_is_named(tmp_path: Path) -> None:
    app = create_app(backwards)
    with serve(app) as url:
        bare = ChatClient(ApiConfig(base_url=url.removesuffix("/v1")), tmp_path / "calls.sqlite")
        with pytest.raises(StageStopped, match=r"/chat/completions does not exist \(404\).*usually ends in /v1"):
            bare.map(asks("a", "b"))
        with pytest.raises(StageStopped, match=r"/v1/more/v1/chat/completions does not exist \(404\).*check base_url"):
            ChatClient(ApiConfig(base_url=f"{url}/more/v1"), tmp_path / "calls.sqlite").map(asks("a"))
        slashed = ChatClient(ApiConfig(base_url=f"{url}/"), tmp_path / "calls.sqlite").map(asks("abc"))
    assert slashed[0].text == "cba"


# max_tokens against max_completion_tokens, refused temperature, structured output: learned once per model


def test_model_differences_are_learned_once(client: Any, tmp_path: Path) -> None:
    models = {
        "plain": (),
        "reasoner": ("max_tokens", "temperature"),
        "unstructured": ("response_format",),
    }
    app = create_app(backwards, models=models)
    made = client(app, concurrency=32)
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    for number, (model, refused) in enumerate(models.items()):
        before = app.state.accounts.requests
        for start in (0, 50):
            texts = [f"{model} {start + i}" for i in range(50)]
            out = made.map(asks(*texts, model=model, temperature=0.2, response_format=schema))
            assert [c.text for c in out] == [text[::-1] for text in texts]
        assert app.state.accounts.requests - before == 100 + len(refused), number
    db = sqlite3.connect(tmp_path / "calls.sqlite")
    sent = set(db.execute("SELECT DISTINCT model, sent FROM calls"))
    db.close()
    assert {model: json.loads(settings) for model, settings in sent} == {
        "plain": {"model": "plain", "temperature": 0.2, "max_tokens": 50, "response_format": schema},
        "reasoner": {"model": "reasoner", "max_completion_tokens": 50, "response_format": schema},
        "unstructured": {"model": "unstructured", "temperature": 0.2, "max_tokens": 50},
    }
    assert len(sent) == 3


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        (
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "adapt",
            "max_tokens",
        ),
        (
            "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) is.",
            "adapt",
            "temperature",
        ),
        (
            "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
            "adapt",
            "response_format",
        ),
        ("This response_format type is unavailable now", "adapt", "response_format"),
        ("This model does not support response format `json_schema`.", "adapt", "response_format"),
        (
            "response_format value as json_schema is enabled only for api versions 2024-08-01-preview and later",
            "adapt",
            "response_format",
        ),
        ("max_tokens is too large: 100000. This model supports at most 16384 completion tokens", "adapt", "max_tokens"),
        ("Invalid 'temperature': must be at most 2", "adapt", "temperature"),
        ("we could not parse the JSON body", "adapt", ""),
    ],
)
def test_the_setting_that_a_refusal_names_is_left_out(text: str, kind: str, name: str) -> None:
    sent = {"model": "m", "max_tokens": 9, "temperature": 0.2, "response_format": {}}
    outcome = read_error(400, {"message": text}, {}, sent, ApiConfig())
    assert (outcome.kind, outcome.text) == (kind, name)


@pytest.mark.parametrize(
    "reply",
    [
        None,
        [],
        "text",
        5,
        {},
        {"choices": []},
        {"choices": None},
        {"choices": [{}]},
        {"choices": [{"message": None}]},
        {"error": {"message": "upstream"}},
        {"error": "upstream"},
        {"choices": ["text"]},
        {"choices": [{"message": {"content": [{"text": {"value": "x"}}]}}]},
        {"choices": [{"message": {"content": 5}}]},
    ],
)
def test_a_200_of_any_shape_is_an_outcome(reply: Any) -> None:
    assert read_reply(reply, {}, {}, ApiConfig()).kind == "retry"


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        [],
        7,
        {"prompt_tokens": "many"},
        {"prompt_tokens": None},
        {"total_tokens": 9},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": float("inf")},
        {"prompt_tokens": float("nan")},
        {"prompt_tokens": 1e300},
        {"prompt_tokens": 1, "completion_tokens": 1e19},
        {"prompt_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 1e19}},
    ],
)
def test_usage_that_is_missing_or_unreadable_counts_at_its_most_and_the_reply_is_kept(usage: Any) -> None:
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": usage}
    outcome = read_reply(body, {}, {}, ApiConfig())
    assert (outcome.kind, outcome.text) == ("ok", "x")
    assert outcome.paid is None


def test_thoughts_that_only_the_total_counts_are_paid_for() -> None:
    """Gemini, xAI."""
    usage = {"total_tokens": 60, "completion_tokens_details": {"reasoning_tokens": 50}}
    assert read_reply(message("x", usage=usage)[1], {}, {}, ApiConfig()).paid == Usage(7, 53, 50)


@pytest.mark.parametrize(
    "part", ["sk-proj-ab****wxyz", "gsk_abcd...wxyz", "AIzaSyD...xyz", "hf_abcd...", "a1b2****c3d4"]
)
def test_part_of_a_key_that_an_endpoint_repeats_is_cut_out(part: str) -> None:
    said = read_error(422, {"detail": f"the key {part} is not one"}, {}, {}, ApiConfig()).error
    assert said.endswith("the key [key] is not one")


def test_what_an_endpoint_says_does_not_act_on_the_terminal() -> None:
    said = read_error(422, {"detail": "a\x1b[31m\x07 \u202eb\u2066\x9bc\n d"}, {}, {}, ApiConfig()).error
    assert said.endswith("a[31m bc d")


# what the servers behind "OpenAI-compatible" send, as found in their issue threads and documentation


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("<think>\nfirst 2, then 3\n</think>\n\n5", "5"),  # Ollama, llama.cpp and vLLM without a reasoning parser
        ("first 2, then 3\n</think>\n\n5", "5"),  # the chat template opened the block
        ("<think></think>5", "5"),
        ("Write <think> before and </think> after.", "Write <think> before and </think> after."),
        ("The tag </think> ends it.", "The tag </think> ends it."),
        ([{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": "5"}], "5"),  # Mistral
    ],
)
def test_thoughts_are_no_part_of_the_answer(content: Any, text: str) -> None:
    outcome = read_reply(message(content, reasoning_content="hm")[1], {}, {}, ApiConfig())
    assert (outcome.kind, outcome.text) == ("ok", text)


def test_thoughts_that_leave_no_room_are_a_cut() -> None:
    outcome = read_reply(message("<think> first 2, then", "length")[1], {}, {}, ApiConfig())
    assert (outcome.kind, outcome.text) == ("truncated", "")
    assert "before its answer began" in outcome.error


@pytest.mark.parametrize(
    ("finish", "kind"),
    [
        ("error", "retry"),
        ("abort", "retry"),
        ("insufficient_system_resource", "retry"),
        ("model_length", "truncated"),
        ("model_context_window_exceeded", "truncated"),
        ("network_error", "retry"),
        ("sensitive", "filtered"),
        ("RECITATION", "filtered"),
        ("content_filter: PROHIBITED_CONTENT", "filtered"),
        ("STOP", "ok"),
        (None, "ok"),
        ("eos", "ok"),
    ],
)
def test_reasons_to_finish_beyond_the_standard(finish: str, kind: str) -> None:
    """OpenRouter, vLLM, DeepSeek, Mistral, Gemini: half a reply of a broken server is never `ok`."""
    outcome = read_reply(message("half a repl", finish)[1], {}, {}, ApiConfig())
    assert (outcome.kind, outcome.paid) == (kind, Usage(7, 3))


GEMINI = "You exceeded your current quota, please check your plan and billing details."
FASTAPI = {
    "detail": [{"type": "extra_forbidden", "loc": ["body", "max_tokens"], "msg": "Extra inputs are not permitted"}]
}
PAGE = "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body><hr>nginx</body></html>"


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (429, [{"error": {"code": 429, "message": f"{GEMINI} Please retry in 20.04s."}}], "limited", "rate limit"),
        (429, [{"error": {"code": 429, "message": GEMINI}}], "stop", "quota"),
        (400, [{"error": {"message": "API key not valid. Please pass a valid API key."}}], "stop", "refuses the key"),
        (404, [{"error": {"message": "models/x is not found for API version v1main"}}], "stop", "no model"),
        (429, {"error": {"type": "budget_exceeded", "message": "Current cost: 26, Max budget: 25"}}, "stop", "quota"),
        (401, {"error": {"type": "auth_error", "message": "ExceededTokenBudget: 7e-5, Max 2e-7"}}, "stop", "quota"),
        (500, {"type": "error", "error": {"message": "insufficient balance (1008)"}}, "stop", "quota"),
        (498, {"error": {"message": "Flex tier capacity exceeded"}}, "retry", "Flex"),
        (403, {"code": "no permission", "error": "Content violates usage guidelines."}, "filtered", "usage guidelines"),
        (400, {"error": {"message": "Content Exists Risk"}}, "filtered", "Risk"),
        (
            404,
            {"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}},
            "stop",
            "no model",
        ),
        (404, {"type": "error", "error": {"type": "not_found_error", "message": "model: x"}}, "stop", "no model"),
        (404, {"error": {"message": "No endpoints found for x/y.", "code": 404}}, "stop", "no model"),
        (400, {"error": {"message": "Model Not Exist"}}, "stop", "no model"),
        (404, {"detail": "Not Found"}, "stop", "does not exist"),
        (405, {"detail": "Method Not Allowed"}, "stop", "does not exist"),  # a redirect made a GET of it
        (403, {"error": {"message": "Your input was flagged for violence"}}, "filtered", "filter"),
        (422, FASTAPI, "adapt", "Extra inputs"),
        (422, {"detail": [{"msg": "Field required"}]}, "adapt", "Field required"),
        (413, PAGE, "failed", "(413): 413 Request Entity Too Large nginx"),
        (502, PAGE, "retry", "(502)"),
        (529, {"type": "error", "error": {"message": "Overloaded"}}, "retry", "(529) Overloaded"),
        (400, {"object": "error", "message": "This model's maximum context length is 9."}, "failed", "too long"),
        (400, {"error": "json: cannot unmarshal"}, "adapt", "json: cannot unmarshal"),
        (400, {"error": {"message": "This response_format type is unavailable now"}}, "adapt", "response_format"),
        (400, {"error": {"message": "This model does not support response format `json_schema`."}}, "adapt", "format"),
        (400, "", "adapt", "(400)"),
        (400, None, "adapt", "(400)"),
        (418, {"strange": 1}, "retry", "strange"),
        (425, {"message": "Too early"}, "retry", "Too early"),
        (301, "", "stop", "check base_url"),
        (407, PAGE, "stop", "HTTPS_PROXY"),
        (410, {"detail": "Gone"}, "stop", "check base_url"),
        (410, {"error": {"message": "The model `x` has been retired"}}, "stop", "no model"),
        (451, {"error": {"message": "for legal reasons"}}, "stop", "refuses access"),
        (400, {"error": {"message": "This organization has been disabled."}}, "stop", "account may not ask"),
        (400, {"error": {"code": "account_suspended"}}, "stop", "account may not ask"),
        (401, {"error": {"message": "The account of this key has been deactivated"}}, "stop", "account may not ask"),
        (400, {"error": {"message": "the account number has no digits"}}, "adapt", "digits"),
    ],
)
def test_errors_in_the_shapes_of_the_field(status: int, body: Any, kind: str, said: str) -> None:
    """Gemini's lists, Azure, Anthropic, OpenRouter, DeepSeek, FastAPI (vLLM, Mistral), proxies' pages, Ollama."""
    sent = {"model": "x", "max_tokens": 9, "response_format": {}}
    outcome = read_error(status, body, {}, sent, ApiConfig())
    assert outcome.kind == kind
    assert said in outcome.error
    assert "<" not in outcome.error


@pytest.mark.parametrize(
    ("status", "said", "cause"),
    [
        (401, "no", "key"),
        (404, "The model `x` does not exist", "model"),
    ],
)
def test_what_others_act_on_is_named(status: int, said: str, cause: str) -> None:
    assert read_error(status, {"message": said}, {}, {"model": "x"}, ApiConfig()).cause == cause


def test_a_reply_without_choices_is_quoted_and_one_without_a_message_says_how_it_ended() -> None:
    reply = {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "no balance"}}  # MiniMax, with a 200
    assert "no balance" in read_reply(reply, {}, {}, ApiConfig()).error
    for message in ({}, {"message": None}):  # Gemini
        reply = {"choices": [{"finish_reason": "content_filter: RECITATION", **message}]}
        assert read_reply(reply, {}, {}, ApiConfig()).kind == "filtered"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ALL_PROXY", "socks://127.0.0.1:1", "Unknown scheme for proxy"),
        ("SSL_CERT_FILE", "/nowhere.pem", "No such file"),
    ],
)
def test_a_proxy_or_certificates_that_cannot_be_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(LionkitError, match=f"{said}.*check ALL_PROXY.*SSL_CERT_FILE"):
        ChatClient(ApiConfig(base_url="http://127.0.0.1:1/v1"), tmp_path / "calls.sqlite").map(asks("a"))


def test_a_connection_that_fails_says_why(sdk: Any, tmp_path: Path) -> None:
    with serve(create_app()) as url:
        config = ApiConfig(base_url=url.replace("http", "https"), max_attempts=1)
        with pytest.raises(StageStopped, match=r"connection failed \(ConnectError: \[SSL"):
            ChatClient(config, tmp_path / "calls.sqlite").map(asks("a"))


def test_an_endpoint_that_says_nothing_is_quoted_with_nothing() -> None:
    assert read_error(400, "", {}, {}, ApiConfig()).error == "the endpoint refused the request (400)"


def test_an_error_inside_a_200_is_read_as_that_error() -> None:
    """OpenRouter: what fails after the model was reached comes with status 200, its code within."""

    def read(code: Any, text: str, **more: Any) -> Outcome:
        return read_reply({"error": {"code": code, "message": text}, **more}, {}, {"model": "x"}, ApiConfig())

    assert read(429, "slow down").kind == "limited"
    assert read(402, "Insufficient credits").kind == "stop"
    assert read(400, "maximum context length").kind == "failed"
    assert read("server_error", "provider").paid is None
    upstream = read(502, "provider returned error", choices=None)
    assert (upstream.kind, upstream.paid) == ("retry", None)
    assert "provider returned error" in upstream.error
    broken = message("half", error={})[1]
    broken["choices"][0]["error"] = {"code": 502, "message": "upstream went away"}
    assert "upstream went away" in read_reply(broken, {}, {}, ApiConfig()).error


def test_the_wait_may_be_told_in_words() -> None:
    told = {
        "Please try again in 6m0s.": 360.0,
        "Please retry in 20.5s.": 20.5,
        "try again in 120ms": 0.12,
        "later": None,
    }
    for text, wait in told.items():
        assert read_error(429, {"message": f"Rate limit reached. {text}"}, {}, {}, ApiConfig()).wait == wait
    assert read_error(429, {"message": "try again in 9s"}, {"retry-after": "2"}, {}, ApiConfig()).wait == 2


@pytest.mark.parametrize(("start", "named"), [("data: {}", "data: {}"), ("<!DOCTYPE html><h1>Sign in</h1>", "Sign in")])
def test_a_stream_or_a_page_in_place_of_json_is_shown(client: Any, start: str, named: str) -> None:
    async def other(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": start.encode()})

    with pytest.raises(StageStopped, match=f"the reply is not JSON: {named}"):
        client(other, max_attempts=2).map(asks("a", "b"))


def test_redirects_gzip_and_leading_blank_lines_are_followed_and_read(tmp_path: Path) -> None:
    """307 keeps the POST (load balancers); gzip as proxies do it; DeepSeek sends empty lines while it is busy."""
    app = create_app(backwards)

    async def proxy(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith("/old"):
            to = scope["path"].removeprefix("/old").encode()
            await send({"type": "http.response.start", "status": 307, "headers": [(b"location", to)]})
            return await send({"type": "http.response.body"})
        start: dict[str, Any] = {}

        async def packed(event: Any) -> None:
            if event["type"] == "http.response.start":
                start.update(event)
                return
            body = gzip.compress(b"\n\n" + event["body"])
            head = [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")]
            await send({**start, "headers": [*head, (b"content-length", str(len(body)).encode())]})
            await send({**event, "body": body})

        await app(scope, receive, packed)

    with serve(proxy) as url:  # type: ignore[arg-type]
        config = ApiConfig(base_url=url.replace("/v1", "/old/v1"))
        assert [c.text for c in ChatClient(config, tmp_path / "calls.sqlite").map(asks("abc", "xyz"))] == ["cba", "zyx"]


# asyncio.run inside a running loop, one client across several loops: tests/client/test_chat.py


# the key never in logs, tracebacks, stores, notebooks, not even in part


def test_the_key_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)  # the SDK logs its requests in detail there
    caplog.set_level(logging.DEBUG, "openai")
    texts = []

    def rude(messages: Any, **_: Any) -> Any:  # an endpoint that repeats the key, whole and masked
        said = f"bad request for {KEY} alias sk-test-****ghij, Bearer {KEY}"
        return problem(400, said) if "400" in messages[0]["content"] else KEY

    app = create_app(rude, faults=Faults(0.3, kinds=("500", "drop", "malformed")), key=KEY)
    with serve(app) as url:
        made = ChatClient(ApiConfig(base_url=url, concurrency=2), tmp_path / "calls.sqlite")
        texts += [repr(c) for c in made.map(asks("a", "b", "400 c", "d", "e"))]
        texts += [repr(c) for c in made.map(asks("f", "400 g"), batch=True)]
        texts += [repr(made), str(vars(made)), repr(made.config)]
        monkeypatch.setenv("OPENAI_API_KEY", KEY + "x")
        try:
            ChatClient(ApiConfig(base_url=url), tmp_path / "calls.sqlite").map(asks("new"))
        except StageStopped as error:
            stack = traceback.TracebackException.from_exception(error, capture_locals=True)
            texts += ["".join(stack.format()), str(error)]
    texts += [path.read_bytes().decode("latin-1") for path in tmp_path.iterdir()]
    texts.append(caplog.text)
    assert "refuses the key (401)" in "".join(texts)
    assert {"openai._base_client", "httpx2"} <= {record.name for record in caplog.records}
    assert any(record.levelno == logging.DEBUG and record.name.startswith("openai") for record in caplog.records)
    for text in texts:
        for part in (KEY[:12], KEY[-8:], "ghij"):
            assert part not in text


@pytest.mark.parametrize(
    "url", ["http://host:port/v1", "http://[half/v1", "http://host:99999/v1", "http://ho\x00st/v1"]
)
def test_an_address_that_is_none_is_named_before_the_key_goes_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """Deep in the SDK, the key would be a local of the frames that a verbose traceback shows."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(LionkitError, match="base_url = .*not an address") as refused:
        ChatClient(ApiConfig(base_url=url), tmp_path / "calls.sqlite").map(asks("a"))
    shown = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
    assert KEY[:12] not in "".join(shown.format())


def test_a_dummy_key_is_no_secret_to_be_cut_out_of_replies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "ollama")
    with serve(create_app(backwards)) as url:
        made = ChatClient(ApiConfig(base_url=url), tmp_path / "calls.sqlite")
        assert made.map(asks("amallo si siht"))[0].text == "this is ollama"


def test_a_missing_key_is_named_or_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ChatClient(ApiConfig(api_key_env="MY_KEY"), tmp_path / "calls.sqlite")
    with pytest.raises(LionkitError, match="environment variable MY_KEY"):
        made.map(asks("a"))
    app = create_app(backwards, key=KEY)
    with serve(app) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        with pytest.raises(
            StageStopped, match="check the one in MY_KEY"
        ):  # a server may do without a key; this one not
            ChatClient(ApiConfig(api_key_env="MY_KEY"), tmp_path / "calls.sqlite").map(asks("a"))
        monkeypatch.setenv("MY_KEY", f" {KEY}\n")
        made = ChatClient(ApiConfig(api_key_env="MY_KEY"), tmp_path / "calls.sqlite")
        assert made.map(asks("abc"))[0].text == "cba"
    monkeypatch.setenv("MY_KEY", "sk-with a space")
    with pytest.raises(LionkitError, match="copy it again") as refused:
        made.map(asks("new"))
    assert "space" not in str(refused.value).replace("holds spaces", "")


def test_an_interactive_session_is_asked_for_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts: list[str] = []
    monkeypatch.setattr("sys.stdin", type("Tty", (io.StringIO,), {"isatty": lambda self: True})())
    monkeypatch.setattr("lionkit.client.key.getpass.getpass", lambda prompt: prompts.append(prompt) or KEY)
    app = create_app(backwards, key=KEY)
    monkeypatch.setattr("lionkit.client.chat.connect", lambda config, key, *_: wire.connect(config, key, app))
    made = ChatClient(ApiConfig(), tmp_path / "calls.sqlite")
    assert made.map(asks("abc"))[0].text == "cba"
    assert made.map(asks("xyz"))[0].text == "zyx"
    assert len(prompts) == 1
    assert "OPENAI_API_KEY" in prompts[0]
    app.state.key = KEY + "-rotated"
    with pytest.raises(StageStopped, match="refuses the key"):
        made.map(asks("new"))
    app.state.key = KEY
    assert made.map(asks("new"))[0].text == "wen"
    assert len(prompts) == 2  # one that was refused is asked for again, not sent for ever
    app.state.key = KEY + "-rotated"
    monkeypatch.setenv("OPENAI_API_KEY", KEY + "-rotated")
    assert made.map(asks("later"))[0].text == "retal"  # the environment's is read anew by each map
