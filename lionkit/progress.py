"""One progress bar for everything that takes over two seconds, fit for the three places where it is seen.

In a terminal it is one line that is rewritten in place. So it is in a notebook, where it ends as a short summary
without timings: a saved notebook stays small and the same from run to run. Where output goes to a file, a line is
printed every `LOG_SECONDS`, so that logs are not flooded. tqdm draws the line.
"""

import shutil
import sys
import time
import uuid
from typing import Any, Self

from tqdm import tqdm

LOG_SECONDS = 10.0
NOTEBOOK_SECONDS = 0.5
_STYLE = {"ascii": "·█", "bar_format": "{desc} [{bar:20}] {n_fmt}/{total_fmt} {unit} · {remaining} left{postfix}"}


class Progress:
    """`with Progress(total, "teacher", "replies") as bar: bar.update(1, failed=0)`.

    Keyword values given to `update` are shown behind the bar (counts, cost, loss); the last ones stay.
    """

    def __init__(self, total: int, label: str, unit: str = "", *, shown: bool = True) -> None:
        self.total, self.label, self.unit, self.shown = total, label, unit, shown
        self.done, self.notes = 0, dict[str, Any]()
        self._started = self._drawn = time.monotonic()
        self._in_place, self._display_id = in_kernel() or sys.stderr.isatty(), ""

    def __enter__(self) -> Self:
        if self._in_place:
            self._show(self._line())
        return self

    def update(self, steps: int = 1, **notes: Any) -> None:
        self.done += steps
        self.notes |= notes
        if time.monotonic() - self._drawn >= (NOTEBOOK_SECONDS if self._in_place else LOG_SECONDS):
            self._show(self._line())

    def __exit__(self, *error: object) -> None:
        if in_kernel():
            self._show(f"{self.label}: {self.done} of {self.total} {self.unit}".rstrip())
        elif self._in_place:
            self._show(self._line() + "\n")

    def _line(self) -> str:
        notes = " · ".join(f"{k} {v}" for k, v in self.notes.items())
        words = {"prefix": self.label, "unit": self.unit, "postfix": notes}
        columns = shutil.get_terminal_size().columns if sys.stderr.isatty() else None
        return tqdm.format_meter(self.done, self.total, time.monotonic() - self._started, columns, **words, **_STYLE)

    def _show(self, text: str) -> None:
        self._drawn = time.monotonic()
        if self.shown and in_kernel():
            from IPython.display import display

            again, self._display_id = bool(self._display_id), self._display_id or uuid.uuid4().hex
            display({"text/plain": text}, raw=True, display_id=self._display_id, update=again)
        elif self.shown:
            print(f"\r\x1b[K{text}" if self._in_place else f"{text}\n", end="", file=sys.stderr, flush=True)


def in_kernel() -> bool:
    """Whether this code runs in a notebook."""
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None
