"""The cache of rows that are being answered: rows leave it, others join, and it grows without being copied.

Layers of plain attention and of a sliding window can be cut and joined; what state-space models keep cannot.
"""

from typing import Any

import torch
from torch.nn import functional as F
from transformers.cache_utils import DynamicLayer

ROOM = 64
"""Tokens that a layer has room for before it is copied: transformers' own copies itself for each one, which took half
of the time of an answer of 200 tokens (SmolLM2-135M, 16 rows, two cores)."""


class Roomy(DynamicLayer):
    """transformers' plain layer, keys and values [rows, heads, width, size], with room on the right.

    Attention is given the room too, since PyTorch would copy what is part of a tensor; a mask of `get_mask_sizes`
    leaves it out. That is no use to models that make a mask of their own."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self._hold(keys, values)

    def _hold(self, *kept: torch.Tensor) -> None:
        self.keys, self.values = kept
        self.whole = [F.pad(states, (0, 0, 0, ROOM)) for states in kept]

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        width, wider = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        if wider > self.whole[0].shape[2]:
            self._hold(self.keys, self.values)
        for states, new in zip(self.whole, (key_states, value_states), strict=True):
            states[:, :, width:wider] = new
        self.keys, self.values = (states[:, :, :wider] for states in self.whole)
        return self.whole[0], self.whole[1]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        width = self.whole[0].shape[2]
        return width if self.keys.shape[2] + query_length <= width else self.keys.shape[2] + ROOM, 0


def movable(cache: Any) -> bool:
    """Whether rows can leave and join: all layers are of attention."""
    return all(isinstance(layer, DynamicLayer) for layer in cache.layers)


def keep(cache: Any, rows: list[int], width: int, roomy: bool) -> None:
    """Only these rows stay, with their last `width` tokens."""
    if not movable(cache):
        return  # all do
    for n, layer in enumerate(cache.layers):
        keys, values = (states[rows, :, -width:] for states in (layer.keys, layer.values))
        cache.layers[n] = _layer(layer, keys, values, width, roomy)


def join(cache: Any, other: Any, width: int, roomy: bool) -> None:
    """The rows of another cache come after those that are there; `width` is the wider one's, of both from then on."""
    for n, (layer, new) in enumerate(zip(cache.layers, other.layers, strict=True)):
        keys, values = joined(layer.keys, new.keys), joined(layer.values, new.values)
        cache.layers[n] = _layer(layer, keys, values, width, roomy)


def joined(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The rows of both [rows, heads, width, size], the narrower ones with zeros on the left."""
    width = max(one.shape[2], other.shape[2])
    return torch.cat([F.pad(part, (0, 0, width - part.shape[2], 0)) for part in (one, other)])


def _layer(layer: Any, keys: torch.Tensor, values: torch.Tensor, width: int, roomy: bool) -> Any:
    """The layer with these states of `width` tokens: with room, if asked, where it is a plain one."""
    if roomy and not layer.is_sliding:
        return Roomy(keys, values)
    layer.keys, layer.values = keys, values
    if layer.is_sliding:
        layer.cumulative_length = width  # with what it has let go of
    return layer
