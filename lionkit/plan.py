"""What a run will take, before anything is loaded or paid: calls and tokens by role, memory of the student.

Memory is arithmetic (QLoRA, arXiv 2305.14314) on a model built without storage on PyTorch's meta device, so the
weights are exact for every architecture. Activations are those of a Llama-like decoder block with gated MLP;
mixtures of experts and state-space models keep others, which are not covered, nor are several cards, nor what
loading needs (less than training, but for the file's pages, which give way). `tests/bench/student.py memory` holds
it against measurements.
Calls are counted from the settings; tokens assume replies at `REPLY` tokens, so a pilot of a few calls is better.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import psutil

from lionkit import pools
from lionkit.config import Config
from lionkit.errors import StudentError, first_line
from lionkit.pools.rows import is_hub_name

REPLY = {"teacher": 200, "referee": 150, "generator": 80}
"""Tokens of a typical reply."""
PROMPT = {"teacher": 40, "referee": 700, "generator": 180}
"""Tokens of a typical prompt, answers included."""
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


def calls(config: Config, done: Callable[[int, str], bool] = lambda iteration, stage: False) -> pd.DataFrame:
    """One row a role: calls, prompt_tokens, reply_tokens to come, dollars (NaN without a price).

    `done(iteration, stage)` says which stages are finished already. The teacher answers each instruction once,
    whichever pools it is in; the referee sees each pair in both orders. Calls that are asked again come on top; three
    candidates are taken for one that is accepted. Each instruction counts with the first stage that asks about it.
    """
    new = 0 if config.seeds_by == "none" else config.hard_size + config.easy_size
    counts = {"teacher": 0, "referee": 0, "generator": 0}
    for iteration in range(config.iterations + 1):
        fresh = config.train_size if iteration == 0 else new if iteration > 1 else 0
        if not done(iteration, "evaluation"):
            counts["referee"] += 2 * config.heldout_size
            counts["teacher"] += config.heldout_size if iteration == 0 else 0
        if not done(iteration, "discrimination"):
            counts["referee"] += 2 * (config.train_size + new * max(iteration - 1, 0))
            counts["teacher"] += 0 if done(max(iteration, 1), "imitation") else fresh
        if 1 <= iteration < config.iterations and not done(iteration, "generation"):
            counts["generator"] += 3 * new
    table = pd.DataFrame({"role": counts.keys(), "calls": counts.values()})
    table["prompt_tokens"], table["reply_tokens"] = (table["calls"] * table["role"].map(t) for t in (PROMPT, REPLY))
    models = [getattr(config, f"{role}_model", "") or config.api.model for role in counts]
    price = np.array([config.api.price(model) or (np.nan, np.nan) for model in models])
    tokens = table[["prompt_tokens", "reply_tokens"]].to_numpy()
    return table.assign(dollars=(tokens * price).sum(axis=1) / 1e6)


def report(run: Any, place: str, memory_bytes: int = 0) -> None:
    """Print what a run will take: its calls, its memory on `cpu`, `cuda` or `mps`, and what was measured so far."""
    memory_bytes = memory_bytes or room(place)
    config, student = run.config, run.config.student
    print("\nCalls to come (a rough guide; stored replies are not asked again):")
    table = calls(_sized(run), run.done)
    table.loc[len(table)] = ["total", *(table[name].sum(min_count=1) for name in table.columns[1:])]
    print(table.to_string(index=False, na_rep="-"))
    sizes = f"{student.device_rows} rows at once, length {student.max_length}"
    print(f"\nMemory on {place} to train {student.model}, {sizes}:")
    print(memory(student.model, config, device=place).to_string(index=False))
    largest = largest_batch(student.model, config, memory_bytes, device=place)
    most = "4096 or more" if largest == 4096 else largest or "none fits"
    pieces = " (a CPU takes them in pieces)" if place == "cpu" else ""
    print(f"Most rows at once in {memory_bytes / 2**30:.1f} GiB: {most}{pieces}")
    for stage, values in run.stages.items():
        if measured := values.get("peak_memory"):
            held = f"{stage}: measured {measured / 2**30:.2f} GiB, with all else that the process held"
            planned = values.get("planned_memory")
            print(f"{held}; planned {planned / 2**30:.2f} GiB ({planned / measured - 1:+.0%})" if planned else held)


def _sized(run: Any) -> Any:
    """The run's settings with the sizes that its pools have, or will have with as many seeds as there are."""
    config = run.config
    if run.done(0, "pools"):
        return replace(config, train_size=run.result(0, "pools")["train"])
    if not config.seed_file or is_hub_name(config.seed_file):
        return config
    seeds = len(pools.deduplicate(pools.read_instructions(config.seed_file))[0])
    left = max(seeds - config.heldout_size, 1)
    if left < config.train_size:
        print(f"{seeds} seeds: {config.heldout_size} held out, so {left} to train on, not {config.train_size}.")
    return replace(config, train_size=min(config.train_size, left))


def memory(model: Any, config: Any, *, device: str | None = None) -> pd.DataFrame:
    """Bytes to train a student at its longest rows, one row a part and their total.

    `model`: name, hub id, folder, or a transformers configuration; `device`: `cpu` (the process), `cuda` (the card) or
    `mps` (the process and its share of the same memory; never measured), None is what is there. Raises StudentError
    where the configuration cannot be had or is no causal language model's.
    """
    parts = _parts(_shape(model), config.student, device or here(), config.student.device_rows)
    table = pd.DataFrame({"part": list(parts), "bytes": list(parts.values())})
    table.loc[len(table)] = ["total", sum(parts.values())]
    return table.assign(GiB=(table["bytes"] / 2**30).round(2))


def largest_batch(model: Any, config: Any, memory_bytes: int, *, device: str | None = None) -> int:
    """The most rows of `max_length` a device step can have within `memory_bytes` (no more than 4096); 0: none."""
    shape, place = _shape(model), device or here()
    return bisect_right(
        range(1, 4097), memory_bytes, key=lambda batch: sum(_parts(shape, config.student, place, batch).values())
    )


def _parts(shape: SimpleNamespace, student: Any, device: str, batch: int) -> dict[str, int]:
    import torch

    from lionkit.student.dense import LIMIT
    from lionkit.student.model import choose_dtype
    from lionkit.student.train import AT_ONCE, EAGER_LENGTH

    size = choose_dtype(torch.device(device)).itemsize if device == "cpu" else 2
    tokens, adapters = batch * student.max_length, student.rank * shape.adapter
    if device == "cpu":  # a batch goes through the model in pieces
        tokens = min(tokens, max(AT_ONCE, student.max_length))
    nf4 = student.quantize == "nf4"
    dense = nf4 and device == "cpu" and shape.linear <= LIMIT
    # Saved for backward by one layer, a token: both norms' float32 inputs; their outputs, q, k, v and the attention's
    # output; gate, its activation, up and their product. Plain attention adds its weights, in 32 bits and rounded.
    layer = 8 * shape.hidden + size * (6 * shape.hidden + 4 * shape.inner)
    if device == "cpu" and student.max_length <= EAGER_LENGTH:
        layer += shape.heads * student.max_length * (4 if size == 4 else 4 + size)
    else:
        layer += size * shape.hidden
    logits = int(tokens * LABELLED) * shape.vocab * 12  # log-probabilities, their gradient and the logits', in 32 bits
    if student.gradient_checkpointing:  # a layer is computed again only after the logits are gone
        kept, at_work = shape.layers * size * shape.hidden * tokens, max(logits, layer * tokens)
    else:
        kept, at_work = shape.layers * layer * tokens, logits
    trained = adapters * (8 + (size if size < 4 else 0))  # 32 bits, and a copy to multiply by
    optimizer = adapters * (2 if device == "cuda" else 8)  # paged 8-bit AdamW, or AdamW
    freed = SLACK[0] * kept + SLACK[1] * layer * tokens + SLACK[2] * (trained + optimizer)
    return {
        "CUDA context" if device == "cuda" else "Python and libraries": PROCESS_BYTES,
        "weights": int(shape.linear * (NF4_BYTES if nf4 else size)) + shape.other * size,
        "decoded weights": (shape.linear if dense else 2 * shape.largest if nf4 else 0) * size,
        "adapters and gradients": trained,
        "optimizer": optimizer,
        "activations": kept,
        "logits, or a layer again": at_work,
        "allocator": int(freed) if device == "cpu" else 0,
    }


def here() -> str:
    """The kind of device that this machine would train on."""
    from lionkit.student.model import choose_device

    return choose_device("auto").type


def room(device: str) -> int:
    """Bytes of memory in all: the card's, else the machine's."""
    import torch

    if device == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory
    return psutil.virtual_memory().total


def _shape(model: Any) -> SimpleNamespace:
    """What the memory of a model depends on."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    from lionkit.student.named import resolve

    try:
        if isinstance(model, (str, Path)):
            model = AutoConfig.from_pretrained(resolve(model)[1], trust_remote_code=False)
        with torch.device("meta"):
            network = AutoModelForCausalLM.from_config(model, trust_remote_code=False)
        text, head = model.get_text_config(), network.get_output_embeddings()
        linears = [m.weight for m in network.modules() if isinstance(m, (torch.nn.Linear, Conv1D)) and m is not head]
        linear = sum(weight.numel() for weight in linears)
        return SimpleNamespace(
            linear=linear,  # weights of all linear layers but the output head: quantised, and adapted
            other=sum(p.numel() for p in network.parameters()) - linear,  # embeddings, head, norms
            adapter=sum(sum(weight.shape) for weight in linears),  # LoRA weights per unit of rank
            largest=max(weight.numel() for weight in linears),  # of one linear layer
            hidden=text.hidden_size,
            inner=max(max(weight.shape) for weight in linears),  # width of the MLP
            layers=text.num_hidden_layers,
            heads=text.num_attention_heads or 0,
            vocab=text.vocab_size,
        )
    except StudentError:
        raise
    except Exception as error:  # the code of any of transformers' models, on settings from anywhere
        name = model if isinstance(model, (str, Path)) else type(model).__name__
        remedy = "give a causal language model's folder, or its hub id and a network"
        raise StudentError(f"no plan for {name} ({first_line(error)}): {remedy}") from None
