"""QLoRA fine-tuning of the student on (instruction, response) pairs, through transformers' Trainer and peft.

The loss is the completion-only cross-entropy of the paper's section 3.1, summed over response tokens and divided by
their number in the optimizer step. Steps are of random rows that depend on seed and epoch alone; a killed run goes
on from its checkpoint to the same weights; nothing that is not finite is saved. The Trainer itself is in `trainer`.
Full fine-tuning is not covered.
"""

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import EarlyStoppingCallback, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback, TrainerState

from lionkit.errors import StudentError
from lionkit.progress import Progress
from lionkit.student import ranks
from lionkit.student.batches import keeps_apart
from lionkit.student.checkpoint import explained, fingerprint, resumable, save_adapter
from lionkit.student.dense import attention, dense
from lionkit.student.encode import Encoded, LabelAudit, label_audit
from lionkit.student.model import Student, at_least_one, load
from lionkit.student.trainer import Overseer, Show, StudentTrainer, history, peak_memory, reset_peak

Pairs = Sequence[tuple[str, str]]
EAGER_LENGTH = 256
"""Up to this many tokens plain attention trains faster on a CPU than PyTorch's fused one."""

AT_ONCE = 512
"""Tokens that go through the model at once on a CPU, where larger batches take more memory. In two runs each
they were no faster on long rows, and a tie on short ones."""


@dataclass(frozen=True)
class TrainReport:
    """What training did. `counts()` is reproducible on one machine; times and memory are not."""

    audit: LabelAudit
    """Of the rows that were trained on: padding is not counted, and one epoch."""
    steps: int
    losses: list[float]
    """Mean loss per response token, by optimizer step."""
    validation: list[tuple[int, float]]
    """(step, validation loss per response token) by epoch."""
    seconds: float
    peak_memory: int
    """Most bytes during training: of tensors on CUDA, else of this whole process."""

    def counts(self) -> dict[str, Any]:
        names = ("template", "rows", "dropped", "cut", "tokens", "supervised")
        counts = {name: getattr(self.audit, name) for name in names} | {"steps": self.steps}
        last = self.losses[-max(len(self.losses) // 10, 1) :]
        by_epoch = [[step, round(loss, 4)] for step, loss in self.validation]
        return counts | {"loss": round(sum(last) / len(last), 4)} | ({"validation": by_epoch} if by_epoch else {})


@ranks.shared
def train(
    student: Student,
    pairs: Pairs,
    /,
    *,
    out: str | Path,
    rank: int = 16,
    alpha: int = 32,
    dropout: float = 0.0,
    learning_rate: float = 2e-4,
    epochs: int = 3,
    batch_size: int = 8,
    device_rows: int | None = None,
    max_length: int = 1024,
    gradient_checkpointing: bool = True,
    shard: bool = False,
    pack: bool = False,
    seed: int = 0,
    validation: Pairs = (),
    patience: int | None = None,
    checkpoint_seconds: float = 120.0,
    progress: bool = True,
    watch: Show | None = None,
) -> TrainReport:
    """Fine-tune on pairs and write the adapter to `out`; the student then answers with it.

    `batch_size` is the rows of an optimizer step, and with `seed` and the epoch decides what is learned.
    `device_rows` is the most rows that go through the device at once (None: all of a step); it changes memory and
    speed alone. Within `lead()` the processes share each step, so that their number changes the speed and not the
    result; with `shard` they share the frozen weights too. With `pack` rows go through the device one after the other
    in place of side by side, without padding.

    A student with an adapter goes on from it (rank, alpha and dropout are the adapter's own), another gets a LoRA on
    all linear layers, drawn from `seed`. The label audit is printed first. With `validation` pairs the loss on them is
    taken after each epoch and the best epoch is kept; `patience` epochs without gain end the training. `watch` is given
    the losses every few seconds and at the end. Killed and called again with the same arguments, training goes on from
    the last checkpoint in `out`.

    Raises StudentError: a number that cannot be, nothing to train on, labels that the audit condemns, no validation to
    be patient with, rows that the processes cannot share, a loss that is not finite, out of memory, disk full.
    """
    out = Path(out)
    at_least_one(rank=rank, epochs=epochs, batch_size=batch_size, max_length=max_length)
    rows, audit = _audited(student, pairs, max_length, "nothing was trained")
    refusal = "nothing was trained, the validation rows cannot be used"
    held = _audited(student, validation, max_length, refusal)[0] if validation else []
    if patience is not None and not (validation and patience > 0):
        message = f"patience = {patience}: epochs, at least 1, and with validation rows to look at"
        raise StudentError(message, setting="student.patience")
    if batch_size % ranks.processes():
        message = f"{ranks.processes()} processes cannot share steps of {batch_size} rows: make student.step_rows "
        raise StudentError(f"{message}a multiple of {ranks.processes()}", setting="student.step_rows")
    if pack and not keeps_apart(student):
        message = f"rows of {student.base} cannot be packed: they would see each other; set student.pack = false"
        raise StudentError(message, setting="student.pack")
    if progress:
        print(audit)
        if held:
            print(f"{len(held)} more rows are kept for validation after each epoch.")
    _wrap(student, seed, r=rank, lora_alpha=alpha, lora_dropout=dropout)
    started, steps = time.monotonic(), math.ceil(len(rows) / batch_size)  # of an epoch
    reset_peak(student.device)
    own_rows = batch_size // ranks.processes()
    device_rows = min(device_rows or own_rows, own_rows)
    fewer = {"student.device_rows": f"{device_rows}; what is learned stays the same"} if device_rows > 1 else {}
    remedies = {**fewer, "student.gradient_checkpointing": gradient_checkpointing, "student.max_length": max_length}
    made_from = fingerprint(student, [rows, held, learning_rate, epochs, batch_size, seed, patience])
    with resumable(out / "checkpoints", made_from) as last, explained("training", remedies):
        settings = {"learning_rate": learning_rate, "num_train_epochs": epochs, "seed": seed}
        settings |= {f"per_device_{part}_batch_size": own_rows for part in ("train", "eval")}
        arguments = _arguments(student, out / "checkpoints", bool(held), gradient_checkpointing, settings)
        most = (device_rows, AT_ONCE if student.device.type == "cpu" else None)
        shard = shard and ranks.processes() > 1
        trainer = StudentTrainer(student, arguments, rows, held, most=most, shard=shard, pack=pack)
        if last and progress:
            print(f"Going on from step {Path(last).name.split('-')[1]}.")
        with Progress(steps * epochs, "training", "steps", shown=progress) as bar:
            trainer.add_callback(Overseer(bar, checkpoint_seconds, watch, steps if held else 0))
            _fit(student, trainer, last, patience)
        if ranks.leads():
            save_adapter(student, out)
        if shard:  # none could answer without the others
            student.model = load(**ranks.load_options(student), adapter=out).model if ranks.leads() else None
    losses, by_epoch = history(trainer.state)
    if by_epoch and progress:
        print("Validation loss by epoch: " + ", ".join(f"{loss:.3f}" for _, loss in by_epoch) + ". The best is kept.")
    seconds = time.monotonic() - started
    return TrainReport(audit, trainer.state.global_step, losses, by_epoch, seconds, peak_memory(student.device))


def _audited(student: Student, pairs: Pairs, max_length: int, refusal: str) -> tuple[list[Encoded], LabelAudit]:
    rows, audit = label_audit(student.tokenizer, pairs, template=student.template, max_length=max_length)
    if audit.problems:
        raise StudentError(f"{refusal}: {audit}", setting="student.max_length" if not rows else "student.template")
    student.require_positions(max(len(row.input_ids) for row in rows))
    return rows, audit


def _wrap(student: Student, seed: int, **sizes: float) -> None:
    """Give the student a seeded LoRA on all linear layers, unless it has an adapter to go on from."""
    if not student.adapted:
        torch.manual_seed(seed)
        config = LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM", **sizes)
        student.model = get_peft_model(student.model, config)
    config = student.model.peft_config["default"]
    config.base_model_name_or_path = student.base
    config.target_modules = sorted(config.target_modules)  # a set: its order would differ between processes


def _arguments(student: Student, folder: Path, evaluate: bool, checkpointing: bool, settings: dict[str, Any]) -> Any:
    on_gpu = student.device.type == "cuda"
    arguments = TrainingArguments(
        output_dir=str(folder),
        lr_scheduler_type="cosine",
        warmup_steps=0.03,  # a share of all steps
        optim="paged_adamw_8bit" if on_gpu else "adamw_torch",
        bf16=on_gpu and student.dtype == torch.bfloat16,
        fp16=on_gpu and student.dtype == torch.float16,
        use_cpu=student.device.type == "cpu",
        activation_checkpointing=checkpointing,
        eval_strategy="epoch" if evaluate else "no",
        save_strategy="epoch" if evaluate else "no",
        load_best_model_at_end=evaluate,
        restore_callback_states_from_checkpoint=True,  # how long patience has lasted
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,  # on, it would hide a loss that is not finite
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
        ddp_find_unused_parameters=False,
        **settings,
    )
    arguments._n_gpu = 1  # several cards are used through `accelerate launch`, not through DataParallel
    return arguments


def _fit(student: Student, trainer: StudentTrainer, last: str | None, patience: int | None) -> None:
    """Run the Trainer from checkpoint `last`, or from the start."""
    trainer.remove_callback(PrinterCallback)
    if patience:
        trainer.add_callback(EarlyStoppingCallback(patience))
        if last:
            state = TrainerState.load_from_json(f"{last}/{TRAINER_STATE_NAME}")
            stopper = state.stateful_callbacks[EarlyStoppingCallback.__name__]["attributes"]
            if stopper["early_stopping_patience_counter"] >= patience:
                trainer.args.num_train_epochs = round(state.epoch)  # it would forget that it was about to stop
    short = student.device.type == "cpu" and max(len(row.input_ids) for row in trainer.train_dataset) <= EAGER_LENGTH
    fast = nullcontext() if trainer.shard else dense(student.model, student.dtype)
    with attention(student.network, "eager", short), fast:
        trainer.train(resume_from_checkpoint=last)
    student.model.eval()
