"""Every notebook: runs alone in order in its own kernel and keeps the conventions.

Notebooks are found by glob, so that none can be forgotten. They run once a session, on the small profile.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import solutions

from lionkit import loop, notebooks
from lionkit.errors import LionkitError
from lionkit.run import Run, open_run

PATHS = notebooks.find()
NAMES = [path.stem for path in PATHS]
SOLUTIONS = PATHS[0].parent / "solutions"


@pytest.fixture(scope="session")
def executed(student_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All notebooks, executed in order on one smoke run, each alone in a folder; their copies; the run.

    The reader whom they get predicts what `solutions` says.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIONKIT_RUNS", str(tmp_path_factory.mktemp("runs")))
        patch.setenv("LIONKIT_PRESET", "smoke")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(SOLUTIONS), os.environ.get("PYTHONPATH", "")]))
        run = open_run("demo")
        out = run.path / "notebooks"
        copies = {}
        for path in PATHS:
            alone, book = tmp_path_factory.mktemp("alone") / path.name, nbformat.read(path, as_version=4)
            for cell in book.cells:
                if "exercises.predict(" in cell.source:
                    cell.source = re.sub(r"(?m)^(\w+) = None$", r"\1 = __import__('solutions').\1(run)", cell.source)
            nbformat.write(book, alone)
            copies[path.stem] = notebooks.execute(alone, out)
        return {"run": run, "copies": copies, "summary": json.loads(loop.write_summary(run).read_text())}


@pytest.mark.parametrize("name", NAMES)
def test_runs_and_shows_something(executed: dict[str, Any], name: str) -> None:
    copy = nbformat.read(executed["copies"][name], as_version=4)
    outputs = [output for cell in copy.cells if cell.cell_type == "code" for output in cell.outputs]
    assert len(outputs) >= 4
    assert not [o for o in outputs if o.output_type == "error"]
    assert [o for o in outputs if "image/png" in o.get("data", {})], "a picture in every notebook"
    first = "".join(o.get("text", "") for o in copy.cells[1].outputs)
    assert "offline mode" in first
    assert "rules, not a language model" in first
    page = executed["copies"][name].with_suffix(".html").read_text()
    assert "Loading widget" not in page
    assert '.ipynb"' not in page
    assert re.search(r'href="\d\d_\w+\.html"', page)
    assert re.search(r"<script[^>]+src=.http", page) is None  # the page needs no network


@pytest.mark.parametrize("name", NAMES)
def test_two_predictions_of_each_notebook_are_what_the_solutions_say(executed: dict[str, Any], name: str) -> None:
    copy = nbformat.read(executed["copies"][name], as_version=4)
    [cell] = [c for c in copy.cells if c.cell_type == "code" and "exercises.predict(" in c.source]
    asked = re.findall(r"^(\w+) = __import__", cell.source, re.MULTILINE)
    said = "".join(o.get("text", "") for o in cell.outputs).splitlines()
    assert len(asked) == 2
    assert [line.partition(":")[0] for line in said] == asked
    assert all(": right: you said " in line for line in said), said
    assert all(len(getattr(solutions, one).__doc__) > 60 for one in asked)


def test_the_first_pools_show_what_became_of_a_chat_a_pair_and_a_table(executed: dict[str, Any]) -> None:
    [cell] = [c for c in nbformat.read(executed["copies"]["01_pools"], 4).cells if "pairs.jsonl" in c.source]
    said, table = cell.outputs[0].text, cell.outputs[1].data["text/plain"]
    assert said.startswith("chat.jsonl: 1 later questions of conversations are not read")
    assert "column remark (1 of 1 rows)" in said
    assert all(text in table for text in ("Be brief.\\n\\nName a fruit.", "A fig.", "A robin.", "b, a")), table


def test_the_live_plot_leaves_one_figure(executed: dict[str, Any]) -> None:
    [cell] = [c for c in nbformat.read(executed["copies"]["02_imitation"], 4).cells if "live_loss" in c.source]
    assert [output.output_type for output in cell.outputs if "image/png" in output.get("data", {})] == ["display_data"]


def test_summary_of_the_run(executed: dict[str, Any]) -> None:
    rows, config = executed["summary"]["iterations"], executed["run"].config
    assert [row["iteration"] for row in rows] == list(range(config.iterations + 1))
    for row in rows:
        assert row["hard"] + row["easy"] + row["undecided"] == row["cache_pool"]
        assert 0 < row["relative_score"] <= 1.2
        assert 0 <= row["exact_match"] <= 1
    assert executed["summary"]["seconds"] > 0


def test_no_weight_of_the_run_is_nan(executed: dict[str, Any]) -> None:
    from safetensors.numpy import load_file

    run: Run = executed["run"]
    adapters = list(run.path.rglob("adapter_model.safetensors"))
    assert len(adapters) == run.config.iterations
    for adapter in adapters:
        for name, tensor in load_file(adapter).items():
            assert abs(tensor.astype("float64")).max() < 1e4, name  # false for NaN and inf


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_conventions(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[:2] == ["markdown", "code"]
    assert kinds.count("markdown") >= kinds.count("code"), "a story is told, code shows it"
    first = notebook.cells[0].source
    assert "**The question.**" in first
    assert re.search(r"minutes? .*· \$0", first)
    assert "open_run()" in notebook.cells[1].source
    assert "## Exercises" in "".join(c.source for c in notebook.cells[-5:])
    assert "Solutions" in notebook.cells[-1].source
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 25
            assert cell.source.count(".style") == cell.source.count('escape="html"'), "pandas shows markup as markup"
        else:
            assert len(cell.source.split()) <= 130


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_what_is_committed_is_clean(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    assert path.stat().st_size < 300_000
    assert "widgets" not in notebook.metadata
    assert notebooks.WIDGET_MIME not in text
    assert re.search(r"/(home|root|tmp|work|Users)/", text) is None
    assert re.search(r"sk-[A-Za-z0-9_-]{8,}", text) is None
    assert re.search(r" at 0x[0-9a-f]+>", text) is None
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code), "outputs come from one clean run"
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error" or o.get("name") == "stderr"]


def test_links_lead_somewhere() -> None:
    for path in PATHS:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert target.startswith("https://arxiv.org/") or (path.parent / target).is_file(), (path.name, target)


def test_every_work_that_is_cited_is_on_the_page_of_references_and_is_met_where_it_says() -> None:
    root = PATHS[0].parents[1]
    page = (root / "docs/references.md").read_text(encoding="utf-8")
    pages = [*PATHS, root / "README.md", *(root / "lionkit").rglob("*.py")]
    texts = "\n".join(place.read_text(encoding="utf-8") for place in pages)
    cited = set(re.findall(r"(?i)arxiv[^0-9]{1,12}(\d{4}\.\d{4,5})", texts))
    assert len(cited) >= 6
    listed = re.findall(r"\[(\d{4}\.\d{4,5})\]\(https://arxiv\.org/abs/\1\)", page)
    assert len(listed) == len(set(listed)) >= 12
    assert cited <= set(listed)
    for work in page.split("\n- ")[1:]:
        met = re.findall(r"`((?:notebooks|lionkit)/[\w/.]+)`", work)
        assert all((root / place).is_file() for place in met), met
        assert met or "every notebook" in work, work


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_the_copy_is_what_is_committed_and_the_page_links_to_pages(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[int | None] = []
    monkeypatch.setattr(notebooks._Relay, "execute", lambda client: limits.append(client.timeout))
    assert notebooks.execute(path, tmp_path).read_bytes() == path.read_bytes()
    assert limits == [None]  # a cell may take hours
    page = (tmp_path / f"{path.stem}.html").read_text(encoding="utf-8")
    linked = re.findall(r'href="(?!#|https://)([^"]*)"', page)
    assert set(linked) <= {f"{name}.html" for name in ["index", *NAMES]}
    assert "<code>solutions/solutions.py</code>" in page


SLEEPER = """
import sys
from pathlib import Path
import nbformat
from lionkit import notebooks
from lionkit.errors import LionkitError
cell = nbformat.v4.new_code_cell("print('begun', flush=True); import time; time.sleep(60)")
book = nbformat.v4.new_notebook(cells=[cell])
path = Path(sys.argv[1], "99_sleeps.ipynb")
nbformat.write(book, path)
try:
    notebooks.execute(path, path.parent / "out")
except LionkitError as error:
    print("SAID", error)
"""


def test_ctrl_c_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SLEEPER, str(tmp_path)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, "PYTHONUNBUFFERED": "1"}, **pipes) as process:
        assert process.stdout is not None
        while "begun" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert "SAID 99_sleeps.ipynb stopped: interrupted; run it again to go on from here" in out


def test_out_of_order_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIONKIT_PRESET", "smoke")
    path = next(p for p in PATHS if p.stem.startswith("04"))
    with pytest.raises(LionkitError, match=r"StageMissing: discrimination of iteration 1 .*run notebook 03_") as caught:
        notebooks.execute(path, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert "Traceback" not in (tmp_path / "out" / path.name).read_text()
