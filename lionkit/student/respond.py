"""The student's responses: left-padded batches of similar length, in the order asked.

Padding on the left keeps every row's last token next to its response. Rows are sorted by length, longest
first, so that a batch carries little padding and a batch too large for the device fails at once.
Greedy in float32 a batch gives what one row at a time gives; in bfloat16 a near tie may fall the other way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from transformers import GenerationConfig

from lionkit.progress import Progress
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
) -> list[Answer]:
    """Answers to `texts`, in order. Temperature 0 is greedy; above it, samples depend on `seed` and the batching."""
    prompts = [prompt_ids(student.tokenizer, text, template=student.template) for text in texts]
    order = sorted(range(len(texts)), key=lambda i: -len(prompts[i]))
    answers: dict[int, Answer] = {}
    torch.manual_seed(seed)
    student.model.eval()
    with (
        torch.no_grad(),
        explained("answering", f"lower response_batch ({batch_size}) or max_new_tokens ({max_new_tokens})"),
        dense(student.model, student.dtype),
        Progress(len(texts), "student", "responses", shown=progress) as bar,
    ):
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            rows = _generate(student, [prompts[i] for i in chosen], max_new_tokens, temperature)
            answers.update(zip(chosen, rows, strict=True))
            bar.update(len(chosen))
    return [answers[i] for i in range(len(texts))]


def _generate(student: Student, prompts: list[list[int]], max_new_tokens: int, temperature: float) -> list[Answer]:
    """One batch. A row counts as ended at the tokenizer's or the model's own end-of-sequence token."""
    tokenizer, width = student.tokenizer, max(map(len, prompts))
    ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(p)) + p for p in prompts], device=student.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=student.device)
    own = student.model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
    sampling = (
        {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0}
        if temperature > 0
        else {"do_sample": False}
    )
    asked = {"max_new_tokens": max_new_tokens, "eos_token_id": sorted(ends), "pad_token_id": tokenizer.pad_token_id}
    with _without_settings(student):
        out = student.model.generate(input_ids=ids, attention_mask=mask, **asked, **sampling)
    answers = []
    for row in out[:, width:].tolist():
        length = next((n for n, token in enumerate(row) if token in ends), len(row))
        answers.append(Answer(tokenizer.decode(row[:length], skip_special_tokens=True).strip(), length == len(row)))
    return answers


@contextmanager
def _without_settings(student: Student) -> Iterator[None]:
    """A base may come with beams, penalties or suppressed tokens of its own: within the block it has none."""
    own = student.model.generation_config
    student.model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        student.model.generation_config = own
        if student.adapted:  # peft hands its own on to the base
            student.model.get_base_model().generation_config = own
