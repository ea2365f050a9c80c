"""Training with several processes: the first one leads, the others only train along.

Under `accelerate launch` or torchrun every process enters `lead()`, but only the first goes through its block, so
that one process asks the teacher, prints and writes. Its calls of `train` reach the others, and all of them train
(DDP: gloo on CPUs, NCCL on GPUs). Without `lead` there is one process, which leads. Machines that do not share the
folder of runs are not covered, nor is a model that has to be split over several cards (docs/fsdp.md).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from peft import get_peft_model
from torch import distributed

from lionkit.config import several_processes
from lionkit.errors import StudentError
from lionkit.student.model import is_out_of_memory, load

P = ParamSpec("P")
R = TypeVar("R")
LOST = ("Connection closed by peer", "Connection reset by peer", "remote process exited")
"""What gloo and NCCL say when another process has ended."""
_group: Any = None  # over gloo, also where NCCL moves the gradients: waiting in it is free, however long it takes


@contextmanager
def lead() -> Iterator[None]:
    """The block is run by the first process alone; the others train along as long as it lasts, and then exit.

    Raises StudentError under an FSDP or DeepSpeed configuration, and in the first process when another one ends.
    """
    _refuse_splitting()
    if not several_processes():
        yield
        return
    _join()
    if leading := leads():
        yield
        from_leader()  # not after an error: the launcher ends the others, which may be in the middle of a step
    else:
        _train_along()
    distributed.destroy_process_group()
    if not leading:
        raise SystemExit


def _join() -> None:
    """Meet the other processes that the launcher started."""
    global _group
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    except ValueError:  # the launcher's other variables are missing
        message = "WORLD_SIZE is set, but no launcher started this: unset it, or use accelerate launch"
        raise StudentError(message) from None
    _group = distributed.new_group(backend="gloo", timeout=timedelta(days=30))


def processes() -> int:
    """How many train together."""
    return distributed.get_world_size(_group) if _group else 1


def leads() -> bool:
    """Whether this process is the first one, which alone writes and prints."""
    return not _group or distributed.get_rank(_group) == 0


def from_leader(value: Any = None) -> Any:
    """The first process's value, in every process: each has to call this, and waits until all have."""
    values = [value] * processes()
    if _group:
        with together():
            distributed.all_gather_object(values, value, group=_group)
    return values[0]


@contextmanager
def together() -> Iterator[None]:
    """Raises StudentError, in one line, where another process ends during the block."""
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in LOST):
            raise
        raise StudentError("another process of this training has ended: its own message says why") from None


def _train_along() -> None:
    """Take part in every training of the leader, until it is done."""
    try:
        while job := from_leader():
            train, how, adapter, pairs, options = job
            student = load(**how)
            if adapter is not None:  # its weights come from the leader when the training begins, as DDP does it
                student.model = get_peft_model(student.model, adapter)
            train(student, pairs, **options)
            del student
    except StudentError as error:
        if is_out_of_memory(error):
            raise
        raise SystemExit(1) from None  # any other error is met by the leader too, which says it


def _refuse_splitting() -> None:
    """Raise StudentError under an FSDP or DeepSpeed configuration, with however many processes."""
    for name in ("FSDP", "DEEPSPEED"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true":
            raise StudentError(f"{name} is not built in: launch without it, or see docs/fsdp.md")


def shared(train: Callable[P, R]) -> Callable[P, R]:
    """Has `train(student, pairs, **options)` called by the leader run in every process, on the leader's weights."""

    @wraps(train)
    def run(*args: P.args, **options: P.kwargs) -> R:
        _refuse_splitting()
        if not _group and several_processes():
            raise StudentError("several processes were started: put the work into `with student.lead():`")
        if _group and leads():
            student, pairs = args
            how = {name: getattr(student, name) for name in ("quantize", "template")}
            how |= {"model": student.path, "device": "cpu" if student.device.type == "cpu" else "auto"}
            how["dtype"] = str(student.dtype).removeprefix("torch.")
            adapter = student.model.peft_config["default"] if student.adapted else None
            from_leader((run, how, adapter, pairs, options | {"progress": False, "watch": None}))
        return train(*args, **options)

    return run
