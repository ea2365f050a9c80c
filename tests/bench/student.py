"""Measurements of the student: training against TRL, responses against one by one, the plan's memory. Run by hand:

    python tests/bench/student.py [trl] [ablation] [greedy] [memory] [gpu] [--trl PYTHON] [--seeds N] [--data FOLDER]

Without names, all of them (about forty minutes on two cores; the limits suppose that nothing else runs). `--trl` is
an interpreter with trl==1.16.0 beside the pinned torch, transformers, peft and bitsandbytes; `--data` is the folder
with `user_oriented_davinci003.jsonl` (default: LIONKIT_DATA). Each part prints one line a figure, with the limit it is
held to. `gpu` needs CUDA and 10 GB of its memory for a LLaMA-7B with random weights; without CUDA it walks the same
path with two layers.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import torch
from torch.nn import functional as F

from lionkit import plan, student
from lionkit.config import Config, StudentConfig
from lionkit.pools.readers import read_instructions
from lionkit.sandbox import weights
from lionkit.student.batches import ByLength
from lionkit.student.dense import dense
from lionkit.student.encode import IGNORED, encode, label_audit, prompt_ids

Pairs = list[tuple[str, str]]
trainer = sys.modules["lionkit.student.train"]
SETTINGS: dict[str, Any] = {
    "rank": 16,
    "alpha": 32,
    "learning_rate": 1e-3,
    "epochs": 1,
    "batch_size": 8,
    "max_length": 256,
    "gradient_checkpointing": False,
    "seed": 0,
}

TRL = """
import json, sys, time
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer
job = json.load(open(sys.argv[1]))
dtype = getattr(torch, job["dtype"])
nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                         bnb_4bit_compute_dtype=dtype)
model = AutoModelForCausalLM.from_pretrained(job["weights"], dtype=dtype, quantization_config=nf4, device_map="cpu")
started = time.monotonic()
arguments = SFTConfig(
    output_dir=job["out"], num_train_epochs=1, per_device_train_batch_size=job["batch_size"], use_cpu=True,
    learning_rate=job["learning_rate"], lr_scheduler_type="cosine", warmup_steps=0.03, seed=job["seed"],
    max_length=job["max_length"], bf16=job["dtype"] == "bfloat16", gradient_checkpointing=False,
    train_sampling_strategy="sequential",
    completion_only_loss=True, save_strategy="no", report_to="none", logging_steps=1, disable_tqdm=True,
)
lora = LoraConfig(r=job["rank"], lora_alpha=job["alpha"], target_modules="all-linear", task_type="CAUSAL_LM")
rows = Dataset.from_list([{"prompt": p, "completion": c} for p, c in job["rows"]])
sft = SFTTrainer(model, arguments, train_dataset=rows, peft_config=lora,
                 processing_class=AutoTokenizer.from_pretrained(job["weights"]))
sft.train()
seconds = time.monotonic() - started
sft.model.save_pretrained(job["out"])
losses = [entry["loss"] for entry in sft.state.log_history if "loss" in entry]
ids = [list(map(int, row)) for row in sft.train_dataset["input_ids"]]
print(json.dumps({"seconds": seconds, "losses": losses, "ids": ids}))
"""


def main() -> None:
    parts = {"trl": against_trl, "ablation": ablation, "greedy": greedy, "memory": memory, "gpu": gpu}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *parts], default=[])
    parser.add_argument("--trl", default="")
    parser.add_argument("--seeds", type=int, default=3, help="pairs of runs of `trl`, four minutes each")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LIONKIT_DATA", "../shared/data")))
    parser.add_argument("--peak", default="", help=argparse.SUPPRESS)  # one model of `memory`, in a process of its own
    options = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="2", TOKENIZERS_PARALLELISM="false")  # for the processes started from here
    torch.set_num_threads(2)
    if options.peak:
        return peak(options)
    for part in options.parts or parts:
        with tempfile.TemporaryDirectory(prefix="lionkit-bench-") as folder:
            parts[part](options, Path(folder))


def read_pairs(options: argparse.Namespace) -> Pairs:
    rows = read_instructions(options.data / "user_oriented_davinci003.jsonl")
    return [(row.text, row.output) for row in rows]


def against_trl(options: argparse.Namespace, folder: Path) -> None:
    """The first 96 rows that fit uncut, so that both see the same ids; validation on all others that can be encoded.

    A pair of runs a seed starts from the same LoRA weights and takes the same rows in each step, so that its losses
    differ by what the two trainers do and not by chance.
    """
    if not options.trl:
        return print("trl: left out, --trl names no interpreter with trl==1.16.0")
    tokenizer = (model := student.load(weights.NAME)).tokenizer
    pairs = read_pairs(options)
    rows = [encode(tokenizer, *pair, template=model.template, max_length=256) for pair in pairs]
    chosen = [i for i, row in enumerate(rows) if row and not row.cut][:96]
    held = [pair for i, pair in enumerate(pairs) if i not in chosen]
    ids = [row.input_ids for i in chosen if (row := rows[i])]
    tokens = sum(map(len, ids))
    texts = [
        (tokenizer.decode(prompt_ids(tokenizer, pairs[i][0], template=model.template)), pairs[i][1]) for i in chosen
    ]
    print(f"trl: {len(chosen)} rows, {tokens} tokens without padding", flush=True)
    speeds, losses = [], []
    for seed in range(options.seeds):
        settings = {**SETTINGS, "seed": seed}
        order = list(ByLength([len(row) for row in ids], settings["batch_size"], seed, lambda: 0))
        job = {
            "weights": str(weights.fetch()),
            "dtype": str(model.dtype).split(".")[1],
            **settings,
            "out": str(folder / f"trl-{seed}"),
            "rows": [texts[i] for i in order],
        }
        (folder / "job.json").write_text(json.dumps(job))
        command = [options.trl, "-c", TRL, str(folder / "job.json")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"TRL failed: {done.stderr[-2000:]}")
        theirs = json.loads(done.stdout.splitlines()[-1])
        same = sum(map(operator.eq, [ids[i] for i in order], theirs["ids"]))
        model, started = student.load(weights.NAME), time.monotonic()
        report = student.train(
            model, [pairs[i] for i in chosen], out=folder / f"ours-{seed}", progress=False, **settings
        )
        seconds = time.monotonic() - started
        apart = max(abs(a - b) for a, b in zip(report.losses, theirs["losses"], strict=True))
        speeds.append(theirs["seconds"] / seconds)
        losses.append([validation_loss(folder / f"{name}-{seed}", held) for name in ("trl", "ours")])
        print(
            f"trl: seed {seed}: {same} rows with the same ids; TRL {tokens / theirs['seconds']:.0f} tokens/s "
            f"({theirs['seconds']:.0f} s), lionkit {tokens / seconds:.0f} ({seconds:.0f} s): {speeds[-1]:.2f} times; "
            f"a step's training loss at most {apart:.4f} apart; validation {losses[-1][0]:.4f} and {losses[-1][1]:.4f}",
            flush=True,
        )
    trl, ours = (sum(column) / len(losses) for column in zip(*losses, strict=True))
    print(f"trl: {sorted(speeds)[len(speeds) // 2]:.2f} times as fast (>= 1.5), the median of {len(speeds)}")
    print(f"trl: validation loss {trl:.4f} with TRL, {ours:.4f} with lionkit (no more than TRL's), means")


def validation_loss(adapter: Path, held: Pairs) -> float:
    """Mean cross-entropy per response token of base and adapter, on whole rows, one after the other, in float32."""
    model = student.load(weights.NAME, adapter=adapter, dtype="float32")
    rows, _ = label_audit(model.tokenizer, held, template=model.template, max_length=256)
    losses = []
    with torch.no_grad(), dense(model.model, model.dtype):
        for row in rows:
            logits = model.model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1]
            losses.append(F.cross_entropy(logits, torch.tensor(row.labels[1:]), ignore_index=IGNORED, reduction="none"))
    return float(torch.cat(losses).sum() / sum(row.supervised for row in rows))


def full_logits(self: Any, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The loss as usual: logits at every position, padding and prompt included."""
    logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False).logits
    labels = inputs["labels"][:, 1:].flatten()
    return F.cross_entropy(logits[:, :-1].float().flatten(0, 1), labels, ignore_index=IGNORED, reduction="none")


def ablation(options: argparse.Namespace, folder: Path) -> None:
    """Seconds for 48 rows with one gain taken away at a time."""
    pairs = read_pairs(options)[:48]
    kind = trainer.StudentTrainer  # type: ignore[attr-defined]
    variants: dict[str, Any] = {
        "as it is": nullcontext(),
        "4-bit layers of bitsandbytes and peft": mock.patch.object(trainer, "dense", return_value=nullcontext()),
        "PyTorch's fused attention": mock.patch.object(trainer, "EAGER_LENGTH", 0),
        "logits at all positions": mock.patch.object(kind, "_token_losses", full_logits),
        "rows in random order": mock.patch.object(
            kind, "_get_train_sampler", lambda self, rows=None: torch.utils.data.RandomSampler(self.train_dataset)
        ),
    }
    whole = 0.0
    for name, variant in variants.items():
        model = student.load(weights.NAME)
        with variant:
            report = student.train(model, pairs, out=folder / name.replace(" ", "-"), progress=False, **SETTINGS)
        whole = whole or report.seconds
        print(f"ablation: {name}: {report.seconds:.1f} s, {report.seconds / whole:.2f} times", flush=True)


def greedy(options: argparse.Namespace, folder: Path, count: int = 100, new_tokens: int = 32) -> None:
    """The 4-bit student in float32, one prompt at a time through `generate`, then through `respond`."""
    texts = [text for text, _ in read_pairs(options)][:count]
    model = student.load(weights.NAME, dtype="float32")
    started = time.monotonic()
    single = []
    for text in texts:
        ids = torch.tensor([prompt_ids(model.tokenizer, text, template=model.template)])
        with torch.no_grad():
            out = model.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=model.tokenizer.pad_token_id,
            )
        single.append(model.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip())
    alone = time.monotonic() - started
    print(f"greedy: {count} responses one by one in {alone:.0f} s", flush=True)
    started = time.monotonic()
    answers = student.respond(model, texts, max_new_tokens=new_tokens, batch_size=32, progress=False)
    seconds = time.monotonic() - started
    same = sum(a.text == text for a, text in zip(answers, single, strict=True))
    print(f"greedy: in batches of 32 in {seconds:.0f} s, {seconds / alone:.3f} of that (<= 0.2)")
    print(f"greedy: {same} of {count} texts identical (>= {0.99 * count:.0f})")


SHAPES: dict[str, dict[str, Any]] = {
    "Llama of 76M": {
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "vocab_size": 49152,
    },
    "Llama of 305M": {
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 20,
        "num_attention_heads": 16,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
    "Llama of 239M": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 12,
        "num_attention_heads": 14,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
}
"""Shapes with random weights, and SmolLM2's tokenizer."""
PEAKS: list[tuple[str, int, int, bool]] = [
    (weights.NAME, 8, 256, False),
    (weights.NAME, 4, 512, True),
    ("Llama of 305M", 4, 512, True),
    ("Llama of 305M", 2, 256, False),
    ("Llama of 76M", 4, 384, False),
    (weights.NAME, 2, 1024, False),
    ("Llama of 239M", 2, 768, True),
]
"""Model, rows of a step, length, gradient checkpointing. The plan's constants were chosen on the first five."""


def memory(options: argparse.Namespace, folder: Path) -> None:
    """Plan against the peak of a fresh process (resident memory, libraries included), at full rows."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    for name, *values in PEAKS:
        settings = dict(zip(("step_rows", "max_length", "gradient_checkpointing"), values))
        model = name
        if shape := SHAPES.get(name):
            torch.manual_seed(0)
            model = str(folder / name.replace(" ", "-"))
            LlamaForCausalLM(LlamaConfig(**shape)).bfloat16().save_pretrained(model)
            AutoTokenizer.from_pretrained(weights.fetch()).save_pretrained(model)
        table = plan.memory(model, Config(student=StudentConfig(model=model, **settings)), device="cpu")
        sizes = dict(zip(table["part"], table["bytes"], strict=True))
        command = [sys.executable, __file__, "--data", str(options.data), "--peak", json.dumps([model, settings])]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        before, most = json.loads(done.stdout.splitlines()[-1])
        planned, own = sizes["total"], sizes["total"] - sizes["Python and libraries"]
        print(f"memory: {name}, {settings}: " + ", ".join(f"{k} {v / 2**20:.0f}" for k, v in sizes.items()) + " MiB")
        print(f"memory: measured {most / 2**20:.0f} MiB, planned {planned / most - 1:+.1%} (within 10%)")
        print(f"memory: less {before / 2**20:.0f} MiB after import, {own / (most - before) - 1:+.1%}", flush=True)


def peak(options: argparse.Namespace) -> None:
    """Print [bytes before anything was loaded, most bytes while training on full-length rows]."""
    import bitsandbytes  # noqa: F401 (part of what is there before a weight is)
    import peft  # noqa: F401

    model, settings = json.loads(options.peak)
    before = psutil.Process().memory_info().rss
    loaded = student.load(model)
    full, text, response = [], "", ""
    for one, other in read_pairs(options):  # real rows, joined until they are as long as may be
        text, response = f"{text}\n{one}".strip(), f"{response}\n{other}".strip()
        row = encode(loaded.tokenizer, text, response, template=loaded.template, max_length=settings["max_length"])
        if row is None or row.cut:
            full += [(text, response)] if row else []
            text, response = "", ""
    rows = settings.pop("step_rows")
    pairs = (full * rows)[: 3 * rows]
    with tempfile.TemporaryDirectory() as out:
        report = student.train(loaded, pairs, out=Path(out), epochs=1, progress=False, batch_size=rows, **settings)
    print(json.dumps([before, report.peak_memory]))


def gpu(options: argparse.Namespace, folder: Path) -> None:
    """Memory and speed of QLoRA on a LLaMA-7B at length 1024, batch 1, with gradient checkpointing."""
    from transformers import LlamaConfig

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from conftest import make_byte_tokenizer

    on_gpu = torch.cuda.is_available()
    shape: dict[str, Any] = (
        {}
        if on_gpu
        else {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 4}
    )
    config = LlamaConfig(**shape)  # its defaults are LLaMA-7B's
    device = torch.device("cuda" if on_gpu else "cpu")
    dtype = student.model.choose_dtype(device)
    print(f"gpu: {torch.cuda.get_device_name() if on_gpu else 'no CUDA here, so two layers on the CPU'}", flush=True)
    started = time.monotonic()
    network = random_network(config, device, dtype)
    print(f"gpu: built in {time.monotonic() - started:.0f} s", flush=True)
    model = student.Student(network, make_byte_tokenizer(), "plain", device, "random", folder, "nf4", dtype)
    draw = random.Random(0)
    text = "".join(draw.choices("abcdefgh ", k=12_000))
    pairs = [(text[n : n + 370], text[n + 370 : n + 980]) for n in range(0, 12_000, 1000)]
    settings: dict[str, Any] = {"max_length": 1024, "gradient_checkpointing": True}
    report = student.train(model, pairs, out=folder, epochs=1, progress=False, batch_size=1, **settings)
    table = plan.memory(config, Config(student=StudentConfig(step_rows=1, **settings)), device=device.type)
    planned = int(table["bytes"].iloc[-1] - (table["bytes"].iloc[0] if on_gpu else 0))  # torch counts no context
    print(table.to_string(index=False))
    speed = report.audit.tokens / report.seconds
    print(f"gpu: {speed:.0f} tokens/s over {report.steps} steps, losses {report.losses[-3:]}")
    print(f"gpu: peak {report.peak_memory / 2**30:.2f} GiB (<= 8), planned {planned / 2**30:.2f} GiB (within 10%)")


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


if __name__ == "__main__":
    main()
