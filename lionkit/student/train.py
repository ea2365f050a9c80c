"""QLoRA fine-tuning of the student on (instruction, response) pairs, through transformers' Trainer and peft.

The loss is the completion-only cross-entropy of the paper's section 3.1, summed over response tokens and
divided by their number over the whole accumulated batch. What is added to the Trainer: logits only at labelled
positions (SmolLM2's 49k vocabulary would cost more than its layers), steps of random rows that are taken in
order of length and depend on seed and epoch alone, a checkpoint from which a killed run goes on to the same
weights, and refusal to save anything that is not finite. Full fine-tuning is not covered.
"""

from __future__ import annotations

import ctypes
import math
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, TrainerState

from lionkit.errors import StudentError
from lionkit.progress import Progress
from lionkit.student import ranks
from lionkit.student.batches import BLANK, ByLength, collate, fill, pieces, share
from lionkit.student.checkpoint import explained, fingerprint, resumable, save_adapter
from lionkit.student.dense import dense
from lionkit.student.encode import IGNORED, Audit, Encoded, label_audit
from lionkit.student.model import Student

Pairs = Sequence[tuple[str, str]]
Watch = Callable[[list[float], list[tuple[int, float]]], None]
"""Takes the losses by step so far, and (step, validation loss) by epoch; called every few seconds and at the end."""
WATCH_SECONDS = 4.0  # a drawing takes 0.08 s: 2 % of the time
EAGER_LENGTH = 256
"""Up to this many tokens plain attention trains faster on a CPU than PyTorch's fused one."""

AT_ONCE = 512
"""Tokens that go through the model at once on a CPU, where larger batches take more memory. In two runs each
they were no faster on long rows, and a tie on short ones."""

SKIPPED = 20
"""Steps in a row without a finite gradient that end a training in float16. PyTorch's GradScaler leaves such a step
out and halves its scale, which begins at 2^16; in other types one is too many."""


@dataclass(frozen=True)
class TrainReport:
    """What training did. `counts()` is reproducible on one machine; times and memory are not."""

    audit: Audit
    """Of the rows that were trained on: padding is not counted, and one epoch."""
    steps: int
    losses: list[float]
    """Mean loss per response token, by optimizer step."""
    validation: list[tuple[int, float]] = field(default_factory=list)
    """(step, validation loss per response token) by epoch."""
    seconds: float = 0.0
    peak_memory: int = 0
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
    out: Path,
    rank: int = 16,
    alpha: int = 32,
    dropout: float = 0.0,
    learning_rate: float = 2e-4,
    epochs: int = 3,
    batch_size: int = 8,
    accumulation: int = 1,
    max_length: int = 1024,
    gradient_checkpointing: bool = True,
    seed: int = 0,
    validation: Pairs = (),
    patience: int | None = None,
    checkpoint_seconds: float = 120.0,
    progress: bool = True,
    watch: Watch | None = None,
) -> TrainReport:
    """Fine-tune on pairs and write the adapter to `out`; the student then answers with it.

    A student with an adapter goes on from it (rank, alpha and dropout are the adapter's own), another gets a
    LoRA on all linear layers. The label audit is printed first. With `validation` pairs the loss on them is taken
    after each epoch and the best epoch is kept; `patience` epochs without gain end the training. Killed and called
    again with the same arguments it resumes at the last checkpoint in `out`. Within `lead()` the processes share
    each step of `batch_size` x `accumulation` rows, so that their number changes the speed and not the result.
    Raises StudentError: nothing to train on, labels that the audit condemns, no validation to be patient with, a
    loss that is not finite, out of memory, disk full.
    """
    rows, audit = label_audit(student.tokenizer, pairs, template=student.template, max_length=max_length)
    held, held_audit = label_audit(student.tokenizer, validation, template=student.template, max_length=max_length)
    if audit.problems:
        raise StudentError(f"nothing was trained: {audit}")
    if validation and held_audit.problems:
        raise StudentError(f"nothing was trained, the validation rows cannot be used: {held_audit}")
    if patience is not None and not (validation and patience > 0):
        raise StudentError(f"patience = {patience}: epochs, at least 1, and with validation rows to look at")
    if progress:
        print(audit)
        if held:
            print(f"{len(held)} more rows are kept for validation after each epoch.")
    _wrap(student, rank=rank, alpha=alpha, dropout=dropout, seed=seed)
    own_batch, own_steps = share(batch_size, accumulation, ranks.processes())
    settings = {
        "learning_rate": learning_rate, "num_train_epochs": epochs, "per_device_train_batch_size": own_batch,
        "per_device_eval_batch_size": own_batch, "gradient_accumulation_steps": own_steps, "seed": seed,
    }  # fmt: skip
    started = time.monotonic()
    _reset_peak(student.device)
    sizes = f"batch_size ({batch_size}), max_length ({max_length})"
    remedy = f"lower or change {sizes} or gradient_checkpointing ({gradient_checkpointing})"
    inputs = [rows, held, settings, patience]
    with resumable(out / "checkpoints", fingerprint(student, inputs)) as last, explained("training", remedy):
        arguments = _arguments(student, out / "checkpoints", bool(held), gradient_checkpointing, settings)
        trainer = _StudentTrainer(student, arguments, rows, held, batch_size * accumulation)
        if last and progress:
            print(f"Going on from step {Path(last).name.split('-')[1]}.")
        state = _fit(student, trainer, last, patience, checkpoint_seconds, progress, watch)
        if ranks.leads():
            save_adapter(student, out)
    losses, validation = _history(state)
    if validation and progress:
        print("Validation loss by epoch: " + ", ".join(f"{loss:.3f}" for _, loss in validation) + ". The best is kept.")
    return TrainReport(
        audit=audit, steps=state.global_step, losses=losses, validation=validation,
        seconds=time.monotonic() - started, peak_memory=peak_memory(student.device),
    )  # fmt: skip


def _wrap(student: Student, *, rank: int, alpha: int, dropout: float, seed: int) -> None:
    """Give the student a seeded LoRA on all linear layers, unless it has an adapter to go on from."""
    from peft import LoraConfig, get_peft_model

    if not student.adapted:
        torch.manual_seed(seed)
        config = LoraConfig(
            r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        student.model = get_peft_model(student.model, config)
    config = student.model.peft_config["default"]
    config.base_model_name_or_path = student.base
    config.target_modules = sorted(config.target_modules)  # a set: its order would differ between processes
    for name, parameter in student.model.named_parameters():
        parameter.requires_grad_("lora_" in name)


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
        activation_checkpointing_kwargs={"use_reentrant": False},
        eval_strategy="epoch" if evaluate else "no",
        save_strategy="epoch" if evaluate else "no",
        load_best_model_at_end=evaluate,
        restore_callback_states_from_checkpoint=True,  # how long patience has lasted
        metric_for_best_model="loss",
        greater_is_better=False,
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,  # on, it would hide a loss that is not finite
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=on_gpu,
        ddp_find_unused_parameters=False,
        **settings,
    )
    if on_gpu:
        arguments._n_gpu = 1  # several cards are used through `accelerate launch`, not through DataParallel
    return arguments


def _fit(
    student: Student,
    trainer: _StudentTrainer,
    last: str | None,
    patience: int | None,
    checkpoint_seconds: float,
    progress: bool,
    watch: Watch | None,
) -> Any:
    """Run the Trainer from checkpoint `last`, or from the start; returns its state."""
    trainer.remove_callback(PrinterCallback)
    arguments = trainer.args
    steps = math.ceil(len(trainer.get_train_dataloader()) / arguments.gradient_accumulation_steps)
    with (
        Progress(steps * int(arguments.num_train_epochs), "training", "steps", shown=progress) as bar,
        _fast(student, max(len(row.input_ids) for row in trainer.train_dataset)),
    ):
        trainer.add_callback(_Watch(bar, checkpoint_seconds, watch, steps if trainer.eval_dataset else 0))
        if trainer.eval_dataset and patience:
            trainer.add_callback(EarlyStoppingCallback(patience))
            if last and (ended := _ended(Path(last), patience)):
                arguments.num_train_epochs = ended  # the Trainer would forget that it was about to stop
        trainer.train(resume_from_checkpoint=last)
    student.model.eval()
    return trainer.state


def _ended(checkpoint: Path, patience: int) -> int:
    """The epoch at whose end patience was over in a checkpoint; 0 where it was not."""
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    losses = [loss for _, loss in _history(state)[1]]
    over = bool(losses) and len(losses) - 1 - losses.index(min(losses)) >= patience
    return len(losses) if over and state.epoch == len(losses) else 0


class _StudentTrainer(Trainer):
    """The Trainer with this module's loss, batches and validation loss."""

    def __init__(self, student: Student, args: Any, rows: list[Encoded], held: list[Encoded], step: int) -> None:
        rows = fill(rows, args.per_device_train_batch_size, ranks.processes())
        held = sorted(held, key=lambda row: -len(row.input_ids))  # for pieces with little padding
        held = fill(held, args.per_device_eval_batch_size, ranks.processes())
        super().__init__(student.model, args, collate(student.tokenizer), train_dataset=rows, eval_dataset=held)
        self.step_rows = step
        self.model_accepts_loss_kwargs = True  # has it count the labels of the whole accumulated batch
        self.loss_is_scaled_for_ga = True

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        lengths = [len(row.input_ids) for row in self.train_dataset if row is not BLANK]
        blank = len(self.train_dataset) - len(lengths)
        return ByLength(lengths, self.step_rows, self.args.seed, lambda: int(self.state.epoch or 0), blank)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward; a CPU takes the batch in pieces, which add up to the same gradient."""
        *first, last = self._pieces(inputs)
        with self.accelerator.no_sync(model):
            losses = [super(_StudentTrainer, self).training_step(model, p, num_items_in_batch) for p in first]
        return sum(losses, super().training_step(model, last, num_items_in_batch))

    def _pieces(self, inputs: Any) -> list[dict[str, torch.Tensor]]:
        return pieces(inputs, AT_ONCE) if self.args.device.type == "cpu" else [inputs]

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Sum over this batch's labels over the number in the accumulated batch, over all processes."""
        return self._token_losses(model, inputs).sum() * self.accelerator.num_processes / num_items_in_batch

    def _token_losses(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Cross-entropy [labels] of every labelled token. The head is called on their positions only."""
        labels = inputs["labels"][:, 1:]  # the token after each position
        labelled = labels != IGNORED
        head = self.model.get_base_model().get_output_embeddings()
        hook = head.register_forward_pre_hook(lambda _, args: (args[0][:, :-1][labelled],))
        try:
            logits = model(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
            ).logits
        finally:
            hook.remove()
        return F.cross_entropy(logits.float(), labels[labelled], reduction="none")

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        self.model.save_pretrained(output_dir, save_embedding_layers=False)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Validation loss per response token, each token counted once."""
        self.model.eval()
        with torch.no_grad():
            parts = (part for batch in self.get_eval_dataloader() for part in self._pieces(batch))
            losses = [self._token_losses(self.model, self._prepare_inputs(part)) for part in parts]
        own = torch.cat(losses)
        total, count = self.accelerator.reduce(torch.stack([own.sum(), own.new_tensor(len(own))])).tolist()
        metrics = {"eval_loss": total / count}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _Watch(TrainerCallback):
    """Moves the bar and the live plot, saves every so many seconds, stops at a loss or gradient that is not finite.

    A step that ends an epoch of `evaluated` steps is saved after its validation, or a resumed run would lack that.
    """

    def __init__(self, bar: Progress, checkpoint_seconds: float, watch: Watch | None, evaluated: int) -> None:
        self.bar, self.every, self.watch, self.evaluated = bar, checkpoint_seconds, watch, evaluated
        self.saved = self.watched = time.monotonic()
        self.skipped = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        due = time.monotonic() - self.saved >= self.every and state.global_step < state.max_steps
        due = due and not (self.evaluated and state.global_step % self.evaluated == 0)
        if ranks.from_leader(due):
            control.should_save, self.saved = True, time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" not in logs:
            return
        self.skipped = 0 if math.isfinite(logs.get("grad_norm", 0.0)) else self.skipped + 1
        allowed = SKIPPED if args.fp16 else 0
        if broken := "loss" if not math.isfinite(logs["loss"]) else "grad_norm" if self.skipped > allowed else "":
            raise StudentError(
                f"the {broken} is {logs[broken]} at step {state.global_step}: nothing was saved; lower learning_rate"
            )
        self.bar.update(1, loss=f"{logs['loss']:.3f}")
        if time.monotonic() - self.watched >= WATCH_SECONDS:
            self.on_train_end(args, state, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.watch is not None:
            self.watch(*_history(state))
        self.watched = time.monotonic()


def _history(state: Any) -> tuple[list[float], list[tuple[int, float]]]:
    """Losses by optimizer step, and (step, validation loss) by epoch."""
    log = state.log_history
    return [e["loss"] for e in log if "loss" in e], [(e["step"], e["eval_loss"]) for e in log if "eval_loss" in e]


@contextmanager
def _fast(student: Student, longest: int) -> Iterator[None]:
    """What makes training faster on a CPU, within the block (see `dense`)."""
    base = student.model.get_base_model()
    before = base.config._attn_implementation
    with dense(student.model, student.dtype):
        if student.device.type == "cpu" and longest <= EAGER_LENGTH:
            base.set_attn_implementation("eager")
        try:
            yield
        finally:
            base.set_attn_implementation(before)


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError, AttributeError):  # Linux with glibc; elsewhere the peak is the one since the process began
        ctypes.CDLL(None).malloc_trim(0)  # loading leaves up to 350 MB of freed blocks
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """Most bytes held since the peak was last reset (where it can be): tensors on CUDA, else the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError):  # getrusage would count the process that started this one
        if found := re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text()):
            return int(found[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
