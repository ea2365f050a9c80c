"""A finished run of the rote student, made once; every test gets a copy of its own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import rote
from lionkit import loop
from lionkit.run import Run, open_run, saved


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIONKIT_RUNS", str(root))
        run = open_run("r", preset="smoke")
        loop.run_all(run, rote.roles(run))
    return root / "r"


@pytest.fixture
def finished(_finished: Path) -> Run:
    """Two iterations of the preset `smoke`, whole."""
    root = Path(os.environ["LIONKIT_RUNS"])
    root.mkdir(parents=True, exist_ok=True)
    shutil.copytree(_finished, root / "r")
    return saved("r")
