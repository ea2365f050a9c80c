"""What README and notebook 08 say of the arms is what the recorded result holds."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

from lionkit import arms

ROOT = Path(__file__).resolve().parents[1]
RESULT = arms.RECORDED


def test_the_readme_says_what_was_recorded() -> None:
    spec = importlib.util.spec_from_file_location("figures", ROOT / "docs/figures.py")
    assert spec is not None
    assert spec.loader is not None
    figures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figures)
    found = figures.BLOCK.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert found is not None
    assert found[0] == found[1] + figures.block() + found[2]  # `make figures` writes it


def test_the_notebook_shows_what_was_recorded() -> None:
    notebook = nbformat.read(ROOT / "notebooks/08_does_it_pay.ipynb", as_version=4)
    said = "".join(o.get("text", "") for c in notebook.cells if c.cell_type == "code" for o in c.outputs)
    told = re.findall(r"(\w+) − (\w+), iteration (\d): ([+-][\d.]+)% \(([+-][\d.]+)% to ([+-][\d.]+)%\)", said)
    assert {(arm, base) for arm, base, *_ in told} == {
        ("paper", "random"),
        ("frontier", "random"),
        ("frontier", "paper"),
    }
    scores = arms.read(RESULT)
    for arm, base, iteration, *given in told:
        found = arms.difference(scores, arm, base, int(iteration))
        wanted = [found.difference, found.low, found.high]
        assert [float(number) for number in given] == pytest.approx([100 * value for value in wanted], abs=0.051)


def test_the_recorded_result_is_large_enough_to_say_something() -> None:
    scores = arms.read(RESULT)
    assert scores["seed"].nunique() >= 5
    assert scores.groupby(["seed", "arm", "iteration"])["number"].count().min() >= 160
    assert RESULT.stat().st_size < 300_000
    assert scores["student"].between(1, 10).all()
