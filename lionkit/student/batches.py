"""Which rows form a batch, in what order, and as which tensors; the same for one process and for several.

A step takes the same rows however many processes share it, and no row counts twice. Packing is not covered.
"""

import random
from collections.abc import Callable, Iterator

import torch
from torch.nn.utils.rnn import pad_sequence

from lionkit.student.encode import IGNORED, Encoded

BLANK = Encoded([0], [IGNORED])
"""A row that teaches nothing."""


class ByLength(torch.utils.data.Sampler[int]):
    """Rows in random order, those of one optimizer step from the longest to the shortest.

    What a step learns from is what chance gives it: steps of rows of like length would save as much padding, but
    weigh a short row's tokens more than a long one's, which went with 0.02 more validation loss on 96 real rows (one
    seed each). Depends on seed and epoch alone, so a resumed run sees the same. The `blank` last rows come last."""

    def __init__(self, lengths: list[int], step: int, seed: int, epoch: Callable[[], int], blank: int = 0) -> None:
        self.lengths, self.step, self.seed, self.epoch, self.blank = lengths, step, seed, epoch, blank

    def __len__(self) -> int:
        return len(self.lengths) + self.blank

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self.seed} {self.epoch()}")
        order = rng.sample(range(len(self.lengths)), len(self.lengths))
        for start in range(0, len(order), self.step):
            order[start : start + self.step] = sorted(order[start : start + self.step], key=lambda i: -self.lengths[i])
        return iter([*order, *range(len(self.lengths), len(self))])


def pieces(batch: dict[str, torch.Tensor], rows: int, tokens: int | None) -> list[dict[str, torch.Tensor]]:
    """A padded batch [rows, longest] in parts of at most `rows` rows, each only as wide as its own longest row.

    Where `tokens` are given, a part has at most that many, or a single row.
    """
    widths = batch["attention_mask"].sum(1).tolist()
    parts, start = [], 0
    while start < len(widths):
        fit = rows if tokens is None else min(rows, max(tokens // widths[start], 1))
        part = slice(start, start + fit)
        parts.append({name: values[part, : max(widths[part])] for name, values in batch.items()})
        start = part.stop
    return parts


def collate(rows: list[Encoded]) -> dict[str, torch.Tensor]:
    """Rows to tensors [batch, longest]: padded on the right by whatever token is 0, masked and never a label."""
    ids = [torch.tensor(row.input_ids) for row in rows]
    labels = [torch.tensor(row.labels) for row in rows]
    return {
        "input_ids": pad_sequence(ids, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
    }
