"""transformers' Trainer with the student's loss and batches, and what watches over a training: losses, time, memory.

The loss is taken at labelled positions only: SmolLM2's 49k vocabulary would cost more than its layers. A step of
rows goes through the device in pieces, which add up to the gradient of the whole.
"""

import logging
import math
import re
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.nn import functional as F
from transformers import Trainer, TrainerCallback

from lionkit.errors import StudentError
from lionkit.progress import Progress
from lionkit.student import ranks
from lionkit.student.batches import BLANK, ByLength, collate, packed, pieces
from lionkit.student.encode import IGNORED, Encoded
from lionkit.student.model import Student

logging.getLogger("transformers.trainer_utils").setLevel(logging.ERROR)  # rows a process may differ after resuming
Show = Callable[[list[float], list[tuple[int, float]]], None]
"""Takes the losses by step so far, and (step, validation loss) by epoch."""
Rows = list[Encoded]
Most = tuple[int, int | None]
SHOW_SECONDS = 4.0
"""Seconds between two calls of it. A drawing takes 0.08 s: 2 % of the time."""
SKIPPED = 20
"""Steps in a row without a finite gradient that end a training in float16. PyTorch's GradScaler leaves such a step
out and halves its scale, which begins at 2^16; in other types one is too many."""


class StudentTrainer(Trainer):
    """The Trainer of `rows`, with `held` ones for validation. `most` are the (rows, tokens or None) of a piece. With
    `shard` the processes split the frozen weights; with `pack` a piece has no padding."""

    def __init__(
        self, student: Student, args: Any, rows: Rows, held: Rows, *, most: Most, shard: bool, pack: bool
    ) -> None:
        self.step_rows, self.most = args.per_device_train_batch_size * ranks.processes(), most
        self.shard, self.pack = shard, pack
        held = sorted(held, key=lambda row: -len(row.input_ids))  # for pieces with little padding
        if ranks.processes() > 1:  # as many blank rows as make whole steps, for each process equally many
            rows, held = (some + [BLANK] * (-len(some) % self.step_rows) for some in (rows, held))
        super().__init__(student.model, args, collate, train_dataset=rows, eval_dataset=held)
        self.model_accepts_loss_kwargs = True  # has it count the labels of the whole step
        if shard:
            ranks.split(student.network)
            self.accelerator.prepare_model = lambda model, **_: model  # or it would be wrapped for DDP

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        lengths = [len(row.input_ids) for row in self.train_dataset if row is not BLANK]
        blank = len(self.train_dataset) - len(lengths)
        order = (self.step_rows, self.args.seed, lambda: int(self.state.epoch or 0))
        return ByLength(lengths, *order, blank=blank, parts=ranks.processes())

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward, piece by piece; only the last one has the processes exchange gradients."""
        *first, last = self._pieces(inputs)
        with self.accelerator.no_sync(model):
            losses = [super(StudentTrainer, self).training_step(model, p, num_items_in_batch) for p in first]
        loss = sum(losses, super().training_step(model, last, num_items_in_batch))
        if self.shard:
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, "mean")
        return loss

    def _pieces(self, batch: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        """The batch in pieces, as many as every other process has where weights have to be brought together."""
        own = [packed(piece) if self.pack else piece for piece in pieces(batch, *self.most)]
        return own + [collate([BLANK])] * (max(ranks.gathered(len(own))) - len(own)) if self.shard else own

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Sum over this piece's labels over the number in the whole step, over all processes."""
        return self._token_losses(model, inputs).sum() * self.accelerator.num_processes / num_items_in_batch

    def _token_losses(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Cross-entropy [labels] of every labelled token. The head is called on their positions only."""
        labels = inputs["labels"][:, 1:]  # the token after each position
        labelled = labels != IGNORED
        head = self.model.get_base_model().get_output_embeddings()
        with head.register_forward_pre_hook(lambda _, args: (args[0][:, :-1][labelled],)):
            logits = model(**{k: v for k, v in inputs.items() if k != "labels"}, use_cache=False).logits
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


class Overseer(TrainerCallback):
    """Moves the bar and the live plot, saves every so many seconds, stops at a loss or gradient that is not finite.

    With `evaluated` steps an epoch, the last step of an epoch is not saved before the validation that follows it.
    """

    def __init__(self, bar: Progress, checkpoint_seconds: float, show: Show | None, evaluated: int) -> None:
        self.bar, self.every, self.show, self.evaluated = bar, checkpoint_seconds, show, evaluated
        self.saved = self.shown = time.monotonic()
        self.skipped = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        due = time.monotonic() - self.saved >= self.every and state.global_step < state.max_steps
        due = due and not (self.evaluated and state.global_step % self.evaluated == 0)
        with suppress(AttributeError):
            psutil.heap_trim()  # steps of other widths would each leave freed blocks behind
        if ranks.from_leader(due):
            control.should_save, self.saved = True, time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" not in logs:
            return
        self.skipped = 0 if math.isfinite(logs.get("grad_norm", 0.0)) else self.skipped + 1
        allowed = SKIPPED if args.fp16 else 0
        if broken := "loss" if not math.isfinite(logs["loss"]) else "grad_norm" if self.skipped > allowed else "":
            message = f"the {broken} is {logs[broken]} at step {state.global_step}: nothing was saved"
            raise StudentError(f"{message}; lower student.learning_rate", setting="student.learning_rate")
        self.bar.update(1, loss=f"{logs['loss']:.3f}")
        if time.monotonic() - self.shown >= SHOW_SECONDS:
            self.on_train_end(args, state, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.show is not None:
            self.show(*history(state))
        self.shown = time.monotonic()


def history(state: Any) -> tuple[list[float], list[tuple[int, float]]]:
    """Losses by optimizer step, and (step, validation loss) by epoch."""
    log = state.log_history
    return [e["loss"] for e in log if "loss" in e], [(e["step"], e["eval_loss"]) for e in log if "eval_loss" in e]


def reset_peak(device: torch.device) -> None:
    """Have `peak_memory` count from now on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError, AttributeError):  # Linux with glibc; elsewhere the peak is the one since the process began
        psutil.heap_trim()  # loading leaves up to 350 MB of freed blocks
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
