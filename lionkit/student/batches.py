"""Which rows form a batch, in what order, and as which tensors; the same for one process and for several.

A step takes the same rows however many processes share it, and no row counts twice. Packing is not covered.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import torch

from lionkit.errors import StudentError
from lionkit.student.encode import IGNORED, Encoded

BLANK = Encoded([0], [IGNORED])
"""A row that teaches nothing."""


def share(batch_size: int, accumulation: int, processes: int) -> tuple[int, int]:
    """(rows a device step, device steps an optimizer step) of each of several processes that share the rows."""
    steps = math.gcd(accumulation, processes)
    if batch_size % (processes // steps):
        raise StudentError(
            f"{processes} processes cannot share steps of batch_size {batch_size} x accumulation {accumulation} rows: "
            f"make one of them a multiple of {processes}"
        )
    return batch_size // (processes // steps), accumulation // steps


def fill(rows: list[Encoded], batch: int, processes: int) -> list[Encoded]:
    """The rows, and as many blank ones that several processes have equally many batches (or one would repeat rows)."""
    return rows + [BLANK] * (-len(rows) % (batch * processes)) if processes > 1 else rows


class ByLength(torch.utils.data.Sampler[int]):
    """Batches of similar length in random order: the rows are shuffled, sorted within groups of eight batches,
    cut into batches, and the full ones shuffled. Depends on seed and epoch alone, so a resumed run sees the same.
    Rows without a length, the `blank` last ones, come last."""

    def __init__(self, lengths: list[int], batch: int, seed: int, epoch: Callable[[], int], blank: int = 0) -> None:
        self.lengths, self.batch, self.seed, self.epoch, self.blank = lengths, batch, seed, epoch, blank

    def __len__(self) -> int:
        return len(self.lengths) + self.blank

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self.seed} {self.epoch()}")
        order = rng.sample(range(len(self.lengths)), len(self.lengths))
        span = 8 * self.batch
        for start in range(0, len(order), span):
            order[start : start + span] = sorted(order[start : start + span], key=lambda i: -self.lengths[i])
        batches = [order[i : i + self.batch] for i in range(0, len(order), self.batch)]
        rest = batches.pop() if len(order) % self.batch else []
        rng.shuffle(batches)
        return iter([i for batch in (*batches, rest, range(len(self.lengths), len(self))) for i in batch])


def collate(tokenizer: Any) -> Callable[[list[Encoded]], dict[str, torch.Tensor]]:
    """Rows to tensors [batch, longest]: padded on the right, the padding masked and never a label."""
    pad = tokenizer.pad_token_id

    def stack(rows: list[Encoded]) -> dict[str, torch.Tensor]:
        width = max(len(row.input_ids) for row in rows)
        columns = {
            "input_ids": [row.input_ids + [pad] * (width - len(row.input_ids)) for row in rows],
            "attention_mask": [[1] * len(row.input_ids) + [0] * (width - len(row.input_ids)) for row in rows],
            "labels": [row.labels + [IGNORED] * (width - len(row.labels)) for row in rows],
        }
        return {name: torch.tensor(values) for name, values in columns.items()}

    return stack
