"""The student's responses: left-padded batches of similar length, in the order asked.

Padding on the left keeps every row's last token next to its response. Rows are sorted by length, longest
first, so that a batch carries little padding and a batch too large for the device fails at once.
Greedy in float32 a batch gives what one row at a time gives; in bfloat16 a near tie may fall the other way.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from lionkit.progress import Progress
from lionkit.records import content_id
from lionkit.student.checkpoint import explained
from lionkit.student.dense import dense
from lionkit.student.encode import prompt_ids
from lionkit.student.model import Student


class Answer(NamedTuple):
    """A response, and whether it was cut at the token limit instead of ended by the student."""

    text: str
    cut: bool


def respond(
    student: Student,
    texts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = True,
    keep: Callable[[int, Answer], None] | None = None,
) -> list[Answer]:
    """Answers to `texts`, in order. Temperature 0 is greedy; above it, answers are drawn from `seed`.

    `keep` is called with a text's index and its answer as soon as its batch is answered, so that a caller may write
    it down. Called again with the texts that are left, in the same order, this goes on with the same batches where
    whole batches were kept; and since a batch draws from `seed` and its own prompts, the answers are then those of a
    call that was not interrupted, at any temperature. Other batches draw other answers above temperature 0; at 0
    they change nothing but near ties in bfloat16. Raises StudentError where memory runs out, or a prompt with its
    answer is longer than the model can be asked.
    """
    prompts = [prompt_ids(student.tokenizer, text, template=student.template) for text in texts]
    student.require_positions(max(map(len, prompts), default=0), max_new_tokens)
    order = sorted(range(len(texts)), key=lambda i: -len(prompts[i]))
    answers: dict[int, Answer] = {}
    remedies = {"student.response_batch": batch_size, "student.max_new_tokens": max_new_tokens}
    student.model.eval()
    with (
        torch.no_grad(),
        explained("answering", remedies),
        dense(student.model, student.dtype),
        Progress(len(texts), "student", "responses", shown=progress) as bar,
    ):
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = [prompts[i] for i in chosen]
            torch.manual_seed(int(content_id(str(seed), str(batch)), 16))
            answers |= zip(chosen, _generate(student, batch, max_new_tokens, temperature), strict=True)
            if keep:
                for i in chosen:
                    keep(i, answers[i])
            bar.update(len(chosen))
    return [answers[i] for i in range(len(texts))]


def _generate(student: Student, prompts: list[list[int]], max_new_tokens: int, temperature: float) -> list[Answer]:
    """One batch. A row counts as ended at the tokenizer's or the model's own end-of-sequence token.

    Whenever a quarter of the rows have ended they leave the batch, so that nobody's length costs the others.
    """
    tokenizer, width = student.tokenizer, max(map(len, prompts))
    ids = torch.tensor([[tokenizer.eos_token_id] * (width - len(p)) + p for p in prompts], device=student.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=student.device)
    own = student.model.generation_config.eos_token_id
    own = own if isinstance(own, list) else [own]
    ends = torch.tensor(sorted({tokenizer.eos_token_id, *own} - {None}), device=student.device)
    how: dict[str, Any] = {"eos_token_id": ends.tolist(), "pad_token_id": tokenizer.eos_token_id}
    how |= {"max_length": width + max_new_tokens, "stopping_criteria": StoppingCriteriaList([_Enough(width, ends)])}
    how |= {"do_sample": temperature > 0, "return_dict_in_generate": True}
    if temperature > 0:
        how |= {"temperature": temperature, "top_p": 1.0, "top_k": 0}
    at_work, told = torch.arange(len(prompts)), [Answer("", False)] * len(prompts)
    with _without_settings(student):
        while len(at_work):
            out = student.model.generate(input_ids=ids, attention_mask=mask, **how)
            ids, cache = out.sequences, out.cache
            is_end = torch.isin(ids[:, width:], ends)
            ended = is_end.any(1)
            leaving = ended | (ids.shape[1] == how["max_length"])
            for row in leaving.nonzero().flatten().tolist():
                length = int(is_end[row].int().argmax()) if ended[row] else max_new_tokens
                text = tokenizer.decode(ids[row, width : width + length], skip_special_tokens=True).strip()
                told[at_work[row]] = Answer(text, not ended[row])
            stay = (~leaving).nonzero().flatten()
            at_work, ids = at_work[stay.cpu()], ids[stay]
            mask = torch.cat([mask[stay], mask.new_ones(len(stay), ids.shape[1] - mask.shape[1])], 1)
            if len(stay):
                cache.batch_select_indices(stay)
                how["cache"] = cache
    return told


class _Enough(StoppingCriteria):
    """Ends a call of `generate` as soon as a quarter of its rows have ended. `width`: where the responses begin."""

    def __init__(self, width: int, ends: torch.Tensor) -> None:
        self.width, self.ends = width, ends

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        ended = torch.isin(input_ids[:, self.width :], self.ends).any(1)
        return torch.full_like(ended, bool(4 * ended.sum() >= len(ended)))


@contextmanager
def _without_settings(student: Student) -> Iterator[None]:
    """A base may come with beams, penalties or suppressed tokens of its own: within the block it has none."""
    network = student.model.get_base_model() if student.adapted else student.model
    own = network.generation_config
    network.generation_config = GenerationConfig()
    try:
        yield
    finally:
        network.generation_config = own
