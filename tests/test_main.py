"""The command line: what the user can mend is one line and exit code 1."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lionkit import plan
from lionkit.__main__ import table
from lionkit.run import open_run


def lionkit(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lionkit", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["run"], {"LIONKIT_MODE": "cloud"}, "error: LIONKIT_MODE=cloud: unknown mode, choose offline, live or replay"),
        (["run", "--preset", "huge"], {}, "error: preset 'huge' is unknown"),
        (["status"], {"LIONKIT_MODE": "replay"}, "error: there is no run to replay at"),
        (["run", "--run", "../x"], {}, "error: run name '../x'"),
        (["plan", "--device", "tpu"], {}, "error: --device tpu: plans are for cpu, cuda or mps"),
    ],
)
def test_errors_are_one_line(arguments: list[str], environment: dict[str, str], words: str) -> None:
    out = lionkit(*arguments, **environment)
    assert out.returncode == 1
    assert out.stderr.startswith(words)
    assert len(out.stderr.splitlines()) == 1


def test_the_plan_stands_beside_what_was_measured(tiny_model: Path) -> None:
    run = open_run("p", preset="smoke", student={"model": str(tiny_model)})
    run.note(1, "imitation", peak_memory=2**30, planned_memory=2**29)
    out = lionkit("plan", "--run", "p", "--device", "cuda", "--gib", "4")
    assert out.returncode == 0, out.stderr
    lines = out.stdout.splitlines()
    measured = "iteration-01/imitation: measured 1.00 GiB, with all else that the process held"
    assert f"{measured}; planned 0.50 GiB (-50%)" in lines
    assert f"Largest batch in 4.0 GiB: {plan.largest_batch(str(tiny_model), run.config, 2**32, device='cuda')}" in lines
    assert any(line.lstrip().startswith("CUDA context") for line in lines)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = lionkit("train", LIONKIT_RUNS=str(tmp_path / "file"))
    assert out.returncode == 1
    assert len(out.stderr.splitlines()) == 1
    assert out.stderr.startswith("error: cannot write")


def test_status_of_a_new_run(tmp_path: Path) -> None:
    missing = lionkit("status")
    assert missing.returncode == 1
    assert missing.stderr == "error: there is no run of the name demo in runs: known are none yet\n"
    assert not (tmp_path / "runs").exists()
    open_run()
    out = lionkit("status")
    assert out.returncode == 0
    assert "offline mode" in out.stdout
    assert "iteration 1: nothing yet" in out.stdout


def test_table_is_aligned_and_shows_what_is_unscored() -> None:
    row = {"train_pool": 0, "cache_pool": 10, "hard": 1, "easy": 2, "undecided": 7, "exact_match": 0.5}
    summary = {"iterations": [{"iteration": 0, **row, "relative_score": None},
                              {"iteration": 1, **row, "relative_score": 0.731}], "seconds": 12.3}  # fmt: skip
    lines = table(summary).splitlines()
    assert len({len(line) for line in lines[:4]}) == 1
    assert "before training" in lines[2]
    assert lines[2].split()[-2] == "-"
    assert "73.1%" in lines[3]
