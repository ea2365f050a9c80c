"""Ten servers as they answer in the field (`habits.toml`): every role through each, and the page that lists them.

`python tests/client/test_habits.py` writes docs/endpoints.md anew.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from lionkit import prompts, referee, teacher
from lionkit.client import ChatClient, ChatRequest, Completion
from lionkit.client.request import parts_of
from lionkit.config import ApiConfig
from lionkit.errors import StageStopped
from lionkit.records import Instruction, Response

HABITS = tomllib.loads(Path(__file__).with_name("habits.toml").read_text(encoding="utf-8"))["habit"]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "endpoints.md"
SERVERS = list(dict.fromkeys(habit["server"] for habit in HABITS))
ITEM = Instruction("Name a fruit.")
THEN = {
    "answers": "answered, and read as an answer",
    "filtered": "the row is filtered, the run goes on",
    "failed": "the row fails with the server's words, the run goes on",
    "stops": "the stage stops after one request, what was answered is kept",
}


def replaying(habit: dict[str, Any]) -> Starlette:
    """A server with this habit, which answers well what it does not refuse. Its requests are in `state.asked`."""

    async def chat(request: Request) -> JSONResponse:
        asked, state = await request.json(), request.app.state
        state.asked.append(asked)
        refused = sorted(parts_of(asked) & set(habit.get("refuses", ())))
        always = "body" in habit and "refuses" not in habit and len(state.asked) <= habit.get("times", 10**9)
        if refused or always:
            body = json.loads(habit["body"].replace("PART", (refused or [""])[0]))
            return JSONResponse(body, habit["status"], habit.get("headers"))
        judged = "answer 2" in asked["messages"][-1]["content"]
        answer = '{"evidence": "", "answer_1": 8, "answer_2": 6}' if judged else "A fig."
        text = habit.get("reply", "{}").replace("{}", answer)
        return JSONResponse({"choices": [{"finish_reason": "stop", "message": {"content": text}}]})

    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])
    app.state.asked = []
    return app


def as_teacher(client: ChatClient) -> Any:
    return teacher.respond(client, [ITEM], temperature=0.0)[0]


def as_referee(client: ChatClient) -> Any:
    pair = [Response(ITEM.id, "A fig.")], [Response(ITEM.id, "A brick.")]
    verdict = referee.judge(client, [ITEM], *pair, temperature=0.0, structured=True)[0]
    status = "ok" if verdict.scored else verdict.reason.partition("referee call ")[2].partition(":")[0]
    return Completion(status, "A fig.", None, False, verdict.reason, "", "")  # type: ignore[arg-type]


def as_generator(client: ChatClient) -> Any:
    messages = prompts.generator_messages(ITEM.text, "hard")
    return client.map([ChatRequest(messages, None, 0.0, 99)], progress=False)[0]


def as_student(client: ChatClient) -> Any:
    messages = [{"role": "system", "content": ""}, {"role": "user", "content": ITEM.text}]
    return client.map([ChatRequest(messages, None, 0.0, 99)], progress=False)[0]


@pytest.mark.parametrize("role", [as_teacher, as_referee, as_generator, as_student])
@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: f"{habit['server']}: {habit['when']}")
def test_every_role_through_every_habit(
    habit: dict[str, Any], role: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr("lionkit.client.live.BACKOFF", 0.001)
    app = replaying(habit)
    config = ApiConfig(base_url="http://x.invalid/v1", model="m", max_attempts=2, concurrency=1)
    client = ChatClient(config, tmp_path / "calls.sqlite", app=app)
    said, refuses = "", set(habit.get("refuses", ()))
    if habit["then"] == "stops":
        with pytest.raises(StageStopped) as stopped:
            role(client)
        said = str(stopped.value)
        orders = 2 if role is as_referee else 1
        assert len(app.state.asked) <= config.max_attempts * orders
    else:
        found = role(client)
        assert found.status == {"answers": "ok"}.get(habit["then"], habit["then"])
        assert found.text == ("A fig." if habit["then"] == "answers" or role is as_referee else "")
        said = f"{capsys.readouterr().out} {getattr(found, 'error', '')} {getattr(found, 'reason', '')}"
    if not refuses or any(parts_of(asked) & refuses for asked in app.state.asked):
        assert re.search(habit.get("says", ""), said, re.S)
        words = re.findall(r'"(?:message|error)": "([^"\\]{8,60})', habit.get("body", ""))
        assert habit.get("times") or "PART" in habit.get("body", "") or all(w in said for w in words)
    if refuses:  # learned: asked anew by another client on the same store, nothing is refused
        again = replaying(habit)
        ChatClient(config, tmp_path / "calls.sqlite", app=again).map([ChatRequest([*app.state.asked[0]["messages"]])])
        assert not any(parts_of(asked) & refuses & {"system", "temperature"} for asked in again.state.asked)


def page() -> str:
    rows = [f"| {h['server']} | {h['when']} | {THEN[h['then']]} |" for h in HABITS]
    return "\n".join(
        (
            "# What ten servers do, and what comes of it",
            "",
            "Each line is tested in every role (`tests/client/test_habits.py`, which writes this page from",
            "`tests/client/habits.toml`). What a model does not take is found out once, left out from then on, said",
            "aloud, and kept in the run's call store. The server's own words are part of every message.",
            "",
            "| server | where | what happens |",
            "| --- | --- | --- |",
            *rows,
            "",
        )
    )


def test_the_page_lists_these_habits() -> None:
    assert len(SERVERS) == 10
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
