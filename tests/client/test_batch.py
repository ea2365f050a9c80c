"""The Batch API over HTTP against the test server: one submission, resumed, partial failures asked again."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

import server
from lionkit.client import ChatClient, ChatRequest, Usage, estimate
from lionkit.client import batch as batch_module
from lionkit.client.calls import Call, bound
from lionkit.client.store import Store
from lionkit.config import ApiConfig
from lionkit.errors import StageStopped
from lionkit.sandbox import app as sandbox
from lionkit.sandbox.app import Faults
from server import create_app, serve

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = [f"call {i}"[::-1] for i in range(60)]


def backwards(messages: list[dict[str, str]], **_: Any) -> str:
    return messages[-1]["content"][::-1]


def asks(count: int) -> list[ChatRequest]:
    return [ChatRequest([{"role": "user", "content": f"call {i}"}], max_tokens=50) for i in range(count)]


def client(url: str, folder: Path, **fields: Any) -> ChatClient:
    config = ApiConfig(**{"base_url": url, "model": "answer-key", "batch": True, **fields})
    return ChatClient(config, folder / "calls.sqlite")


def rows(folder: Path, table: str) -> list[tuple[Any, ...]]:
    db = sqlite3.connect(folder / "calls.sqlite")
    found = db.execute(f"SELECT * FROM {table}").fetchall()
    db.close()
    return found


def test_a_batch_gives_what_single_calls_give(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = create_app(backwards)
    with serve(app) as url:
        out = client(url, tmp_path).map(asks(60))
        assert "as a batch, up to a day: stop and run again" in capsys.readouterr().out
        assert [c.text for c in out] == EXPECTED
        assert {c.status for c in out} == {"ok"}
        assert app.state.accounts.batches == 1
        assert app.state.accounts.requests == 1  # the model's first call, to see that key and model are right
        assert app.state.accounts.answered == 60
        assert client(url, tmp_path).spent() == Usage(
            app.state.accounts.prompt_tokens, app.state.accounts.completion_tokens
        )
        assert client(url, tmp_path, batch=False).map(asks(60))[59].cached
    assert rows(tmp_path, "pending") == []


def test_rows_that_failed_are_asked_again(tmp_path: Path) -> None:
    app = create_app(backwards, faults=Faults(0.4, kinds=("500", "429", "null")))
    with serve(app) as url:
        out = client(url, tmp_path, max_attempts=20).map(asks(60))
    assert [c.text for c in out] == EXPECTED
    assert app.state.accounts.answered == len(app.state.accounts.answers) == 60
    assert 2 <= app.state.accounts.batches <= 12


def test_line_separators_inside_a_reply_do_not_cut_its_row(tmp_path: Path) -> None:
    app = create_app(lambda messages, **_: "one\u2028two\x85three\nfour")
    with serve(app) as url:
        assert {c.text for c in client(url, tmp_path).map(asks(3))} == {"one\u2028two\x85three\nfour"}


def test_rows_end_with_their_own_status(tmp_path: Path) -> None:
    replies = {
        "call 1": (400, {"error": {"message": "too long", "code": "context_length_exceeded"}}),
        "call 2": (200, {"choices": [{"finish_reason": "content_filter", "message": {"content": ""}}]}),
        "call 3": (500, {"error": {"message": "broken"}}),
    }
    app = create_app(lambda messages, **_: replies.get(messages[0]["content"], "fine"))
    with serve(app) as url:
        out = client(url, tmp_path, max_attempts=3).map(asks(5))
    assert [c.status for c in out] == ["ok", "failed", "filtered", "failed", "ok"]
    assert "broken" in out[3].error
    assert "given up after 3 attempts" in out[3].error
    assert app.state.accounts.batches == 3
    assert out[2].usage == bound(asks(3)[2])  # no usage told: the most it can have been


KILLED = """
import sys
from lionkit.client import ChatClient, ChatRequest
from lionkit.config import ApiConfig
client = ChatClient(ApiConfig(base_url=sys.argv[1], model="answer-key", batch=True), sys.argv[2])
client.map([ChatRequest([{"role": "user", "content": f"call {i}"}], max_tokens=50) for i in range(60)], progress=False)
"""


@pytest.mark.parametrize("moment", ["while it runs", "between submission and note"])
def test_a_restarted_kernel_resumes_the_batch(tmp_path: Path, moment: str) -> None:
    app = create_app(backwards, batch_seconds=2.0)
    with serve(app) as url:
        process = subprocess.Popen([sys.executable, "-c", KILLED, url, str(tmp_path / "calls.sqlite")], cwd=ROOT)
        while not app.state.batches or not any(row[3] for row in rows(tmp_path, "pending")):
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.wait()
        if moment == "between submission and note":
            db = sqlite3.connect(tmp_path / "calls.sqlite")
            db.execute("UPDATE pending SET batch_id = NULL")
            db.commit()
            db.close()
        live = client(url, tmp_path, batch=False)  # a batch under way is waited for, whatever is asked for now
        assert [c.text for c in live.map(asks(60))] == EXPECTED
        assert live.spent() == Usage(app.state.accounts.prompt_tokens, app.state.accounts.completion_tokens)
    assert (app.state.accounts.batches, app.state.accounts.requests, app.state.accounts.answered) == (1, 1, 60)
    assert rows(tmp_path, "pending") == []


def test_a_submission_that_never_arrived_is_made_again(tmp_path: Path) -> None:
    app = create_app(backwards)
    with serve(app) as url:
        made = client(url, tmp_path)
        made.map(asks(1))
        app.state.key = "another"
        with pytest.raises(StageStopped, match="Batch API.*refuses the key"):
            made.map(asks(60))
        assert app.state.accounts.batches == 0
        assert len(rows(tmp_path, "pending")) == 59
        app.state.key = None
        assert [c.text for c in made.map(asks(60))] == EXPECTED
    assert app.state.accounts.batches == 1


def test_the_wait_for_a_batch_can_be_cut_and_taken_up(tmp_path: Path) -> None:
    app = create_app(backwards, batch_seconds=1.5)
    with serve(app) as url:
        with pytest.raises(StageStopped, match=r"stage_timeout.*1 of 60 replies are stored"):
            client(url, tmp_path, stage_timeout=0.7).map(asks(60))
        assert [c.text for c in client(url, tmp_path).map(asks(60))] == EXPECTED
    assert app.state.accounts.batches == 1


def test_two_kernels_share_a_batch(tmp_path: Path) -> None:
    app, texts = create_app(backwards, batch_seconds=1.0), {}
    with serve(app) as url:
        clients = [client(url, tmp_path) for _ in range(2)]
        clients[0].map(asks(1))

        def ask(number: int) -> None:
            texts[number] = [c.text for c in clients[number].map(asks(60), progress=False)]

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
            time.sleep(0.3)
        for thread in threads:
            thread.join()
        spent = clients[0].spent()
    assert texts[0] == texts[1] == EXPECTED
    assert app.state.accounts.answered == 60
    assert spent == Usage(app.state.accounts.prompt_tokens, app.state.accounts.completion_tokens)


def test_budget_covers_batches(tmp_path: Path) -> None:
    app = create_app(backwards)
    budget = sum(bound(r).total_tokens for r in asks(21))
    with serve(app) as url, pytest.raises(StageStopped, match="budget"):
        client(url, tmp_path, budget_tokens=budget).map(asks(600))
    used = app.state.accounts.prompt_tokens + app.state.accounts.completion_tokens
    assert 0.8 * budget < used <= budget


def test_an_endpoint_without_batches_says_so(tmp_path: Path) -> None:
    with (
        serve(sandbox.create_app(backwards)) as url,
        pytest.raises(StageStopped, match="Batch API of .*failed: it has none.*batch=False"),
    ):
        client(url, tmp_path).map(asks(3))


def test_a_batch_that_is_not_accepted_says_why(tmp_path: Path) -> None:
    app = create_app(backwards, batch_seconds=60)
    with serve(app) as url:

        def reject() -> None:
            while not app.state.batches:
                time.sleep(0.01)
            problems = {"data": [{"message": "Enqueued token limit reached"}], "object": "list"}
            app.state.batches["batch-1"] |= {"status": "failed", "errors": problems}

        thread = threading.Thread(target=reject)
        thread.start()
        with pytest.raises(StageStopped, match="batch-1 was not accepted: Enqueued token limit reached"):
            client(url, tmp_path).map(asks(3))
        thread.join()
    assert rows(tmp_path, "pending") == []


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`shown(change)`: the server shows its batches as `change(batch, number of its rows)` says, where it says so."""
    honest = server._looked_at

    def install(change: Callable[[dict[str, Any], int], dict[str, Any] | None]) -> None:
        def looked_at(state: Any, name: str) -> dict[str, Any]:
            batch = state.batches[name]
            count = len(state.files[batch["input_file_id"]].splitlines())
            return change(batch, count) or honest(state, name)

        monkeypatch.setattr(server, "_looked_at", looked_at)

    return install


def results(app: Starlette, change: Callable[[list[str]], list[str]]) -> None:
    """Let the server hand out its result files as `change` makes them."""
    handler = next(r for r in app.routes if r.path.endswith("/content")).endpoint  # type: ignore[attr-defined]

    async def changed(request: Any) -> Any:
        whole = await handler(request)
        return type(whole)("\n".join(change(whole.body.decode().split("\n"))))

    app.router.routes.insert(0, Route("/v1/files/{id}/content", changed))


def test_results_with_unknown_doubled_and_spoilt_rows(tmp_path: Path) -> None:
    """Custom ids nobody asked for, the same row twice, half a line: every call still has its own reply, paid once."""
    app = create_app(backwards)
    stranger = json.dumps({"custom_id": "f" * 32, "response": {"status_code": 200, "body": {"choices": []}}})
    rubbish = [stranger, "[]", '{"custom_id": null}', '{"custom_id": "half']
    results(app, lambda lines: [*rubbish, *lines, lines[0], ""])
    with serve(app) as url:
        out = client(url, tmp_path).map(asks(60))
        spent = client(url, tmp_path).spent()
    assert [c.text for c in out] == EXPECTED
    assert (len(rows(tmp_path, "calls")), app.state.accounts.answered) == (60, 60)
    assert spent == Usage(app.state.accounts.prompt_tokens, app.state.accounts.completion_tokens)


def test_rows_of_odd_shapes_end_as_failed_with_their_reason(tmp_path: Path) -> None:
    odd = {
        "1 llac": {"response": None, "error": "lost in the post"},
        "2 llac": {"response": ["odd"], "error": {"message": "odd indeed"}},
        "3 llac": {"response": {"status_code": "500", "body": 3}},
        "4 llac": {"response": {"status_code": 400, "body": "no"}},
    }

    def change(lines: list[str]) -> list[str]:
        rows = [json.loads(line) for line in lines]
        texts = [row["response"]["body"]["choices"][0]["message"]["content"] for row in rows]
        return [json.dumps({"custom_id": r["custom_id"], **odd.get(t, r)}) for r, t in zip(rows, texts, strict=True)]

    app = create_app(backwards)
    results(app, change)
    with serve(app) as url:
        out = client(url, tmp_path, max_attempts=2).map(asks(6))
    assert [c.status for c in out] == ["ok", "failed", "failed", "failed", "failed", "ok"]
    for reply, reason in zip(out[1:5], ("lost in the post", "odd indeed", "its row is unreadable", r"(400): no")):
        assert reason in reply.error


def test_rows_that_are_missing_from_the_results_fail_in_the_end(tmp_path: Path) -> None:
    app = create_app(backwards)
    results(app, lambda lines: [line for line in lines if "1 llac" not in line])
    with serve(app) as url:
        out = client(url, tmp_path, max_attempts=3).map(asks(3))
    assert [c.status for c in out] == ["ok", "failed", "ok"]
    assert "not in the results (given up after 3 attempts)" in out[1].error
    assert app.state.accounts.batches == 3


def test_an_expired_batch_keeps_what_it_brought_and_the_rest_is_asked_again(tmp_path: Path, shown: Any) -> None:
    app = create_app(backwards)

    def expire(batch: dict[str, Any], count: int) -> dict[str, Any] | None:
        if batch["id"] != "batch-1":
            return None
        row = {"custom_id": "?", "error": {"code": "batch_expired", "message": "This request could not be executed"}}
        lines = [json.loads(line)["custom_id"] for line in app.state.files[batch["input_file_id"]].splitlines()]
        app.state.files["late"] = "\n".join(json.dumps({**row, "custom_id": name}) for name in lines[9:]).encode()
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        body = {"choices": [{"message": {"content": "in time"}}], "usage": usage}
        early = {"response": {"status_code": 200, "body": body}, "error": None}
        app.state.files["early"] = "\n".join(json.dumps({"custom_id": name, **early}) for name in lines[:9]).encode()
        files = {"output_file_id": "early", "error_file_id": "late"}
        return {**batch, **files, "status": "expired"}

    shown(expire)
    with serve(app) as url:
        out = client(url, tmp_path).map(asks(60))
    assert [c.text for c in out] == [EXPECTED[0], *["in time"] * 9, *EXPECTED[10:]]
    assert app.state.accounts.batches == 2


def test_a_batch_cancelled_on_the_providers_page_is_not_asked_again_by_itself(tmp_path: Path, shown: Any) -> None:
    app = create_app(backwards)
    shown(lambda batch, count: {**batch, "status": "cancelled"})
    with serve(app) as url:
        with pytest.raises(StageStopped, match="batch-1 was cancelled at the provider.*1 of 60 replies.*run again"):
            client(url, tmp_path).map(asks(60))
        assert app.state.accounts.batches == 1
        assert rows(tmp_path, "pending") == []
        shown(lambda batch, count: None)
        assert [c.text for c in client(url, tmp_path).map(asks(60))] == EXPECTED


def test_an_account_with_little_room_gets_smaller_batches(tmp_path: Path, shown: Any) -> None:
    """`token_limit_exceeded`: so many tokens may wait at once, so the same calls go in halves, one after the other."""
    app = create_app(backwards)
    said = "Enqueued token limit reached for m. Limit: 2,000,000 enqueued tokens."
    refused = {
        "status": "failed",
        "errors": {"object": "list", "data": [{"code": "token_limit_exceeded", "message": said}]},
    }
    shown(lambda batch, count: {**batch, **refused} if count > 20 else None)
    with serve(app) as url:
        assert [c.text for c in client(url, tmp_path).map(asks(60))] == EXPECTED
        assert app.state.accounts.batches == 2 + 5  # 59 and 29 were refused; 14 at a time
        assert app.state.accounts.answered == 60
        shown(lambda batch, count: {**batch, **refused})
        with pytest.raises(StageStopped, match="not accepted: Enqueued token limit reached"):
            client(url, tmp_path).map(asks(64))
    assert rows(tmp_path, "pending") == []


def test_batches_keep_to_the_limits_of_rows_bytes_and_one_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(backwards)
    wide = [ChatRequest(r.messages, model="second", max_tokens=50) for r in asks(30)]
    with serve(app) as url:
        made = client(url, tmp_path)
        made.map([asks(1)[0], wide[0]])
        before = app.state.accounts.batches
        monkeypatch.setattr(batch_module, "ROWS", 20)
        assert [c.text for c in made.map([*asks(30), *wide])] == EXPECTED[:30] * 2
        files = [app.state.files[b["input_file_id"]].splitlines() for b in app.state.batches.values()][before:]
        assert sorted(map(len, files)) == [9, 9, 20, 20]
        assert all(len({json.loads(line)["body"]["model"] for line in file}) == 1 for file in files)
        monkeypatch.setattr(batch_module, "BYTES", 3000)
        made.map(asks(60))
        last = [app.state.files[b["input_file_id"]] for b in app.state.batches.values()][before + 4 :]
    assert len(last) > 2
    assert all(len(file) <= 3000 for file in last)


def test_calls_of_another_map_that_a_batch_brings_are_kept_for_it(tmp_path: Path) -> None:
    app = create_app(backwards, batch_seconds=0.8)
    with serve(app) as url:
        with pytest.raises(StageStopped, match="stage_timeout"):
            client(url, tmp_path, stage_timeout=0.5).map(asks(60))
        assert client(url, tmp_path, batch=False).map(asks(30)[20:])[0].text == EXPECTED[20]
        assert sum(c.cached for c in client(url, tmp_path, batch=False).map(asks(60))) == 60
        spent = client(url, tmp_path).spent()
    assert spent == Usage(app.state.accounts.prompt_tokens, app.state.accounts.completion_tokens)


def test_another_maps_calls_name_the_model_that_was_asked_for(tmp_path: Path) -> None:
    def dated(messages: list[dict[str, str]], **_: Any) -> Any:
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        return 200, {"model": "answer-key-2026-11-26", "choices": [{"message": {"content": "fine"}}], "usage": usage}

    app = create_app(dated, batch_seconds=0.8)
    with serve(app) as url:
        with pytest.raises(StageStopped, match="stage_timeout"):
            client(url, tmp_path, stage_timeout=0.5).map(asks(60))
        client(url, tmp_path, batch=False).map(asks(30)[20:])
        assert {c.model for c in client(url, tmp_path, batch=False).map(asks(60))} == {"answer-key"}
    assert (app.state.accounts.requests, app.state.accounts.batches) == (1, 1)


def test_a_map_whose_turn_comes_collects_the_batch_that_another_map_has_left(tmp_path: Path) -> None:
    """The live map begins while another thread submits a batch with its calls, and collects the batch itself."""
    app, path, texts = create_app(backwards), tmp_path / "calls.sqlite", []
    with serve(app) as url:
        calls = [Call(request, url, "answer-key") for request in asks(4)]
        with Store(path) as other, other.asking():
            bill = other.open_bill("other", estimate(asks(4), ApiConfig()))
            assert all(other.claim(call, bill, "token", None) for call in calls)
            made = client(url, tmp_path, batch=False)
            thread = threading.Thread(target=lambda: texts.extend(c.text for c in made.map(asks(4), progress=False)))
            thread.start()
            time.sleep(0.5)
            bodies = [{"model": "answer-key", "messages": r.messages, "max_tokens": 50} for r in asks(4)]
            lines = [json.dumps({"custom_id": call.key, "body": body}) for call, body in zip(calls, bodies)]
            app.state.files["file-1"] = "\n".join(lines).encode()
            app.state.batches["batch-1"] = {
                **{"id": "batch-1", "object": "batch", "created_at": 0, "due": 0, "input_file_id": "file-1"},
                **{"status": "in_progress", "endpoint": "", "completion_window": ""},
            }
            other.note_batch("token", "batch-1")
        thread.join(20)
    assert texts == EXPECTED[:4]
    assert (app.state.accounts.requests, app.state.accounts.answered) == (0, 4)


def test_a_budget_held_by_a_batch_nobody_waits_for_stops_and_does_not_hang(tmp_path: Path) -> None:
    app = create_app(backwards, batch_seconds=60)
    with serve(app) as url:
        with pytest.raises(StageStopped, match="stage_timeout"):
            client(url, tmp_path, stage_timeout=0.5).map(asks(60))
        other = ChatRequest([{"role": "user", "content": "something else"}], max_tokens=50)
        held = sum(bound(r).total_tokens for r in asks(60))
        with pytest.raises(StageStopped, match="budget is used up"):
            client(url, tmp_path, batch=False, budget_tokens=held, stage_timeout=10).map([other])


def test_the_wait_for_a_batch_outlives_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    app, looks = create_app(backwards), []

    def flaky(state: Any, name: str, look: Any = server._looked_at) -> dict[str, Any]:
        looks.append(name)
        if 2 <= len(looks) <= 9:  # more than the SDK's own retries outlast
            raise RuntimeError("outage")
        return look(state, name)

    monkeypatch.setattr(server, "_looked_at", flaky)
    with serve(app) as url:
        assert [c.text for c in client(url, tmp_path, max_attempts=1).map(asks(60))] == EXPECTED
    assert app.state.accounts.batches == 1


def test_a_batch_of_another_account_is_named_and_not_asked_again(tmp_path: Path) -> None:
    app = create_app(backwards, batch_seconds=60)
    with serve(app) as url:
        with pytest.raises(StageStopped, match="stage_timeout"):
            client(url, tmp_path, stage_timeout=0.5).map(asks(60))
        app.state.batches.clear()
        with pytest.raises(StageStopped, match="not this batch.*the key and project that made it"):
            client(url, tmp_path, batch=False).map(asks(60))
    assert len(rows(tmp_path, "pending")) == 59


def test_a_round_may_be_asked_live_where_batches_are_the_rule(tmp_path: Path) -> None:
    app = create_app(backwards)
    with serve(app) as url:
        made = client(url, tmp_path)
        assert made.map(asks(5), batch=False)[4].text == EXPECTED[4]
    assert (app.state.accounts.batches, app.state.accounts.requests) == (0, 5)
