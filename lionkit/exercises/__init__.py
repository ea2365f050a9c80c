"""The exercises at the end of each notebook: `check_NAME(function)` for each in `mistakes.toml`, and `predict`.

`checks` makes the calls that stand there and says what a wrong answer betrays. A check prints what it has to say and
never raises, so that a notebook with unsolved exercises still runs to its end.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from lionkit.exercises.checks import check, predict, table


def __getattr__(name: str) -> Callable[[Callable[..., Any]], bool]:
    if name not in __dir__():
        raise AttributeError(f"there is no exercise {name}: known are {', '.join(__dir__())}")
    return partial(check, name.removeprefix("check_"))


def __dir__() -> list[str]:
    return ["predict", *(f"check_{name}" for name in table())]
