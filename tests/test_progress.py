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
    assert " left" in lines[0]
    assert "failed 2" in lines[0]


def test_silence_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(3, "x", shown=False) as bar:
        bar.update(3)
    assert capsys.readouterr() == ("", "")
    assert bar.done == 3


def test_a_terminal_has_one_line_that_is_rewritten(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress, "NOTEBOOK_SECONDS", 0.0)
    with Progress(2, "teacher", "replies") as bar:
        bar.update(1)
        bar.update(1)
    first, *lines = capsys.readouterr().err.split("\r\x1b[K")
    assert first == ""
    assert ["0/2" in lines[0], "1/2" in lines[1], "2/2" in lines[2]] == [True] * 3
    assert [line.count("\n") for line in lines] == [0, 0, 0, 1]
    assert all(len(line) <= 81 for line in lines)


def test_nothing_to_do_and_more_than_was_said_are_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    for total, done in ((0, 0), (3, 5)):
        with Progress(total, "x") as bar:
            bar._started = bar._drawn = -1e9
            bar.update(done)
    assert [line[:3] for line in capsys.readouterr().err.splitlines()] == ["x ["] * 2


def test_a_notebook_ends_with_a_line_that_has_no_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    updates: list[bool] = []
    names: set[str] = set()

    def display(data: dict[str, str], *, raw: bool, display_id: str, update: bool) -> None:
        shown.extend(data.values())
        updates.append(update)
        names.add(display_id)

    monkeypatch.setattr(progress, "in_kernel", lambda: True)
    monkeypatch.setattr(progress, "NOTEBOOK_SECONDS", 0.0)
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    with Progress(2, "referee", "replies") as bar:
        bar.update(1, rate="3/s")
        bar.update(1)
    assert updates == [False, True, True, True]  # one output, redrawn in place
    assert len(names) == 1
    assert "rate 3/s" in shown[1]
    assert shown[-1] == "referee: 2 of 2 replies"
