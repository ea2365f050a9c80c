"""The teacher: what becomes of each answer, and how many answers are of no use."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lionkit import teacher
from lionkit.client import Completion, Usage
from lionkit.records import Instruction, Response

ITEMS = [Instruction(f"question {i}", id=f"q{i}") for i in range(5)]


class Fake:
    def __init__(self, *completions: Completion) -> None:
        self.completions, self.asked = completions, []  # type: ignore[var-annotated]

    def map(self, requests: Any, *, progress: Any) -> list[Completion]:
        self.asked = list(requests)
        return list(self.completions)


def completion(status: str, text: str = "", error: str = "", cause: str = "") -> Completion:
    return Completion(status, text, Usage(), False, error, f"call {status}", "m", cause)  # type: ignore[arg-type]


def test_every_outcome_is_kept_and_only_an_outage_is_missing() -> None:
    client = Fake(
        completion("ok", "yes"),
        completion("truncated", "a long", "cut at the token limit in its answer: raise max_tokens"),
        completion("failed", error="HTTP 503", cause="outage"),
        completion("failed", error="the prompt is too long"),
        completion("failed", error="the reply is empty", cause="mute"),
    )
    found = teacher.respond(client, ITEMS, max_tokens=99)  # type: ignore[arg-type]
    assert [(r.max_tokens, r.temperature, r.messages[0]["content"]) for r in client.asked][0] == (99, 0.7, "question 0")
    cut = "cut at the token limit in its answer: raise teacher_max_tokens above 99"
    assert found == [
        Response("q0", "yes", "ok", "", "m", "call ok"),
        Response("q1", "a long", "truncated", cut, "m", "call truncated"),
        Response("q2", "", "failed", "HTTP 503", "m", "call failed", missing=True),
        Response("q3", "", "failed", "the prompt is too long", "m", "call failed"),
        Response("q4", "", "failed", "the reply is empty", "m", "call failed", missing=True),
    ]


def answers(*texts: str) -> list[Response]:
    return [Response(f"q{i}", text) for i, text in enumerate(texts)]


def test_answers_that_decline_or_repeat_a_text_are_counted_once() -> None:
    same = "Please tell me more about it."  # six words
    found = teacher.useless([
        *answers("I can't help with that.", "I’m sorry, but I can’t assist.", same, same, f" {same}\n", "4", "4", "4"),
        Response("q8", same, "truncated"), Response("q9", "I can't help with that.", "refused"),
        Response("q10", "A cannot answer B."),
    ])  # fmt: skip
    assert (found.answers, found.declining, found.repeated) == (9, 2, 3)
    assert found.share == pytest.approx(5 / 9)


def test_a_text_is_repeated_from_three_different_instructions_and_five_words_on() -> None:
    assert teacher.useless(answers(*["one two three four five"] * 2)).repeated == 0
    assert teacher.useless(answers(*["one two three four five"] * 3)).repeated == 3
    assert teacher.useless(answers(*["one two three four"] * 9)).repeated == 0
    again = answers("one two three four five") * 3  # the same instruction three times
    assert (teacher.useless(again).answers, teacher.useless(again).repeated) == (1, 0)
    declined = teacher.useless(answers(*["I can't help with that."] * 5))
    assert (declined.declining, declined.repeated, declined.share) == (5, 0, 1)


def test_no_answers_have_no_share() -> None:
    assert math.isnan(teacher.useless([Response("q", "", "failed")]).share)
