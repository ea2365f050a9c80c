"""The plan: counts that follow from the settings, memory that follows from the shape and from a real training."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    FalconConfig,
    GPT2Config,
    LlamaConfig,
    LlavaConfig,
    MixtralConfig,
    Qwen3VLConfig,
    T5Config,
)

from lionkit import plan
from lionkit.config import ApiConfig, Config, StudentConfig
from lionkit.errors import StudentError
from lionkit.run import settings
from lionkit.student import memory as arithmetic
from lionkit.student import model as student_model
from lionkit.student import ranks

LLAMA_7B = LlamaConfig()  # its defaults
TINY = LlamaConfig(
    hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=1000,
)  # fmt: skip


def memory(shape: Any, device: str = "cuda", **changes: Any) -> dict[str, int]:
    table = plan.memory(shape, Config(student=StudentConfig(**changes)), device=device)
    return dict(zip(table["part"], table["bytes"], strict=True))


def test_calls_of_the_papers_sizes() -> None:
    table = plan.calls(settings.preset("paper")).set_index("role")
    assert table.loc["teacher", "calls"] == 52_000 + 252 + 2 * 6000
    # caches: 52k before training, 52k, 58k, 64k; and 252 held-out ones four times
    assert table.loc["referee", "calls"] == 2 * (52_000 + 52_000 + 58_000 + 64_000 + 4 * 252)
    assert table["dollars"].map(math.isnan).all()


def test_what_is_done_is_not_to_come() -> None:
    """Each instruction's answer counts with the first stage that asks for it."""
    small, done = Config(train_size=10, heldout_size=2, hard_size=3, easy_size=3, iterations=2), set()

    def left() -> list[int]:
        return plan.calls(small, lambda *place: place in done)["calls"].tolist()

    assert left() == [10 + 2 + 6, 2 * (10 + 10 + 16 + 3 * 2), 18]
    done |= {(0, "evaluation"), (0, "discrimination")}
    assert left() == [6, 2 * (10 + 16 + 2 * 2), 18]
    done |= {(1, "evaluation"), (1, "discrimination"), (1, "generation"), (2, "imitation")}
    assert left() == [0, 2 * (16 + 2), 0]
    assert plan.calls(small, lambda *place: True)["calls"].tolist() == [0, 0, 0]


def test_dollars_need_a_price() -> None:
    priced = Config(api=ApiConfig(price_per_million=(1.0, 2.0)))
    row = plan.calls(priced).set_index("role").loc["teacher"]
    assert row["dollars"] == (row["prompt_tokens"] + 2 * row["reply_tokens"]) / 1e6


def test_memory_of_a_7b_student() -> None:
    parts = memory(LLAMA_7B, device_rows=1, max_length=1024)
    # 6.476 G weights of linear layers at 0.516 bytes, 262 M of embeddings, head and norms in 16 bits: 3.34 + 0.52 GB
    assert parts["weights"] == pytest.approx(3.866e9, rel=1e-3)
    assert parts["optimizer"] == 2 * 16 * 32 * (4 * (4096 + 4096) + 3 * (4096 + 11008))  # 40 M adapter weights
    assert parts["activations"] == 32 * 1024 * 4096 * 2
    assert 4 * 2**30 < parts["total"] <= 8 * 2**30
    assert memory(LLAMA_7B, quantize="none")["weights"] == 2 * 6_738_415_616


@pytest.mark.parametrize("size", [2, 4])
def test_memory_on_a_cpu_by_hand(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(student_model, "choose_dtype", lambda _: torch.bfloat16 if size == 2 else torch.float32)
    parts = memory(TINY, "cpu", device_rows=2, max_length=32, rank=4, gradient_checkpointing=False)
    linear = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 160)  # q and o, k and v, gate, up and down, twice
    adapters = 4 * 2 * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 160))
    softmax = 4 * 32 * (6 if size == 2 else 4)  # four heads look at 32 positions, in 32 bits and rounded to 16
    layer = 2 * 4 * 64 + size * (6 * 64 + 4 * 160) + softmax
    assert parts["weights"] == int(linear * (0.5 + 0.127 / 8)) + size * (2 * 1000 * 64 + 5 * 64)
    assert parts["decoded weights"] == size * linear
    assert parts["adapters and gradients"] == adapters * (8 + (2 if size == 2 else 0))
    assert parts["optimizer"] == adapters * 8
    assert parts["activations"] == 2 * 64 * layer
    assert parts["logits, or a layer again"] == 38 * 1000 * 12  # 0.6 of 64 tokens
    assert parts["total"] == sum(parts.values()) - parts["total"]


def test_memory_grows_with_batch_and_length_and_shrinks_with_checkpointing() -> None:
    for device in ("cpu", "cuda"):
        for changes in ({"device_rows": 2}, {"max_length": 200}, {"rank": 17}, {"gradient_checkpointing": False}):
            less = {"device_rows": 1, "max_length": 192, "rank": 16, "gradient_checkpointing": True}
            assert memory(TINY, device, **(less | changes))["total"] > memory(TINY, device, **less)["total"], changes


def test_models_too_large_to_decode_keep_their_4_bit_layers() -> None:
    assert memory(LLAMA_7B, "cpu")["decoded weights"] < 0.5e9


def test_largest_batch_is_the_largest() -> None:
    for gib in (7, 12, 24):
        largest = plan.largest_batch(LLAMA_7B, Config(), gib * 2**30, device="cuda")
        assert memory(LLAMA_7B, device_rows=largest)["total"] <= gib * 2**30
        assert memory(LLAMA_7B, device_rows=largest + 1)["total"] > gib * 2**30
    assert plan.largest_batch(LLAMA_7B, Config(), 3 * 2**30, device="cuda") == 0


def test_on_a_cpu_the_batch_goes_through_in_pieces() -> None:
    assert memory(TINY, "cpu", device_rows=64, max_length=256) == memory(TINY, "cpu", device_rows=2, max_length=256)
    assert memory(TINY, "cpu", device_rows=2, max_length=1024) == memory(TINY, "cpu", device_rows=1, max_length=1024)
    assert plan.largest_batch(TINY, Config(), 2**30, device="cpu") == 4096


def test_other_architectures_have_their_own_weights() -> None:
    gpt2 = memory(GPT2Config(), quantize="none")  # fused q, k, v; two matrices in the MLP; tied head; biases
    assert gpt2["weights"] == 2 * 124_439_808
    assert gpt2["optimizer"] == 2 * 16 * 12 * ((768 + 2304) + (768 + 768) + 2 * (768 + 3072))
    assert memory(BertConfig())["total"] > 0


@pytest.mark.parametrize(
    "shape",
    [T5Config(), LlavaConfig(), Qwen3VLConfig(), SimpleNamespace(hidden_size=8), None, 7],
    ids=lambda shape: type(shape).__name__,
)  # fmt: skip
def test_what_is_no_causal_language_model_is_one_line(shape: Any) -> None:
    with pytest.raises(StudentError, match="no plan for .*: give a causal language model's folder") as caught:
        plan.memory(shape, Config(), device="cuda")
    assert "\n" not in str(caught.value)


def test_a_broken_configuration_is_one_line(tmp_path: Path) -> None:
    for text in ("{", '{"model_type": "nonesuch"}', '{"model_type": "llama", "hidden_size": "wide"}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(StudentError, match="no plan for"):
            plan.memory(str(tmp_path), Config(), device="cuda")
    with pytest.raises(StudentError, match="there is no model"):
        plan.memory("./nowhere", Config())


TRAINS = """
import json, sys
from pathlib import Path
from lionkit import plan, student
from lionkit.config import Config, StudentConfig
folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
model = student.load(folder, device="cpu")
settings |= {"epochs": 1, "batch_size": 6, "progress": False}
report = student.train(model, [("a" * 160, "b" * 225)] * 12, out=folder / "out", **settings)
print(report.peak_memory)
"""


def test_the_plan_holds_in_a_real_training(tmp_path: Path, byte_tokenizer: Any) -> None:
    """Resident memory of a fresh process, libraries left out, within 20 %: other libraries' sizes are part of it."""
    from transformers import LlamaForCausalLM

    shape = LlamaConfig(
        hidden_size=256, intermediate_size=704, num_hidden_layers=8, num_attention_heads=8, vocab_size=16_000
    )
    LlamaForCausalLM(shape).save_pretrained(tmp_path)
    byte_tokenizer.save_pretrained(tmp_path)
    sizes = {"device_rows": 6, "max_length": 424, "gradient_checkpointing": False}
    command = [sys.executable, "-c", TRAINS, str(tmp_path), json.dumps(sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    measured = int(done.stdout.splitlines()[-1])
    parts = memory(str(tmp_path), "cpu", **sizes)
    assert parts["total"] == pytest.approx(measured, rel=0.2)


def test_adapters_are_counted_as_peft_makes_them_and_quantised_layers_as_bitsandbytes_does() -> None:
    small = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99}
    shapes = [
        MixtralConfig(**small, intermediate_size=96, num_key_value_heads=2, num_local_experts=4),  # experts are adapted
        FalconConfig(**small),  # has linear layers of its own kind, which stay as they are
    ]
    for shape in shapes:
        with torch.device("meta"):
            network = AutoModelForCausalLM.from_config(shape)
        whole = sum(p.numel() for p in network.parameters())
        layers = [m for m in network.modules() if type(m) is torch.nn.Linear and m is not network.lm_head]
        quantised = sum(m.weight.numel() for m in layers)
        adapted = get_peft_model(network, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
        found = memory(shape)
        assert found["adapters and gradients"] == 10 * adapted.num_parameters(only_trainable=True)
        assert found["weights"] == int(quantised * arithmetic.NF4_BYTES) + 2 * (whole - quantised)


def test_processes_that_share_the_weights_have_a_part_each(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = memory(LLAMA_7B, shard=True)
    monkeypatch.setattr(ranks, "processes", lambda: 4)
    part = memory(LLAMA_7B, shard=True)
    assert part["weights"] == whole["weights"] // 4
    assert whole["weights"] // 4 < whole["total"] - part["total"] < whole["weights"] * 3 // 4  # a layer comes together


@pytest.mark.parametrize(
    ("groups", "files", "found"),
    [
        ("0::/user/me", {"memory.max": "max", "user/memory.max": "4096", "user/me/memory.max": "8192"}, [8192, 4096]),
        ("0::/", {"memory.max": "2048"}, [2048]),
        ("5:pids:/x\n4:memory:/x\n0::/", {"memory/x/memory.limit_in_bytes": "1024", "pids/x/memory.max": "1"}, [1024]),
        ("0::/gone", {}, []),
    ],
)
def test_what_a_container_may_have_is_the_room_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, files: dict[str, str], found: list[int]
) -> None:
    for name, text in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert plan._limits(tmp_path) == found
    monkeypatch.setattr(plan, "_limits", lambda root: found)
    assert plan.room("cpu") == min([plan.psutil.virtual_memory().total, *found])


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert plan._limits(tmp_path) == []


@pytest.mark.parametrize("own", [{}, {"GOMP_SPINCOUNT": "7", "LRU_CACHE_CAPACITY": "9"}])
def test_threads_wait_shortly_and_products_are_not_kept_for_ever(own: dict[str, str]) -> None:
    """Before torch is loaded, and in whatever is started from here; what the user set stays."""
    names = ("GOMP_SPINCOUNT", "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
    told = f"import lionkit, os; print(*(os.environ[n] for n in {names}))"
    bare = {name: value for name, value in os.environ.items() if name not in names}
    run = subprocess.run([sys.executable, "-c", told], env=bare | own, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [own.get(name, usual) for name, usual in zip(names, ("1000", "64", "64"))]


def test_rows_that_are_known_are_planned_as_they_are(tiny_model: Path) -> None:
    """A plan on rows of one length was 28 % off on real ones: these hold two long rows among many short ones."""
    own = StudentConfig(
        model=str(tiny_model), max_length=512, device_rows=4, step_rows=4, gradient_checkpointing=False, epochs=2
    )
    config = Config(student=own)
    short, long = ("Say it.", "a" * 40), ("Say it at length.", "b" * 280)
    few, some, full = (
        int(plan.memory(str(tiny_model), config, device="cuda", pairs=pairs)["bytes"].iloc[-1])
        for pairs in ([short] * 20, [short] * 20 + [long] * 2, [])
    )
    assert few < some < full
    before = plan.memory(str(tiny_model), config, device="cpu")["bytes"].iloc[0]
    held = plan.memory(str(tiny_model), config, device="cpu", held=3 * 2**30)["bytes"].iloc[0]
    assert before == arithmetic.PROCESS_BYTES < held == 3 * 2**30
