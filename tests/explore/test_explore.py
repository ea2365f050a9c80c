"""The widgets, driven without a browser, and their static companions. What a browser makes of them: tests/browser."""

from __future__ import annotations

import json
import time
from html.parser import HTMLParser
from pathlib import Path

import ipywidgets
import numpy as np
import pytest

from lionkit import explore, pools
from lionkit.errors import LionkitError
from lionkit.explore import widgets
from lionkit.explore.static import LIMIT, block, count_labels, visible
from lionkit.pools import pool_table, split_by_gap
from lionkit.records import Instruction, Judgement, Response, Verdict

HOSTILE = (
    "\x1b[31m\x07\x00\u202e\u2066\ud800</pre><script>owned=1</script><img src=x onerror='owned=1'>"
    "<iframe srcdoc='<script>owned=1</script>'></iframe>&lt;b&gt;"
)


def judged(id: str, teacher: float | None, student: float | None, reply: str = "a reply") -> Verdict:
    reason = "" if teacher is not None else "no score line"
    return Verdict(
        id, Judgement(teacher, student, reply, reason), Judgement(teacher, student, f"{reply} again", reason)
    )


def a_pool(size: int = 25) -> tuple[list[Instruction], list[Response], list[Response], list[Verdict]]:
    """Gaps -1, 0, 1.2, 2, ... in turn; the last two instructions are undecided: one unscored, one never judged."""
    items = [Instruction(f"Task {n}", id=f"i{n}", category=f"c{n % 2}", iteration=n % 3) for n in range(size)]
    teacher = [Response(f"i{n}", f"good answer {n}") for n in range(size)]
    student = [Response(f"i{n}", f"weak answer {n}") for n in range(size)]
    scores = [(5.0, 6.0), (6.0, 6.0), (8.2, 7.0), (9.0, 7.0), (9.5, 2.5)]
    verdicts = [judged(f"i{n}", *scores[n % 5]) for n in range(size - 2)] + [judged(f"i{size - 2}", None, None)]
    return items, teacher, student, verdicts


def every(box: ipywidgets.Widget, kind: type) -> list:
    found = [box] if isinstance(box, kind) else []
    return found + [each for child in getattr(box, "children", ()) for each in every(child, kind)]


def labelled(box: ipywidgets.Widget, start: str) -> ipywidgets.Widget:
    (found,) = [each for each in every(box, ipywidgets.DOMWidget) if getattr(each, "description", "").startswith(start)]
    return found


def page_text(box: ipywidgets.Widget) -> str:
    return "\n".join(each.value for each in every(box, ipywidgets.HTML) if "<style>" not in each.value)


class Elements(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_counts_are_those_of_the_split_at_every_step_of_the_slider() -> None:
    items, _, _, verdicts = a_pool()
    by_id = {v.instruction_id: v for v in verdicts}
    gaps = np.array([by_id[i.id].gap if i.id in by_id else np.nan for i in items])
    for tenths in range(-90, 91):
        split = split_by_gap(items, verdicts, tenths / 10)
        assert count_labels(gaps, tenths / 10) == {name: len(part) for name, part in split._asdict().items()}


def test_tau_explorer_follows_the_slider_and_forgives_its_float_steps() -> None:
    items, _, _, verdicts = a_pool()
    box = explore.tau_explorer(items, verdicts)
    slider = labelled(box, "τ")
    assert "<b>13</b> ▲ hard" in page_text(box)
    assert "Move τ" in page_text(box)
    slider.value = 1.1 + 0.1  # 1.2000000000000002, and five gaps are 1.2
    assert slider.value > 1.2
    assert "<b>13</b> ▲ hard" in page_text(box)
    assert "τ = 1.2<" in page_text(box)
    slider.value = 1.3
    assert "<b>8</b> ▲ hard" in page_text(box)
    assert "<b>15</b> ● easy" in page_text(box)
    assert "<b>2</b> ? undecided" in page_text(box)
    assert "5 move from hard to easy between τ = 1 and τ = 1.3" in page_text(box)
    for n in (2, 7, 12, 17, 22):
        assert f"<td>Task {n}</tr>" in page_text(box)
    slider.value = -9
    assert "10 move from easy to hard" in page_text(box)
    with pytest.raises(LionkitError, match="between -9 and 9"):
        explore.tau_explorer(items, verdicts, tau=9.5)


def test_the_histogram_and_the_cards_count_the_same_undecided() -> None:
    items, _, _, verdicts = a_pool()  # one unscored, one without a verdict
    shown = page_text(explore.tau_explorer(items, [judged("i0", 9.0, 1.0), *verdicts]))
    assert "<b>2</b> ? undecided" in shown
    assert "23 pairs, 2 undecided<" in shown


def test_the_histogram_is_drawn_once_and_in_the_ink_of_the_theme(capsys: pytest.CaptureFixture[str]) -> None:
    import matplotlib.pyplot as plt

    plt.close("all")  # of tests before
    items, _, _, verdicts = a_pool()
    box = explore.tau_explorer(items, verdicts)
    assert page_text(box).count("<svg") == 1
    assert "fill: var(--ink)" in page_text(box)
    assert plt.get_fignums() == []
    assert capsys.readouterr().out == ""


def test_seventy_thousand_verdicts_redraw_fast() -> None:
    rng = np.random.default_rng(0)
    size = 70_000
    items = [Instruction(f"Task {n}", id=str(n)) for n in range(size)]
    scores = rng.integers(2, 21, (size, 2)) / 2
    box = explore.tau_explorer(items, [judged(str(n), *scores[n].tolist()) for n in range(size)])
    slider, seconds = labelled(box, "τ"), []
    for value in (1.1, 1.2, 3.0):
        start = time.perf_counter()
        slider.value = value
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5, f"redraw took {seconds} s (0.2 s is the aim on an idle machine)"
    assert f"<b>{int((scores[:, 0] - scores[:, 1] >= 3).sum()):,}</b> ▲ hard" in page_text(box)
    assert len(page_text(box)) < 100_000


def test_a_callback_error_is_shown_in_the_widget_and_goes_with_the_next_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items, _, _, verdicts = a_pool()
    box = explore.tau_explorer(items, verdicts)
    slider, draw = labelled(box, "τ"), widgets.gap_histogram

    def broken(*args: object) -> None:
        raise ValueError("no <b>ink</b> left")

    monkeypatch.setattr(widgets, "gap_histogram", broken)
    slider.value = 2.0
    assert "role='alert'>ValueError: no &lt;b&gt;ink&lt;/b&gt; left" in page_text(box)
    assert "in broken" in page_text(box)
    monkeypatch.setattr(widgets, "gap_histogram", draw)
    slider.value = 2.5
    assert "role='alert'" not in page_text(box)


def test_browse_rows_searches_filters_and_sorts() -> None:
    items, teacher, student, verdicts = a_pool()
    items[3] = Instruction("Übersetze STRASSE", "an Input here", id="i3", category="c1")
    table = pool_table(items, teacher, student, verdicts)
    assert list(explore.browse_rows(table, "straße")["id"]) == ["i3"]
    assert list(explore.browse_rows(table, "INPUT")["id"]) == ["i3"]
    assert list(explore.browse_rows(table, "WEAK answer 11")["id"]) == ["i11"]
    assert len(explore.browse_rows(table, "good")) == 25
    assert list(explore.browse_rows(table, ".*")["id"]) == []
    assert set(explore.browse_rows(table, category="c1", iteration=2)["id"]) == {"i5", "i11", "i17", "i23"}
    down = explore.browse_rows(table, sort="gap")["gap"].to_numpy()
    up = explore.browse_rows(table, sort="gap", descending=False)["gap"].to_numpy()
    assert list(down[:2]) == [7.0, 7.0]
    assert list(up[:2]) == [-1.0, -1.0]
    assert np.isnan(down[-2:]).all()
    assert np.isnan(up[-2:]).all()
    assert explore.browse_rows(table, sort="length")["id"].iloc[0] == "i3"
    assert explore.browse_rows(table, sort="student score", descending=False)["student"].iloc[0] == 2.5
    assert explore.browse_rows(table, sort="teacher score")["teacher"].iloc[0] == 9.5
    assert explore.browse_rows(table, sort="iteration")["iteration"].iloc[0] == 2


def test_pool_browser_pages_chooses_searches_and_filters() -> None:
    items, teacher, student, verdicts = a_pool(1_000)
    box = explore.pool_browser(items, teacher, student, verdicts)
    hard, easy, undecided = every(box, ipywidgets.Select)
    row = every(box, ipywidgets.BoundedIntText)[0]
    assert hard.description.startswith("▲ hard: 598 ·")
    assert easy.description.startswith("● easy: 400 ·")
    assert len(hard.options) == len(easy.options) == widgets.PAGE
    assert hard.options[0] == "  1     +7   9.5 : 2.5   Task 4"
    assert (hard.index, easy.index) == (0, None)
    assert "good answer 4" in page_text(box)
    row.value = 12
    assert hard.index == 1
    assert "good answer 59<" in page_text(box)
    every(box, ipywidgets.Button)[1].click()
    assert (row.value, hard.options[hard.index][:3]) == (22, " 22")
    row.value = 10_000
    assert row.value == 598
    easy.index = 3
    assert (hard.index, every(box, ipywidgets.BoundedIntText)[1].value) == (None, 4)
    labelled(box, "Search").value = "TASK 77"
    assert hard.description.startswith("▲ hard: 7 of 598 ·")
    assert row.value == 1
    labelled(box, "Category").index = 1
    assert hard.description.startswith("▲ hard: 3 of 598 ·")
    labelled(box, "Sort by").value = "teacher score"
    labelled(box, "Order").value = False
    assert [option[5:].strip()[:5] for option in hard.options] == ["+1.2 ", "+2   ", "+7   "]
    labelled(box, "Category").index = 0
    assert hard.description.startswith("▲ hard: 7 of 598 ·")
    labelled(box, "Search").value = "nowhere"
    assert "Nothing matches" in page_text(box)
    labelled(box, "Show undecided (2)").value = True
    labelled(box, "Search").value = "Task 999"
    assert undecided.description.startswith("? undecided: 1 of 2 ·")
    assert "not judged" in page_text(box)
    assert "role='alert'" not in page_text(box)


def test_equal_neighbours_are_told_apart() -> None:
    items = [Instruction("Same text", id=f"i{n}") for n in range(30)]
    responses = [Response(f"i{n}", f"answer {n}.") for n in range(30)]
    box = explore.pool_browser(items, responses, responses, [judged(f"i{n}", 9.0, 5.0) for n in range(30)])
    for place in (2, 12, 22, 2, 1):
        every(box, ipywidgets.BoundedIntText)[0].value = place
        assert f"answer {place - 1}." in page_text(box)


@pytest.mark.parametrize("show", ["browser", "static", "instruction", "tau"])
def test_hostile_text_is_inert_everywhere(show: str) -> None:
    name = HOSTILE.replace("\ud800", "")
    item = Instruction(HOSTILE, HOSTILE, id=name, category=HOSTILE, source=HOSTILE, parent=name)
    other = Instruction("plain", id="plain", parent=name)
    answers = [Response(name, HOSTILE, status="truncated", reason=HOSTILE), Response("plain", HOSTILE)]
    verdicts = [judged(name, 9.0, 2.0, HOSTILE), Verdict("plain", Judgement(None, None, HOSTILE, HOSTILE))]
    pool = ([item, other], answers, answers, verdicts)
    if show in ("browser", "tau"):
        box = explore.pool_browser(*pool) if show == "browser" else explore.tau_explorer(pool[0], verdicts)
        if show == "tau":
            labelled(box, "τ").value = 8.0
        states = [each.get_state() for each in every(box, ipywidgets.DOMWidget)]
        json.dumps([{k: str(v) for k, v in state.items()} for state in states], ensure_ascii=False).encode("utf-8")
        html, plain = page_text(box), repr(box)
    else:
        shown = explore.static_pool(*pool) if show == "static" else explore.show_instruction(name, *pool)
        html, plain = shown.html, repr(shown)
    elements = Elements(html)
    assert elements.names.isdisjoint({"script", "img", "iframe"})
    assert not [name for name in elements.attributes if name.startswith("on") or name in ("src", "srcdoc", "href")]
    assert "<script>owned=1</script>" in elements.text  # shown as it was written
    if show in ("browser", "instruction"):
        assert "</iframe>&lt;b&gt;" in elements.text
    for text in (html, plain):
        assert not any(c in text for c in "\x1b\x07\x00\u202e\u2066\ud800")
    assert "⟨U+001B⟩[31m" in html


def test_huge_answers_are_cut_with_a_note_and_layout_survives() -> None:
    shown = block("x" * 1_000_000)
    assert len(shown) < LIMIT + 500
    assert shown.endswith("<small>Shortened: the first 20,000 of 1,000,000 characters.</small>")
    assert block("\n a\r\n\tb ") == "<pre style='white-space:pre-wrap' dir='auto'>\n\n a\n\tb </pre>"
    assert visible("été 日本 עברית 👩‍👧 a\tb") == "été 日本 עברית 👩‍👧 a\tb"


def test_one_instruction_in_full() -> None:
    items, teacher, student, _ = a_pool(3)
    items.append(
        Instruction("Child", "its input", id="child", source="hard", parent="i1", iteration=2, category="sums")
    )
    uneven = Verdict("child", Judgement(9, 4, "first words"), Judgement(None, None, "mumble", "no score line"))
    shown = explore.show_instruction(
        "child", items, teacher, [*student, Response("child", "half", "truncated")], [uneven]
    )
    for part in (
        "? undecided", "gap – at τ = 1", "student first: no score line", "category sums", "source hard, iteration 2",
        "made from i1", "“Task 1”", "its input", "Teacher&#x27;s response · score – · missing", "truncated", "half",
        "teacher&#x27;s answer first · teacher 9, student 4", "first words", "unscored: no score line", "mumble",
    ):  # fmt: skip
        assert part in shown.html
    assert "Referee, teacher's answer first · teacher 9, student 4\nfirst words" in repr(shown)
    assert "not judged" in explore.show_instruction("i0", items, [], [], []).html
    with pytest.raises(LionkitError, match="no instruction has the id 'nobody'"):
        explore.show_instruction("nobody", items, [], [], [])


def test_static_pool_has_the_hardest_and_the_easiest() -> None:
    shown = explore.static_pool(*a_pool(), rows=2)
    lines = repr(shown).splitlines()
    assert lines[0] == "Hardest and easiest of 25 instructions at τ = 1: 13 hard, 10 easy, 2 undecided"
    assert [line.split()[:3] for line in lines[2:]] == [["▲", "hard", "+7"]] * 2 + [["●", "easy", "-1"]] * 2
    assert shown._repr_html_().count("<tr") == 5
    assert "good answer 19" in shown.html
    empty = explore.static_pool([], [], [], [])
    assert "0 hard, 0 easy, 0 undecided" in repr(empty)


def test_a_saved_widget_reads_as_a_line_with_its_counts() -> None:
    pool = a_pool()
    for box, name in (
        (explore.tau_explorer(pool[0], pool[3]), "τ explorer"),
        (explore.pool_browser(*pool), "pool browser"),
    ):
        bundle = box._repr_mimebundle_()
        counts = "13 hard, 10 easy, 2 undecided at τ = 1"
        assert bundle["text/plain"] == f"{name}: {counts}. Run this cell in JupyterLab to use it."
        assert "application/vnd.jupyter.widget-view+json" in bundle


def test_an_empty_pool_opens() -> None:
    assert "<b>0</b> ▲ hard" in page_text(explore.tau_explorer([], []))
    assert "Nothing matches" in page_text(explore.pool_browser([], [], [], []))


def test_real_reviews(shared_data: Path) -> None:
    folder = shared_data / "vicuna80"
    verdicts = pools.read_fastchat_reviews(
        folder / "review_gpt35_vicuna-13b.jsonl", folder / "answer_gpt35.jsonl", folder / "answer_vicuna-13b.jsonl",
        folder / "question.jsonl",
    )  # fmt: skip
    items = [Instruction(v.instruction_id, id=v.instruction_id) for v in verdicts]
    assert repr(explore.tau_explorer(items, verdicts)).startswith("τ explorer: 27 hard, 53 easy, 0 undecided")
