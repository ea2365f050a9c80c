"""The student in several processes: the first one leads, the others only train and answer along.

Under `accelerate launch` or torchrun every process enters `lead()`, but only the first goes through its block, so
that one process asks the teacher, prints and writes. Its calls of `train` and `respond` reach the others. All of them
train (gloo on CPUs, NCCL on GPUs): each on the whole student (DDP), or with `shard` on its share of the frozen weights
(PyTorch's `fully_shard`, docs/fsdp.md); and each answers its part of the texts. Without `lead` there is one process,
which leads. Machines that do not share the folder of runs are not covered.
"""

import atexit
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from datetime import timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from peft import get_peft_model
from torch import distributed
from torch.distributed.fsdp import fully_shard
from transformers.modeling_layers import GradientCheckpointingLayer

from lionkit import __version__
from lionkit.config import several_processes
from lionkit.errors import StudentError
from lionkit.student.model import Student, is_out_of_memory, load

P = ParamSpec("P")
R = TypeVar("R")
LOST = ("Connection closed by peer", "Connection reset by peer", "remote process exited")
"""What gloo and NCCL say when another process has ended."""
_group: Any = None  # over gloo, also where NCCL moves the gradients: waiting in it is free, however long it takes


@contextmanager
def lead() -> Iterator[None]:
    """The block is run by the first process alone; the others work along as long as it lasts, and then exit.

    Raises StudentError under an FSDP or DeepSpeed configuration, and in the first process when another one ends or
    was started with another command or version.
    """
    global _group
    _refuse_splitting()
    if not several_processes():
        yield
        return
    _join()
    if leading := leads():
        yield
        from_leader()  # not after an error: the launcher ends the others, which may be in the middle of a step
    else:
        _work_along()
    distributed.destroy_process_group()
    _group = None  # or its threads would be there when the interpreter ends
    if not leading:
        raise SystemExit


def _join() -> None:
    """Meet the other processes that the launcher started. Those that share a card cannot use NCCL."""
    global _group
    if cards := torch.cuda.device_count():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    try:
        own_cards = cards >= max(int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1)
        distributed.init_process_group("nccl" if own_cards else "gloo")
    except ValueError:  # the launcher's other variables are missing
        message = "WORLD_SIZE is set, but no launcher started this: unset it, or use accelerate launch"
        raise StudentError(message) from None
    _group = distributed.new_group(backend="gloo", timeout=timedelta(days=30))
    atexit.register(_end)
    command = [word for word in sys.argv[1:] if not word.startswith("--local")]  # some launchers add the rank
    for other, how in enumerate(all_have := gathered((__version__, torch.__version__, *command))):
        if how != all_have[0]:
            told = ("lionkit {}, torch {}, {}".format(*some[:2], " ".join(some[2:])) for some in (all_have[0], how))
            if leads():
                raise StudentError("process 0 and {} were started unlike: {}; {}".format(other, *told))
            raise SystemExit(1)


def _end() -> None:
    """End at once where the group was not left, after an error: one of its threads that wakes up in an interpreter
    that is going aborts it, with a line of C++ under the error's own."""
    if _group:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def processes() -> int:
    """How many work together."""
    return distributed.get_world_size(_group) if _group else 1


def rank() -> int:
    """Which of them this is."""
    return distributed.get_rank(_group) if _group else 0


def leads() -> bool:
    """Whether this process is the first one, which alone writes and prints."""
    return rank() == 0


def from_leader(value: Any = None) -> Any:
    """The first process's value, in every process: each has to call this, and waits until all have."""
    return gathered(value)[0]


def gathered(value: Any) -> list[Any]:
    """Every process's value, in every process."""
    values = [value] * processes()
    if _group:
        with together():
            distributed.all_gather_object(values, value, group=_group)
    return values


def same(parameters: Iterable[torch.Tensor]) -> None:
    """Every process's become the first one's."""
    for parameter in parameters if _group else ():
        distributed.broadcast(parameter.data, 0)


def split(network: Any) -> None:
    """Leave each process its share of the frozen weights, layer by layer; adapters stay whole in all of them.

    A layer's weights are brought together when it is computed, so that from here on every process has to call the
    network as often as the others do."""
    trained = [p for p in network.parameters() if p.requires_grad]
    same(trained)  # as DDP does it
    for module in network.modules():
        if isinstance(module, GradientCheckpointingLayer):
            fully_shard(module, ignored_params=set(trained))
    fully_shard(network, ignored_params=set(trained))


@contextmanager
def together() -> Iterator[None]:
    """Raises StudentError, in one line, where another process ends during the block."""
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in LOST):
            raise
        raise StudentError("another process has ended: its own message says why") from None


def load_options(student: Student) -> dict[str, Any]:
    """What `load` is called with for a student like this one."""
    own = {name: getattr(student, name) for name in ("quantize", "template")}
    own |= {"model": student.path, "device": "cpu" if student.device.type == "cpu" else "auto"}
    return own | {"dtype": str(student.dtype).removeprefix("torch.")}


def _work_along() -> None:
    """Take part in all that the leader trains and answers, until it is done."""
    student, made, loading = None, None, False
    try:
        while job := from_leader():
            work, asked, adapter, given, options = job
            if student is None or student.model is None or made != (asked, adapter):
                student, loading = None, True  # frees it
                student = load(**asked)
                if adapter is not None:  # its weights come from the leader
                    own = copy(adapter)
                    own.base_model_name_or_path = None  # or peft would warn of the folder's name
                    student.model = get_peft_model(student.model, own)
            loading = False
            work(student, given, **options)
            made = (asked, adapter or _adapter(student))
    except StudentError as error:
        if loading or is_out_of_memory(error):
            raise
        raise SystemExit(1) from None  # any other error is met by the leader too, which says it


def _adapter(student: Student) -> Any:
    return student.model.peft_config["default"] if student.model is not None and student.adapted else None


def _refuse_splitting() -> None:
    """Raise StudentError under an FSDP or DeepSpeed configuration, with however many processes."""
    for name in ("FSDP", "DEEPSPEED"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true":
            raise StudentError(f"{name} is not built in: launch without it and set student.shard, see docs/fsdp.md")


def shared(work: Callable[P, R]) -> Callable[P, R]:
    """Has `work(student, given, **options)` called by the leader run in every process. What is called back, and the
    progress bar, are the leader's alone."""

    @wraps(work)
    def run(*args: P.args, **options: P.kwargs) -> R:
        _refuse_splitting()
        if not _group and several_processes():
            raise StudentError("several processes were started: put the work into `with student.lead():`")
        if _group and leads():
            student, given = args
            own = {name: value for name, value in options.items() if not callable(value)}
            from_leader((run, load_options(student), _adapter(student), given, own | {"progress": False}))
        return work(*args, **options)

    return run
