"""What a model does not take is learned from any wording, by one call, for all roles, and kept in the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from lionkit.client import ChatClient, ChatRequest
from lionkit.client.request import parts_of
from lionkit.config import ApiConfig
from lionkit.errors import ConfigError

ASKED = ChatRequest(
    [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "q"}],
    temperature=0.7,
    max_tokens=9,
    response_format={"type": "json_object"},
)
STREAM = (
    'data: {"choices": [{"delta": {"content": "A "}}]}\n\ndata: {"choices": [{"delta": {"content": "fig."}}]}\n\n'
    'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
    'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}\n\ndata: [DONE]\n'
)


def picky(refused: set[str], said: str, status: int = 400) -> Starlette:
    """A server that refuses requests with any of these parts, in these words."""

    async def chat(request: Request) -> Any:
        asked = await request.json()
        request.app.state.asked.append(asked)
        if parts_of(asked) & refused:
            return JSONResponse({"error": {"message": said}}, status)
        if asked.get("stream"):
            return PlainTextResponse(STREAM, media_type="text/event-stream")
        return JSONResponse({"choices": [{"finish_reason": "stop", "message": {"content": "A fig."}}]})

    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])
    app.state.asked = []
    return app


def client(app: Starlette, path: Path, **settings: Any) -> ChatClient:
    return ChatClient(ApiConfig(base_url="http://x.invalid/v1", model="m", **settings), path / "c.sqlite", app=app)


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        ({"system"}, "messages[0].role: Input should be 'user' or 'assistant'"),
        ({"system"}, "Unexpected role 'system' after nothing"),
        ({"system"}, "Developer instruction is not enabled for models/gemma"),
        ({"temperature"}, "invalid temperature: only 1 is allowed for this model"),
        ({"temperature"}, "`temperature` and `top_p` cannot both be specified"),
        ({"max_tokens"}, "Unrecognized request argument supplied: max_tokens"),
        ({"max_tokens", "max_completion_tokens"}, "max_tokens: Extra inputs are not permitted"),
        ({"response_format"}, "JSON mode is not enabled for this model"),
        ({"unstreamed"}, "This model only support stream mode, please enable the stream parameter"),
        ({"unstreamed"}, "parameter.enable_thinking must be set to false for non-streaming calls"),
        ({"unstreamed", "stream_options"}, "stream=true needed, and no stream_options"),
        ({"system"}, "Bad Request"),
        ({"temperature"}, "请求参数错误"),
        ({"unstreamed"}, ""),
        ({"temperature", "response_format", "system"}, "Bad Request"),
    ],
)
def test_it_is_left_out_and_learned_once(
    refused: set[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = picky(refused, said)
    rows = [ChatRequest([ASKED.messages[0], {"role": "user", "content": str(n)}], None, 0.7, 9) for n in range(20)]
    out = client(app, tmp_path).map([ASKED, *rows], progress=False)
    assert [(c.status, c.text) for c in out] == [("ok", "A fig.")] * 21
    assert len(app.state.asked) <= 21 + 9
    told = capsys.readouterr().out.splitlines()
    assert told
    assert len(told) == len(set(told))
    again = picky(refused, said)
    client(again, tmp_path).map([ChatRequest([ASKED.messages[0], {"role": "user", "content": "new"}], None, 0.2, 9)])
    assert len(again.state.asked) == 1  # what was learned is in the store
    assert not capsys.readouterr().out.splitlines()


def test_a_row_that_is_refused_in_every_form_fails_with_the_endpoints_words(tmp_path: Path) -> None:
    app = picky({"messages", "temperature", "max_tokens", "max_completion_tokens", "system"}, "no emoji, please")
    app.router.routes.clear()

    async def never(request: Request) -> JSONResponse:
        app.state.asked.append(await request.json())
        return JSONResponse({"error": {"message": "no emoji, please"}}, 400)

    app.router.routes.append(Route("/v1/chat/completions", never, methods=["POST"]))
    out = client(app, tmp_path, concurrency=1).map([ASKED, ChatRequest([{"role": "user", "content": "b"}])])
    assert [c.status for c in out] == ["failed", "failed"]
    assert "no emoji, please" in out[0].error
    assert len(app.state.asked) <= 9  # tried in all forms once, not for each row


def test_a_terminal_that_cannot_take_a_line_costs_no_reply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a model does not take is said while calls are in flight; a terminal may lack a sign, or be gone."""

    def gone(*texts: str, **options: Any) -> None:
        if "does not take" in texts[0]:
            raise BrokenPipeError

    monkeypatch.setattr("builtins.print", gone)
    app = picky({"temperature"}, "`temperature` is deprecated")
    requests = [ChatRequest([{"role": "user", "content": str(n)}], None, 0.5, 9) for n in range(3)]
    answers = client(app, tmp_path).map(requests, progress=False)
    assert [answer.text for answer in answers] == ["A fig."] * 3
    assert len(app.state.asked) == 4


def test_a_system_message_goes_into_the_users(tmp_path: Path) -> None:
    app = picky({"system"}, "System role not supported")
    client(app, tmp_path).map([ASKED])
    assert app.state.asked[-1]["messages"] == [{"role": "user", "content": "Be kind.\n\nq"}]


def test_a_budget_is_never_asked_without_a_limit(tmp_path: Path) -> None:
    app = picky({"max_tokens", "max_completion_tokens"}, "max_tokens is not supported")
    out = client(app, tmp_path, budget_tokens=100_000).map([ASKED])
    assert out[0].status == "failed"
    assert all({"max_tokens", "max_completion_tokens"} & asked.keys() for asked in app.state.asked)


@pytest.mark.parametrize("query", ["key=AIzaX", "api-version=1&api-key=x", "access_token=x"])
def test_a_key_in_an_address_is_refused(query: str) -> None:
    with pytest.raises(ConfigError, match="environment variable") as refused:
        ApiConfig(base_url=f"http://x.invalid/v1?{query}")
    assert query not in str(refused.value)
