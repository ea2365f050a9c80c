"""`ChatClient.map` on a server in this process: order, store, replay, money, and where it can be called from."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from lionkit.client import ChatClient, ChatRequest, Completion, Usage, estimate
from lionkit.client import store as store_module
from lionkit.client.calls import bound, call_key
from lionkit.config import SANDBOX_URL, ApiConfig
from lionkit.errors import ConfigError, LionkitError, StageStopped
from lionkit.sandbox.app import Faults
from server import create_app, serve

ROOT = Path(__file__).resolve().parents[2]
FILES = ["calls.sqlite", "calls.sqlite.lock"]
"""All that a client leaves behind: no write-ahead log, and a lock file that nobody holds."""


def backwards(messages: list[dict[str, str]], **_: Any) -> str:
    return messages[-1]["content"][::-1]


def ask(text: str, **settings: Any) -> ChatRequest:
    return ChatRequest([{"role": "user", "content": text}], **{"max_tokens": 50, **settings})


def asks(count: int, start: int = 0) -> list[ChatRequest]:
    return [ask(f"call {i}") for i in range(start, start + count)]


@pytest.fixture
def client(tmp_path: Path) -> Callable[..., ChatClient]:
    """`client(app, **ApiConfig fields)`: a client with this test's store."""

    def make(app: Any, *, name: str = "calls.sqlite", replay: bool = False, **fields: Any) -> ChatClient:
        config = ApiConfig(**{"base_url": SANDBOX_URL, "model": "answer-key", **fields})
        return ChatClient(config, tmp_path / name, app=app, replay=replay)

    return make


def test_replies_come_in_order_and_are_paid_once(client: Any, tmp_path: Path) -> None:
    app = create_app(backwards)
    first = client(app).map([ask("abc"), ask("xyz"), ask("abc")])
    assert [c.text for c in first] == ["cba", "zyx", "cba"]
    assert first[0] == Completion("ok", "cba", Usage(9, 1), False, "", first[0].call_id, "answer-key")
    assert app.state.accounts.answered == 2
    again = client(app).map([ask("xyz"), ask("new"), ask("abc")])
    assert [(c.text, c.cached) for c in again] == [("zyx", True), ("wen", False), ("cba", True)]
    assert app.state.accounts.answered == 3
    assert client(app).spent() == Usage(27, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == FILES
    assert client(app).map([]) == []


def test_whatever_shapes_the_reply_makes_another_call() -> None:
    base = {"temperature": 0.7, "max_tokens": 9, "slot": 0, "response_format": None}
    variants = [
        call_key(ask("a", **base), SANDBOX_URL, "m"),
        call_key(ask("b", **base), SANDBOX_URL, "m"),
        call_key(ask("a", **base), "http://other/v1", "m"),
        call_key(ask("a", **base), SANDBOX_URL, "n"),
        *(
            call_key(ask("a", **{**base, **change}), SANDBOX_URL, "m")
            for change in ({"temperature": 0.2}, {"max_tokens": 10}, {"slot": 1}, {"slot": "1"}, {"temperature": None})
        ),
        call_key(ask("a", **{**base, "response_format": {"type": "json_object"}}), SANDBOX_URL, "m"),
    ]
    assert len(set(variants)) == len(variants)
    assert variants[0] == call_key(ask("a", **base), SANDBOX_URL, "m")
    # stored runs must stay readable: a change of this literal orphans every store there is
    assert variants[0] == "68a5aa6d68b1cf83bfad90023e30c714"


def test_slots_reach_the_answer_key(client: Any) -> None:
    app = create_app(lambda messages, *, temperature, slot: f"{slot} at {temperature}")
    out = client(app).map([ask("a", slot=s, temperature=0.5) for s in (0, "seed-3")])
    assert [c.text for c in out] == ["0 at 0.5", "seed-3 at 0.5"]


def test_replay_reads_only(client: Any, tmp_path: Path) -> None:
    app = create_app(backwards)
    with pytest.raises(LionkitError, match="no call store at .*run live once"):
        client(app, replay=True).map(asks(1))
    client(app).map(asks(3))
    before, requests = (tmp_path / "calls.sqlite").read_bytes(), app.state.accounts.requests
    out = client(app, replay=True).map(asks(3))
    assert [(c.text, c.cached) for c in out] == [(f"{i} llac", True) for i in range(3)]
    with pytest.raises(StageStopped, match=r"2 of 5 calls are not in .*replay asks nobody"):
        client(app, replay=True).map(asks(5))
    assert (tmp_path / "calls.sqlite").read_bytes() == before
    assert app.state.accounts.requests == requests


def test_called_from_a_running_loop_twice_and_from_several_loops(client: Any) -> None:
    made = client(create_app(backwards))

    async def cell(start: int) -> list[str]:
        return [c.text for c in made.map(asks(3, start))]

    assert asyncio.run(cell(0)) == ["0 llac", "1 llac", "2 llac"]
    assert asyncio.run(cell(3)) == ["3 llac", "4 llac", "5 llac"]
    assert made.map(asks(1, 9))[0].text == "9 llac"
    assert not [t for t in threading.enumerate() if t.name.startswith("lionkit-client")]


def test_two_clients_on_one_store_share_the_work(client: Any) -> None:
    """What two kernels do to a run: each call is sent by one of them, and both get all replies."""
    app = create_app(backwards, latency=0.02)
    results: dict[int, list[str]] = {}
    maps = [client(app, concurrency=8).map for _ in range(2)]
    threads = [
        threading.Thread(target=lambda i=i: results.update({i: [c.text for c in maps[i](asks(60))]})) for i in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1] == [f"call {i}"[::-1] for i in range(60)]
    assert app.state.accounts.answered == 60


def test_two_threads_with_one_client_keep_its_concurrency(client: Any) -> None:
    flying, most, app = 0, 0, create_app(backwards, latency=0.02)

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await app(scope, receive, send)
        flying -= 1

    made = client(counted, concurrency=4)
    threads = [threading.Thread(target=made.map, args=(asks(30, 100 * i),)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert app.state.accounts.answered == 60
    assert 3 <= most <= 4


def test_full_disk_is_one_line_and_leaves_the_store_whole(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(lambda messages, **_: "long " * 400)
    asked = asks(200)
    asked = [ask(f"call {i}", max_tokens=5000) for i in range(200)]
    connect = sqlite3.connect

    def small(*args: Any, **options: Any) -> sqlite3.Connection:
        db = connect(*args, **options)
        db.execute("PRAGMA max_page_count = 60")
        return db

    with monkeypatch.context() as patch:
        patch.setattr(store_module.sqlite3, "connect", small)
        with pytest.raises(StageStopped, match=r"the disk is full.*free some space") as stopped:
            client(app).map(asked)
    assert "\n" not in str(stopped.value)
    kept = int(str(stopped.value).split("; ")[-1].split(" of 200")[0])
    assert 10 < kept < 200
    done = client(app).map(asked)
    assert sum(c.cached for c in done) == kept
    assert all(c.status == "ok" for c in done)


def test_a_file_that_is_no_store(client: Any, tmp_path: Path) -> None:
    (tmp_path / "calls.sqlite").write_text("not a database at all, but long enough to look at" * 30)
    with pytest.raises(LionkitError, match=r"calls\.sqlite: file is not a database"):
        client(create_app(backwards)).map(asks(1))


def test_a_path_with_the_word_full_is_no_full_disk(client: Any, tmp_path: Path) -> None:
    (tmp_path / "full").write_text("a file")
    with pytest.raises(LionkitError, match="see that the folder can be written"):
        client(create_app(backwards), name="full/calls.sqlite").map(asks(1))


def test_interrupt_keeps_what_arrived_and_says_how_many(client: Any) -> None:
    app = create_app(backwards, latency=0.15)
    made = client(app, concurrency=8)
    made.map(asks(1))

    def interrupt() -> None:
        while app.state.accounts.answered < 20:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt, match=r"interrupted; \d+ of 399 replies are stored .*run again"):
        made.map(asks(400))
    answered = app.state.accounts.answered
    assert 8 < answered < 200
    assert sum(c.cached for c in made.map(asks(answered - 10))) == answered - 10
    time.sleep(0.2)
    assert app.state.accounts.answered == answered  # those in flight had been waited for
    assert sum((bill.actual.usage for bill in made.bills()), Usage()) == made.spent()


def test_calls_that_an_interrupt_cuts_off_are_charged_at_their_most(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lionkit.client.chat.DRAIN", 0.05)
    made = client(create_app(backwards, latency=9.0), concurrency=4)
    threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt, match="0 of 40 replies are stored"):
        made.map(asks(40))
    assert time.monotonic() - started < 5
    assert made.spent() == sum((bound(request) for request in asks(4)), Usage())  # nobody knows: perhaps billed
    assert [bill.actual.usage for bill in made.bills()] == [made.spent()]


CELL = """
from lionkit.client import ChatClient, ChatRequest
from lionkit.config import ApiConfig
client = ChatClient(ApiConfig(base_url={url!r}, model="answer-key", concurrency=8), {store!r})
ask = [ChatRequest([dict(role="user", content=f"call {{i}}")], max_tokens=50) for i in range(100)]
client.map(ask, progress="teacher")
"""


def test_the_stop_button_of_a_notebook_keeps_what_arrived(tmp_path: Path) -> None:
    """A real kernel, whose loop runs, interrupted twice in a row by an impatient reader; then the same calls again."""
    from jupyter_client.manager import start_new_kernel

    app, path = create_app(backwards, latency=0.15), tmp_path / "calls.sqlite"
    with serve(app) as url:
        manager, kernel = start_new_kernel(kernel_name="python3", cwd=str(ROOT))
        try:
            number = kernel.execute(CELL.format(url=url, store=str(path)))
            while app.state.accounts.answered < 30:
                time.sleep(0.01)
            manager.interrupt_kernel()
            time.sleep(0.02)
            manager.interrupt_kernel()
            while (reply := kernel.get_shell_msg(timeout=20))["parent_header"].get("msg_id") != number:
                pass
        finally:
            kernel.stop_channels()
            manager.shutdown_kernel(now=True)
        answered = app.state.accounts.answered
        out = ChatClient(ApiConfig(base_url=url, model="answer-key"), path).map(asks(100), progress=False)
    assert (reply["content"]["status"], reply["content"]["ename"]) == ("error", "KeyboardInterrupt")
    assert 30 - 8 <= sum(c.cached for c in out) <= answered < 100
    assert [c.text for c in out] == [f"call {i}"[::-1] for i in range(100)]
    assert app.state.accounts.answered <= 100 + 8  # only what the second interrupt cut off was asked twice
    assert sorted(p.name for p in tmp_path.iterdir()) == FILES


def test_stage_timeout_stops_and_keeps(client: Any) -> None:
    app = create_app(backwards, latency=0.1)
    with pytest.raises(StageStopped, match=r"stage_timeout of 0\.5 s; \d+ of 400 replies are stored"):
        client(app, stage_timeout=0.5, concurrency=8).map(asks(400))
    assert client(app).map(asks(8))[7].cached


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_budget_in_dollars_is_never_overrun(client: Any, share: float) -> None:
    price = (3.0, 15.0)
    app = create_app(
        lambda messages, **_: "w " * 60, latency=0.01, faults=Faults(0.2, kinds=("null", "429", "slow"), slow=0.02)
    )
    asked = [ask(f"{'long prompt ' * 20}{i}", max_tokens=80) for i in range(300)]

    def billed() -> float:
        return Usage(app.state.accounts.prompt_tokens, app.state.accounts.completion_tokens).dollars(price)

    whole = sum(bound(r).dollars(price) for r in asked) / 2
    budget = share * whole
    for _ in range(3):  # over all maps and kernels of the run, not each
        with pytest.raises(StageStopped, match=r"budget is used up.*of \d+ replies are stored"):
            client(app, concurrency=64, budget_usd=budget, price_per_million=price, max_attempts=20).map(asked)
        assert billed() <= budget
    assert billed() > 0.9 * budget - 64 * 0.0001
    with pytest.raises(ConfigError, match="max_tokens"):
        client(app, budget_usd=1.0, price_per_million=price).map([ask("new", max_tokens=None)])


def test_budget_in_tokens(client: Any) -> None:
    app = create_app(backwards)
    with pytest.raises(StageStopped, match="budget"):
        client(app, budget_tokens=1000, concurrency=4).map(asks(200))
    assert 700 < app.state.accounts.prompt_tokens + app.state.accounts.completion_tokens <= 1000


def test_an_attempt_whose_bill_is_unknown_counts_at_its_most(client: Any) -> None:
    app = create_app(backwards, faults=Faults(1.0, kinds=("malformed",)))
    made = client(app, max_attempts=1)
    with pytest.raises(StageStopped, match="gives no reply"):
        made.map([ask("abc")])
    assert made.spent() == bound(ask("abc"))


def test_an_estimate_from_sizes_takes_replies_at_their_longest() -> None:
    asked = [ask("p" * 400 + f"{i:03}", max_tokens=200) for i in range(40)]
    sizes = estimate(asked, ApiConfig(price_per_million=(1.0, 2.0)))
    assert (sizes.calls, sizes.basis, sizes.usage.completion_tokens) == (40, "sizes", 8000)
    assert sizes.dollars == sizes.usage.prompt_tokens / 1e6 + 0.016
    assert str(sizes).startswith("40 calls, ")
    assert "$" in str(sizes)
    unpriced = estimate(asked, ApiConfig())
    assert unpriced.dollars != unpriced.dollars
    assert "$" not in str(unpriced)


def test_progress_has_its_label_and_cached_maps_have_none(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[Any] = []

    class Bar:
        def __init__(self, total: int, label: str, unit: str = "", *, shown: bool = True) -> None:
            bars.append([label, total, shown, 0, {}])
            self.done = 0

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, steps: int = 1, **notes: Any) -> None:
            self.done += steps
            bars[-1][3] = self.done
            bars[-1][4] = notes

    monkeypatch.setattr("lionkit.client.chat.Progress", Bar)
    made = client(create_app(backwards), price_per_million=(1.0, 1.0))
    for progress in ("teacher", True, False):
        made.map(asks(4, start=4 * len(bars)), progress=progress)
    made.map(asks(4), progress="teacher")
    assert [bar[:4] for bar in bars] == [["teacher", 4, True, 4], ["calls", 4, True, 4], ["calls", 4, False, 4]]
    assert set(bars[0][4]) == {"rate", "cost", "failed"}
    assert bars[0][4]["cost"].startswith("$0.00")


@pytest.mark.parametrize("messages", [[], [{"role": "user", "content": None}], [{"role": "user"}], ["text"]])
def test_a_request_without_a_text_is_refused_where_it_is_made(messages: Any) -> None:
    with pytest.raises(ConfigError, match="messages = .*at least one, each with a role and a text"):
        ChatRequest(messages)


def test_lone_surrogates_fail_their_row_or_are_replaced(client: Any) -> None:
    raw = Response(r'{"choices": [{"message": {"content": "half \ud83d"}}]}')
    app = Starlette(routes=[Route("/v1/chat/completions", lambda _: raw, methods=["POST"])])
    out = client(app).map([ask("fine"), ask("broken \ud83d")])
    assert (out[0].status, out[1].status) == ("ok", "failed")
    assert "surrogate" in out[1].error
    assert client(app).map([ask("fine")])[0].text == "half ?"
    assert out[0].text == "half ?"


def test_every_map_leaves_a_bill_and_says_it_where_it_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = create_app(lambda messages, **_: "w" * 80)  # 20 tokens
    asked = [ask("p" * 400 + f"{i:03}", max_tokens=200) for i in range(40)]
    config = ApiConfig(model="m", concurrency=4, price_per_million=(1.0, 2.0))
    ChatClient(config, tmp_path / "own.sqlite", app=app).map(asked, progress="teacher")
    assert capsys.readouterr().out == ""  # a server in this process costs nothing
    with serve(app) as url:
        client = ChatClient(dataclasses.replace(config, base_url=url), tmp_path / "calls.sqlite")
        client.map(asked[:4], progress="pilot")
        client.map(asked, progress="teacher")
        client.map(asked, progress="again")
    few, many = client.bills()
    assert (few.label, few.expected.basis, few.expected.usage.completion_tokens) == ("pilot", "sizes", 800)
    assert (many.label, many.expected.basis, many.actual.calls) == ("teacher", "pilot", 36)
    assert many.expected.usage.completion_tokens == many.actual.usage.completion_tokens == 720
    assert few.actual.usage + many.actual.usage == client.spent()
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4  # before and after each map that asked
    assert said[0].startswith("pilot: about to make 4 calls, ")
    assert said[3] == str(many)
    assert "$" in said[3]


def test_each_model_has_its_price_and_a_budget_takes_the_dearest(client: Any) -> None:
    prices = {"big": (10.0, 20.0)}
    made = client(create_app(backwards), price_per_million=(1.0, 2.0), prices=prices)
    made.map([ask("abc")])
    made.map([ask("abc", model="big")])
    one, other = (bill.actual for bill in made.bills())
    assert (one.usage, one.price, other.price) == (other.usage, (1.0, 2.0), (10.0, 20.0))
    assert other.dollars == pytest.approx(10 * one.dollars)
    with pytest.raises(StageStopped, match="budget is used up"):
        client(create_app(backwards), price_per_million=(1.0, 2.0), prices=prices, budget_usd=0.0005).map([ask("new")])


def test_an_address_with_a_query_keeps_it_after_the_path(tmp_path: Path) -> None:
    seen = []

    async def azure(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["path"], scope["query_string"], dict(scope["headers"])[b"api-key"]))
        await create_app(backwards)({**scope, "path": "/v1/chat/completions"}, receive, send)

    url = "https://me.example.org/openai/deployments/gpt?api-version=2024-10-21"
    made = ChatClient(ApiConfig(base_url=url, model="gpt"), tmp_path / "calls.sqlite", app=azure)
    assert made.map([ask("abc")])[0].text == "cba"
    assert seen == [("/openai/deployments/gpt/chat/completions", b"api-version=2024-10-21", b"none-needed")]
