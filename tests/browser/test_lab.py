"""JupyterLab under Chromium: every explorer on a run, used by keyboard alone, with hostile text in it, and reopened."""

from __future__ import annotations

import dataclasses
import re
import sys
from typing import Any

import nbformat
import pytest

import rote
from lionkit import loop
from lionkit.pools import split_by_gap
from lionkit.records import Candidate, Instruction, Response, read_jsonl, write_jsonl
from lionkit.run import Run, marks, open_run, reading

pytestmark = pytest.mark.browser

EVIL = "</pre><script>owned=1</script><img src=x onerror='owned=1'><svg onload='owned=1'></svg>\x1b[31m\u202e $3 or $4"
SHOWN = EVIL.replace("\x1b", "⟨U+001B⟩").replace("\u202e", "⟨U+202E⟩")
NAMES = ["tau", "pool", "changes", "map", "lineage", "panel"]
CELLS = [
    "import os, sys\nfrom lionkit import explore\nfrom lionkit.run import saved\n"
    "os.environ['LIONKIT_RUNS'] = 'runs'\nrun = saved('r')\nprint(sys.executable)",
    "tau = explore.tau_explorer(run)\ntau",
    "explore.pool_browser(run, follow=tau)",
    "explore.what_changed(run)",
    "explore.pool_map(run)",
    "explore.lineage(run)",
    "explore.run_panel(run)",
]


@pytest.fixture(scope="module")
def run(lab: Any) -> Run:
    """Two iterations of the preset `smoke` by the rote student, with hostile words in every instruction and answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIONKIT_RUNS", str(lab.folder / "runs"))
        run = open_run("r", preset="smoke")
        loop.run_all(run, rote.roles(run))
    for name, kind, field in (
        ("cache", Instruction, "instruction"),
        ("student", Response, "text"),
        ("candidates", Candidate, "text"),
    ):
        for path in run.path.rglob(f"{name}.jsonl"):
            rows = read_jsonl(path, kind)
            write_jsonl(path, [dataclasses.replace(row, **{field: getattr(row, field) + EVIL}) for row in rows])
    return run


@pytest.fixture(scope="module")
def page(lab: Any, visit: Any, run: Run) -> Any:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, lab.folder / "explore.ipynb")
    visit.page.goto(f"{lab.url}lab/tree/explore.ipynb?token={lab.token}")
    visit.page.get_by_text("(ipykernel) | Idle").wait_for()
    menu(visit.page, "Run", "Run All Cells")
    for name in NAMES:
        explorer(visit.page, name).wait_for()
    return visit.page


def menu(page: Any, name: str, item: str) -> None:
    page.get_by_role("menuitem", name=name, exact=True).click()
    page.get_by_role("menuitem", name=re.compile(f"^{item}")).first.click()


def explorer(page: Any, name: str) -> Any:
    """The live explorer of a cell, scrolled into view: JupyterLab draws cells as they are seen."""
    cell = page.locator(".jp-Cell").nth(1 + NAMES.index(name))
    cell.evaluate("cell => cell.scrollIntoView()")
    return cell.locator(".lk.live")


def press(page: Any, *keys: str) -> None:
    """Press keys one after the other, and wait until no explorer waits for the kernel any more."""
    for key in keys:
        page.keyboard.press(key)
    page.wait_for_function("() => !document.querySelector('.lk.live[aria-busy=true]')")


def untouched(page: Any) -> None:
    """The notebook's cells are as they were: no key reached its shortcuts."""
    assert page.locator(".jp-Cell").count() == len(CELLS)
    assert page.locator(".lk [role=alert]").count() == 0
    assert page.locator(".jp-mod-editMode").count() == 0


def test_the_kernel_is_the_interpreter_that_runs_the_tests(page: Any) -> None:
    assert page.locator(".jp-Cell").nth(0).locator(".jp-OutputArea-output").text_content().strip() == sys.executable


def test_tau_moves_by_keyboard_and_the_counts_are_those_of_the_split(page: Any, run: Run) -> None:
    found = reading.read_discrimination(run, 2)
    tau = explorer(page, "tau")
    tau.locator("input[type=range]").focus()
    for key, tenths in {"ArrowRight": 11, "ArrowUp": 12, "ArrowLeft": 11, "ArrowDown": 10}.items():
        press(page, key)
        tau.get_by_text(f"in the cache pool at τ = {tenths / 10:g}").wait_for()
        split = split_by_gap(found.instructions, found.verdicts, tenths / 10)
        for label, part in split._asdict().items():
            assert tau.locator(f".counts .{label} b").inner_text() == str(len(part)), (tenths, label)
    press(page, "End")
    tau.get_by_role("img", name=re.compile("histogram of gaps with a line at τ = ")).wait_for()
    pool = explorer(page, "pool").locator(".counts")
    pool.get_by_text(re.compile(r"^0 hard, \d+ easy")).wait_for()  # the browser follows
    tau.locator("input[type=range]").focus()
    press(page, "Home", "d", "d", "x", "j", "k", "Enter")
    pool.get_by_text(re.compile(r"^\d+ hard, 0 easy")).wait_for()
    tau.locator("input[type=range]").evaluate(
        "each => { each.value = 1; each.dispatchEvent(new Event('input', {bubbles: true})) }"
    )
    tau.get_by_text("at τ = 1").first.wait_for()
    untouched(page)


@pytest.mark.parametrize("name", ["pool", "changes", "map", "lineage"])
def test_lists_are_walked_by_keys_that_never_reach_the_notebook(page: Any, name: str) -> None:
    if name == "changes":
        explorer(page, name).locator("select[data-on=group]").select_option("3")
    boxes = explorer(page, name).locator("[role=listbox]")
    boxes.first.focus()
    press(page, "Home")
    boxes.first.locator("[aria-posinset='1'][aria-selected=true]").wait_for()
    press(page, "ArrowDown")
    boxes.first.locator("[aria-posinset='2'][aria-selected=true]").wait_for()
    press(page, "j", "k", "x", "d", "d", "Enter", "ArrowUp")
    boxes.first.locator("[aria-posinset='1'][aria-selected=true]").wait_for()
    active = boxes.first.get_attribute("aria-activedescendant")
    assert page.locator(f"[id='{active}']").count() == 1
    press(page, "End")
    last = boxes.first.locator("[aria-selected=true]")
    assert last.get_attribute("aria-posinset") == last.get_attribute("aria-setsize")
    untouched(page)


def test_every_control_has_a_name_and_keeps_its_keys(page: Any) -> None:
    for name in NAMES:
        for node in (
            explorer(page, name).locator("button, input:not([type=hidden]), select, canvas, [role=listbox]").all()
        ):
            assert node.evaluate(
                "each => each.getAttribute('aria-label') || each.innerText || each.labels?.[0]?.innerText"
            ), name
            assert node.get_attribute("data-lm-suppress-shortcuts") == "true"


def test_a_click_on_bare_text_then_dd_deletes_nothing(page: Any) -> None:
    for name in NAMES:
        explorer(page, name).locator("small, h4, b").first.click()
        press(page, "d", "d", "x")
    untouched(page)


def test_hostile_text_is_read_and_does_not_run(page: Any, visit: Any) -> None:
    pool = explorer(page, "pool")
    pool.locator("[role=listbox]").first.focus()
    press(page, "Home")
    assert SHOWN in pool.locator("pre").first.inner_text()
    assert (
        page.locator(
            ".lk img:not(.still), .lk script, .lk iframe, .lk [onload], .lk [onerror], .lk mjx-container"
        ).count()
        == 0
    )
    assert page.evaluate("typeof owned") == "undefined"
    assert visit.dialogs == []


def test_search_is_typed_where_it_stands_and_marks_its_hits(page: Any) -> None:
    pool = explorer(page, "pool")
    field = pool.get_by_label("Search")
    field.click()
    page.keyboard.type("words onerror", delay=5)
    pool.locator("mark", has_text=re.compile("^words$", re.I)).first.wait_for()
    assert field.evaluate("each => each === document.activeElement")
    assert field.input_value() == "words onerror"
    field.fill("nowhere at all")
    pool.get_by_text("Nothing matches").wait_for()
    field.fill("")
    pool.locator("[role=option]").first.wait_for()


def test_a_mark_is_there_after_a_restart_of_the_kernel(page: Any, run: Run) -> None:
    pool = explorer(page, "pool")
    pool.locator("[role=listbox]").first.focus()
    press(page, "Home")
    form = pool.locator("form[data-on=mark]")
    form.get_by_label("Label").select_option("drop")
    form.get_by_label("Tags").fill("odd")
    form.get_by_label("Note").fill(EVIL)
    press(page, "Enter")
    pool.locator("[role=option] i", has_text="drop odd").wait_for()
    [mark] = marks.read(run).values()
    assert (mark.label, mark.tags, mark.note) == ("drop", "odd", EVIL)
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_role("menuitem", name="Restart Kernel and Run All Cells…").click()
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    page.get_by_text("(ipykernel) | Busy").wait_for()
    page.get_by_text("(ipykernel) | Idle").wait_for()
    explorer(page, "pool").locator("[role=option] i", has_text="drop odd").wait_for()


def test_the_map_is_drawn_moved_and_lists_what_is_in_view(page: Any) -> None:
    shown = explorer(page, "map")
    canvas = shown.locator("canvas")
    drawn = (
        "n => Number(document.querySelector('.lk.live canvas')?.dataset.drawn ?? 0) > n"  # whichever canvas there is
    )
    page.wait_for_function(drawn, arg=0)
    press(page)
    canvas.focus()
    before = int(canvas.get_attribute("data-drawn") or 0)
    press(page, "+", "ArrowLeft", "ArrowRight", "-", "0")
    page.wait_for_function(drawn, arg=before)
    press(page, "Enter")
    shown.get_by_text(re.compile(r"^\d+ chosen$")).wait_for()
    box = canvas.bounding_box()
    shown.get_by_role("button", name="lasso").click()
    shown.locator("button[aria-pressed=true]").wait_for()
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    for x, y in ((0.99, 0.01), (0.99, 0.99), (0.01, 0.99)):
        page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y)
    page.mouse.up()
    shown.get_by_text(re.compile(r"^\d+ chosen$")).wait_for()
    shown.get_by_label("Tag").fill("corner")
    press(page, "Enter")
    untouched(page)


def test_the_panel_plans_and_says_what_cannot_be(page: Any) -> None:
    panel = explorer(page, "panel")
    panel.get_by_label("iterations").fill("3")
    panel.locator(".plan td", has_text=re.compile(r"^[1-9]\d*$")).first.wait_for()
    panel.get_by_label("iterations").fill("-1")
    panel.locator("[role=alert]", has_text="iterations").wait_for()
    panel.get_by_label("iterations").fill("2")
    panel.locator("[role=alert]").wait_for(state="detached")


@pytest.mark.parametrize("width", [1280, 700])
def test_nothing_is_cut(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 1000})
    for name in NAMES:
        shown = explorer(page, name)
        wide = shown.evaluate(
            "lk => [...lk.querySelectorAll('*')].filter(each => !each.closest('pre, .lists span, svg, canvas')"
            " && each.getBoundingClientRect().right > lk.getBoundingClientRect().right + 1)"
            ".map(each => each.outerHTML.slice(0, 90))"
        )
        assert wide == [], name
    page.set_viewport_size({"width": 1280, "height": 1000})


def test_reopened_each_explorer_shows_its_page_and_no_error(page: Any, lab: Any) -> None:
    menu(page, "File", "Save Notebook(?! As)")
    page.locator(".jp-mod-dirty").wait_for(state="detached")
    notebook = nbformat.read(lab.folder / "explore.ipynb", as_version=4)
    for cell, name in zip(notebook.cells[1:], NAMES):
        assert cell.outputs[-1].data.keys() == {"text/html", "text/plain"}, name
        assert "Run this cell in JupyterLab" in cell.outputs[-1].data["text/plain"]
    menu(page, "Kernel", "Shut Down Kernel$")
    page.get_by_text("No Kernel").first.wait_for()
    page.goto(f"{lab.url}lab/tree/explore.ipynb?token={lab.token}&reset")
    page.locator(".jp-Notebook .lk").first.wait_for()
    for number, name in enumerate(NAMES, start=1):
        cell = page.locator(".jp-Cell").nth(number)
        cell.evaluate("cell => cell.scrollIntoView()")
        asleep = cell.locator(".lk:not(.live)")
        asleep.get_by_text("Run this cell in JupyterLab").wait_for()
        assert asleep.locator("button:visible, input:visible, canvas:visible").count() == 0, name
    assert page.get_by_text("Error displaying widget").count() == 0
    assert page.locator("img.still:visible").count() == 1


def test_nothing_was_asked_of_the_network(page: Any, visit: Any) -> None:
    assert visit.foreign == []
