"""The teacher role: one instruction, one answer, through the client.

The instruction is the whole prompt (`prompts.teacher_messages`), as the paper asks its teacher. Only complete
answers are worth imitating, so every other outcome is kept as what it is, with its reason.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lionkit import prompts
from lionkit.client import ChatClient, ChatRequest, Completion
from lionkit.generator.filters import declines
from lionkit.records import Instruction, Response

REPEATED = 3
"""A text that so many different instructions got counts as an answer to none of them."""
SHORT = 5
"""A text of fewer words may well be the right answer to several instructions."""


def respond(
    client: ChatClient,
    instructions: Sequence[Instruction],
    *,
    temperature: float = 0.7,
    max_tokens: int = 1024,
    label: str = "teacher",
) -> list[Response]:
    """The teacher's answers, in order; paper section 4.2: temperature 0.7. Raises StageStopped as the client does.

    An answer that is not there for the endpoint's reasons is marked `missing`; every other outcome is final.
    """
    requests = [ChatRequest(prompts.teacher_messages(i.text), None, temperature, max_tokens) for i in instructions]
    completions = client.map(requests, progress=label)
    return [_response(i.id, c, max_tokens) for i, c in zip(instructions, completions, strict=True)]


def _response(instruction_id: str, reply: Completion, max_tokens: int) -> Response:
    reason = reply.error
    if reply.status == "truncated":
        reason = f"{reason.partition(':')[0] or 'cut'}: raise teacher_max_tokens above {max_tokens}"
    return Response(instruction_id, reply.text, reply.status, reason, reply.model, reply.call_id, reply.missing)


class Useless(NamedTuple):
    """Counts of whole answers that teach nothing, and of all whole answers."""

    answers: int
    """Whole answers, the useful ones included."""
    declining: int
    """Those in which the teacher declines ("I can't ...")."""
    repeated: int
    """Others with a text of `SHORT` words or more that answers `REPEATED` or more different instructions."""

    @property
    def share(self) -> float:
        """Declining and repeated answers among all whole ones, in [0, 1]; NaN where there are none."""
        return (self.declining + self.repeated) / self.answers if self.answers else float("nan")


def useless(responses: Iterable[Response]) -> Useless:
    """How many of the whole answers decline, and how many of the others repeat one text. Spacing does not count."""
    answers = {r.instruction_id: " ".join(r.text.split()) for r in responses if r.status == "ok"}
    declining = sum(map(declines, answers.values()))
    times = Counter(text for text in answers.values() if len(text.split()) >= SHORT and not declines(text))
    return Useless(len(answers), declining, sum(n for n in times.values() if n >= REPEATED))
