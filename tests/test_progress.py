"""The progress bar in its three places: no flood in a log, one line in a notebook, silence when asked."""

from __future__ import annotations

import sys
import types

import pytest

from lionkit import progress
from lionkit.progress import Progress


def test_a_log_gets_few_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))  # one second a call
    with Progress(100, "teacher", "replies") as bar:
        for _ in range(100):
            bar.update(1, failed=2)
    lines = capsys.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 25
    assert "teacher [" in lines[0]
    assert "/100 replies" in lines[0]
    assert "s left" in lines[0]
    assert "failed 2" in lines[0]


def test_silence_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(3, "x", shown=False) as bar:
        bar.update(3)
    assert capsys.readouterr() == ("", "")
    assert bar.done == 3


def test_a_notebook_ends_with_a_line_that_has_no_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            shown.extend(data.values())

    def display(data: dict[str, str], raw: bool, display_id: bool) -> Handle:
        shown.extend(data.values())
        return Handle()

    monkeypatch.setattr(progress, "in_kernel", lambda: True)
    monkeypatch.setattr(progress, "NOTEBOOK_SECONDS", 0.0)
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    with Progress(2, "referee", "replies") as bar:
        bar.update(1, rate="3/s")
        bar.update(1)
    assert len(shown) == 4
    assert shown[-1] == "referee: 2 of 2 replies"
