"""What training a student will take of a device's memory, by arithmetic, before a weight is loaded.

After QLoRA (arXiv 2305.14314), on a model built without storage on PyTorch's meta device, so that the weights are exact
for every architecture. Activations are those of a Llama-like decoder block with gated MLP; mixtures of experts and
state-space models keep others, which are not covered; nor is what loading needs (less than
training, but for the file's pages, which give way). `tests/bench/student.py memory` holds it against measurements.
"""

import warnings
from bisect import bisect_right
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from lionkit.errors import StudentError, first_line
from lionkit.student import model as loading
from lionkit.student import ranks
from lionkit.student.batches import ByLength, spans
from lionkit.student.dense import LIMIT
from lionkit.student.encode import Encoded, label_audit
from lionkit.student.named import read, resolve
from lionkit.student.train import AT_ONCE, EAGER_LENGTH

NF4_BYTES = 0.5 + 0.127 / 8
"""Bytes a weight in NF4 with double quantisation (QLoRA paper, section 3)."""
LABELLED = 0.6
"""Share of a full batch's tokens that have labels."""
PROCESS_BYTES = 556 * 2**20
"""What is there before a weight is: Python with torch, transformers, peft
(480 MiB after import, the rest loads later), or a CUDA context (typical, not measured)."""
SLACK = (0.2, 3, 1.5)
"""Freed blocks that glibc keeps while a CPU trains: a share of the activations, times one layer's, and times what
belongs to the adapters. Chosen by hand on five measured peaks, two of SmolLM2, two of a Llama of 305M weights and one
of 76M."""
MOST_ROWS = 5000
"""Of more, which take seconds to encode, some step will have rows as long as may be."""


def parts(model: Any, config: Any, device: str, pairs: Sequence[tuple[str, str]] = (), held: int = 0) -> dict[str, int]:
    """Bytes by part, as `plan.memory` has them."""
    shape, own = _shape(model), config.student
    pieces = {_full(own, device, own.device_rows)}
    if 0 < len(pairs) <= MOST_ROWS:
        _, tokenizer, template = read(*resolve(model), own.template)
        rows, _ = label_audit(tokenizer, pairs, template=template, max_length=own.max_length)
        pieces = _pieces(rows, config, device) or pieces
    found = (_parts(shape, own, device, piece, held) for piece in pieces)
    return max(found, key=lambda parts: sum(parts.values()))


def largest_batch(model: Any, config: Any, memory_bytes: int, device: str) -> int:
    """The most rows of `max_length` a device step can have within `memory_bytes` (no more than 4096); 0: none."""
    shape, own = _shape(model), config.student

    def total(batch: int) -> int:
        return sum(_parts(shape, own, device, _full(own, device, batch)).values())

    return bisect_right(range(1, 4097), memory_bytes, key=total)


class _Piece(NamedTuple):
    """What goes through a device at once."""

    rows: int
    width: int
    labels: int
    longest: int
    """Tokens of the longest row of all."""


def _full(student: Any, device: str, batch: int) -> _Piece:
    """The most at once where every row is as long as it may be."""
    if device == "cpu":
        batch = min(batch, max(AT_ONCE // student.max_length, 1))
    size = (1, batch * student.max_length) if student.pack else (batch, student.max_length)
    return _Piece(*size, int(batch * student.max_length * LABELLED), student.max_length)


def _pieces(rows: list[Encoded], config: Any, device: str) -> set[_Piece]:
    """All pieces of a training on these rows."""
    own, found = config.student, set()
    widths, labels = [len(row.input_ids) for row in rows], [row.supervised for row in rows]
    share = max(own.step_rows // ranks.processes(), 1)
    most = min(own.device_rows or share, share), AT_ONCE if device == "cpu" else None
    for epoch in range(own.epochs):
        order = list(ByLength(widths, own.step_rows, config.seed, partial(int, epoch), parts=ranks.processes()))
        for start in range(0, len(order), share):
            step = order[start : start + share]
            for piece in (step[part] for part in spans([widths[i] for i in step], *most)):
                size = (1, sum(widths[i] for i in piece)) if own.pack else (len(piece), widths[piece[0]])
                found.add(_Piece(*size, sum(labels[i] for i in piece), max(widths)))
    return found


def _parts(shape: SimpleNamespace, student: Any, device: str, piece: _Piece, held: int = 0) -> dict[str, int]:
    size = loading.choose_dtype(torch.device(device)).itemsize if device == "cpu" else 2
    tokens, adapters = piece.rows * piece.width, student.rank * shape.adapter
    nf4, parts = student.quantize == "nf4", ranks.processes() if student.shard else 1
    dense = nf4 and device == "cpu" and shape.linear <= LIMIT and parts == 1
    # Saved for backward by one layer, a token: both norms' float32 inputs; their outputs, q, k, v and the attention's
    # output; gate, its activation, up and their product. Plain attention adds its weights, in 32 bits and rounded.
    layer = 8 * shape.hidden + size * (6 * shape.hidden + 4 * shape.inner)
    if device == "cpu" and piece.longest <= EAGER_LENGTH:
        layer += shape.heads * piece.width * (4 if size == 4 else 4 + size)
    else:
        layer += size * shape.hidden
    logits = piece.labels * shape.vocab * 12  # log-probabilities, their gradient and the logits', in 32 bits
    if student.gradient_checkpointing:  # a layer is computed again only after the logits are gone
        kept, at_work = shape.layers * size * shape.hidden * tokens, max(logits, layer * tokens)
    else:
        kept, at_work = shape.layers * layer * tokens, logits
    trained = adapters * (8 + (size if size < 4 else 0))  # 32 bits, and a copy to multiply by
    optimizer = adapters * (2 if device == "cuda" else 8)  # paged 8-bit AdamW, or AdamW
    weights = int(shape.linear * (NF4_BYTES if nf4 else size)) + shape.other * size
    freed = SLACK[0] * kept + SLACK[1] * layer * tokens + SLACK[2] * (trained + optimizer)
    return {
        **({"CUDA context": PROCESS_BYTES} if device == "cuda" else {"Python and libraries": max(PROCESS_BYTES, held)}),
        "weights": weights // parts,
        **({"a layer's weights, brought together": 2 * weights // shape.layers} if parts > 1 else {}),
        "decoded weights": (shape.linear if dense else 2 * shape.largest if nf4 else 0) * size,
        "adapters and gradients": trained,
        "optimizer": optimizer,
        "activations": kept,
        "logits, or a layer again": at_work,
        "allocator": int(freed) if device == "cpu" else 0,
    }


def _shape(model: Any) -> SimpleNamespace:
    """What the memory of a model depends on."""
    named = isinstance(model, (str, Path))
    source = resolve(model)[1] if named else ""
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False) if named else model
        with torch.device("meta"):
            network = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        text, head = config.get_text_config(), network.get_output_embeddings()
        layers = [m for m in network.modules() if isinstance(m, (torch.nn.Linear, Conv1D)) and m is not head]
        linears = [layer.weight for layer in layers]
        linear = sum(m.weight.numel() for m in layers if type(m) in (torch.nn.Linear, Conv1D))
        whole = sum(p.numel() for p in network.parameters())
        with warnings.catch_warnings(action="ignore"):  # peft's, of what it does about Conv1D
            adapted = get_peft_model(network, LoraConfig(r=1, target_modules="all-linear", task_type="CAUSAL_LM"))
        return SimpleNamespace(
            linear=linear,  # weights of all linear layers but the output head: quantised
            other=whole - linear,  # embeddings, head, norms, and what only looks like a linear layer
            adapter=adapted.get_nb_trainable_parameters()[0],  # LoRA weights per unit of rank
            largest=max(weight.numel() for weight in linears),  # of one linear layer
            hidden=text.hidden_size,
            inner=max(max(weight.shape) for weight in linears),  # width of the MLP
            layers=text.num_hidden_layers,
            heads=text.num_attention_heads or 0,
            vocab=text.vocab_size,
        )
    except Exception as error:  # the code of any of transformers' models, on settings from anywhere
        name = model if named else type(model).__name__
        remedy = "give a causal language model's folder, or its hub id and a network"
        raise StudentError(f"no plan for {name} ({first_line(error)}): {remedy}") from None
