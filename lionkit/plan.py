"""What a run will take, before anything is loaded or paid: calls and tokens by role, memory of the student.

Memory is arithmetic on a model's configuration (QLoRA, arXiv 2305.14314): weights, adapters, optimizer,
activations, logits. It leaves out the CUDA context and fragmentation, and is not yet fitted to measurements.
Calls are counted from the settings; tokens assume replies at `REPLY` tokens, so a pilot of a few calls is better.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from lionkit.config import Config
from lionkit.errors import StudentError

REPLY = {"teacher": 200, "referee": 150, "generator": 80}
"""Tokens of a typical reply."""
PROMPT = {"teacher": 40, "referee": 700, "generator": 180}
"""Tokens of a typical prompt, answers included."""
NF4_BYTES = 0.5 + 0.127 / 8
"""Bytes a weight in NF4 with double quantisation (QLoRA paper, section 3)."""


def calls(config: Config) -> pd.DataFrame:
    """One row a role: calls, prompt_tokens, reply_tokens over all iterations, dollars (NaN without a price).

    The teacher answers each instruction once, whichever pools it is in; the referee sees each pair in both orders.
    Re-asked and rejected ones come on top: three candidates are taken for one that is accepted.
    """
    new = config.hard_size + config.easy_size
    caches = sum(config.train_size + new * max(i - 1, 0) for i in range(config.iterations + 1))
    pairs = caches + config.heldout_size * (config.iterations + 1)
    counts = {
        "teacher": config.train_size + config.heldout_size + new * (config.iterations - 1),
        "referee": 2 * pairs,
        "generator": 3 * new * config.iterations,
    }
    rows = []
    for role, count in counts.items():
        prompt, reply = count * PROMPT[role], count * REPLY[role]
        price = config.api.price_per_million
        dollars = float("nan") if price is None else (prompt * price[0] + reply * price[1]) / 1e6
        rows.append({"role": role, "calls": count, "prompt_tokens": prompt, "reply_tokens": reply, "dollars": dollars})
    return pd.DataFrame(rows)


def memory(model: Any, config: Config) -> pd.DataFrame:
    """Bytes to train a student, one row a part. `model`: name, hub id, folder, or a transformers configuration.

    Raises StudentError where the configuration cannot be had.
    """
    student, shape = config.student, _shape(model)
    hidden, layers = shape.hidden_size, shape.num_hidden_layers
    kv = (
        hidden * (getattr(shape, "num_key_value_heads", None) or shape.num_attention_heads) // shape.num_attention_heads
    )
    linears = [(hidden, hidden), (hidden, kv), (hidden, kv), (hidden, hidden), *[(hidden, shape.intermediate_size)] * 3]
    matrices = layers * sum(a * b for a, b in linears)
    adapters = layers * student.rank * sum(a + b for a, b in linears)
    embeddings = shape.vocab_size * hidden * (1 if shape.tie_word_embeddings else 2)
    tokens = student.batch_size * student.max_length
    per_layer = 2 * tokens * (hidden if student.gradient_checkpointing else 10 * hidden + 4 * shape.intermediate_size)
    one_layer = 2 * tokens * (10 * hidden + 4 * shape.intermediate_size) if student.gradient_checkpointing else 0
    rows = {
        "weights": matrices * (NF4_BYTES if student.quantize == "nf4" else 2) + embeddings * 2,
        "adapters and gradients": adapters * 8,
        "optimizer": adapters * 2,
        "activations": layers * per_layer + one_layer,
        "logits": tokens * shape.vocab_size * 6 / 2,  # about half of the tokens have labels, in 16 and in 32 bits
    }
    table = pd.DataFrame({"part": list(rows), "bytes": [int(value) for value in rows.values()]})
    table.loc[len(table)] = ["total", int(table["bytes"].sum())]
    return table.assign(GiB=(table["bytes"] / 2**30).round(2))


def _shape(model: Any) -> Any:
    if not isinstance(model, str):
        return model
    from transformers import AutoConfig

    from lionkit.sandbox import weights

    try:
        source = weights.fetch() if model == weights.NAME else model
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or ["unknown"])[0][:160]
        raise StudentError(
            f"no configuration for {model} ({reason}): give a folder, or a hub id and a network"
        ) from None
