"""The pages for readers: `make page` wants a finished run; the executed notebooks are one site without a network."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from bs4 import BeautifulSoup

from lionkit import __main__, loop, notebooks
from lionkit.errors import LionkitError
from lionkit.run import open_run

NAMES = [path.stem for path in notebooks.find()]
ORDER = ["index", *NAMES]
EVIL = "costs $3 and $4, $x^2$ \\(y\\) <script>owned=1</script><img src=http://198.51.100.7/x onerror='owned=1'>"


def test_the_page_of_a_run_that_is_not_finished_is_one_line() -> None:
    run = open_run("demo", keep=False)
    with pytest.raises(
        LionkitError, match=r"demo is not finished, and the page shows a finished run: `make run` first$"
    ):
        notebooks.serve(run)
    assert not run.path.exists()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BeautifulSoup]:
    """Every page by name, of the notebooks as they are committed, outputs included."""
    out = tmp_path_factory.mktemp("site")
    for path in notebooks.find():
        page = notebooks.to_html(nbformat.read(path, as_version=4), path.stem)
        (out / f"{path.stem}.html").write_text(page, encoding="utf-8")
    notebooks.write_index(out)
    return {path.stem: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in out.glob("*.html")}


@pytest.mark.parametrize("name", ORDER)
def test_every_link_leads_somewhere(site: dict[str, Any], name: str) -> None:
    targets = [link["href"] for link in site[name].select("a[href]")]
    for target in targets:
        place, _, anchor = target.partition("#")
        if not target.startswith("https://arxiv.org/"):
            there = site[place.removesuffix(".html") or name]
            assert not anchor or len(there.find_all(id=anchor)) == 1, target
    assert len(targets) >= len(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_contents_name_every_page_and_the_headings_of_this_one(site: dict[str, Any], name: str) -> None:
    bar = site[name].select_one("nav.contents")
    assert bar.select_one("details[open] > summary").text == "Contents"
    assert [link["href"] for link in bar.select("details > ul > li > a")] == [f"{page}.html" for page in ORDER]
    assert [link["href"] for link in bar.select("[aria-current=page]")] == [f"{name}.html"]
    headings = site[name].select("main h2")
    assert [link["href"] for link in bar.select("li li a")] == [f"#{heading['id']}" for heading in headings]
    assert [f"{link.text}¶" for link in bar.select("li li a")] == [heading.text for heading in headings]
    assert bool(headings) == (name != "index")
    before, after = (site[name].select_one(f".onward [rel={side}]") for side in ("prev", "next"))
    number = ORDER.index(name)
    assert (before["href"] if before else "") == (f"{ORDER[number - 1]}.html" if number else "")
    assert (after["href"] if after else "") == (f"{ORDER[number + 1]}.html" if number + 1 < len(ORDER) else "")


@pytest.mark.parametrize("name", ORDER)
def test_nothing_is_loaded_or_run(site: dict[str, Any], name: str) -> None:
    page = site[name]
    assert page.select("script, link, iframe, object, embed") == []
    assert [tag["src"][:30] for tag in page.select("[src]") if not tag["src"].startswith("data:image/")] == []
    assert re.search(r"@import|url\(\W*(https?:)?//", str(page.select("style"))) is None
    policy = page.select_one("meta[http-equiv=Content-Security-Policy]")["content"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"
    assert page.select_one("style[media='(prefers-color-scheme: dark)']") is not None


def test_the_index_lists_the_notebooks_with_question_and_minutes(site: dict[str, Any]) -> None:
    rows = site["index"].select("main li")
    assert [row.a["href"] for row in rows] == [f"{name}.html" for name in NAMES]
    for row in rows:
        first, question = (part.text for part in row.select("p"))
        assert re.fullmatch(r"0\d · [A-Z].+ · About \d minutes?( on two cores)?\s*", first)
        assert question.endswith("?")
    assert (
        rows[2].text.split()
        == (
            "02 · Imitation · About 3 minutes on two cores "
            "How much does a small model learn from a few hundred good answers, and what can silently go wrong?"
        ).split()
    )


def test_dollars_and_tags_in_outputs_are_text(site: dict[str, Any]) -> None:
    assert "About 1 minute · $0 offline, a few cents live · any laptop." in site["00_start_here"].text
    output = nbformat.v4.new_output
    outputs = [output("stream", text=EVIL), output("display_data", {"text/plain": EVIL})]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=outputs)])
    page = BeautifulSoup(notebooks.to_html(book, "99_mine"), "html.parser")
    assert [pre.text.strip() for pre in page.select(".jp-RenderedText pre")] == [EVIL, EVIL]
    assert page.select("script, main img, [aria-current]") == []  # a page that the contents do not have is a page still


def test_a_notebook_without_question_is_listed_by_its_title(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# 09 · Mine & <b>yours</b>")])
    nbformat.write(book, tmp_path / "09_mine.ipynb")
    monkeypatch.setattr(notebooks, "find", lambda: [tmp_path / "09_mine.ipynb"])
    assert notebooks.pages()[1:] == [notebooks.Page("09_mine", "09 · Mine & <b>yours</b>", "", "")]
    page = BeautifulSoup(notebooks.to_html(book, "09_mine"), "html.parser")
    assert page.select_one("[aria-current]").text == "09 · Mine & <b>yours</b>"


def test_the_command_ends_with_the_index(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made: list[Path] = []
    monkeypatch.setattr(notebooks, "execute", lambda path, out, **told: made.append(out / path.name))
    monkeypatch.setattr(loop, "write_summary", lambda run: run.path / "summary.json")
    monkeypatch.setattr(loop, "summarise", lambda run: SimpleNamespace())
    monkeypatch.setattr(loop, "as_text", lambda summary: "the table")
    __main__.notebooks()
    assert [path.stem for path in made] == NAMES
    index = made[0].parent / "index.html"
    assert "Open next: runs/demo/notebooks/index.html," in capsys.readouterr().out
    assert "The notebooks, executed" in index.read_text(encoding="utf-8")
