"""The plan: counts that follow from the settings, memory that follows from the shape."""

from __future__ import annotations

import math
from types import SimpleNamespace

from lionkit import config, plan
from lionkit.config import ApiConfig, Config, StudentConfig

LLAMA_7B = SimpleNamespace(
    hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, vocab_size=32000,
    tie_word_embeddings=False,
)  # fmt: skip


def test_calls_of_the_papers_sizes() -> None:
    table = plan.calls(config.paper()).set_index("role")
    assert table.loc["teacher", "calls"] == 52_000 + 252 + 2 * 6000
    # caches: 52k before training, 52k, 58k, 64k; and 252 held-out ones four times
    assert table.loc["referee", "calls"] == 2 * (52_000 + 52_000 + 58_000 + 64_000 + 4 * 252)
    assert table["dollars"].map(math.isnan).all()


def test_dollars_need_a_price() -> None:
    priced = Config(api=ApiConfig(price_per_million=(1.0, 2.0)))
    row = plan.calls(priced).set_index("role").loc["teacher"]
    assert row["dollars"] == (row["prompt_tokens"] + 2 * row["reply_tokens"]) / 1e6


def test_memory_of_a_7b_student() -> None:
    student = StudentConfig(batch_size=1, max_length=1024)
    parts = plan.memory(LLAMA_7B, Config(student=student)).set_index("part")["GiB"]
    assert 3.5 < parts["weights"] < 4.2  # 6.5 G linear weights in NF4, 0.26 G embedding weights in 16 bits
    assert parts["total"] <= 8
    full = plan.memory(LLAMA_7B, Config(student=StudentConfig(batch_size=1, quantize="none")))
    assert full.set_index("part")["GiB"]["weights"] > 12


def test_checkpointing_and_batch_show_in_the_plan() -> None:
    def total(**changes: object) -> float:
        return plan.memory(LLAMA_7B, Config(student=StudentConfig(**changes))).set_index("part")["GiB"]["total"]  # type: ignore[arg-type]

    assert total(batch_size=8) > total(batch_size=1)
    assert total(batch_size=4, gradient_checkpointing=False) > total(batch_size=4)
