"""What waits for a card, in at most ten minutes: `python tests/bench/student.py gpu [--trl PYTHON] [--out DIR]`.

The tests marked `gpu`; a LLaMA-7B with random weights, made in NF4 on the card, that trains on rows as long as real
ones, padded and packed, held against the plan, and answers; two processes on one card; TRL on SmolLM2-135M where an
interpreter for it is named. Prints each figure with its limit, and writes them as a table for docs/measurements.md.
Without a card every line of it is walked on the CPU, with two narrow layers: its figures then mean nothing. Nothing is
fetched: SmolLM2 has to be in its cache.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from lionkit import plan, student
from lionkit.config import Config, StudentConfig
from lionkit.pools.readers import read_instructions
from lionkit.student.encode import prompt_ids

TESTS = Path(__file__).parents[1]
Pairs = list[tuple[str, str]]
NARROW = {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 4}


class Figures:
    """What was measured, printed as it comes."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []

    def add(self, figure: str, limit: str, measured: str) -> None:
        self.rows.append((figure, limit, measured))
        print(f"gpu: {figure}: {measured}" + (f" ({limit})" if limit else ""), flush=True)

    def part(self, name: str, measure: Callable[[], None]) -> None:
        """Measure; what fails is a figure too, and the rest goes on."""
        started = time.monotonic()
        try:
            measure()
        except (Exception, SystemExit) as error:
            self.add(name, "", f"failed: {type(error).__name__}: {str(error).splitlines()[:1]}")
        print(f"gpu: {name} took {time.monotonic() - started:.0f} s", flush=True)


def measure(options: argparse.Namespace, folder: Path, against_trl: Callable[[argparse.Namespace, Path], str]) -> None:
    """Everything, and the table in a file named after the card."""
    on_card = torch.cuda.is_available()
    device = torch.device("cuda" if on_card else "cpu")
    name = torch.cuda.get_device_name() if on_card else "no card, two layers on the CPU"
    print(f"gpu: {name}, torch {torch.__version__}", flush=True)
    figures = Figures()
    figures.part("the tests", lambda: tests(figures))
    figures.part("the 7B", lambda: llama(figures, options, folder, device))
    figures.part("two processes", lambda: two_processes(figures, folder))
    options.seeds = 1
    trl = (lambda *_: "left out here, `trl` has it") if not on_card else against_trl
    figures.part("TRL", lambda: figures.add("training against TRL 1.16.0", ">= 2.5 times", trl(options, folder)))
    table = [f"| {' | '.join(row)} |" for row in [("figure", "limit", "measured"), ("---",) * 3, *figures.rows]]
    out = options.out / f"{re.sub('[^0-9A-Za-z]+', '-', name).lower()}.md"
    out.write_text("\n".join([f"{name}, torch {torch.__version__}, {date.today()}", "", *table, ""]), encoding="utf-8")
    print(f"gpu: written to {out}")


def tests(figures: Figures) -> None:
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", str(TESTS / "student")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TESTS.parent)
    figures.add("tests marked `gpu`", "all", done.stdout.strip().splitlines()[-1].strip("= "))
    for line in done.stdout.splitlines():
        if line.startswith(("FAILED", "ERROR")):
            print(f"gpu: {line}")


def real_lengths(options: argparse.Namespace, count: int) -> Pairs:
    """Real texts cut to a quarter: a byte is a token here, and there one in four."""
    rows = read_instructions(options.data / "user_oriented_davinci003.jsonl")
    return [
        (row.text[: max(len(row.text) // 4, 8)], row.output[: max(len(row.output) // 4, 8)]) for row in rows[:count]
    ]


def llama(figures: Figures, options: argparse.Namespace, folder: Path, device: torch.device) -> None:
    """QLoRA on a LLaMA-7B: peak, speed and plan, padded and packed; then its answers."""
    from transformers import LlamaConfig

    sys.path.insert(0, str(TESTS))
    from conftest import make_byte_tokenizer

    on_card = device.type == "cuda"
    config = LlamaConfig(**({} if on_card else NARROW))  # its defaults are LLaMA-7B's
    dtype = student.model.choose_dtype(device)
    pairs = real_lengths(options, 64 if on_card else 8)
    make_byte_tokenizer().save_pretrained(folder)
    config.save_pretrained(folder)
    model = None
    losses = {}
    for rows, pack in ((1, False), (4, False), (4, True)):
        network = random_network(config, device, dtype)
        model = student.Student(network, make_byte_tokenizer(), "plain", device, "random", folder, "nf4", dtype)
        how: dict[str, Any] = {"max_length": 1024, "gradient_checkpointing": True, "pack": pack, "device_rows": rows}
        report = student.train(
            model, pairs[: 16 * rows], out=folder / f"{rows}{pack}", epochs=1, progress=False, batch_size=4, **how
        )
        own = StudentConfig(model=str(folder), step_rows=4, epochs=1, template="plain", **how)
        table = plan.memory(str(folder), Config(student=own), device=device.type, pairs=pairs[: 16 * rows])
        planned = int(table["bytes"].iloc[-1] - (table["bytes"].iloc[0] if on_card else 0))  # torch counts no context
        what = f"LLaMA-7B, NF4, {dtype}, length 1024 at most, {rows} rows at once, {'packed' if pack else 'padded'}"
        losses[rows, pack] = report.losses
        most = f"{report.peak_memory / 2**30:.2f} GiB, planned {planned / report.peak_memory - 1:+.1%}"
        figures.add(f"{what}: peak", "8 GiB with one row, plan within 10 %", most)
        figures.add(f"{what}: speed", "", f"{report.audit.tokens / report.seconds:.0f} tokens/s, {report.steps} steps")
        if not pack:
            del network, model
            gc.collect()
            if on_card:
                torch.cuda.empty_cache()
    apart = max(abs(a - b) for a, b in zip(losses[4, True], losses[4, False], strict=True))
    figures.add("a step's loss, packed against padded", "0.05", f"at most {apart:.4f} apart")
    texts = [text for text, _ in pairs[:32]]
    new, size = (128, 16) if on_card else (8, 4)
    for name, answer in (("generate", by_generate), ("respond", by_respond)):
        started = time.monotonic()
        answer(model, texts, new, size)
        seconds = time.monotonic() - started
        what = f"{len(texts)} answers of {new} tokens, {size} at once, {name}"
        figures.add(what, "", f"{seconds:.1f} s, {len(texts) * new / seconds:.0f} tokens/s")


def by_respond(model: student.Student, texts: list[str], new: int, size: int) -> None:
    student.respond(model, texts, max_new_tokens=new, batch_size=size, progress=False)


def by_generate(model: student.Student, texts: list[str], new: int, size: int) -> None:
    prompts = [prompt_ids(model.tokenizer, text, template=model.template) for text in texts]
    for start in range(0, len(prompts), size):
        batch = prompts[start : start + size]
        wide = max(map(len, batch))
        ids = torch.tensor([[0] * (wide - len(p)) + p for p in batch], device=model.device)
        mask = torch.tensor([[0] * (wide - len(p)) + [1] * len(p) for p in batch], device=model.device)
        how: dict[str, Any] = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
        with torch.no_grad():
            model.model.generate(input_ids=ids, attention_mask=mask, **how)


TRAINS = """
import json, sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
import test_ranks as here
from lionkit import student
with student.lead():
    model = student.load(Path(sys.argv[3]))
    how = {"rank": 4, "learning_rate": 5e-3, "batch_size": 4, "max_length": 96, "progress": False}
    report = student.train(model, here.PAIRS, out=Path(sys.argv[4]), **how)
    answers = student.respond(model, here.TEXTS, max_new_tokens=16, batch_size=4, progress=False)
    print(json.dumps([report.losses, [a.text for a in answers]]))
"""


def two_processes(figures: Figures, folder: Path) -> None:
    """Two processes that share the card, if there is one, against one process."""
    from transformers import LlamaForCausalLM

    sys.path.insert(0, str(TESTS))
    from transformers import LlamaConfig

    from conftest import make_byte_tokenizer

    torch.manual_seed(0)
    shape = LlamaConfig(**NARROW, vocab_size=259)
    LlamaForCausalLM(shape).save_pretrained(folder / "tiny")
    make_byte_tokenizer().save_pretrained(folder / "tiny")
    found = []
    for count in (1, 2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "LOCAL_RANK": "0"}
        shared |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "PYTHONPATH": str(TESTS.parent),
            "CUDA_VISIBLE_DEVICES": "0",
        }
        command = [
            sys.executable,
            "-c",
            TRAINS,
            *map(str, (TESTS, TESTS / "student", folder / "tiny", folder / f"of{count}")),
        ]
        ranks = [
            subprocess.Popen(command, env={**os.environ, **shared, "RANK": str(n)}, stdout=-1, stderr=-1, text=True)
            for n in range(count)
        ]
        told = [process.communicate(timeout=300) for process in ranks]
        if any(process.returncode for process in ranks):
            raise RuntimeError(told[0][1].strip().splitlines()[-1])
        found.append(json.loads(told[0][0].splitlines()[-1]))
    (losses, texts), (own, answers) = found
    apart = max(abs(a - b) / b for a, b in zip(own, losses, strict=True))
    figures.add("two processes on one device against one: losses, relative", "0.01", f"at most {apart:.5f} apart")
    same = sum(map(str.__eq__, texts, answers))
    figures.add("two processes: answers", "", f"{same} of {len(texts)} the same")


def random_network(config: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A Llama in NF4 with random weights, made layer by layer on the device: nothing larger is ever in 16 bits."""
    from bitsandbytes.nn import Linear4bit, Params4bit
    from transformers import LlamaForCausalLM

    def drawn(shape: Sequence[int]) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=device).normal_(std=0.02)

    torch.manual_seed(0)
    with torch.device("meta"):
        network = LlamaForCausalLM(config)
    linears = {name: m for name, m in network.named_modules() if type(m) is torch.nn.Linear and name != "lm_head"}
    for name, old in linears.items():
        kind: Any = {"compress_statistics": True, "quant_type": "nf4"}
        layer = Linear4bit(old.in_features, old.out_features, bias=False, compute_dtype=dtype, device="meta", **kind)
        layer.weight = Params4bit(drawn(old.weight.shape), requires_grad=False, **kind).to(device)  # type: ignore[misc]
        layer.support_avx512bf16_for_cpu = False  # as student.load has it
        network.set_submodule(name, layer)
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.is_meta:
                value = drawn(parameter.shape) if parameter.dim() > 1 else torch.ones_like(parameter, device=device)
                setattr(module, name, torch.nn.Parameter(value.to(dtype), requires_grad=False))
    with device:
        network.model.rotary_emb = type(network.model.rotary_emb)(config)
    network.is_loaded_in_4bit = True  # type: ignore[assignment] # peft asks this
    return network.eval()
