"""`make page` under Chromium: a finished run as a page without code, behind a token, with hostile text in its pool."""

from __future__ import annotations

import base64
import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import nbformat
import psutil
import pytest

import rote
from lionkit import loop, notebooks
from lionkit.records import Instruction, read_jsonl, write_jsonl
from lionkit.run import Run, open_run

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
EVIL = " for $3 or $4 </td></pre><img src=http://198.51.100.7/x onerror='owned=1'><script>owned=1</script>"
TITLE = "Explore the hard pool"


def finished_run(root: Path) -> Run:
    """The preset `smoke` with a student that learns by rote; then every instruction of its pools turns hostile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIONKIT_RUNS", str(root))
        run = open_run("demo", preset="smoke")
        loop.run_all(run, rote.roles(run))
    for path in run.path.rglob("cache.jsonl"):
        items = read_jsonl(path, Instruction)
        write_jsonl(path, [dataclasses.replace(item, instruction=item.instruction + EVIL) for item in items])
    return run


@pytest.fixture(scope="module")
def lab(chromium_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """In the place of JupyterLab, for `visit`: the server of `make page`, ended by Ctrl-C. Nothing may stay behind."""
    home = tmp_path_factory.mktemp("page")
    run, prefix = finished_run(home / "runs"), Path(sys.prefix)
    own = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"HOME": str(home), "IPYTHONDIR": str(home), "TMPDIR": str(home), "MPLCONFIGDIR": str(home / "mpl")}
    own |= {"LIONKIT_RUNS": str(run.path.parent), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    command = ["make", "-s", "-o", f"{prefix}/.installed", "page", f"VENV={prefix}"]
    log = home / "log.txt"
    with open(log, "w") as out:
        server = subprocess.Popen(command, cwd=ROOT, env=kept | own, stdout=out, stderr=out, start_new_session=True)
    children: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 60
        while (said := re.search(r"(http://127\.0\.0\.1:\d+/)\?token=([0-9a-f]{48})\n", log.read_text())) is None:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield SimpleNamespace(url=said[1], token=said[2], folder=run.path, server=server.pid)
        children = psutil.Process(server.pid).children(recursive=True)
    finally:
        os.killpg(server.pid, signal.SIGINT)
        server.wait(30)
        _, alive = psutil.wait_procs(children, 10)
        for process in alive:
            process.kill()
    assert not alive, f"left running by the page: {alive}"
    assert "Traceback" not in log.read_text().rpartition("Stopping...")[2]
    with pytest.raises(URLError):
        urlopen(said[1], timeout=2)


@pytest.fixture(scope="module")
def page(lab: Any, visit: Any) -> Any:
    """The page at the address that the terminal shows, run to its end."""
    answer = visit.page.goto(f"{lab.url}?token={lab.token}", wait_until="commit")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "http" not in answer.headers["content-security-policy"]
    visit.page.locator("#loading").wait_for(state="detached")
    visit.page.get_by_role("heading", name="Take it elsewhere").wait_for()
    visit.page.locator(".lk.live .plot svg").wait_for()
    return visit.page


@pytest.mark.parametrize("query", ["", "?token=", f"?token={'0' * 48}"])
def test_without_the_token_nothing_is_shown(lab: Any, query: str) -> None:
    try:
        text = urlopen(f"{lab.url}{query}", timeout=30).read().decode()  # a form that asks for the token
    except HTTPError as refused:
        text = refused.read().decode()
    assert 'type="password"' in text
    assert TITLE not in text


def test_outputs_and_widgets_stand_there_without_code_and_exercises(page: Any) -> None:
    assert page.get_by_role("heading", name=TITLE).is_visible()
    assert page.get_by_role("heading", level=2).all_inner_texts() == [
        "The pool, hard and easy side by side",
        "What kind is hard? The pool as a map",
        "Where τ cuts",
        "Are the generated ones harder? Which families are hard?",
        "Lineage",
        "Take it elsewhere",
        "What you have learned",
    ]
    assert page.locator(".jp-OutputArea-output img").count() == 3  # two figures, and the map as a picture
    assert page.locator("[role=option]").count() > 10
    assert "hard instructions in hard_pool.json" in page.inner_text("body")
    shown = page.inner_text("body")
    assert [word for word in ("open_run", "import ", "exercises") if word in shown] == []
    assert page.locator(".highlight").count() == 0


def test_the_kernel_behind_the_widgets_answers(page: Any, lab: Any) -> None:
    assert any("ipykernel_launcher" in child.cmdline() for child in psutil.Process(lab.server).children(recursive=True))
    page.locator(".lk:has(.plot) input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text(re.compile("in the cache pool at τ = 1.1$")).wait_for()


def test_hostile_text_is_read_dollars_too(page: Any, visit: Any) -> None:
    cells = [text for text in page.locator("td").all_inner_texts() if "$3 or $4 </td></pre><img src=http" in text]
    assert len(cells) >= 1  # the table of the lineage
    assert page.locator(".lk [aria-live] pre").first.inner_text().endswith(EVIL[-20:])
    assert page.locator("mjx-container, .MathJax").count() == 0
    assert page.evaluate("typeof owned") == "undefined"
    assert visit.dialogs == []


def test_nothing_is_asked_of_the_network(page: Any, visit: Any) -> None:
    assert visit.foreign == []


def test_a_dark_page_on_a_narrow_screen(page: Any, lab: Any) -> None:
    page.set_viewport_size({"width": 700, "height": 1000})
    page.goto(f"{lab.url}?theme=dark", wait_until="commit")
    page.locator("#loading").wait_for(state="detached")
    page.locator("body[data-jp-theme-name='JupyterLab Dark']").wait_for()
    page.locator(".lk.live .plot svg").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 17, 17)"


def test_a_cell_that_fails_is_one_line(page: Any, lab: Any, visit: Any) -> None:
    path = max(lab.folder.rglob("discrimination/verdicts.jsonl"))
    kept = path.read_bytes()
    try:
        path.unlink()
        page.goto(lab.url, wait_until="commit")
        page.locator("#loading").wait_for(state="detached")
        said = page.get_by_text("There was an error when executing cell")
        said.wait_for()
    finally:
        path.write_bytes(kept)
    assert said.inner_text().strip().endswith("Why is said in the terminal where `make page` runs.")
    assert "Traceback" not in page.inner_text("body")
    assert page.get_by_role("heading", name=TITLE).is_visible()
    assert visit.foreign == []


LONG = "a" * 600
WIDE = f"<table><tr>{'<td>cell</td>' * 80}</tr></table>"


@pytest.mark.parametrize("width", [360, 700, 1400])
def test_the_site_fits_the_window_and_wide_things_scroll(visit: Any, tmp_path: Path, width: int) -> None:
    from matplotlib.figure import Figure

    Figure(figsize=(30, 1)).savefig(tmp_path / "wide.png")
    picture = {"image/png": base64.b64encode((tmp_path / "wide.png").read_bytes()).decode()}
    texts = [nbformat.v4.new_output("stream", text=LONG), nbformat.v4.new_output("display_data", {"text/html": WIDE})]
    cells = [
        nbformat.v4.new_markdown_cell(f"# {LONG}\n\n{LONG}\n\n## {LONG}"),
        nbformat.v4.new_code_cell(f"x = '{LONG}'"),
    ]
    cells[1].outputs = [*texts, nbformat.v4.new_output("display_data", picture)]
    wide = nbformat.v4.new_notebook(cells=cells)
    books = {path.stem: nbformat.read(path, as_version=4) for path in notebooks.find()} | {"99_wide": wide}
    for name, book in books.items():
        (tmp_path / f"{name}.html").write_text(notebooks.to_html(book, name), encoding="utf-8")
    notebooks.write_index(tmp_path)
    context = visit.page.context.browser.new_context(viewport={"width": width, "height": 800}, color_scheme="dark")
    page, asked, said = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    for path in sorted(tmp_path.glob("*.html")):
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path.name
    page.goto((tmp_path / "99_wide.html").as_uri())
    for selector in (".jp-InputArea-editor", ".jp-RenderedHTML", ".jp-RenderedImage"):
        box = page.locator(f"main {selector}").first
        left = box.evaluate(
            "box => { box.scrollLeft = 1e6; return [box.scrollLeft, box.scrollWidth - box.clientWidth] }"
        )
        assert left[0] == pytest.approx(left[1], abs=1), selector
        assert left[0] > 0, selector
        edge = box.evaluate(
            "box => box.getBoundingClientRect().right - box.parentElement.getBoundingClientRect().right"
        )
        assert edge <= 0, selector  # nor does what holds the box cut it
    page.goto((tmp_path / "index.html").as_uri())
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 17, 17)"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the contents are closed
    assert not page.get_by_role("navigation", name="Contents").get_by_role("link").first.is_visible()
    page.keyboard.press("Enter")
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="00 · Start here").wait_for()
    page.get_by_role("navigation", name="Contents").get_by_role("link", name="Both orders").press("Enter")
    heading = page.get_by_role("heading", name="Both orders").bounding_box()
    assert heading is not None
    assert 0 <= heading["y"] < 100
    page.get_by_role("link", name="01 · The pools →").click()
    page.get_by_role("heading", name="01 · The pools").wait_for()
    context.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert said == []
