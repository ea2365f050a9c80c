"""The call store: its schema's steps, whose turn it is, replies for other token limits, an account true after kills."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lionkit.client import ChatClient, ChatRequest, Usage, copy_store, estimate, schema
from lionkit.client.calls import Call, bound, call_key
from lionkit.client.store import Store
from lionkit.config import SANDBOX_URL, ApiConfig
from lionkit.errors import LionkitError
from lionkit.sandbox.app import Faults
from server import create_app, serve

ROOT = Path(__file__).resolve().parents[2]


def ask(text: str, **settings: Any) -> ChatRequest:
    return ChatRequest([{"role": "user", "content": text}], **{"max_tokens": 50, **settings})


def asks(count: int) -> list[ChatRequest]:
    return [ask(f"call {i}") for i in range(count)]


def backwards(messages: list[dict[str, str]], **_: Any) -> str:
    return messages[-1]["content"][::-1]


def rows(path: Path, sql: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def client(path: Path, app: Any, **fields: Any) -> ChatClient:
    config = ApiConfig(**{"base_url": SANDBOX_URL, "model": "answer-key", **fields})
    return ChatClient(config, path, app=app)


# the schema's versions

FIRST = """
CREATE TABLE calls (key TEXT PRIMARY KEY, status TEXT, text TEXT, error TEXT, prompt_tokens INTEGER,
    completion_tokens INTEGER, reasoning_tokens INTEGER, model TEXT, sent TEXT, stored_at REAL);
CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT, prompt_tokens INTEGER, completion_tokens INTEGER);
CREATE TABLE owners (owner TEXT PRIMARY KEY);
CREATE TABLE batches (token TEXT PRIMARY KEY, owner TEXT, batch_id TEXT);
CREATE TABLE bills (label TEXT, calls INTEGER, basis TEXT, expected_prompt INTEGER, expected_completion INTEGER,
    prompt_tokens INTEGER, completion_tokens INTEGER);
CREATE TABLE ledger (id INTEGER PRIMARY KEY CHECK (id = 1), prompt_tokens INTEGER, completion_tokens INTEGER,
    reasoning_tokens INTEGER);
"""
"""The tables as they were before there were versions."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store of that time: three replies, a bill, a claim of a process that was killed, a batch under way."""
    path = tmp_path / "calls.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(FIRST)
        for i in range(3):
            key = call_key(ask(f"call {i}"), SANDBOX_URL, "answer-key")
            db.execute(
                "INSERT INTO calls VALUES (?, 'ok', ?, '', 10, 2, 1, 'answer-key', '{}', 1.5)", (key, f"old {i}")
            )
        db.execute("INSERT INTO bills VALUES ('teacher', 3, 'sizes', 40, 150, 30, 6)")
        db.execute("INSERT INTO ledger VALUES (1, 30, 6, 3)")
        db.execute("INSERT INTO claims VALUES ('lost', 'killed', 100, 50), ('sent', 'token', 200, 60)")
        db.execute("INSERT INTO owners VALUES ('killed')")
        db.execute("INSERT INTO batches VALUES ('token', 'killed', 'batch-1')")
    return path


def test_a_store_from_before_versions_is_brought_up_to_date_and_keeps_everything(old: Path) -> None:
    app = create_app(backwards)
    made = client(old, app)
    assert [c.text for c in made.map(asks(3))] == ["old 0", "old 1", "old 2"]
    assert rows(old, "PRAGMA user_version") == [(len(schema.STEPS),)]
    assert made.spent() == Usage(30, 6, 3)
    (bill,) = made.bills()
    assert (bill.label, bill.actual.calls, bill.actual.usage) == ("teacher", 3, Usage(30, 6))
    assert bill.expected.usage == Usage(40, 150)
    assert sorted(rows(old, "SELECT key, token, batch_id FROM pending")) == [
        ("lost", None, None),
        ("sent", "token", "batch-1"),
    ]
    assert made.map(asks(4))[3].text == "3 llac"  # asking enters what the killed process left; the batch stays
    reply = Usage(app.state.accounts.prompt_tokens, app.state.accounts.completion_tokens)
    assert made.spent() == Usage(30, 6, 3) + Usage(100, 50) + reply
    assert rows(old, "SELECT key FROM pending") == [("sent",)]
    assert [b.actual.usage for b in made.bills()] == [Usage(30, 6), reply]
    tables = {name for (name,) in rows(old, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {"calls", "pending", "bills", "account", "learned"}


def test_an_old_store_is_read_without_being_changed(old: Path) -> None:
    before = old.read_bytes()
    replay = ChatClient(ApiConfig(base_url=SANDBOX_URL, model="answer-key"), old, replay=True)
    assert [c.text for c in replay.map(asks(3))] == ["old 0", "old 1", "old 2"]
    assert replay.spent() == Usage(30, 6, 3)
    assert replay.bills()[0].actual.calls == 3
    assert old.read_bytes() == before


def test_a_copy_for_another_run_has_the_replies_and_none_of_the_costs(old: Path, tmp_path: Path) -> None:
    before, path = old.read_bytes(), tmp_path / "fork" / "calls.sqlite"
    path.parent.mkdir()
    copy_store(old, path)
    assert old.read_bytes() == before
    made = client(path, None)
    assert [c.text for c in made.map(asks(3))] == ["old 0", "old 1", "old 2"]
    assert (made.spent(), made.bills(), rows(path, "SELECT key FROM pending")) == (Usage(), [], [])


def test_old_replies_serve_their_own_limit_alone(old: Path) -> None:
    app = create_app(backwards)
    assert client(old, app).map([ask("call 0", max_tokens=500)])[0].text == "0 llac"
    assert app.state.accounts.answered == 1


def test_a_store_of_a_newer_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    Store(path).__exit__()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    for read_only in (True, False):
        with pytest.raises(LionkitError, match="made by a newer lionkit.*update lionkit"):
            Store(path, read_only=read_only)


def test_many_open_a_new_store_at_once(tmp_path: Path) -> None:
    code = "import sys; from lionkit.client.store import Store\nfor i in range(5): Store(sys.argv[1] + str(i)).spent()"
    command = [sys.executable, "-c", code, str(tmp_path / "calls.sqlite")]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(3)]
    assert [(p.communicate()[1], p.returncode) for p in processes] == [(b"", 0)] * 3


# replies for other token limits


def told(words: int, finish: str = "stop", **message: Any) -> tuple[int, dict[str, Any]]:
    usage = {"prompt_tokens": 7, "completion_tokens": words}
    return 200, {
        "choices": [{"finish_reason": finish, "message": {"content": "x " * words, **message}}],
        "usage": usage,
    }


@pytest.mark.parametrize(
    ("reply", "asked", "wanted", "reused"),
    [
        (told(20), 50, 500, True),
        (told(20), 50, None, True),
        (told(20), 50, 20, True),
        (told(20), 50, 19, False),
        (told(20), None, 20, True),
        (told(20), None, 19, False),
        (told(20, "content_filter"), 50, 500, True),
        (told(20, refusal="no"), 50, 500, True),
        ((400, {"error": {"message": "flagged", "code": "content_filter"}}), 50, 5, True),
        (told(50, "length"), 50, 500, False),
        (told(50, "length"), 50, None, False),
        (told(50, "length"), 50, 40, True),
        (told(50, "length"), None, 500, True),
        ((200, {"choices": [{"message": {"content": "length unknown"}}]}), None, 500, False),
        ((200, {"choices": [{"message": {"content": "length unknown"}}]}), 50, 40, False),
        ((200, {"choices": [{"message": {"content": "length unknown"}}]}), 50, 60, True),
        ((400, {"error": {"message": "the prompt is too long"}}), 50, 500, False),
    ],
)
def test_a_reply_serves_another_token_limit_where_it_would_have_been_the_same(
    tmp_path: Path, reply: Any, asked: int | None, wanted: int | None, reused: bool
) -> None:
    app = create_app(lambda messages, **_: reply)
    made = client(tmp_path / "calls.sqlite", app)
    (first,) = made.map([ask("a", max_tokens=asked)])
    assert made.stored([ask("a", max_tokens=wanted)]) == reused
    (second,) = made.map([ask("a", max_tokens=wanted)])
    assert (app.state.accounts.requests == 1) == second.cached == reused
    if reused:
        assert second == dataclasses.replace(first, cached=True)
    other = [ask("b", max_tokens=wanted), ask("a", max_tokens=wanted, slot=1)]
    assert not made.stored(other[:1])
    assert not made.stored(other[1:])


def test_a_reply_asked_again_with_more_room_is_the_one_that_counts(tmp_path: Path) -> None:
    replies = [told(50, "length"), told(80)]
    made = client(tmp_path / "calls.sqlite", create_app(lambda messages, **_: replies.pop(0)))
    assert made.map([ask("a", max_tokens=50)])[0].error == "the reply was cut at 50 tokens"
    assert made.map([ask("a", max_tokens=200)])[0].status == "ok"
    assert [made.map([ask("a", max_tokens=n)])[0].status for n in (50, 90, 300, 40)] == [
        "truncated",
        "ok",
        "ok",
        "truncated",
    ]
    assert not replies


def test_both_names_of_this_machine_are_one_host(tmp_path: Path) -> None:
    app, path = create_app(backwards), tmp_path / "calls.sqlite"
    for url in ("http://localhost:8000/v1", "http://127.0.0.1:8000/v1", "http://localhost:8000/v1/"):
        assert client(path, app, base_url=url).map([ask("abc")])[0].text == "cba"
    assert app.state.accounts.answered == 1
    client(path, app, base_url="http://localhost.example:8000/v1").map([ask("abc")])
    assert app.state.accounts.answered == 2
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:  # a store with the key of old times
        key = call_key(ask("abc"), "http://localhost:8000/v1", "answer-key")
        db.execute(
            "UPDATE calls SET family = NULL, key = ? WHERE key != ?",
            (key, call_key(ask("abc"), "http://localhost.example:8000/v1", "answer-key")),
        )
    for url in ("http://localhost:8000/v1", "http://127.0.0.1:8000/v1"):
        assert client(path, app, base_url=url).map([ask("abc")])[0].call_id == key


# whose turn it is

OTHER = """
import sys
from lionkit.client import ChatClient, ChatRequest
from lionkit.config import ApiConfig
url, path, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
client = ChatClient(ApiConfig(base_url=url, model="answer-key", concurrency=4), path)
ask = [ChatRequest([{"role": "user", "content": f"call {i}"}], max_tokens=50) for i in range(first, last)]
print(sum(c.cached for c in client.map(ask, progress=False)), flush=True)
"""


def test_a_second_process_waits_and_finds_the_replies_of_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app, path = create_app(backwards, latency=0.1), tmp_path / "calls.sqlite"
    with serve(app) as url:
        command = [sys.executable, "-c", OTHER, url, str(path), "0", "60"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
            while app.state.accounts.answered < 8:
                time.sleep(0.01)
            made = ChatClient(ApiConfig(base_url=url, model="answer-key", concurrency=4), path)
            started = time.monotonic()
            assert made.map(asks(2))[1].cached  # stored replies are read without a wait
            assert made.spent().completion_tokens > 0
            assert time.monotonic() - started < 2
            assert app.state.accounts.answered < 50
            out = made.map(asks(70), progress=False)
            said = capsys.readouterr().out
            assert other.communicate()[0] == "0\n"
    assert [c.text for c in out] == [f"call {i}"[::-1] for i in range(70)]
    assert app.state.accounts.answered == 70
    assert said == f"another process is asking with {path}: waiting until it has finished\n"
    assert sum(c.cached for c in out) == 60


def test_threads_take_turns_and_the_next_one_settles_what_a_dead_one_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, call, asked = tmp_path / "calls.sqlite", Call(ask("a"), SANDBOX_URL, "m"), threading.Event()

    def second() -> None:
        with Store(path) as store, store.asking():
            asked.set()

    thread = threading.Thread(target=second)
    with Store(path) as one, Store(path) as two:
        with one.asking():
            bill = one.open_bill("killed", estimate([call.request], ApiConfig()))
            assert one.claim(call, bill, None, None)
            thread.start()
            assert not asked.wait(0.3)
            assert two.spent() == Usage()
        thread.join()
        with two.asking():
            most = bound(call.request)
            assert two.spent() == most
            assert [(b.actual.calls, b.actual.usage) for b in two.bills(lambda model: None).values()] == [(1, most)]
            assert two.claim(call, bill, None, None)
    assert capsys.readouterr().out == ""


def test_the_budget_counts_calls_in_flight(tmp_path: Path) -> None:
    most = bound(ask("a"))

    def exceeded(usage: Usage) -> str:
        return "api.budget_tokens" * (usage.total_tokens > 2 * most.total_tokens)

    with Store(tmp_path / "calls.sqlite") as store, store.asking():
        bill = store.open_bill("x", estimate(asks(3), ApiConfig()))
        calls = [Call(ask(text), SANDBOX_URL, "m") for text in "abc"]
        assert [store.claim(call, bill, None, exceeded) for call in calls] == [True, True, False]
        store.settle(calls[0].key, most, bill)
        store.settle(calls[1].key, most, bill)
        with pytest.raises(LionkitError, match="budget is used up") as refused:
            store.claim(calls[2], bill, None, exceeded)
        assert refused.value.setting == "api.budget_tokens"


# the account after kills

KILLER = """
import os, random, signal, sqlite3, sys, time
from lionkit.client import ChatClient, ChatRequest
from lionkit.config import ApiConfig
url, path, kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = ChatClient(ApiConfig(base_url=url, model="answer-key", concurrency=16), path)
ask = [ChatRequest([{"role": "user", "content": f"call {i}"}], max_tokens=50) for i in range(1500)]
client.map(ask[:1], progress=False)
rng, seen = random.Random(0), set()
db = sqlite3.connect(path)
flying = lambda: set(db.execute("SELECT bill, key FROM pending")) - seen
for number in range(kills):
    child = os.fork()  # a process that starts at once: everything is imported
    if not child:
        client.map(ask, progress=False)
        os._exit(0)
    while not flying():
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.06))
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    cut = flying()
    seen |= cut
    print(len(cut), flush=True)
"""


def test_fifty_kills_lose_nothing_that_arrived_and_the_account_stays_true(tmp_path: Path) -> None:
    """As in the measurement in tests/bench/client.py, with the server's own counts."""
    app, path, kills = create_app(backwards, latency=0.02), tmp_path / "calls.sqlite", 50
    accounts = app.state.accounts
    with serve(app) as url:
        command = [sys.executable, "-c", KILLER, url, str(path), str(kills)]
        told = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
        cut = list(map(int, told.split()))
        time.sleep(0.1)  # the server's answers to dead clients are out by now
        ((stored,),) = rows(path, "SELECT COUNT(*) FROM calls")
        made = ChatClient(ApiConfig(base_url=url, model="answer-key", concurrency=16), path)
        assert len(cut) == kills
        assert max(cut) <= 16
        assert sum(cut) > kills  # they were killed at work
        assert accounts.answered - sum(cut) <= stored <= accounts.answered
        out = made.map(asks(1500), progress=False)
        spent, bills = made.spent(), made.bills()
    assert [c.text for c in out] == [f"call {i}"[::-1] for i in range(1500)]
    assert sum(c.cached for c in out) == stored
    assert sorted(p.name for p in tmp_path.iterdir()) == ["calls.sqlite", "calls.sqlite.lock"]
    assert accounts.answered <= 1500 + sum(cut)
    assert max(accounts.answers.values()) <= 1 + kills
    replies = rows(path, "SELECT SUM(prompt_tokens), SUM(completion_tokens) FROM calls")[0]
    server = Usage(accounts.prompt_tokens, accounts.completion_tokens)
    assert server.prompt_tokens <= spent.prompt_tokens
    assert server.completion_tokens <= spent.completion_tokens
    most = bound(ask("call 1000"))
    assert spent.prompt_tokens - replies[0] <= sum(cut) * most.prompt_tokens
    assert spent.completion_tokens - replies[1] == sum(cut) * most.completion_tokens
    assert sum((bill.actual.usage for bill in bills), Usage()) == spent
    assert sum(bill.actual.calls for bill in bills) == 1500 + sum(cut)
    assert accounts.answered <= sum(bill.actual.calls for bill in bills)
    expected = sum(bill.expected.usage.completion_tokens for bill in bills)
    used = sum(bill.actual.calls for bill in bills) * 50
    assert 0 < expected <= 1.05 * used  # maps that were killed do not each count all their calls


def test_a_map_that_is_interrupted_has_its_bill(tmp_path: Path) -> None:
    app, path = create_app(backwards, latency=0.05), tmp_path / "calls.sqlite"
    made = client(path, app, concurrency=4)

    def interrupt() -> None:
        while app.state.accounts.answered < 8:
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        made.map(asks(100))
    made.map(asks(100))
    first, second = made.bills()
    assert 4 <= first.actual.calls < 100
    assert first.actual.calls + second.actual.calls == 100 == first.expected.calls + second.expected.calls
    assert first.actual.usage + second.actual.usage == made.spent()
    server = Usage(app.state.accounts.prompt_tokens, app.state.accounts.completion_tokens)
    assert made.spent() == server


def test_useless_replies_are_on_the_bill_but_not_expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lionkit.client.live.BACKOFF", 0.01)
    app = create_app(backwards, faults=Faults(0.4, kinds=("null",)))
    made = client(tmp_path / "calls.sqlite", app, concurrency=4)
    made.map(asks(30))
    (bill,) = made.bills()
    assert (bill.expected.calls, bill.actual.calls) == (30, app.state.accounts.requests)
    assert bill.actual.calls > 30
    assert bill.actual.usage == Usage(app.state.accounts.prompt_tokens, app.state.accounts.completion_tokens)
