"""Fast linear layers on the CPU: 4-bit weights decoded once per call of train or respond, LoRA added in place.

bitsandbytes decodes a layer's NF4 weight at every multiplication, and peft adds four tensor copies to each LoRA layer.
Inside `dense(model)` each layer multiplies by a decoded copy in the compute type, and the LoRA product is added into
the base's output. The numbers are those of the layers it stands in for, up to the rounding of the compute type; the
4-bit weights themselves are untouched. Costs two bytes a weight in bfloat16 for as long as the block lasts; larger
models keep their layers as they are. GPUs are not covered: bitsandbytes has fused kernels there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from peft.tuners.lora import LoraLayer
from torch.nn import functional as F

LIMIT = 1_000_000_000
"""Most weights that are decoded: 2 GB in bfloat16, 4 GB in float32."""


@contextmanager
def dense(model: Any, dtype: torch.dtype) -> Iterator[None]:
    """Decoded weights and LoRA in place for the linear layers of a model on the CPU, within the block.

    Entered with gradients off (to respond), the adapter is taken as it stands at that moment.
    """
    packed = [m for m in model.modules() if isinstance(m, Linear4bit)]
    if next(model.parameters()).device.type != "cpu" or sum(m.weight.quant_state.shape.numel() for m in packed) > LIMIT:
        yield
        return
    weights = {m: dequantize_4bit(m.weight.data, m.weight.quant_state).to(dtype) for m in packed}
    adapted = [m for m in model.modules() if isinstance(m, LoraLayer) and _simple(m)]
    head = model.get_output_embeddings()
    weights.setdefault(head, head.weight)
    for layer, weight in weights.items():
        layer.forward = partial(_on_rows, weight=weight, bias=layer.bias)
    for layer in adapted:
        layer.forward = _lora_forward(layer, weights.get(layer.base_layer, layer.base_layer.weight), dtype)
    try:
        yield
    finally:
        for layer in (*weights, *adapted):
            del layer.forward  # uncovers the class's own method


def _on_rows(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """x [..., in] as one matrix of rows: for a strided [batch, 1, in] PyTorch copies the head's weight per row."""
    return F.linear(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], len(weight))


def _simple(layer: Any) -> bool:
    """One plain LoRA on a linear layer; anything else (dropout, DoRA, merged) keeps peft's own forward."""
    return (
        isinstance(layer.base_layer, torch.nn.Linear)
        and list(layer.active_adapters) == ["default"]
        and isinstance(layer.lora_dropout["default"], torch.nn.Identity)
        and not (layer.lora_variant or layer.merged or layer.disable_adapters)
    )


def _lora_forward(layer: Any, weight: torch.Tensor, dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    """x Wᵀ + bias + (x Aᵀ) Bᵀ for x [..., in], W [out, in], A [rank, in], B [out, rank]."""
    bias, scale = layer.base_layer.bias, layer.scaling["default"]

    def low_rank() -> tuple[torch.Tensor, torch.Tensor]:  # looked up anew: resuming replaces the parameters
        return layer.lora_A["default"].weight.to(dtype), (layer.lora_B["default"].weight * scale).to(dtype)

    fixed = None if torch.is_grad_enabled() else low_rank()

    def forward(x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        a, b = fixed or low_rank()
        return F.linear(rows, weight, bias).addmm_(rows @ a.T, b.T).view(*x.shape[:-1], -1)

    return forward
