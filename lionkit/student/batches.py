"""Which rows form a batch, in what order, and as which tensors; the same for one process and for several.

A step takes the same rows however many processes share it, and no row counts twice.
"""

import random
from collections.abc import Callable, Iterator
from inspect import signature

import torch
from torch.nn.utils.rnn import pad_sequence

from lionkit.student.encode import IGNORED, Encoded
from lionkit.student.model import Student

BLANK = Encoded([0], [IGNORED])
"""A row that teaches nothing."""


class ByLength(torch.utils.data.Sampler[int]):
    """Rows in random order, those of one optimizer step from the longest to the shortest.

    What a step learns from is what chance gives it: steps of rows of like length would save as much padding, but
    weigh a short row's tokens more than a long one's, which went with 0.02 more validation loss on 96 real rows (one
    seed each). Depends on seed and epoch alone, so a resumed run sees the same. The last `blank` rows come in the last
    step. Of several `parts` of a step, one a process, none has all the long rows: they are dealt there and back."""

    def __init__(
        self, lengths: list[int], step: int, seed: int, epoch: Callable[[], int], blank: int = 0, parts: int = 1
    ) -> None:
        self.lengths, self.step, self.seed, self.epoch = [*lengths, *[0] * blank], step, seed, epoch
        self.real, self.parts = len(lengths), parts

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self.seed} {self.epoch()}")
        order = [*rng.sample(range(self.real), self.real), *range(self.real, len(self))]
        for start in range(0, len(order), self.step):
            rows = sorted(order[start : start + self.step], key=lambda i: -self.lengths[i])
            round_trip = [*range(self.parts), *reversed(range(self.parts))]  # 0 1 1 0, for two
            dealt = sorted(enumerate(rows), key=lambda row: round_trip[row[0] % len(round_trip)])
            order[start : start + self.step] = [i for _, i in dealt]
        return iter(order)


def pieces(batch: dict[str, torch.Tensor], rows: int, tokens: int | None) -> list[dict[str, torch.Tensor]]:
    """A padded batch [rows, longest] in parts of at most `rows` rows, each only as wide as its own longest row.

    Where `tokens` are given, a part has at most that many, or a single row.
    """
    widths = batch["attention_mask"].sum(1).tolist()
    parts = ((part, max(widths[part])) for part in spans(widths, rows, tokens))
    return [{name: values[part, :width] for name, values in batch.items()} for part, width in parts]


def spans(widths: list[int], rows: int, tokens: int | None) -> Iterator[slice]:
    """Where such parts of rows of these widths begin and end."""
    start = 0
    while start < len(widths):
        fit = rows if tokens is None else min(rows, max(tokens // widths[start], 1))
        yield slice(start, min(start + fit, len(widths)))
        start += fit


def packed(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A padded batch [rows, longest] as one row [1, tokens] without padding. Positions that begin anew have
    transformers' attention keep the rows apart, where it is given no mask (its `masking_utils`)."""
    real = batch["attention_mask"].bool()
    positions = torch.arange(real.shape[1], device=real.device).expand_as(real)
    return {"position_ids": positions[real][None], **{k: batch[k][real][None] for k in ("input_ids", "labels")}}


@torch.no_grad()
def keeps_apart(student: Student) -> bool:
    """Whether a packed row comes out as it does alone. Not every model's attention heeds positions, and what remembers
    in another way than by attention takes one row for the next."""
    if "position_ids" not in signature(student.network.forward).parameters:
        return False
    size, device = student.network.get_input_embeddings().num_embeddings, student.device
    own = size // 2 + torch.arange(16) % (
        size // 2
    )  # words: special tokens, first or last, make logits hard to compare
    alone, after = (torch.cat(rows)[None].to(device) for rows in ([own], [own.flip(0), own]))
    anew = torch.arange(16, device=device).repeat(2)[None]
    student.model.eval()
    whole = student.model(input_ids=alone, use_cache=False).logits[0].float()
    apart, mixed = (
        (student.model(input_ids=after, position_ids=anew, use_cache=False, **how).logits[0, 16:].float() - whole)
        for how in ({}, {"attention_mask": torch.ones_like(after)})  # with a mask all see what came before
    )
    return bool(apart.abs().mean() < mixed.abs().mean() / 4)  # rounding to 16 bits is a twentieth of it


def collate(rows: list[Encoded]) -> dict[str, torch.Tensor]:
    """Rows to tensors [batch, longest]: padded on the right by whatever token is 0, masked and never a label."""
    ids = [torch.tensor(row.input_ids) for row in rows]
    labels = [torch.tensor(row.labels) for row in rows]
    return {
        "input_ids": pad_sequence(ids, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
    }
