"""The referee: which of two answers is better, and by how much (paper section 3.2).

Every pair is judged twice, with the answers exchanged, and scores are kept by role and by order, since judges
favour a seat. A reply that cannot be read is asked for again a bounded number of times; what remains unread is
undecided, never a number. Reading replies is `scores`' job, their wording that of `prompts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lionkit.prompts import REFEREE_FORMAT, referee_messages
from lionkit.records import Instruction, Judgement, Response, Verdict
from lionkit.scores import Scores, Unscored, parse_scores

if TYPE_CHECKING:
    from lionkit.client import ChatClient, ChatRequest, Completion

__all__ = ["Scores", "Unscored", "judge", "parse_scores", "shorten"]

Ask = tuple[int, int]
"""Index of the pair, and order: 0 with the teacher in the first seat, 1 with the student there."""


def judge(
    client: ChatClient,
    instructions: Sequence[Instruction],
    teacher: Iterable[Response],
    student: Iterable[Response],
    *,
    iteration: int = 0,
    model: str | None = None,
    temperature: float = 0.2,
    max_tokens: int = 512,
    rounds: int = 2,
    max_chars: int = 8000,
    structured: bool = False,
) -> list[Verdict]:
    """One verdict an instruction, in order; responses are found by instruction id.

    Both orders of all pairs go out together; unread replies are asked again up to `rounds` times, with twice the
    tokens after a cut. A pair with a response that is not `ok` is not asked. An empty answer is judged like any
    other (the prompt says that empty is worth 1). Equal answers make both orders one prompt: it is asked once and
    read both ways, so that their gap is 0. Texts over `max_chars` characters are shortened. `structured` requests
    JSON by schema, for endpoints that have it. Raises StageStopped (from the client) when asking cannot go on.
    """
    answers = [{r.instruction_id: r for r in responses} for responses in (teacher, student)]
    pairs = [(answers[0].get(item.id), answers[1].get(item.id)) for item in instructions]
    refused = [_not_comparable(*pair) for pair in pairs]
    prompts: dict[Ask, list[dict[str, str]]] = {}
    for i, item in enumerate(instructions):
        if not refused[i]:
            for order in (0, 1):
                first, second = (shorten(r.text, max_chars) for r in _seats(pairs[i], order))
                prompts[i, order] = referee_messages(shorten(item.text, max_chars), first, second, structured)
    twins = {i for i, order in prompts if order and prompts[i, 0] == prompts[i, 1]}
    pending = [ask for ask in prompts if not (ask[1] and ask[0] in twins)]
    replies: dict[Ask, Completion] = {}
    room = dict.fromkeys(pending, max_tokens)
    for attempt in range(rounds + 1):
        requests = [_request(prompts[ask], model, temperature, room[ask], attempt, structured) for ask in pending]
        label = "referee" if not attempt else f"referee, unread replies again ({attempt} of {rounds})"
        replies |= zip(pending, client.map(requests, progress=label) if requests else [])
        pending = [ask for ask in pending if _worth_asking_again(replies[ask])]
        room |= {ask: 2 * room[ask] for ask in pending if replies[ask].status == "truncated"}
    replies |= {(i, 1): replies[i, 0] for i in twins}
    return [
        Verdict(item.id, *(_judgement(replies.get((i, order)), order, refused[i]) for order in (0, 1)), iteration)
        for i, item in enumerate(instructions)
    ]


def shorten(text: str, limit: int) -> str:
    """`text`, or its first and last parts with a note of how much is missing between them, `limit` characters kept."""
    if len(text) <= limit:
        return text
    head, tail = limit - limit // 2, limit // 2
    return f"{text[:head]}\n[... {len(text) - limit} characters left out here to fit ...]\n{text[len(text) - tail :]}"


def _seats(pair: tuple[Response | None, Response | None], order: int) -> tuple[Response, Response]:
    teacher, student = pair
    assert teacher is not None and student is not None
    return (student, teacher) if order else (teacher, student)


def _request(
    messages: list[dict[str, str]], model: str | None, temperature: float, room: int, attempt: int, structured: bool
) -> ChatRequest:
    from lionkit.client import ChatRequest

    return ChatRequest(
        messages=messages,
        model=model,
        temperature=temperature,
        max_tokens=room,
        slot=attempt,
        response_format=REFEREE_FORMAT if structured else None,
    )


def _not_comparable(teacher: Response | None, student: Response | None) -> str:
    """Why the pair is not asked; empty when it can be."""
    for role, response in (("teacher", teacher), ("student", student)):
        if response is None:
            return f"there is no {role} response"
        if response.status != "ok":
            return f"{role} response {response.status}: {response.reason or 'no reason given'}"
    return ""


def _unread(reply: Completion) -> str:
    """Why the reply is not even parsed; empty when it is whole."""
    if reply.status == "truncated":
        return "the referee's reply was cut at the token limit"
    return "" if reply.status == "ok" else f"referee call {reply.status}: {reply.error or 'no reason given'}"


def _worth_asking_again(reply: Completion) -> bool:
    """A failed or filtered call ends the same way; a cut, refusing or unreadable reply may not."""
    if reply.status == "ok":
        return isinstance(parse_scores(reply.text), Unscored)
    return reply.status in ("truncated", "refused")


def _judgement(reply: Completion | None, order: int, refused: str) -> Judgement:
    """The reply by role: in order 1 the teacher sits second."""
    if reply is None:
        return Judgement(None, None, reason=refused)
    read = parse_scores(reply.text) if not _unread(reply) else Unscored(_unread(reply))
    if isinstance(read, Unscored):
        return Judgement(None, None, reply.text, read.reason, reply.call_id)
    teacher, student = (read.second, read.first) if order else (read.first, read.second)
    return Judgement(teacher, student, reply.text, call_id=reply.call_id)
