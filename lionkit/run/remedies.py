"""What to do about a refusal, ready to be pasted: commands that change a setting, or fork a run before a stage."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lionkit.config import Config
from lionkit.errors import LionkitError
from lionkit.run.settings import READS, value, written
from lionkit.run.stages import Place, order

ADAPTER = ("student.model", "student.rank", "student.alpha", "student.dropout")
"""What an adapter was made with, and keeps."""


def anew(run: Path, place: Place) -> str:
    """How to make a finished stage once more, from what is paid for."""
    return f"to make it anew from stored replies, in a run that keeps what comes before: {_fork_command(run, place)}"


def _fork_command(run: Path, place: Place, change: str = "") -> str:
    """The command that forks the run in this folder just before a stage."""
    stages = order(place.iteration)
    kept = [p for p in stages[: stages.index(place)] if (run / p.path / "done.json").is_file()]
    point = f"{kept[-1].iteration}:{kept[-1].stage}" if kept else "start"
    name = next(name for n in range(2, 10_000) if not (run.parent / (name := f"{run.name}-{n}")).exists())
    return f"`python -m lionkit fork {run.name} {name} --after {point}{change and ' '}{change}`"


def ways(run: Path, place: Place, name: str, given: Any) -> str:
    """How to change a method setting that this stage was the first to read."""
    change = written(name, given)
    fork = f"to try it beside this run, which keeps all that comes before: {_fork_command(run, place, change)}"
    if not may_differ(name):
        return fork
    return f"{fork}; to let later stages alone take it: `python -m lionkit set --run {run.name} --from-here {change}`"


def begin_from(run: Path, file: Path, count: int, heldout_size: int) -> str:
    """How to fork a run with a file of `count` > 1 instructions as seeds, a fifth of them held out, or fewer."""
    apart = min(heldout_size, max(1, count // 5))
    sizes = f"train_size={count - apart} heldout_size={apart}"
    return _fork_command(run, Place(0, "pools"), f"{written('seed_file', str(file.resolve()))} {sizes}")


def may_differ(name: str) -> bool:
    """Whether later stages may take another value than earlier ones: not of the pools, nor of what the first adapter
    was made with, since later iterations go on from it."""
    return name not in ADAPTER and any(name in READS[stage] for stage in READS if stage != "pools")


@contextmanager
def completed(run: Path, config: Config) -> Iterator[None]:
    """Adds to an error that names a setting the command that changes it in this run."""
    try:
        yield
    except LionkitError as error:
        if name := error.setting:
            command = f"`python -m lionkit set --run {run.name} {name}=...`"
            error.args, error.setting = (f"{error} ({name} is {value(config, name)!r}; to change it: {command})",), ""
        raise
