"""Several processes, one run: the first one leads, the others only train along.

Under `accelerate launch` or torchrun every process enters `lead()`, but only the first goes through its block, so
that one process asks the teacher, prints and writes. Its calls of `train` reach the others, and all of them train
(DDP: gloo on CPUs, NCCL on GPUs). Not covered: a model that has to be split over several cards, and machines that
do not share the folder of runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import distributed

from lionkit.config import several_processes
from lionkit.errors import StudentError
from lionkit.student.model import load

P = ParamSpec("P")
R = TypeVar("R")
_group: Any = None  # over gloo, also where NCCL moves the gradients: waiting in it is free, however long it takes


def processes() -> int:
    """How many train together."""
    return distributed.get_world_size(_group) if _group else 1


def leads() -> bool:
    """Whether this process is the one that writes."""
    return not _group or distributed.get_rank(_group) == 0


def from_leader(value: Any = None) -> Any:
    """The first process's value, in every process; all of them have to call this."""
    box = [value]
    if _group:
        distributed.broadcast_object_list(box, src=0, group=_group)
    return box[0]


def wait() -> None:
    """Until every process is here."""
    if _group:
        distributed.barrier(_group)


@contextmanager
def lead() -> Iterator[None]:
    """The block is run by the first process alone; any other trains along as long as it lasts, and then exits."""
    global _group
    if not several_processes():
        yield
        return
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        raise StudentError("FSDP and DeepSpeed are not built in: launch without them, or see docs/fsdp.md")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    except ValueError:  # the other variables are not there
        raise StudentError(
            "WORLD_SIZE is set, but no launcher started this: unset it, or use accelerate launch"
        ) from None
    _group = distributed.new_group(backend="gloo", timeout=timedelta(days=30))
    if leads():
        yield
        from_leader(None)  # not after an error: the launcher ends the others, which may be in the middle of a step
        distributed.destroy_process_group()
    else:
        _train_along()
        distributed.destroy_process_group()
        raise SystemExit


def shared(train: Callable[P, R]) -> Callable[P, R]:
    """Has `train(student, pairs, **options)` called by the leader run in every process, on the leader's weights."""

    @wraps(train)
    def run(*args: P.args, **options: P.kwargs) -> R:
        if not _group and several_processes():
            raise StudentError("several processes were started: put the work into `with student.lead():`")
        if _group and leads():
            student, pairs = args
            how = {
                "model": student.path, "quantize": student.quantize, "template": student.template,
                "device": "cpu" if student.device.type == "cpu" else "auto", "dtype": str(student.dtype).split(".")[1],
            }  # fmt: skip
            adapter = student.model.peft_config["default"] if student.adapted else None
            from_leader((how, adapter, pairs, options | {"progress": False, "watch": None}))
        return train(*args, **options)

    return run


def _train_along() -> None:
    from peft import get_peft_model

    from lionkit.student.train import train

    while job := from_leader():
        how, adapter, pairs, options = job
        student = load(**how)
        if adapter is not None:  # its weights come from the leader when the training begins, as DDP does it
            student.model = get_peft_model(student.model, adapter)
        train(student, pairs, **options)
        del student
