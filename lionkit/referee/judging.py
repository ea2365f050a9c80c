"""The referee: which of two answers is better, and by how much (paper section 3.2).

Every pair is judged twice, with the answers exchanged, and scores are kept by role and by order, since judges favour
the answer in one of the two places. A reply that cannot be read is asked for again a bounded number of times; a pair
whose replies remain unread is undecided, never a number. How replies are read is in `scores`, how the referee is asked
in `prompts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lionkit.prompts import REFEREE_FORMAT, Messages, referee_messages
from lionkit.records import Instruction, Judgement, Response, Verdict
from lionkit.referee.scores import Scores, Unscored, parse_scores

if TYPE_CHECKING:
    from lionkit.client import ChatClient, Completion

Ask = tuple[int, int]
"""Index of the pair, and order: 0 with the teacher in the first seat, 1 with the student there."""
MAY_IMPROVE = ("ok", "truncated", "refused")
"""Statuses of a reply that is worth asking for again; a call that failed or was filtered would end the same way."""
LONGEST = 8000
"""Characters of a text that the referee is shown; a longer one loses its middle."""


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
    structured: bool = False,
) -> list[Verdict]:
    """One verdict an instruction, in order; responses are found by instruction id.

    Both orders of all pairs go out together. Replies that cannot be read are asked for again up to `rounds` times, with
    twice the tokens after a cut. A pair with a response that is not `ok` is not asked. An empty answer is judged like
    any other (the prompt says that empty is worth 1). Equal answers make both orders the same request, which the client
    asks once, so their gap is 0. `structured` asks for JSON by schema, for endpoints that have it. Judgements that the
    endpoint or a missing response left open are marked `missing`; all others are final. Raises StageStopped (from the
    client) when asking cannot go on.
    """
    answers = [{r.instruction_id: r for r in responses} for responses in (teacher, student)]
    judged: dict[Ask, Judgement] = {}
    prompts: dict[Ask, Messages] = {}
    for i, item in enumerate(instructions):
        pair = [role.get(item.id) for role in answers]
        if left_out := _not_comparable(pair):
            judged[i, 0] = judged[i, 1] = left_out
            continue
        text, one, two = (shorten(t, LONGEST) for t in (item.text, *(answer.text for answer in pair if answer)))
        prompts[i, 0] = referee_messages(text, one, two, structured)
        prompts[i, 1] = referee_messages(text, two, one, structured)
    settings = {"model": model, "temperature": temperature, "response_format": REFEREE_FORMAT if structured else None}
    replies = _ask(client, prompts, max_tokens, rounds, settings)
    judged |= {ask: _judgement(reply, ask[1]) for ask, reply in replies.items()}
    return [Verdict(item.id, judged[i, 0], judged[i, 1], iteration) for i, item in enumerate(instructions)]


def _ask(
    client: ChatClient, prompts: dict[Ask, Messages], max_tokens: int, rounds: int, settings: dict[str, Any]
) -> dict[Ask, Completion]:
    """The last reply to each prompt. Every round has a slot of its own, so that asking again can give another reply."""
    from lionkit.client import ChatRequest  # here, so that reading replies needs no API library

    replies: dict[Ask, Completion] = {}
    room = dict.fromkeys(prompts, max_tokens)
    pending = list(prompts)
    for attempt in range(rounds + 1):
        if not pending:
            break
        label = f"referee, unread replies again, {attempt} of {rounds}" if attempt else "referee"
        requests = [ChatRequest(prompts[ask], max_tokens=room[ask], slot=attempt, **settings) for ask in pending]
        batch = False if attempt else None  # a batch may take a day, too long for a few replies
        replies |= zip(pending, client.map(requests, progress=label, batch=batch), strict=True)
        worth = [ask for ask in pending if replies[ask].status in MAY_IMPROVE]
        pending = [ask for ask in worth if isinstance(_read(replies[ask]), Unscored)]
        room |= {ask: 2 * room[ask] for ask in pending if replies[ask].status == "truncated"}
    return replies


def shorten(text: str, limit: int) -> str:
    """`text`, or its first and last parts with a note of how much is missing between them, `limit` characters kept."""
    if len(text) <= limit:
        return text
    head, tail = limit - limit // 2, limit // 2
    return f"{text[:head]}\n[... {len(text) - limit} characters left out here to fit ...]\n{text[len(text) - tail :]}"


def _not_comparable(pair: Sequence[Response | None]) -> Judgement | None:
    """The judgement of a pair that is not asked because the teacher's or the student's response is not whole."""
    for role, response in zip(("teacher", "student"), pair):
        if response is None:
            return Judgement(None, None, reason=f"there is no {role} response")
        if response.status != "ok":
            reason = f"{role} response {response.status}: {response.reason or 'no reason'}"
            return Judgement(None, None, reason=reason, missing=response.missing)
    return None


def _read(reply: Completion) -> Scores | Unscored:
    """The scores by seat of a whole reply; anything else is not even parsed."""
    if reply.status == "truncated":
        return Unscored("the referee's reply was cut at the token limit: raise referee_max_tokens")
    if reply.status != "ok":
        return Unscored(f"referee call {reply.status}: {reply.error or 'no reason'}")
    return parse_scores(reply.text)


def _judgement(reply: Completion, order: int) -> Judgement:
    """The reply by role: in order 1 the teacher sits second."""
    read = _read(reply)
    if isinstance(read, Unscored):
        return Judgement(None, None, reply.text, read.reason, reply.call_id, missing=reply.missing)
    teacher, student = (read.second, read.first) if order else (read.first, read.second)
    return Judgement(teacher, student, reply.text, call_id=reply.call_id)
