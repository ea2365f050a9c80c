"""The exceptions lionkit raises on purpose: each message says what is wrong, where, and what to do.

Everything here is a `LionkitError`, so a notebook or a script needs one `except`. In IPython such an error
is shown as its one line, without the stack (IPython calls `_render_traceback_` where an exception has it);
`raise ... from None` at the boundary keeps library tracebacks out of scripts as well.
"""

from pathlib import Path
from typing import Any


class LionkitError(Exception):
    """Something the user can mend. The message is one line: the problem, its place, the remedy.

    `setting` names a setting whose change is the remedy (`api.budget_usd`): whoever knows the run's name adds the
    command that changes it.
    """

    def __init__(self, message: str, *, setting: str = "") -> None:
        self.setting = setting
        super().__init__(message)

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class ConfigError(LionkitError):
    """A setting has a value that cannot work."""


class DataError(LionkitError):
    """A file holds something that cannot be read; names the file and, where there is one, the line."""

    def __init__(self, path: str | Path, line: int | None, problem: str) -> None:
        self.path, self.line, self.problem = Path(path), line, problem
        where = f"{path}, line {line}" if line is not None else f"{path}"
        super().__init__(f"{where}: {problem}")


class StageStopped(LionkitError):
    """A stage cannot go on (bad key, quota, budget, too few accepted); what it had is on disk.

    `cause` is one of `client.calls.Cause`; `result` is what the stage found so far, where its kind of error has that.
    """

    def __init__(self, message: str, cause: str = "", *, setting: str = "", result: Any = None) -> None:
        self.cause, self.result = cause, result
        super().__init__(message, setting=setting)


class StageOpen(StageStopped):
    """Rows lack an answer because the endpoint failed: the stage is not done, and asks for them when it is run again.

    `result` holds the counts that the stage found without them.
    """


class StageMissing(LionkitError):
    """A stage was asked for before the one it builds on."""


class StageChanged(LionkitError):
    """A finished stage was made from other inputs or settings than the ones asked for now."""


class StudentError(LionkitError):
    """The student's weights cannot be had, loaded, trained or saved."""


def first_line(error: BaseException) -> str:
    """The first line of what a library's error says, cut to 160 characters; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
