"""Measurements of the student: training against TRL, responses against one by one, the plan's memory. Run by hand:

    python tests/bench/student.py [trl] [ablation] [busy] [greedy] [pool] [memory] [gpu] [--trl PYTHON] ...

Without names, all of them (about forty minutes on two cores; the limits suppose that nothing else runs). `--trl` is
an interpreter with trl==1.16.0 beside the pinned torch, transformers, peft and bitsandbytes; `--data` is the folder
with `user_oriented_davinci003.jsonl` (default: LIONKIT_DATA). Each part prints one line a figure, with the limit it is
held to. `gpu` is all that waits for a card (`card.py`), and writes a file; without one it walks the same path with two
layers.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import subprocess
import sys
import tempfile
import time
import timeit
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import card
import torch
import way_out
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
model = AutoModelForCausalLM.from_pretrained(job["weights"], dtype=dtype, quantization_config=nf4,
                                             device_map=job["device"])
started = time.monotonic()
arguments = SFTConfig(
    output_dir=job["out"], num_train_epochs=1, per_device_train_batch_size=job["batch_size"],
    use_cpu=job["device"] == "cpu",
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
    parts = {
        "trl": against_trl,
        "ablation": ablation,
        "busy": busy,
        "greedy": greedy,
        "pool": pool,
        "memory": memory,
        "out": out,
        "gpu": gpu,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *parts], default=[])
    parser.add_argument("--trl", default="")
    parser.add_argument("--seeds", type=int, default=3, help="pairs of runs of `trl`, four minutes each")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LIONKIT_DATA", "../shared/data")))
    for name in ("--llama", "--llama-cpp", "--lm-eval"):
        parser.add_argument(name, default="", help="see way_out.py")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the file that `gpu` writes")
    parser.add_argument("--peak", default="", help=argparse.SUPPRESS)  # one model of `memory`, in a process of its own
    parser.add_argument("--rows", type=int, default=0, help=argparse.SUPPRESS)  # one training of `busy`
    options = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="2", TOKENIZERS_PARALLELISM="false")  # for the processes started from here
    torch.set_num_threads(2)
    if options.peak:
        return peak(options)
    if options.rows:
        model, pairs = student.load(weights.NAME), read_pairs(options)[: options.rows]
        with tempfile.TemporaryDirectory() as place:
            return print(student.train(model, pairs, out=Path(place), progress=False, **SETTINGS).seconds)
    for part in options.parts or parts:
        with tempfile.TemporaryDirectory(prefix="lionkit-bench-") as folder:
            parts[part](options, Path(folder))


def gpu(options: argparse.Namespace, folder: Path) -> None:
    card.measure(options, folder, against_trl)


def out(options: argparse.Namespace, folder: Path) -> None:
    way_out.measure(options, folder, read_pairs(options), SETTINGS)


def read_pairs(options: argparse.Namespace) -> Pairs:
    rows = read_instructions(options.data / "user_oriented_davinci003.jsonl")
    return [(row.text, row.output) for row in rows]


def against_trl(options: argparse.Namespace, folder: Path) -> str:
    """The first 96 rows that fit uncut, so that both see the same ids; validation on all others that can be encoded.

    A pair of runs a seed starts from the same LoRA weights and takes the same rows in each step, so that its losses
    differ by what the two trainers do and not by chance.
    """
    if not options.trl:
        print(left_out := "trl: left out, --trl names no interpreter with trl==1.16.0")
        return left_out
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
            "device": model.device.type,
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
    said = f"{sorted(speeds)[len(speeds) // 2]:.2f} times as fast (>= 2.5), the median of {len(speeds)}"
    said += f"; validation loss {trl:.4f} with TRL, {ours:.4f} with lionkit (no more than TRL's), means"
    print(f"trl: {said}")
    return said


def validation_loss(adapter: Path, held: Pairs) -> float:
    """Mean cross-entropy per response token of base and adapter, on whole rows, one after the other, in float32."""
    model = student.load(weights.NAME, adapter=adapter, dtype="float32")
    rows, _ = label_audit(model.tokenizer, held, template=model.template, max_length=256)
    losses = []
    with torch.no_grad(), dense(model.model, model.dtype):
        for row in rows:
            ids = torch.tensor([row.input_ids], device=model.device)
            logits = model.model(input_ids=ids).logits[0, :-1].cpu()
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
    floor = products(options)
    print(f"ablation: the matrix products alone: {floor:.1f} s, which training takes {whole / floor:.2f} times")


def products(options: argparse.Namespace, rows: int = 48) -> float:
    """Seconds for the matrix products alone that training on the rows cannot do without: each linear layer forward,
    and backward for its input, on the tokens without padding; the head on labelled ones."""
    model = student.load(weights.NAME)
    audit = label_audit(model.tokenizer, read_pairs(options)[:rows], template=model.template, max_length=256)[1]
    head = model.model.get_output_embeddings()
    layers = [m for m in model.model.modules() if isinstance(m, torch.nn.Linear)]
    times: dict[tuple[int, int], float] = {}
    seconds = 0.0
    for layer in layers:
        shape = (layer.out_features, layer.in_features)
        if shape not in times:
            weight, given = torch.randn(shape, dtype=model.dtype), torch.randn(512, shape[1], dtype=model.dtype)
            back = torch.randn(512, shape[0], dtype=model.dtype)
            both = timeit.Timer(lambda: (given @ weight.T, back @ weight))  # noqa: B023 (called at once)
            times[shape] = min(both.repeat(5, 10)) / 10 / 512  # of a token
        seconds += times[shape] * (audit.supervised if layer is head else audit.tokens)
    return seconds


def busy(options: argparse.Namespace, folder: Path) -> None:
    """48 rows alone and beside two programs that never rest, by how long libgomp's threads spin before they sleep."""
    waits = {"as lionkit sets it": {}, "libgomp's default": {"GOMP_SPINCOUNT": "300000"}}
    waits["at once"] = {"GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, __file__, "--data", str(options.data), "--rows", "48"]
    for others in (0, 2):
        idle = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
        try:
            for name, own in waits.items():
                try:
                    run = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=150)
                    said = f"{float(run.stdout.splitlines()[-1]):.1f} s"
                except subprocess.TimeoutExpired:
                    said = "not through in 150 s"
                print(
                    f"busy: beside {others} busy programs, threads wait {name}: {said} (beside them < 150 s)",
                    flush=True,
                )
        finally:
            for process in idle:
                process.kill()


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


def pool(options: argparse.Namespace, folder: Path, size: int = 16, new_tokens: int = 256) -> None:
    """A student after one iteration answers a pool of other instructions: `generate`, whose batches wait for their
    longest answer, against `respond`; the same batch size, decoded weights and limit."""
    pairs = read_pairs(options)
    student.train(student.load(weights.NAME), pairs[:96], out=folder, progress=False, **SETTINGS | {"epochs": 2})
    texts = [text for text, _ in pairs[96:]]
    model = student.load(weights.NAME, adapter=folder)
    prompts = sorted((prompt_ids(model.tokenizer, t, template=model.template) for t in texts), key=len, reverse=True)
    own, pad = model.model.generation_config, model.tokenizer.eos_token_id
    own.temperature = own.top_p = own.top_k = None
    started, lengths = time.monotonic(), []
    with torch.no_grad(), dense(model.model, model.dtype):
        for start in range(0, len(prompts), size):
            batch = prompts[start : start + size]
            ids = torch.tensor([[pad] * (len(batch[0]) - len(p)) + p for p in batch])
            mask = torch.tensor([[0] * (len(batch[0]) - len(p)) + [1] * len(p) for p in batch])
            out = model.model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False, pad_token_id=pad
            )
            ended = (out[:, ids.shape[1] :] == pad).int()
            lengths += [int(row.argmax()) if row.any() else len(row) for row in ended]
    waited = time.monotonic() - started
    middle = sorted(lengths)[len(lengths) // 2]
    print(f"pool: {len(texts)} answers of {min(lengths)} to {max(lengths)} tokens, half of them below {middle}")
    print(f"pool: generate in batches of {size}: {waited:.0f} s, {sum(lengths) / waited:.0f} tokens/s", flush=True)
    for rows in (size, 2 * size):
        started = time.monotonic()
        answers = student.respond(model, texts, max_new_tokens=new_tokens, batch_size=rows, progress=False)
        seconds = time.monotonic() - started
        ends = f"{sum(a.cut for a in answers)} cut"
        print(f"pool: respond, {rows} at once: {seconds:.0f} s, {waited / seconds:.2f} times as fast (>= 2), {ends}")


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
    "Llama of 1.1B": {
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "vocab_size": 49152,
    },
}
"""Shapes with random weights, and SmolLM2's tokenizer."""
PEAKS: list[tuple[str, int, int, int, bool]] = [
    (weights.NAME, 240, 8, 256, False),
    (weights.NAME, 60, 4, 512, True),
    ("Llama of 76M", 120, 8, 256, False),
    ("Llama of 305M", 60, 4, 256, False),
    ("Llama of 1.1B", 8, 1, 512, True),
]
"""Model, real rows, rows of a step, length, gradient checkpointing; two epochs each. 240 rows take ten minutes."""
STEPS = (4, 15, 45, 120)
"""After how many steps the peak so far is read, and at the end."""


def memory(options: argparse.Namespace, folder: Path) -> None:
    """Plan against the peak of a fresh process (resident memory, libraries included), on real rows of mixed length."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    pairs = read_pairs(options)
    for name, rows, *values in PEAKS:
        settings = dict(zip(("step_rows", "max_length", "gradient_checkpointing"), values))
        model = name
        if shape := SHAPES.get(name):
            torch.manual_seed(0)
            model = str(folder / name.replace(" ", "-"))
            LlamaForCausalLM(LlamaConfig(**shape)).bfloat16().save_pretrained(model)
            AutoTokenizer.from_pretrained(weights.fetch()).save_pretrained(model)
        own = StudentConfig(model=model, epochs=2, device_rows=settings["step_rows"], **settings)
        table = plan.memory(model, Config(student=own), device="cpu", pairs=(pairs * 2)[:rows])
        sizes = dict(zip(table["part"], table["bytes"], strict=True))
        command = [sys.executable, __file__, "--data", str(options.data), "--peak", json.dumps([model, rows, settings])]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f"memory: {name}, {settings}: " + ", ".join(f"{k} {v / 2**20:.0f}" for k, v in sizes.items()) + " MiB")
        for step, most in json.loads(done.stdout.splitlines()[-1]):
            held = f"after {step} steps {most / 2**20:.0f} MiB"
            print(f"memory: {held}, planned {sizes['total'] / most - 1:+.1%} (within 10%)", flush=True)


def peak(options: argparse.Namespace) -> None:
    """Print [step, most bytes so far] at some steps and the end of a training on real rows of mixed length."""
    from lionkit.student.trainer import Overseer, peak_memory

    model, rows, settings = json.loads(options.peak)
    found, end = {}, Overseer.on_step_end

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step in STEPS or state.global_step == state.max_steps:
            found[state.global_step] = peak_memory(torch.device("cpu"))
        end(self, args, state, control, **kwargs)

    settings["batch_size"] = settings.pop("step_rows")
    with tempfile.TemporaryDirectory() as out, mock.patch.object(Overseer, "on_step_end", on_step_end):
        pairs = (read_pairs(options) * 2)[:rows]
        student.train(student.load(model), pairs, out=Path(out), epochs=2, progress=False, **settings)
    print(json.dumps(list(found.items())))


if __name__ == "__main__":
    main()
