"""The Batch API over HTTP against the sandbox: one submission, resumed, partial failures asked again."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from lionkit.client import ChatClient, ChatRequest, Usage
from lionkit.client.calls import bound
from lionkit.config import ApiConfig
from lionkit.errors import StageStopped
from lionkit.sandbox.app import Faults, create_app, serve

ROOT = Path(__file__).resolve().parents[1]
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


def test_a_batch_gives_what_single_calls_give(tmp_path: Path) -> None:
    app = create_app(backwards)
    with serve(app) as url:
        out = client(url, tmp_path).map(asks(60))
        assert [c.text for c in out] == EXPECTED
        assert {c.status for c in out} == {"ok"}
        assert app.state.accounts.batches == 1
        assert app.state.accounts.requests == 1  # the model's first call, to see that key and model are right
        assert app.state.accounts.answered == 60
        assert client(url, tmp_path).spent() == Usage(
            app.state.accounts.prompt_tokens, app.state.accounts.completion_tokens
        )
        assert client(url, tmp_path, batch=False).map(asks(60))[59].cached
    assert rows(tmp_path, "claims") == rows(tmp_path, "batches") == []


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
        while not app.state.batches or not any(row[2] for row in rows(tmp_path, "batches")):
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.wait()
        if moment == "between submission and note":
            db = sqlite3.connect(tmp_path / "calls.sqlite")
            db.execute("UPDATE batches SET batch_id = NULL")
            db.commit()
            db.close()
        live = client(url, tmp_path, batch=False)  # a batch under way is waited for, whatever is asked for now
        assert [c.text for c in live.map(asks(60))] == EXPECTED
        assert live.spent() == Usage(app.state.accounts.prompt_tokens, app.state.accounts.completion_tokens)
    assert app.state.accounts.batches == 1
    assert app.state.accounts.answered == 60
    assert rows(tmp_path, "claims") == rows(tmp_path, "batches") == []


def test_a_submission_that_never_arrived_is_made_again(tmp_path: Path) -> None:
    app = create_app(backwards)
    with serve(app) as url:
        made = client(url, tmp_path)
        made.map(asks(1))
        app.state.key = "another"
        with pytest.raises(StageStopped, match="Batch API.*refuses the key"):
            made.map(asks(60))
        assert app.state.accounts.batches == 0
        assert len(rows(tmp_path, "claims")) == 59
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
    app = create_app(backwards)
    bare = Starlette(routes=[route for route in app.routes if "chat" in route.path])  # type: ignore[attr-defined]
    bare.state = app.state
    with serve(bare) as url, pytest.raises(StageStopped, match="Batch API of .*failed.*batch=False"):
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
    assert rows(tmp_path, "claims") == []
