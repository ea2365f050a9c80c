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
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SHORT = 256
"""Most queries a row for which plain attention is the faster one on a CPU."""
FEW = 16
"""Rows that oneDNN's layout of a weight is chosen for while answering."""
PLAIN = "lionkit_plain"
"""The name of `_attend` among transformers' ways to compute attention."""
LIMIT = 1_000_000_000
"""Most weights that are decoded: 2 GB in bfloat16, 4 GB in float32."""


@contextmanager
def dense(model: Any, dtype: torch.dtype) -> Iterator[None]:
    """Decoded weights and LoRA in place for the linear layers of a model on the CPU, within the block.

    Entered with gradients off (to respond), the adapter is added to the decoded weights as it stands at that moment.
    """
    packed = [m for m in model.modules() if isinstance(m, Linear4bit)]
    adapted = [m for m in model.modules() if isinstance(m, LoraLayer) and _simple(m)]
    fixed = not torch.is_grad_enabled()
    copied = {*packed, *((layer.base_layer for layer in adapted) if fixed else ())}
    if next(model.parameters()).device.type != "cpu" or sum(m.in_features * m.out_features for m in copied) > LIMIT:
        yield
        return
    weights: dict[Any, torch.Tensor] = {
        m: dequantize_4bit(m.weight.data, m.weight.quant_state).to(dtype) for m in packed
    }
    head = model.get_output_embeddings()
    if isinstance(head, torch.nn.Linear):  # and not what peft puts around it
        weights.setdefault(head, head.weight)
    for layer in adapted:
        base = layer.base_layer
        weights.setdefault(base, base.weight)
        if fixed:
            whole = weights[base].float().addmm(*_low_rank(layer)[::-1], alpha=layer.scaling["default"])
            weights[base] = whole.to(dtype)
        else:
            layer.forward = _lora_forward(layer, weights[base], dtype)
    pack = fixed and dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    for base in copied if pack else ():
        weights[base] = torch.ops.mkldnn._reorder_linear_weight(weights[base], FEW)
    for base, weight in weights.items():
        product = _packed_product if pack and base in copied else F.linear
        base.forward = partial(_on_rows, weight=weight, bias=base.bias, product=product)
    for layer in adapted if fixed else ():
        layer.forward = layer.base_layer.forward
    try:
        yield
    finally:
        for layer in (*weights, *adapted):
            del layer.forward  # uncovers the class's own method


def _on_rows(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, product: Callable[..., torch.Tensor]
) -> torch.Tensor:
    """x [..., in] as one matrix of rows: for a strided [batch, 1, in] PyTorch copies the head's weight per row."""
    return product(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], len(weight))


def _packed_product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """F.linear for a weight in oneDNN's own layout, bit for bit: `torch.compile` calls it when it freezes a model.
    Otherwise the weight is put into that layout for each product, which for 16 rows takes a third of the time."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _simple(layer: Any) -> bool:
    """One plain LoRA on a linear layer; anything else (dropout, DoRA, a bias, merged) keeps peft's own forward."""
    return (
        isinstance(layer.base_layer, torch.nn.Linear)
        and list(layer.active_adapters) == ["default"]
        and isinstance(layer.lora_dropout["default"], torch.nn.Identity)
        and not (layer.lora_variant or layer.lora_bias["default"] or layer.merged or layer.disable_adapters)
    )


def _lora_forward(layer: Any, weight: torch.Tensor, dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    """x Wᵀ + bias + (x Aᵀ) Bᵀ for x [..., in], W [out, in], A [rank, in], B [out, rank]."""
    bias, scale = layer.base_layer.bias, layer.scaling["default"]

    def forward(x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        a, b = _low_rank(layer)
        return (
            F.linear(rows, weight, bias).addmm_(rows @ a.to(dtype).T, (b * scale).to(dtype).T).view(*x.shape[:-1], -1)
        )

    return forward


def _low_rank(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B of a LoRA layer, looked up anew: resuming replaces them."""
    return layer.lora_A["default"].weight, layer.lora_B["default"].weight


@contextmanager
def attention(network: Any, how: str, wanted: bool) -> Iterator[bool]:
    """Within the block, where it is wanted, a network's attention is computed in another way; whether it is."""
    own = network.config._attn_implementation
    if wanted:
        network.set_attn_implementation(how)
    try:
        yield network.config._attn_implementation == how
    finally:
        if wanted:
            network.set_attn_implementation(own)


def _attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any, **how: Any
) -> Any:
    """Attention of few queries [rows, heads, new, size] over key and value [rows, groups, width, size], without
    gradients; fused where they are many, or the mask is a model's own.

    With masks, PyTorch's fused one takes 6 times as long for one query at width 100 and 14 times at 400 (bfloat16)."""
    rows, heads, new, size = query.shape
    if new > SHORT or attention_mask is None or attention_mask.dtype != torch.bool:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **how)
    groups = key.shape[1]
    weights = query.reshape(rows, groups, -1, size) @ key.mT
    weights = weights.view(rows, groups, -1, new, key.shape[2]).mul_(how.get("scaling") or size**-0.5)
    weights.masked_fill_(~attention_mask[:, :, None], torch.finfo(weights.dtype).min)
    mixed = weights.softmax(-1, dtype=torch.float32).to(value.dtype).view(rows, groups, -1, key.shape[2]) @ value
    return mixed.view(rows, heads, new, size).transpose(1, 2), None


AttentionInterface.register(PLAIN, _attend)
AttentionMaskInterface.register(PLAIN, sdpa_mask)
