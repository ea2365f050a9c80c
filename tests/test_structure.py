"""The shape of the package: imports point one way, heavy libraries have one home, importing it is light."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from lionkit import run as runs

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lionkit"
LAYERS = [
    {"errors"},
    {"files", "markup", "progress"},
    {"records"},
    {"config"},
    {"novelty", "prompts", "client", "sandbox"},
    {"referee"},
    {"pools"},
    {"teacher", "generator", "student"},
    {"evaluate"},
    {"plots"},
    {"run", "plan"},
    {"roles"},
    {"loop"},
    {"explore", "notebooks", "arms", "exercises"},
    {"__main__"},
]
"""Lowest first; a module imports from its own layer or a lower one, and never in a circle."""
HOMES = {
    "openai": {"client"}, "httpx2": {"client"}, "anywidget": {"explore"}, "sklearn": {"explore"},
    "torch": {"student", "sandbox", "plan"},
    "transformers": {"student", "sandbox", "plan"}, "peft": {"student"}, "starlette": {"sandbox"},
    "typer": {"__main__"},
}  # fmt: skip


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    """Every module that a file imports, function-level imports included."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


SOURCES = [p for p in sorted(PACKAGE.rglob("*.py")) if part(p) != "__init__"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down_and_heavy_libraries_have_one_home(path: Path) -> None:
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    assert part(path) in level, f"{path.name} has no layer: put it in LAYERS"
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "lionkit" and rest and rest[0] in level:
            assert level[rest[0]] <= level[part(path)], f"{part(path)} imports {name}, which is above it"
        if top in HOMES:
            assert part(path) in HOMES[top], f"{top} belongs to {HOMES[top]}"


def module(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("name_of", [part, module], ids=["rooms", "modules"])
def test_no_import_circle(name_of: Callable[[Path], str]) -> None:
    """Neither between rooms nor inside one, imports within functions included; a room's face is not counted in it."""
    edges: dict[str, set[str]] = {name_of(p): set() for p in SOURCES}
    for path in SOURCES:
        if name_of is module and path.name == "__init__.py":
            continue
        for name in imports(path):
            places = name.removeprefix("lionkit.").split(".") if name.startswith("lionkit.") else []
            found = [".".join(places[:n]) for n in range(len(places), 0, -1) if ".".join(places[:n]) in edges]
            if found and found[0] != name_of(path):
                edges[name_of(path)].add(found[0])
    done: set[str] = set()
    while len(done) < len(edges):
        ready = {name for name, needs in edges.items() if name not in done and needs <= done}
        assert ready, f"circle among {sorted(set(edges) - done)}"
        done |= ready


@pytest.mark.parametrize("path", [*SOURCES, PACKAGE / "__init__.py"], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(path: Path) -> None:
    assert len(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "") > 40


def test_no_module_is_over_250_lines() -> None:
    sizes = {str(p.relative_to(PACKAGE)): len(p.read_text(encoding="utf-8").splitlines()) for p in SOURCES}
    assert {name: size for name, size in sizes.items() if size > 250} == {}


def test_the_page_on_the_architecture_is_true() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    floors = [set(re.findall(r"`(\w+)`", row.partition(":")[0])) for row in re.findall(r"^\| \d+ \| (.*)", page, re.M)]
    assert floors[::-1] == LAYERS
    used = {part(p): {n.split(".")[1] for n in imports(p) if n.startswith("lionkit.")} for p in SOURCES}
    for path in SOURCES:
        used[part(path)] |= {name.split(".")[1] for name in imports(path) if name.startswith("lionkit.")}
    for upper, lower in re.findall(r"^ +(\w+) --> (\w+)$", page, re.M):
        assert lower in used[upper], f"{upper} does not use {lower}"
    for name in set(re.findall(r"`((?:\w+\.)+\w+)`|\|((?:\w+\.)+\w+)\|", page)):
        place = next(filter(None, name))
        if place.split(".")[0] in used:
            home, _, own = place.rpartition(".")
            found = importlib.import_module(f"lionkit.{home}") if home != "run.Run" else runs.Run
            assert hasattr(found, own) or importlib.util.find_spec(f"lionkit.{place}"), f"there is no lionkit.{place}"


def test_import_is_light() -> None:
    code = (
        "import sys, time; t = time.perf_counter(); import lionkit; print(time.perf_counter() - t); "
        "print([m for m in ('torch', 'transformers', 'openai', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    seconds = []
    for _ in range(3):
        out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        first, heavy = out.splitlines()
        assert heavy == "[]"
        seconds.append(float(first))
    assert min(seconds) < 0.3


def test_record_readers_import_no_torch_and_no_openai() -> None:
    code = (
        "import sys, lionkit.plots, lionkit.referee.trust; print('openai' in sys.modules); "
        "import lionkit.explore; print('torch' in sys.modules or 'sklearn' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "False"]


def test_dependencies_are_pinned_and_data_files_are_packaged() -> None:
    pinned = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] not in "#-"]
    assert all("==" in line for line in pinned)
    assert "torch==2.13.0" in pinned
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    declared = [*project["project"]["dependencies"], *extras["test"], *extras["dev"]]
    names = [sorted(re.split("[>=]", line)[0].replace("_", "-") for line in lines) for lines in (declared, pinned)]
    assert names[0] == names[1]
    patterns = project["tool"]["setuptools"]["package-data"]["*"]
    data = {f"*{p.suffix}" for p in PACKAGE.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert data <= set(patterns)


def test_lab_prints_and_opens_the_address_of_the_first_notebook(tmp_path: Path) -> None:
    browser = tmp_path / "browser"  # keeps the page that it is told to open
    browser.write_text(f'#!/bin/sh\ncp "${{1#file://}}" "{tmp_path}/opened.html"\n')
    browser.chmod(0o755)
    folders = {f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    own = {"HOME": str(tmp_path), "BROWSER": f"{browser} %s", **folders}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTER")} | own
    prefix = Path(sys.prefix)
    command = ["make", "-s", "-o", f"{prefix}/.installed", "lab", f"VENV={prefix}"]
    log, opened = tmp_path / "log.txt", tmp_path / "opened.html"
    with open(log, "w") as out:
        lab = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not (opened.is_file() and "</html>" in opened.read_text()):
            assert lab.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        said = re.findall(r"http\S+token=\S+", log.read_text())
        assert said
        pattern = r"http://127\.0\.0\.1:\d+/lab/tree/00_start_here\.ipynb\?token=[0-9a-f]{48}"
        assert all(re.fullmatch(pattern, address) for address in said)
        assert said[0] in opened.read_text()
        assert "00_start_here.ipynb" in urlopen(said[0], timeout=30).read().decode()
    finally:
        if lab.poll() is None:
            os.killpg(lab.pid, signal.SIGTERM)
            lab.wait(30)


def test_tests_take_no_settings_from_the_shell() -> None:
    shell = {"LIONKIT_RUN": "other", "LIONKIT_MODE": "live", "LIONKIT_MODEL": "m", "LIONKIT_PRESET": "paper",
             "LIONKIT_STUDENT_KEY": "k", "OPENAI_API_KEY": "k"}  # fmt: skip
    command = [sys.executable, *"-m pytest -p no:cacheprovider tests/run/test_folder.py -k".split()]
    command.append("says_the_mode or replay")
    out = subprocess.run(command, cwd=ROOT, env={**os.environ, **shell}, capture_output=True, text=True)
    assert out.stdout.splitlines()[-1].startswith("2 passed"), out.stdout


def test_too_old_a_python_is_one_line(tmp_path: Path) -> None:
    old = tmp_path / "python3"  # this interpreter, but one that says it is 3.10
    lie = "import sys; sys.version_info = (3, 10, 13, 'final', 0); exec(sys.argv[1])"
    old.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{lie}" "$2"\n')
    old.chmod(0o755)
    command = ["make", "-s", "test", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert out.returncode != 0
    assert out.stderr.splitlines()[0] == (
        "error: Python 3.10 is too old for lionkit: install 3.11 or newer and run make PYTHON=python3.11"
    )
    assert not (tmp_path / "venv").exists()
