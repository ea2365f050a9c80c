"""JupyterLab under Chromium: a generated notebook with both widgets, used by keyboard, with hostile text in it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lionkit.pools import split_by_gap
from lionkit.records import Instruction, Judgement, Response, Verdict, write_jsonl

pytestmark = pytest.mark.browser

EVIL = "</pre><script>owned=1</script><img src=x onerror='owned=1'><svg onload='owned=1'></svg>\x1b[31m\u202e evil"
CELLS = [
    """import sys
from lionkit import explore
from lionkit.records import Instruction, Response, Verdict, read_jsonl
kinds = {"items": Instruction, "teacher": Response, "student": Response, "verdicts": Verdict}
pool = {name: read_jsonl(f"{name}.jsonl", kind) for name, kind in kinds.items()}
print(sys.executable)""",
    "explore.tau_explorer(pool['items'], pool['verdicts'])",
    "explore.pool_browser(*pool.values())",
    "explore.static_pool(*pool.values())",
]


def a_pool() -> dict[str, list[Any]]:
    """40 scored instructions with gaps -0.5, 0, 0.5 ... 2.5 in turn, the hostile one (gap 9), one undecided."""
    items, teacher, student, verdicts = [], [], [], []
    for n in range(40):
        gap = (n % 7 - 1) / 2
        items.append(Instruction(f"Put these {n + 3} words in order", "pear plum fig", id=f"i{n}", category="sorting"))
        teacher.append(Response(f"i{n}", f"fig, pear, plum (teacher {n})"))
        student.append(Response(f"i{n}", f"pear, plum, fig (student {n})"))
        pair = Judgement(8.0, 8.0 - gap, f"Answer 1: 8\nAnswer 2: {8 - gap}")
        verdicts.append(Verdict(f"i{n}", pair, pair))
    items += [Instruction(EVIL, EVIL, id="evil", category=EVIL), Instruction("Is it so?", id="undecided")]
    teacher.append(Response("evil", EVIL + "a" * 1_000_000))
    student.append(Response("evil", EVIL))
    verdicts.append(Verdict("evil", Judgement(10.0, 1.0, EVIL), Judgement(10.0, 1.0, EVIL)))
    verdicts.append(Verdict("undecided", Judgement(None, None, "Both.", "no score line"), Judgement(5.0, 5.0, "5 5")))
    return {"items": items, "teacher": teacher, "student": student, "verdicts": verdicts}


@pytest.fixture(scope="module")
def pool() -> dict[str, list[Any]]:
    return a_pool()


@pytest.fixture(scope="module")
def page(lab: Any, visit: Any, pool: dict[str, list[Any]]) -> Any:
    """The notebook, opened and run from top to bottom."""
    for name, records in pool.items():
        write_jsonl(lab.folder / f"{name}.jsonl", records)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, lab.folder / "explore.ipynb")
    page = visit.page
    page.goto(f"{lab.url}lab/tree/explore.ipynb?token={lab.token}")
    page.get_by_text("(ipykernel) | Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.locator(".lk table.dataframe").wait_for()
    return page


def show(page: Any, cell: int, path: Path) -> None:
    page.locator(".jp-Cell").nth(cell).evaluate("cell => cell.scrollIntoView()")
    page.screenshot(path=path)


def test_the_kernel_is_the_interpreter_that_runs_the_tests(page: Any) -> None:
    assert page.locator(".jp-Cell").nth(0).locator(".jp-OutputArea-output").inner_text().strip() == sys.executable


def test_tau_moves_by_keyboard_and_the_counts_are_those_of_the_split(page: Any, pool: dict, tmp_path: Path) -> None:
    page.locator(".noUi-handle").focus()
    keys = {"ArrowRight": 11, "ArrowUp": 12, "ArrowLeft": 11, "ArrowDown": 10, "PageUp": 15, "Shift+ArrowRight": 16}
    for key, tenths in keys.items():
        page.keyboard.press(key)
        page.get_by_text(re.compile(f"in the cache pool at τ = {tenths / 10:g}$")).wait_for()
        split = split_by_gap(pool["items"], pool["verdicts"], tenths / 10)
        for label, part in split._asdict().items():
            assert page.locator(f".counts .{label} b").inner_text() == str(len(part)), (tenths, label)
    moved = set(split_by_gap(pool["items"], pool["verdicts"], 1.0).hard) - set(split.hard)
    page.get_by_text(f"{len(moved)} move from hard to easy between τ = 1 and τ = 1.6").wait_for()
    assert page.locator(".lk svg").count() == 1
    page.get_by_role("img", name="histogram of gaps with a line at τ = 1.6").wait_for()
    show(page, 1, tmp_path / "tau.png")


def test_hostile_text_is_read_and_does_not_run(page: Any, visit: Any, tmp_path: Path) -> None:
    page.locator("[aria-live] .card.hard").wait_for()
    blocks = page.locator(".lk pre").all_inner_texts()
    assert len(blocks) == 6  # instruction, input, two responses, two referee replies
    for text in blocks:
        assert text.lstrip("\n").startswith("</pre><script>owned=1</script><img src=x onerror='owned=1'>")
        assert "⟨U+001B⟩[31m⟨U+202E⟩ evil" in text
    assert page.get_by_text(re.compile("Shortened: the first 20,000 of 1,000,\\d+ characters")).is_visible()
    assert page.locator(".lk img, .lk script, .lk iframe, .lk [onload], .lk [onerror]").count() == 0
    assert page.evaluate("typeof owned") == "undefined"
    assert visit.dialogs == []
    show(page, 2, tmp_path / "hostile.png")


def test_the_pool_is_browsed_by_keyboard(page: Any, tmp_path: Path) -> None:
    hard, easy = page.locator("select[size]").nth(0), page.locator("select[size]").nth(1)
    assert hard.locator("option").count() == 10
    rows = page.get_by_label(re.compile("^Row of"))
    rows.nth(1).focus()
    page.keyboard.press("ArrowUp")
    page.locator("[aria-live] .card.easy").wait_for()
    assert easy.evaluate("list => list.selectedIndex") == 1
    assert hard.evaluate("list => list.selectedIndex") == -1
    search = page.get_by_label("Search instructions and responses")
    search.fill("STUDENT 39)")
    search.press("Enter")
    page.get_by_text("(student 39)").wait_for()
    assert hard.locator("option").count() == 1
    assert easy.locator("option").count() == 0
    undecided = page.get_by_label("Show undecided")
    undecided.focus()
    page.keyboard.press("Space")
    page.locator("select[size]").nth(2).wait_for()  # the kernel has answered, and takes the next change for one
    search.fill("")
    search.press("Enter")
    page.locator("select[size]").nth(2).select_option(index=0)
    page.get_by_text("teacher first: no score line").wait_for()
    assert page.locator(".jp-Cell").count() == len(CELLS)  # no key reached the notebook's own shortcuts
    assert page.locator(".lk [role=alert]").count() == 0
    show(page, 2, tmp_path / "pool.png")


def test_a_saved_notebook_reads_without_a_kernel(page: Any, lab: Any) -> None:
    page.get_by_role("menuitem", name="File", exact=True).click()
    page.get_by_role("menuitem", name=re.compile("^Save Notebook(?! As)")).click()
    page.locator(".jp-mod-dirty").wait_for(state="detached")
    path = lab.folder / "explore.ipynb"
    notebook = nbformat.read(path, as_version=4)
    outputs = [cell.outputs[-1] for cell in notebook.cells]
    assert "τ explorer: 23 hard, 18 easy, 1 undecided at τ = 1" in outputs[1].data["text/plain"]
    assert "pool browser: 23 hard, 18 easy, 1 undecided at τ = 1" in outputs[2].data["text/plain"]
    assert "Hardest and easiest of 42 instructions" in outputs[3].data["text/plain"]
    assert path.stat().st_size < 50_000


def test_nothing_was_asked_of_the_network(page: Any, visit: Any) -> None:
    assert visit.foreign == []
