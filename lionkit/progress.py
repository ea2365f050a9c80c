"""One progress bar for everything that takes over two seconds, right in all three places it is seen.

In a terminal it is tqdm. In a notebook it is one line of text that is rewritten in place and ends as a
short summary without timings, so a saved notebook stays small and the same from run to run. Where output
goes to a file, a line is printed every `LOG_SECONDS`, so that logs are not flooded.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

LOG_SECONDS = 10.0
NOTEBOOK_SECONDS = 0.5


class Progress:
    """`with Progress(total, "teacher", "replies") as bar: bar.update(1, failed=0)`.

    Keyword values given to `update` are shown behind the bar (counts, cost, loss); the last ones stay.
    """

    def __init__(self, total: int, label: str, unit: str = "", *, shown: bool = True) -> None:
        self.total, self.label, self.unit, self.shown = total, label, unit, shown
        self.done = 0
        self.notes: dict[str, Any] = {}
        self._started = self._drawn = time.monotonic()
        self._tqdm: tqdm[Any] | None = None
        self._handle: Any = None

    def __enter__(self) -> Progress:
        if not self.shown:
            return self
        if in_kernel():
            from IPython.display import display

            self._handle = display({"text/plain": self._line()}, raw=True, display_id=True)
        elif sys.stderr.isatty():
            self._tqdm = tqdm(total=self.total, desc=self.label, unit=f" {self.unit}", dynamic_ncols=True)
        return self

    def update(self, steps: int = 1, **notes: Any) -> None:
        self.done += steps
        self.notes.update(notes)
        if not self.shown:
            return
        now = time.monotonic()
        if self._tqdm is not None:
            self._tqdm.set_postfix(self.notes, refresh=False)
            self._tqdm.update(steps)
        elif self._handle is not None:
            if now - self._drawn >= NOTEBOOK_SECONDS:
                self._drawn = now
                self._handle.update({"text/plain": self._line()}, raw=True)
        elif now - self._drawn >= LOG_SECONDS:
            self._drawn = now
            print(self._line(), file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tqdm is not None:
            self._tqdm.close()
        elif self._handle is not None:
            self._handle.update({"text/plain": self._summary()}, raw=True)

    def _line(self) -> str:
        seconds = time.monotonic() - self._started
        share = self.done / self.total if self.total else 1.0
        filled = int(20 * min(share, 1.0))
        line = f"{self.label} [{'█' * filled}{'·' * (20 - filled)}] {self.done}/{self.total} {self.unit}"
        if self.done and self.done < self.total:
            line += f" · {seconds / self.done * (self.total - self.done):.0f} s left"
        return line + "".join(f" · {key} {value}" for key, value in self.notes.items())

    def _summary(self) -> str:
        return f"{self.label}: {self.done} of {self.total} {self.unit}".rstrip()


def in_kernel() -> bool:
    """Whether this code runs in a notebook."""
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None
