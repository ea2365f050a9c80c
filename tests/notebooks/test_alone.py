"""A notebook alone: in an empty folder, without the repository and without lionkit, which its first cell installs.

The wheel is built here without a network, and stands where pip looks in place of the package index.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest

from lionkit import notebooks

ROOT = Path(__file__).resolve().parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
HIDE = """
import os, sys
sys.path[:] = [place for place in sys.path if not os.path.isfile(os.path.join(place, "lionkit", "arms.py"))]
sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
"""
WHERE = "import os, lionkit; print(os.path.dirname(lionkit.__file__), run.path, sep='\\n')"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built from a copy of what it is made of."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("index")
    shutil.copytree(ROOT / "lionkit", tree / "lionkit", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    command = [*PIP, *"wheel . --no-deps --no-build-isolation --no-index -q -w".split(), str(out)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    [made] = out.glob("lionkit-*.whl")
    return made


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("lionkit/")}
    there = {path for path in (ROOT / "lionkit").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert packed == {str(path.relative_to(ROOT)) for path in there}


def alone(tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a notebook, in a world in which lionkit is on the index and nowhere else."""
    world, target, folder = tmp_path / "world", tmp_path / "installed", tmp_path / "alone"
    for place in (world, target, folder):
        place.mkdir()
    (folder / "lionkit").mkdir()  # as a clone beside the notebook would be
    (target / "notebooks").mkdir()  # as some packages leave behind where they are installed
    (world / "sitecustomize.py").write_text(HIDE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(world), str(target)]))
    given = {"TARGET": target, "NO_INDEX": 1, "NO_DEPS": 1, "FIND_LINKS": wheel.parent, "DISABLE_PIP_VERSION_CHECK": 1}
    for name, value in given.items():
        monkeypatch.setenv(f"PIP_{name}", str(value))
    monkeypatch.delenv("LIONKIT_RUNS")
    monkeypatch.setenv("LIONKIT_MODE", "offline")
    return folder


def test_the_first_notebook_runs_alone(tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = alone(tmp_path, wheel, monkeypatch)
    book = nbformat.read(ROOT / "notebooks/00_start_here.ipynb", as_version=4)
    book.cells.append(nbformat.v4.new_code_cell(WHERE))
    nbformat.write(book, folder / "00_start_here.ipynb")
    copy = nbformat.read(notebooks.execute(folder / "00_start_here.ipynb", folder / "out"), as_version=4)
    said = ["".join(o.get("text", "") for o in cell.outputs) for cell in copy.cells if cell.cell_type == "code"]
    assert said[0].startswith("lionkit is not installed here: installing it ...\n")
    assert "Run folder: runs/demo." in said[0]
    assert said[-1].splitlines() == [str(tmp_path / "installed/lionkit"), str(folder / "runs/demo")]
    assert (folder / "runs/demo/calls.sqlite").is_file()


def test_each_notebook_begins_with_the_way_to_lionkit() -> None:
    cells = [nbformat.read(path, as_version=4).cells for path in notebooks.find()]
    sources = ["\n".join(c.source for c in book if c.cell_type == "code") for book in cells]
    [guard] = {source.partition("\n\n")[2].partition("\n\n")[0] for source in sources}
    assert guard.startswith('if not getattr(find_spec("lionkit"), "origin", None):')
    for source in sources:
        assert source.startswith(f"from importlib.util import find_spec\n\n{guard}\n\n")
        assert 'Path("' not in source  # no file beside the notebook
