"""The student's responses: rows that have ended make room for the next, so that nobody's length costs the others.

Rows are padded on the left, which keeps each one's last token next to its response, and share transformers' own cache.
The longest prompts come first, so that a batch too large for the device fails at once. Greedy in float32 a row's answer
is the one it gives alone; in bfloat16 a near tie may fall the other way.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from inspect import signature
from itertools import groupby, islice
from typing import Any, NamedTuple

import torch

from lionkit import markup
from lionkit.errors import StudentError, first_line
from lionkit.progress import Progress
from lionkit.records import content_id
from lionkit.student import cache, ranks
from lionkit.student.checkpoint import explained
from lionkit.student.dense import PLAIN, attention, dense
from lionkit.student.encode import prompt_ids
from lionkit.student.model import Student, at_least_one
from lionkit.student.named import ODD_JSON, turning

LEAVING = 4
"""One in so many rows has to have ended before they leave and others come: moving the rest copies their cache."""
TOGETHER = 16
"""Tokens after which several processes tell each other what they have: it takes a millisecond."""


class Answer(NamedTuple):
    """A response, and whether it was cut at the token limit instead of ended by the student."""

    text: str
    cut: bool


@ranks.shared
def respond(
    student: Student,
    texts: Sequence[str],
    /,
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = True,
    keep: Callable[[int, Answer], None] | None = None,
) -> list[Answer]:
    """Answers to `texts`, in order, `batch_size` of them at a time.

    Temperature 0 is greedy; above it each answer is drawn from `seed` and its own prompt. Penalties and whatever else
    the model's own generation_config asks for are left out, but for the tokens that end an answer; so are thoughts,
    as in a server's replies. `keep` is called with a text's index and its answer as soon as it is there, so that a
    caller may write it down. What else is asked, and whether a call is interrupted and made again with the texts that
    are left, changes nothing but near ties in bfloat16. Raises StudentError where memory runs out, a number cannot
    be, or a prompt with its answer is longer than the model can be asked. Within `lead()` the processes share the
    texts, `batch_size` each.
    """
    at_least_one(max_new_tokens=max_new_tokens, batch_size=batch_size)
    prompts = [prompt_ids(student.tokenizer, text, template=student.template) for text in texts]
    student.require_positions(max(map(len, prompts), default=0), max_new_tokens)
    order = sorted(range(len(texts)), key=lambda i: -len(prompts[i]))
    answers: dict[int, Answer] = {}
    remedies = {"student.response_batch": batch_size, "student.max_new_tokens": max_new_tokens}
    head = student.network.get_output_embeddings()
    fused = student.device.type == "cpu" and student.network.config._attn_implementation == "sdpa"
    student.model.eval()
    with ranks.together():
        ranks.same(student.learned.values())
    with (
        torch.no_grad(),
        explained("answering", remedies),
        dense(student.model, student.dtype),
        attention(student.network, PLAIN, fused) as plain,
        head.register_forward_pre_hook(lambda _, args: (args[0][:, -1:],)),  # no logits but of the last position
        Progress(len(texts), "student", "responses", shown=progress) as bar,
    ):
        batch = _Batch(student, max_new_tokens, temperature, roomy=plain)
        rows = (_Row(i, prompts[i], seed) for i in order[ranks.rank() :: ranks.processes()])
        for ended in _everyones(batch.run(rows, batch_size)):
            for index, answer in ended:
                answers[index] = answer
                if keep:
                    keep(index, answer)
            bar.update(len(ended))
    return [answers[i] for i in range(len(texts))]


def _everyones(own: Iterator[list[tuple[int, Answer]]]) -> Iterator[list[tuple[int, Answer]]]:
    """What has ended turn by turn in all processes; each has to take all of it."""
    turns, more = TOGETHER if ranks.processes() > 1 else 1, True
    while more:
        mine = list(islice(own, turns))
        parts, busy = zip(*ranks.gathered((sum(mine, []), len(mine) == turns)), strict=True)
        yield sum(parts, [])
        more = any(busy)


@dataclass
class _Row:
    """A text that is being answered: its index, its prompt's tokens, and its own tokens so far."""

    index: int
    prompt: list[int]
    seed: int
    tokens: list[int] = field(default_factory=list)
    ended: bool = False

    def __post_init__(self) -> None:
        self.chance = torch.Generator().manual_seed(int(content_id(str(self.seed), str(self.prompt)), 16))


class _Batch:
    """The rows that are being answered, with their cache and mask [rows, width], as wide as the widest of them."""

    def __init__(self, student: Student, limit: int, temperature: float, roomy: bool) -> None:
        self.student, self.limit, self.temperature, self.roomy = student, limit, temperature, roomy
        own = student.network.generation_config.eos_token_id
        self.ends = {student.tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])}
        self.positioned = "position_ids" in signature(student.network.forward).parameters
        self.turns = turning(student.network.config)
        self.rows: list[_Row] = []
        self.mask, self.cache = torch.empty(0), None

    def run(self, rows: Iterable[_Row], size: int) -> Iterator[list[tuple[int, Answer]]]:
        """Answer all rows, `size` of them at a time: what has ended, with each token that all have got."""
        for _, together in groupby(rows, self.side):
            waiting = deque(together)
            while waiting or self.rows:
                yield self.turn(waiting, size)

    def side(self, row: _Row) -> int:
        """What rows have to share to be answered together: where LongRoPE turns, the longest of them turns all."""
        length = len(row.prompt)
        return -1 if length > self.turns else row.index if length + self.limit > self.turns else -2

    def turn(self, waiting: deque[_Row], size: int) -> list[tuple[int, Answer]]:
        """Rows go and come, or all get one more token; what has ended with that."""
        try:
            if not self.may_change():
                return self.step()
            self.let_go()
            fresh = [waiting.popleft() for _ in range(min(size - len(self.rows), len(waiting)))]
            return self.admit(fresh) if fresh else []
        except ODD_JSON as error:  # the code of any of transformers' models
            kind = f"{type(self.student.network).__name__} ({first_line(error)})"
            message = f"{self.student.base} cannot be answered with, as {kind}: name a model of another architecture"
            raise StudentError(message, setting="student.model") from error

    def may_change(self) -> bool:
        """Whether enough rows have ended. All must have where they cannot be moved."""
        share = LEAVING if self.cache is None or cache.movable(self.cache) else 1
        return share * sum(row.ended for row in self.rows) >= len(self.rows)

    def let_go(self) -> None:
        """The rows that have ended leave, and the padding that all others have goes with them."""
        stay = [n for n, row in enumerate(self.rows) if not row.ended]
        self.rows = [self.rows[n] for n in stay]
        if not stay:
            self.cache = None
            return
        width = int(self.mask[stay].sum(1).max())
        self.mask = self.mask[stay, -width:]
        cache.keep(self.cache, stay, width, self.roomy)

    def admit(self, fresh: list[_Row]) -> list[tuple[int, Answer]]:
        """The prompts of new rows go through the model, and join the others; what has ended with that."""
        wide, device = max(len(row.prompt) for row in fresh), self.student.device
        ids = torch.tensor([[0] * (wide - len(row.prompt)) + row.prompt for row in fresh], device=device)
        mask = torch.tensor([[0] * (wide - len(row.prompt)) + [1] * len(row.prompt) for row in fresh], device=device)
        logits, own = self._forward(ids, mask, None)
        if self.rows:
            self.mask = cache.joined(self.mask[:, None, :, None], mask[:, None, :, None])[:, 0, :, 0]
            cache.join(self.cache, own, self.mask.shape[1], self.roomy)
        else:
            self.mask, self.cache = mask, own
            cache.keep(own, list(range(len(fresh))), wide, self.roomy)
        self.rows += fresh
        return self._take(fresh, logits)

    def step(self) -> list[tuple[int, Answer]]:
        """One more token for each row, dropped where it has ended; what has ended with that."""
        alone = len(self.rows) == 1  # Phi-3 then computes all of it anew where LongRoPE turns
        own = [row.prompt + row.tokens if alone else row.tokens[-1:] for row in self.rows]
        ids = torch.tensor(own, device=self.student.device)
        goes_on = self.mask.new_tensor([[not row.ended] for row in self.rows])  # or positions would run out
        self.mask = torch.cat([self.mask, goes_on], 1)
        logits, self.cache = self._forward(ids, self.mask, self.cache)
        return self._take(self.rows, logits)

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, seen: Any) -> tuple[torch.Tensor, Any]:
        """Logits [rows, vocabulary] after ids [rows, up to width], the last of them alone where there is a cache of the
        others; mask [rows, width]."""
        how: dict[str, Any] = {"attention_mask": mask, "cache": seen, "use_cache": True}
        if self.positioned:
            how["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
        new = {"is_first_iteration": seen is None, "next_sequence_length": None if seen is None else 1}
        inputs = self.student.network.prepare_inputs_for_generation(ids, **new, **how)
        out = self.student.model(**inputs)
        return out.logits[:, -1], out.cache

    def _take(self, rows: list[_Row], logits: torch.Tensor) -> list[tuple[int, Answer]]:
        """Choose each row's next token; the rows that have ended with it."""
        if self.temperature > 0:
            shares = (logits.float() / self.temperature).softmax(-1).cpu()
            drawn = [torch.multinomial(own, 1, generator=row.chance) for own, row in zip(shares, rows, strict=True)]
            chosen = torch.cat(drawn).tolist()
        else:
            chosen = logits.argmax(-1).tolist()
        told = []
        for row, token in zip(rows, chosen, strict=True):
            if row.ended:
                continue
            row.tokens.append(token)
            row.ended = token in self.ends or len(row.tokens) == self.limit
            if row.ended:
                own = row.tokens[:-1] if token in self.ends else row.tokens
                text = markup.answer(self.student.tokenizer.decode(own, skip_special_tokens=True)).strip()
                told.append((row.index, Answer(text, token not in self.ends)))
        return told
