"""Training with several processes: the first one leads, the others only train along.

Under `accelerate launch` or torchrun every process enters `lead()`, but only the first goes through its block, so
that one process asks the teacher, prints and writes. Its calls of `train` reach the others, and all of them train
(DDP: gloo on CPUs, NCCL on GPUs). Machines that do not share the folder of runs are not covered.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import distributed

from lionkit.config import several_processes
from lionkit.errors import StudentError
from lionkit.student import ranks
from lionkit.student.model import is_out_of_memory, load
from lionkit.student.train import train


@contextmanager
def lead() -> Iterator[None]:
    """The block is run by the first process alone; the others train along as long as it lasts, and then exit.

    Raises StudentError under an FSDP or DeepSpeed configuration, and in the first process when another one ends.
    """
    ranks.refuse_splitting()
    if not several_processes():
        yield
        return
    ranks.join()
    if not (leads := ranks.leads()):
        _train_along()
    else:
        yield
        ranks.from_leader()  # not after an error: the launcher ends the others, perhaps in the middle of a step
    distributed.destroy_process_group()
    if not leads:
        raise SystemExit


def _train_along() -> None:
    """Take part in every training of the leader, until it is done."""
    from peft import get_peft_model

    try:
        while job := ranks.from_leader():
            how, adapter, pairs, options = job
            student = load(**how)
            if adapter is not None:  # its weights come from the leader when the training begins, as DDP does it
                student.model = get_peft_model(student.model, adapter)
            train(student, pairs, **options)
            del student
    except StudentError as error:
        if is_out_of_memory(error):
            raise
        raise SystemExit(1) from None  # any other error is met by the leader too, which says it
