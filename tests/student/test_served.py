"""The student behind a URL: its answers come through the client, and belong to the adapter that gave them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse

import server
from lionkit import loop
from lionkit.client import ChatClient, ChatRequest, Completion
from lionkit.client.calls import Usage, call_key
from lionkit.client.request import body_of
from lionkit.config import Config
from lionkit.errors import ConfigError, StageStopped
from lionkit.records import Instruction
from lionkit.run import digest, open_run
from lionkit.run.settings import preset
from lionkit.run.stages import ADAPTER
from lionkit.sandbox.families import solve
from lionkit.student import served

URL = "http://student.invalid/v1"
LOCAL = "http://127.0.0.1:9/v1"  # servers on this machine are told the slot of each call
ITEMS = [Instruction(f"Say {n}.") for n in range(5)]


def client(tmp_path: Path, answer: Any, **options: Any) -> ChatClient:
    config = dataclasses.replace(preset("smoke"), student_url=URL)
    options = {"models": {"iteration-01": ()}} | options
    return served.connect(config, tmp_path / "student.sqlite", app=server.create_app(answer, **options))


def ask(by: ChatClient, **changes: Any) -> list[Any]:
    options = {"model": "iteration-01", "weights": "aa", "max_tokens": 8} | changes
    return served.respond(by, ITEMS, **options)  # type: ignore[arg-type]


def test_the_prompt_is_the_one_it_was_trained_on_and_answers_keep_their_order(tmp_path: Path) -> None:
    seen = []

    def answer(messages: Any, **options: Any) -> str:
        seen.append(messages)
        return messages[-1]["content"].upper()

    found = ask(client(tmp_path, answer))
    assert [r.text for r in found] == ["SAY 0.", "SAY 1.", "SAY 2.", "SAY 3.", "SAY 4."]
    assert [r.instruction_id for r in found] == [i.id for i in ITEMS]
    assert seen[0] == [{"role": "system", "content": ""}, {"role": "user", "content": "Say 0."}]
    assert len(seen) == 5


def test_other_weights_under_the_same_name_are_asked_anew(tmp_path: Path) -> None:
    by = client(tmp_path, lambda messages, **options: "first adapter")
    assert {r.text for r in ask(by)} == {"first adapter"}
    after = client(tmp_path, lambda messages, **options: "second adapter")
    assert {r.text for r in ask(after)} == {"first adapter"}  # stored: the same weights
    assert after.app.state.accounts.requests == 0
    assert {r.text for r in ask(after, weights="bb")} == {"second adapter"}
    assert after.app.state.accounts.requests == 5


def test_a_template_without_a_system_role(tmp_path: Path) -> None:
    def answer(messages: Any, **options: Any) -> Any:
        refused = messages[0]["role"] == "system"
        return (400, {"error": {"message": "System role not supported"}}) if refused else "fine"

    by = client(tmp_path, answer)
    assert {(r.text, r.status) for r in ask(by)} == {("fine", "ok")}
    assert by.app.state.accounts.requests == 6
    config = dataclasses.replace(preset("smoke"), student_url=URL)
    for again in (by, served.connect(config, tmp_path / "student.sqlite", replay=True)):
        assert {(r.text, r.status) for r in ask(again)} == {("fine", "ok")}  # what the probe found is in the store
    assert by.app.state.accounts.requests == 6


def test_a_failure_that_only_mentions_a_system_changes_no_other_prompt(tmp_path: Path) -> None:
    roles = []

    def answer(messages: Any, **options: Any) -> Any:
        roles.append((messages[0]["role"], messages[-1]["content"]))
        broken = "Say 0." in messages[-1]["content"]
        return (400, {"error": {"message": "the operating system is out of memory"}}) if broken else "fine"

    assert [r.status for r in ask(client(tmp_path, answer))] == ["failed", *["ok"] * 4]
    assert {role for role, text in roles if text != "Say 0."} == {"system"}


def test_headers_that_the_environment_adds_go_to_the_teacher_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-gateway: s3cret\nAuthorization: Bearer s3cret")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    inner, seen = (
        server.create_app(lambda messages, **options: "fine", models={"iteration-01": (), "answer-key": ()}),
        [],
    )

    async def listening(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope["headers"]))
        await inner(scope, receive, send)

    ambient = {b"x-gateway", b"openai-organization", b"openai-project"}
    config = dataclasses.replace(preset("smoke"), student_url=URL)
    ask(served.connect(config, tmp_path / "student.sqlite", app=listening))
    assert {headers[b"authorization"] for headers in seen} == {b"Bearer none-needed"}
    assert not any(ambient & headers.keys() for headers in seen)
    seen.clear()
    teacher = ChatClient(config.api, tmp_path / "calls.sqlite", app=listening)
    teacher.map([ChatRequest([{"role": "user", "content": "a"}])])
    assert ambient <= seen[0].keys()


def test_what_is_the_students_own_mistake_counts_and_what_is_the_servers_does_not(tmp_path: Path) -> None:
    def answer(messages: Any, **options: Any) -> Any:
        long, refused = "Say 1." in messages[-1]["content"], "Say 2." in messages[-1]["content"]
        return "x" * 100 if long else (400, {"error": {"message": "no"}}) if refused else "short"

    found = ask(client(tmp_path, answer))
    assert [r.status for r in found] == ["ok", "ok", "failed", "ok", "ok"]
    assert (found[1].text, found[1].reason) == ("x" * 32, "cut at 8 tokens")
    assert found[2].reason == "the endpoint refused the request (400): no"


def test_an_empty_answer_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lionkit.client.live.BACKOFF", 0.001)
    found = ask(client(tmp_path, lambda messages, **options: "" if "Say 3." in messages[-1]["content"] else "a"))
    assert [(r.text, r.status) for r in found] == [("a", "ok")] * 3 + [("", "ok"), ("a", "ok")]


def test_a_server_without_the_adapter_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by = client(tmp_path, None, models={"base": (), "iteration-00": ()})
    words = r"has no model 'iteration-01', it lists base, iteration-00; serve the adapter under that name, or set"
    with pytest.raises(StageStopped, match=words) as stopped:
        ask(by)
    assert stopped.value.setting == "student_name"
    assert by.app.state.accounts.requests == 0
    monkeypatch.setattr(served, "_check_name", lambda *a: None)  # the list may be wrong
    with pytest.raises(
        StageStopped, match=r"has no model 'iteration-01'.*serve the adapter under that name"
    ) as stopped:
        ask(by)
    assert stopped.value.setting == "student_name"


@pytest.mark.parametrize(
    ("listed", "said"),
    [(["iteration-01"], ""), (["base", "iteration-01:latest"], ""), ([], "does not list"), (None, "does not list")],
)
def test_the_servers_list_is_read_once_before_anything_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], listed: Any, said: str
) -> None:
    """A server that echoes whatever name it is given would score other weights."""
    inner, paths = server.create_app(lambda messages, **options: "fine"), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        if scope["path"] == "/v1/models":
            rows = None if listed is None else {"data": [{"id": name, "object": "model"} for name in listed]}
            await JSONResponse(rows or {"error": "no such path"}, 200 if rows else 404)(scope, receive, send)
        else:
            await inner(scope, receive, send)

    config = dataclasses.replace(preset("smoke"), student_url=URL)
    by = served.connect(config, tmp_path / "student.sqlite", app=app)
    assert {r.text for r in ask(by)} == {"fine"}
    assert paths[0] == "/v1/models"
    assert paths.count("/v1/models") == 1
    assert ask(by)[0].text == "fine"  # stored: nobody is asked
    assert len(paths) == 6
    out = capsys.readouterr().out.splitlines()
    assert [line for line in out if "'iteration-01' stands for" in line] == out[: bool(said)]
    assert not said or said in out[0]


def test_an_outage_leaves_rows_that_are_missing() -> None:
    down = Completion("failed", "", Usage(), False, "the connection failed", "c", "m", cause="outage")  # type: ignore[arg-type]
    row = served._response(ITEMS[0], down, 8)
    assert (row.status, row.missing) == ("failed", True)
    assert not served._response(ITEMS[0], dataclasses.replace(down, cause="model"), 8).missing
    empty = dataclasses.replace(down, cause="empty")
    assert (served._response(ITEMS[0], empty, 8).status, served._response(ITEMS[0], empty, 8).missing) == ("ok", False)


def test_the_teachers_key_budget_and_pace_stay_with_the_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-the-teachers-own-key")
    config = preset("smoke")
    api = dataclasses.replace(
        config.api, budget_usd=1.0, price_per_million=(1.0, 1.0), requests_per_minute=5, batch=True
    )
    by = served.connect(dataclasses.replace(config, api=api, student_url=URL), tmp_path / "s.sqlite")
    by._endpoint.key.find(by.config, offline=False)
    assert by._endpoint.key.value == "none-needed"
    assert (by.config.budget_usd, by.config.price_per_million, by.config.requests_per_minute) == (None, None, None)
    assert (by.config.base_url, by.config.concurrency, by.config.batch) == (URL, config.student.response_batch, False)
    with pytest.raises(ConfigError, match="student_url"):
        Config(student_url="student:8000")


def test_a_run_whose_student_is_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The base and each adapter are asked under their own names; nothing is loaded here to answer."""
    run = open_run("r", preset="smoke", student_url=LOCAL, train_size=8, heldout_size=4)
    assert f"answering from {LOCAL}" in capsys.readouterr().out
    names = []

    def answer(messages: Any, *, slot: str, **options: Any) -> str:
        names.append(slot)
        return solve(messages[-1]["content"])[1] if len(set(names)) > 1 else "no idea"  # type: ignore[index]

    app = server.create_app(answer, models={"iteration-00": (), "iteration-01": ()})
    by = served.connect(run.config, run.path / "student.sqlite", app=app)
    roles = loop.Roles(ChatClient(run.config.api, run.store, app=server.create_app()), None, by)
    assert loop.score(run, roles, 0)["exact_match"] == 0
    folder = run.folder(1, "imitation") / "adapter"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    written = {ADAPTER: digest(folder.parent / ADAPTER)}
    (folder.parent / "done.json").write_text(json.dumps({"inputs": {}, "files": written, "result": {}}))
    assert loop.score(run, roles, 1)["exact_match"] == 1
    assert len(set(names)) == 2
    assert len(names) == 8
    sent = [row["model"] for row in map(dict, _rows(run.path / "student.sqlite"))]
    assert sorted(sent) == ["iteration-00"] * 4 + ["iteration-01"] * 4


def _rows(path: Path) -> list[Any]:
    import sqlite3

    with sqlite3.connect(path) as db:
        db.row_factory = sqlite3.Row
        return db.execute("SELECT model FROM calls").fetchall()


@pytest.mark.parametrize("said", ["extra inputs are not permitted", "unknown parameter: 'repeat_penalty'", ""])
def test_repetition_is_no_fault_where_a_server_would_make_it_one(tmp_path: Path, said: str) -> None:
    """llama-cpp-python punishes it by 1.1 unless told: of 20 greedy answers one was as here, told so see `way_out`."""
    seen = []

    def answer(messages: Any, repeat_penalty: Any = None, **options: Any) -> Any:
        seen.append(repeat_penalty)
        return (400, {"error": {"message": said}}) if said and repeat_penalty else "fine"

    assert {(r.text, r.status) for r in ask(client(tmp_path, answer))} == {("fine", "ok")}
    assert seen.count(1.0) >= (1 if said else 5)  # rows in flight may be refused too
    assert seen.count(None) == (5 if said else 0)


def test_the_teacher_is_not_told_so() -> None:
    request = ChatRequest([{"role": "user", "content": "Hi."}], "m", 0.0, 5)
    assert "repeat_penalty" not in body_of(request, "m", ())
    assert call_key(request, URL, "m") == call_key(dataclasses.replace(request, repeat_penalty=1.0), URL, "m")
