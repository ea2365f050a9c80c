"""The explorers, driven as a browser drives them, and without a kernel. In a browser: tests/browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lionkit import explore, pools
from lionkit.errors import LionkitError
from lionkit.explore import pool as pool_module
from lionkit.explore import tau as tau_module
from lionkit.explore.front import VIEW_MIME, Explorer, Listing
from lionkit.explore.source import Source, words
from lionkit.explore.static import LIMIT, visible
from lionkit.explore.tau import count_labels
from lionkit.explore.words import MOST, block, hits, pieces, written
from lionkit.pools import split_by_gap
from lionkit.records import Instruction, Judged, Judgement, Response, Verdict, read_jsonl
from lionkit.run import Run, marks, open_run, reading, saved

HOSTILE = (
    "\x1b[31m\x07\x00\u202e\u2066\ud800</pre><script>owned=1</script><img src=x onerror='owned=1'>"
    "<iframe srcdoc='<script>owned=1</script>'></iframe>&lt;b&gt;"
)
Pool = tuple[list[Instruction], list[Response], list[Response], list[Verdict]]


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


class Elements(HTMLParser):
    """What a browser would make of a page: elements' names, attributes, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: set[str] = set()
        self.values: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(re.sub("<style>.*?</style>", "", html, flags=re.DOTALL))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.values.append({"": tag, **dict(attrs)})

    def handle_data(self, data: str) -> None:
        self.text += data


def rows(explorer: Explorer, label: str) -> list[str]:
    """The texts of a list's rows as they are shown now."""
    found = re.findall(rf"<div role='option' id='{label}-\d+'.*?<span>(.*?)</span></div>", explorer.regions["lists"])
    return [Elements(row).text for row in found]


def title(explorer: Explorer, label: str) -> str:
    (found,) = re.findall(rf"<h4>(. {label}: [^<]*)</h4>", explorer.regions["lists"])
    return found


def chosen(explorer: Explorer) -> list[tuple[str, int]]:
    """Lists and places that are chosen."""
    found = re.findall(r"id='(\w+)-(\d+)' data-value='\d+' aria-selected='true'", explorer.regions["lists"])
    return [(label, int(place)) for label, place in found]


def options(explorer: Explorer, on: str) -> list[str]:
    (select,) = re.findall(rf"<select data-on='{on}'>(.*?)</select>", explorer.regions["controls"])
    return re.findall("<option[^>]*>([^<]*)</option>", select)


def gaps_shown(explorer: Explorer, label: str) -> list[str]:
    return re.findall(rf"id='{label}-\d+'[^>]*><b>([^<]*)</b>", explorer.regions["lists"])


def fine(explorer: Explorer) -> None:
    assert explorer.regions["message"] == ""


# τ


def test_counts_are_those_of_the_split_at_every_step_of_the_slider() -> None:
    items, _, _, verdicts = a_pool()
    by_id = {v.instruction_id: v for v in verdicts}
    gaps = np.array([by_id[i.id].gap if i.id in by_id else np.nan for i in items])
    for tenths in range(-90, 91):
        split = split_by_gap(items, verdicts, tenths / 10)
        assert count_labels(gaps, tenths / 10) == {name: len(part) for name, part in split._asdict().items()}


def test_tau_explorer_follows_the_slider_and_forgives_its_float_steps() -> None:
    items, _, _, verdicts = a_pool()
    explorer = explore.tau_explorer(items, verdicts)
    assert "<b>13</b> ▲ hard" in explorer.regions["counts"]
    assert "Move τ" in explorer.regions["moved"]
    explorer.act("tau", str(1.1 + 0.1))  # 1.2000000000000002, and five gaps are 1.2
    assert explorer.tau == 1.2
    assert "<b>13</b> ▲ hard" in explorer.regions["counts"]
    assert "τ = 1.2<" in explorer.regions["counts"]
    explorer.act("tau", "1.3")
    for text in ("<b>8</b> ▲ hard", "<b>15</b> ● easy", "<b>2</b> ? undecided", "of 25 instructions"):
        assert text in explorer.regions["counts"]
    assert "5 move from hard to easy between τ = 1 and τ = 1.3" in explorer.regions["moved"]
    for n in (2, 7, 12, 17, 22):
        assert f"<td>Task {n}</tr>" in explorer.regions["moved"]
    explorer.act("tau", "-9")
    assert "10 move from easy to hard" in explorer.regions["moved"]
    fine(explorer)
    with pytest.raises(LionkitError, match="between -9 and 9"):
        explore.tau_explorer(items, verdicts, tau=9.5)


def test_both_explorers_count_as_the_split_does_at_every_step() -> None:
    items, teacher, student, verdicts = a_pool()
    explorer, browser = explore.tau_explorer(items, verdicts), explore.pool_browser(items, teacher, student, verdicts)
    browser.act("with_undecided", True)
    for tenths in range(-10, 73):
        tau = tenths * 0.1  # as unround as a slider's
        split = split_by_gap(items, verdicts, tenths / 10)
        explorer.act("tau", str(tau))
        browser.act("tau", tau)
        for label, part in split._asdict().items():
            assert f"<b>{len(part)}</b> {'▲●?'[pool_module.LABELS.index(label)]} {label}" in explorer.regions["counts"]
            assert f"{len(part)} {label}" in browser.regions["counts"]
            assert title(browser, label).endswith(f"{label}: {len(part)}")
    fine(explorer)
    fine(browser)


def test_gaps_are_those_of_the_verdicts() -> None:
    items, teacher, student, verdicts = a_pool()
    uneven = Verdict("i0", Judgement(9, 4, ""), Judgement(8.5, 5, ""))
    source = Source(Judged(items, teacher, student, [*verdicts[1:], uneven]))
    found = {item.id: gap for item, gap in zip(items, source.gap)}
    assert found["i0"] == 4.25
    for verdict in verdicts[1:]:
        assert found[verdict.instruction_id] == verdict.gap or not verdict.scored
    assert np.isnan([found["i23"], found["i24"]]).all()


@pytest.mark.parametrize("tau", [1.0, 1.3, -1.0, 7.0, 7.1])
def test_the_histograms_bars_sum_to_the_decided_pairs_and_tau_is_an_edge(tau: float) -> None:
    items, teacher, student, verdicts = a_pool()
    gaps = Source(Judged(items, teacher, student, verdicts)).gap
    svg = tau_module.histogram(gaps, tau)
    bars = re.findall(r"<rect class='(\w+)' x='([\d.]+)'[^>]*><title>(\S+) to (\S+): (\d+)</title>", svg)
    by_side = {label: sum(int(bar[4]) for bar in bars if bar[0] == label) for label in ("hard", "easy")}
    counts = count_labels(gaps, tau)
    assert by_side == {label: counts[label] for label in ("hard", "easy")}
    edges = [float(bar[2]) for bar in bars] + [float(bars[-1][3])]
    assert tau in edges
    assert np.allclose(np.diff(edges), 0.5)
    (line,) = re.findall(r"<path d='M([\d.]+) ", svg)
    starts = [float(x) - 1 for side, x, *_ in bars if side == "hard"]
    assert abs(min(starts, default=640) - float(line)) < 0.2
    assert svg.count("<svg") == 1
    assert f"aria-label='histogram of gaps with a line at τ = {tau:g}'" in svg


def test_gaps_beyond_nine_of_foreign_files_widen_the_slider() -> None:
    items = [Instruction(f"Task {n}", id=f"i{n}") for n in range(3)]
    verdicts = [judged("i0", 95.0, 12.5), judged("i1", 10.0, 60.0), judged("i2", 50.0, 50.0)]
    explorer = explore.tau_explorer(items, verdicts)
    (limits,) = re.findall(r"min='(\S+)' max='(\S+)' step='0.1' value='1'", explorer.regions["controls"])
    assert limits == ("-50", "83")
    explorer.act("tau", "82.5")
    assert "<b>1</b> ▲ hard" in explorer.regions["counts"]
    for end in ("83", "82.6"):  # the slider's last steps are beyond every gap
        explorer.act("tau", end)
        assert "<b>0</b> ▲ hard" in explorer.regions["counts"]
    fine(explorer)
    assert explore.tau_explorer(items, verdicts, tau=60.0).tau == 60
    with pytest.raises(LionkitError, match="tau = 84.0: gaps lie between -50 and 83"):
        explore.tau_explorer(items, verdicts, tau=84.0)


@pytest.mark.parametrize("far", [1e9, "-1e9", "nan", "inf", "far"])
def test_a_tau_that_cannot_be_drawn_is_said_and_not_kept(far: Any) -> None:
    items, teacher, student, verdicts = a_pool()
    alone, leading = explore.pool_browser(items, teacher, student, verdicts), explore.tau_explorer(items, verdicts)
    following = explore.pool_browser(items, teacher, student, verdicts, follow=leading)
    for explorer in (alone, leading, following):
        before = {name: html for name, html in explorer.regions.items() if name != "message"}
        explorer.act("tau", far)
        assert "role='alert'>tau = " in explorer.regions["message"] or far == "far"
        assert {name: html for name, html in explorer.regions.items() if name != "message"} == before
    assert alone.tau == leading.tau == following.tau == 1.0
    for explorer in (alone, following):
        explorer.act("search", "1")
        fine(explorer)


def test_tau_explorer_and_browser_share_tau_both_ways() -> None:
    items, teacher, student, verdicts = a_pool()
    explorer = explore.tau_explorer(items, verdicts)
    explorer.act("tau", "1.3")
    browser = explore.pool_browser(items, teacher, student, verdicts, follow=explorer)
    assert browser.tau == 1.3
    assert "8 hard, 15 easy, 2 undecided at τ = 1.3" in browser.regions["counts"]
    assert "data-on='tau'" not in browser.regions["controls"]
    explorer.act("tau", "3")
    assert title(browser, "hard").endswith("hard: 4")
    browser.act("tau", "2")
    assert explorer.tau == 2
    assert "<b>8</b> ▲ hard" in explorer.regions["counts"]
    assert re.search("data-on='tau'[^>]*value='2'", explorer.regions["controls"])
    other = explore.pool_browser(items, teacher, student, verdicts)
    assert "data-on='tau'" in other.regions["controls"]
    assert other.tau == 1


# The browser


def test_search_of_words_and_phrases_over_everything_in_any_case() -> None:
    items, teacher, student, verdicts = a_pool()
    items[3] = Instruction("Übersetze STRASSE", "an Input here", id="i3", category="c1")
    items[8] = Instruction("Task 8", id="i8", category="Rare Topic")
    verdicts[5] = judged("i5", 9.0, 2.0, "Assistant 1 is more Thorough")
    browser = explore.pool_browser(items, teacher, student, verdicts)
    browser.act("with_undecided", True)
    for search, found in {
        "straße": {3},
        "INPUT": {3},
        "WEAK 11": {11},  # both words, wherever they stand
        '"weak answer 11"': {11},
        '"11 weak"': set(),
        '"GOOD answer 2" task': {2, *range(20, 25)},
        "thorough": {5},
        "rare": {8},
        '"rare topic" good': {8},
        "i17": {17},
        ".*": set(),
        "  ": set(range(25)),
        "answer": set(range(25)),
    }.items():
        browser.act("search", search)
        fine(browser)
        counted = [title(browser, label).split(": ")[1] for label in pool_module.LABELS]
        assert sum(int(text.split(" of ")[0]) for text in counted) == len(found), search
        if 0 < len(found) < 10:
            shown = {text for label in pool_module.LABELS for text in rows(browser, label)}
            assert shown == {" ".join(items[n].text.split()) for n in found}, search
        if not found:
            assert browser.regions["record"] == "<h4>Nothing matches.</h4>"
    browser.act("search", '"task 11" REPLY')
    assert "<mark>Task 11</mark>" in browser.regions["lists"]
    assert "<mark>Task 11</mark>" in browser.regions["record"]
    assert "a <mark>reply</mark> again" in browser.regions["record"]
    browser.act("search", "TASK")
    assert "<mark>Task</mark> " in browser.regions["lists"]
    assert "<mark>Task</mark> " in browser.regions["record"]
    assert words('one "two Words"  THREE') == ["one", "two words", "three"]


def test_a_phrase_that_is_being_typed_never_empties_the_list() -> None:
    browser = explore.pool_browser(*a_pool())
    browser.act("with_undecided", True)
    phrase = '"task 11" answer'
    for end in range(len(phrase) + 1):
        browser.act("search", phrase[:end])
        fine(browser)
        assert "Task 11" in {text for label in pool_module.LABELS for text in rows(browser, label)} or end < 8, end
        assert browser.regions["record"] != "<h4>Nothing matches.</h4>", phrase[:end]
    assert words('one "two Wo') == ["one", "two wo"]
    assert words('"') == words('""') == words(' " ') == []
    assert words('5" tall') == ['5"', "tall"]


def test_hits_are_marked_and_stay_inert() -> None:
    assert hits("<b>bold</b> & <B>", ["<b>"]) == "<mark>&lt;b&gt;</mark>bold&lt;/b&gt; &amp; <mark>&lt;B&gt;</mark>"
    assert hits("a&lt;b", ["lt"]) == "a&amp;<mark>lt</mark>;b"
    assert hits("Straße", words("STRASSE")) == "<mark>Straße</mark>"
    assert hits("x.y xzy", ["x.y"]) == "<mark>x.y</mark> xzy"
    assert hits("newer new", ["new", "newer"]) == "<mark>newer</mark> <mark>new</mark>"
    assert hits("a\x1b<i>", []) == "a⟨U+001B⟩&lt;i&gt;"
    items = [Instruction("say <script>owned=1</script>", id="a")]
    responses = [Response("a", "<script>owned=1</script>")]
    browser = explore.pool_browser(items, responses, responses, [judged("a", 9.0, 2.0)])
    for search in ("<script>", "script", "</script>", '"<script>owned=1"', "lt", "'>\"<", "&"):
        browser.act("search", search)
        fine(browser)
        assert "script" not in Elements(browser.html()).names


def test_differences_of_answers_are_marked_and_nothing_is_lost() -> None:
    first, second = "The cat sat\n on  the mat.", "The dog sat\n on the mat, <b>happily</b>."
    cut = pieces(first, second)
    assert tuple("".join(text for text, _ in side) for side in cut) == (first, second)
    assert [text for text, other in cut[0] if other and text.strip()] == ["cat", "mat."]
    items, answers = [Instruction("Where?", id="a")], ([Response("a", first)], [Response("a", second)])
    browser = explore.pool_browser(items, *answers, [judged("a", 9.0, 2.0)])
    record = browser.regions["record"]
    assert "<ins>cat</ins>" in record
    assert "<del>dog</del>" in record
    assert "<del>mat, &lt;b&gt;happily&lt;/b&gt;.</del>" in record
    for text in (first, second):
        shown = (unescape(re.sub("<.*?>", "", each)) for each in re.findall("<pre[^>]*>\n(.*?)</pre>", record, re.S))
        assert text in shown
    browser.act("search", "happily")
    assert "&lt;b&gt;<mark>happily</mark>&lt;/b&gt;" in browser.regions["record"]
    alone = explore.show_instruction("a", items, answers[0], [], []).html
    assert "<ins>" not in alone  # nothing to differ from
    assert pieces("", "b") == ([("", False)], [("b", False)])
    long = "word " * MOST
    assert pieces(long, "word") == ([(long, False)], [("word", False)])


def step(value: Any, place: int | None, total: int) -> int | None:
    listing = Listing("list")
    listing.fill(range(total), place)
    listing.step(value)
    assert listing.at is None or listing.first <= listing.at < listing.first + listing.size
    return listing.at


def test_steps_stay_within_a_list() -> None:
    for total in (1, 25):
        assert [step(move, 0, total) for move in ("-1", "-page", "first")] == [0, 0, 0]
        assert [step(move, total - 1, total) for move in ("+1", "+page", "last")] == [total - 1] * 3
        assert step("99", 0, total) == total - 1
    assert [step(move, 12, 25) for move in ("+1", "-1", "+page", "-page", "7", 7)] == [13, 11, 22, 2, 7, 7]
    assert [step(move, None, 25) for move in ("+1", "-1", "last", "+page", "3")] == [0, 0, 24, 10, 3]
    assert {step(move, None, 0) for move in ("+1", "-1", "first", "last", "+page", "-page", "0")} == {None}


def test_the_browser_pages_chooses_and_steps() -> None:
    items, teacher, student, verdicts = a_pool(1_000)
    browser = explore.pool_browser(items, teacher, student, verdicts)
    assert title(browser, "hard") == "▲ hard: 598"
    assert title(browser, "easy") == "● easy: 400"
    assert "? undecided" not in browser.regions["lists"]
    assert len(rows(browser, "hard")) == len(rows(browser, "easy")) == 10
    assert rows(browser, "hard")[0] == "Task 4"
    assert chosen(browser) == [("hard", 0)]
    assert "good answer 4" in Elements(browser.regions["record"]).text
    browser.act("hard", "11")
    assert chosen(browser) == [("hard", 11)]
    assert "good answer 59Student" in Elements(browser.regions["record"]).text
    assert "11 to 20 of 598" in browser.regions["lists"]
    browser.act("hard", "+page")
    assert chosen(browser) == [("hard", 21)]
    browser.act("hard", "last")
    assert chosen(browser) == [("hard", 597)]
    assert "591 to 598 of 598" in browser.regions["lists"]
    before = browser.regions["lists"]
    browser.act("hard", "+1")
    assert browser.regions["lists"] == before
    browser.act("easy", "3")
    assert chosen(browser) == [("easy", 3)]
    assert "● easy" in browser.regions["record"]
    browser.act("easy", "first")
    browser.act("easy", "-1")
    assert chosen(browser) == [("easy", 0)]
    fine(browser)


def test_filters_and_sort() -> None:
    items, teacher, student, verdicts = a_pool(1_000)
    items[999] = Instruction("A much longer text", "with input", id="i999", category="", source="hard", iteration=2)
    browser = explore.pool_browser(items, teacher, student, verdicts)
    assert options(browser, "category") == ["any category", "none (1)", "c0 (500)", "c1 (499)"]
    assert options(browser, "iteration") == ["any iteration", "0 (333)", "1 (333)", "2 (334)"]
    browser.act("search", '"TASK 77"')
    assert title(browser, "hard") == "▲ hard: 7 of 598"
    assert chosen(browser) == [("hard", 0)]
    browser.act("category", "2")
    browser.act("iteration", "1")
    wanted = {f"Task {n}" for n in (77, *range(770, 780)) if n % 2 == 0 and n % 3 == 0}
    assert {text for label in ("hard", "easy") for text in rows(browser, label)} == wanted
    browser.act("category", "0")
    browser.act("iteration", "0")
    browser.act("search", "")
    browser.act("with_undecided", True)
    for order in (True, False):
        browser.act("down", order)
        for place, name in enumerate(pool_module.SORTS):
            browser.act("sort", str(place))
            fine(browser)
            assert options(browser, "sort")[place] == name
    browser.act("sort", "0")
    assert gaps_shown(browser, "hard")[:2] == ["+1.2", "+1.2"]
    assert gaps_shown(browser, "easy")[:2] == ["-1", "-1"]
    browser.act("down", True)
    assert gaps_shown(browser, "hard")[:2] == ["+7", "+7"]
    assert rows(browser, "hard")[:3] == ["Task 4", "Task 9", "Task 14"]  # equal ones as they stand in the pool
    browser.act("sort", str(pool_module.SORTS.index("length")))
    assert rows(browser, "undecided")[0] == "A much longer text with input"
    browser.act("sort", str(pool_module.SORTS.index("student score")))
    browser.act("down", False)
    assert "<b>+7</b><small>9.5 : 2.5</small>" in browser.regions["lists"]
    assert {"i998", "i999"} == {items[n].id for n in browse_all(browser, items, "undecided")}


def browse_all(browser: Explorer, items: list[Instruction], label: str) -> list[int]:
    """Places in the pool of all rows of a list, read off page by page."""
    texts = [" ".join(item.text.split()) for item in items]
    browser.act(label, "first")
    found = rows(browser, label)
    while True:
        browser.act(label, "+page")
        if rows(browser, label)[-1] == found[-1]:
            return [texts.index(text) for text in found]
        found += rows(browser, label)


@pytest.mark.parametrize("down", [True, False])
@pytest.mark.parametrize("sort", pool_module.SORTS)
def test_undecided_ones_come_last_in_both_directions(sort: str, down: bool) -> None:
    items, teacher, student, verdicts = a_pool()
    source = Source(Judged(items, teacher, student, verdicts))
    browser = pool_module._Browser(pool_module.shelf(items, teacher, student, verdicts), None)
    browser.marks = {id: marks.Mark(id, "hard") for id in ("i23", "i24")}  # undecided, but a reader says hard
    browser.set("sort", pool_module.SORTS.index(sort))
    browser.set("down", down)
    places = browser.lists["hard"].rows
    lengths = np.array([len(item.instruction) + len(item.input) for item in items], dtype=float)
    keys = {"gap": source.gap, "teacher score": source.scores["teacher"], "student score": source.scores["student"]}
    keys |= {"length": lengths, "iteration": source.values["iteration"].astype(float)}
    values = keys[sort][places]
    decided = values[~np.isnan(values)]
    assert list(decided) == sorted(decided, reverse=down)
    assert np.isnan(values[len(decided) :]).all()
    assert len(decided) == len(values) - 2 * (sort in ("gap", "teacher score", "student score"))


def test_a_listing_tells_assistive_technology_where_it_is() -> None:
    browser = explore.pool_browser(*a_pool(100))
    for on, value in (("hard", "0"), ("hard", "last"), ("easy", "13"), ("search", "Task 9"), ("search", "nowhere")):
        browser.act(on, value)
        page = Elements(browser.html())
        boxes = [each for each in page.values if each.get("role") == "listbox"]
        entries = {each["id"]: each for each in page.values if each.get("role") == "option"}
        assert len(boxes) == 2
        assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)
        active = [box["aria-activedescendant"] for box in boxes if "aria-activedescendant" in box]
        assert active == [id for id, entry in entries.items() if entry["aria-selected"] == "true"]
        assert len(active) == (value != "nowhere")
        for entry in entries.values():
            assert 1 <= int(entry["aria-posinset"] or 0) <= int(entry["aria-setsize"] or 0)
            assert int(entry["data-value"] or -1) + 1 == int(entry["aria-posinset"] or 0)
    ids = [each["id"] for each in Elements(browser.html()).values if "id" in each]
    assert len(ids) == len(set(ids))


def test_equal_neighbours_are_told_apart() -> None:
    items = [Instruction("Same text", id=f"i{n}") for n in range(30)]
    responses = [Response(f"i{n}", f"answer {n}.") for n in range(30)]
    browser = explore.pool_browser(items, responses, responses, [judged(f"i{n}", 9.0, 5.0) for n in range(30)])
    for place in (1, 11, 21, 1, 0):
        browser.act("hard", str(place))
        assert f"answer {place}." in browser.regions["record"]
        assert chosen(browser) == [("hard", place)]


# A run, its iterations and its marks


def test_iterations_of_a_run_are_chosen(finished: Run) -> None:
    for explorer in (explore.tau_explorer(finished), explore.pool_browser(finished)):
        names = options(explorer, "pool")
        assert len(names) > 1
        assert f"<option value='{len(names) - 1}' selected>{names[-1]}<" in explorer.regions["controls"]
        for place, name in reversed([*enumerate(names)]):
            explorer.act("pool", str(place))
            fine(explorer)
            judged = reading.read_discrimination(finished, int(name.split()[-1]))
            split = split_by_gap(judged.instructions, judged.verdicts, finished.config.tau)
            shown = Elements(explorer.regions["counts"]).text
            for label, part in split._asdict().items():
                assert re.search(rf"(?<!\d){len(part)} (. )?{label}", shown), (shown, label)
            assert f"<option value='{place}' selected>{name}<" in explorer.regions["controls"]
    with pytest.raises(LionkitError, match="nothing was judged yet in new"):
        explore.pool_browser(open_run("new", preset="smoke"))


def test_marks_are_kept_in_the_run_and_shown(finished: Run) -> None:
    browser = explore.pool_browser(finished)
    source = reading.read_discrimination(finished, int(options(browser, "pool")[-1].split()[-1]))
    side = "hard" if rows(browser, "hard") else "easy"
    (id,) = re.findall("name='id' value='([^']*)'", browser.regions["record"])
    assert id in {item.id for item in source.instructions}
    before = int(title(browser, side).split()[-1])
    other = {"hard": "easy", "easy": "hard"}[side]
    browser.act("mark", {"id": id, "label": other, "tags": "odd <b>", "note": "see </script><script>x"})
    fine(browser)
    (kept,) = read_jsonl(finished.path / "marks.jsonl", marks.Mark)
    assert (kept.instruction_id, kept.label, kept.tags, kept.note) == (id, other, "odd <b>", "see </script><script>x")
    fresh = explore.pool_browser(finished)
    assert title(fresh, side).endswith(f"{side}: {before - 1}")
    fresh.act("search", id)
    fresh.act("marked_only", True)
    assert rows(fresh, side) == []
    for explorer, shown_in in ((browser, other), (fresh, other)):
        (flagged,) = [text for text in rows(explorer, shown_in) if "✎" in text]
        assert f"✎ {other} odd <b>" in flagged
        record = Elements(explorer.regions["record"])
        assert f"marked {other}, tags odd <b>, “see </script><script>x” by" in record.text
        assert {"script", "i"}.isdisjoint(record.names)
        assert f"<option value='{other}' selected>" in explorer.regions["record"]
        assert "value='odd &lt;b&gt;'" in explorer.regions["record"]
    assert title(browser, side).endswith(f"{side}: {before - 1}")
    browser.act("mark", {"id": id, "label": "", "tags": "", "note": ""})
    assert marks.read(finished) == {}
    assert title(explore.pool_browser(finished), side).endswith(f"{side}: {before}")


def test_a_mark_moves_its_instruction_at_once_and_it_stays_chosen(finished: Run) -> None:
    browser = explore.pool_browser(finished)
    side = "hard" if rows(browser, "hard") else "easy"
    other = {"hard": "easy", "easy": "hard"}[side]
    (id,) = re.findall("name='id' value='([^']*)'", browser.regions["record"])
    counted = {label: int(n) for n, label in re.findall(r"(\d+) (\w+)", browser.regions["counts"])[:2]}
    browser.act("mark", {"id": id, "label": other, "tags": "", "note": ""})
    fine(browser)
    assert f"{counted[side] - 1} {side}" in browser.regions["counts"]
    assert f"{counted[other] + 1} {other}" in browser.regions["counts"]
    assert title(browser, other).endswith(f"{other}: {counted[other] + 1}")
    [(label, _)] = chosen(browser)
    assert label == other
    assert f"name='id' value='{id}'" in browser.regions["record"]
    browser.act("marked_only", True)
    assert len(rows(browser, other)) == 1
    browser.act("mark", {"id": id, "label": "", "tags": "", "note": ""})  # no longer marked, so listed no more
    assert browser.regions["record"] == "<h4>Nothing matches.</h4>"


def test_a_note_that_nobody_edits_is_stored_as_it_was(finished: Run) -> None:
    id = reading.read_discrimination(finished, 1).instructions[0].id
    note = "\x1b[31m two\nlines \u202e"
    marks.add(finished, [id], tags="a\u200bb", note=note)
    browser = explore.pool_browser(finished)
    browser.act("search", id)
    form = {each.get("name"): each.get("value") for each in Elements(browser.regions["record"]).values}
    assert form["note"] == "⟨U+001B⟩[31m two lines ⟨U+202E⟩"
    browser.act("mark", {"id": id, "label": "drop", "tags": form["tags"], "note": form["note"]})
    fine(browser)
    kept = marks.read(finished)[id]
    assert (kept.label, kept.tags, kept.note) == ("drop", "a\u200bb", note)
    browser.act("mark", {"id": id, "label": "drop", "tags": "c", "note": "edited"})
    kept = marks.read(finished)[id]
    assert (kept.label, kept.tags, kept.note) == ("drop", "c", "edited")


def test_marks_that_are_wrong_or_have_no_run_are_told(finished: Run) -> None:
    browser = explore.pool_browser(finished)
    browser.act("mark", {"id": "x", "label": "superb", "tags": "", "note": ""})
    assert "a mark&#x27;s label is hard, easy, drop or empty" in browser.regions["message"]
    assert not (finished.path / "marks.jsonl").exists()
    loose = explore.pool_browser(*a_pool())
    assert "<form" not in loose.html()
    loose.act("mark", {"id": "i0", "label": "hard", "tags": "", "note": ""})
    assert "marks are kept in a run" in loose.regions["message"]
    assert "traceback" not in loose.regions["message"]


def test_the_panel_plans_with_settings_and_keeps_them_where_it_is_asked_to(finished: Run) -> None:
    panel = explore.run_panel(finished)
    before = panel.regions["plan"]
    assert before.count("<td>no price</td>") == 3
    panel.act("iterations", "4")
    fine(panel)
    assert panel.regions["plan"] != before
    panel.act("api.concurrency", "0")
    assert "api.concurrency = 0" in panel.regions["message"]
    panel.act("api.concurrency", "3")  # what could not be is forgotten
    panel.act("iterations", "2")
    fine(panel)
    assert panel.regions["plan"] == before
    assert saved("r").config.api.concurrency == finished.config.api.concurrency != 3
    panel.act("take")
    fine(panel)
    assert saved("r").config.api.concurrency == 3


def test_a_neighbourhood_of_the_map_is_stepped_through_and_tagged(finished: Run) -> None:
    shown = explore.pool_map(finished)
    shown.act("kinds", "+1")
    assert chosen(shown) == [("kinds", 0), ("list", 0)]
    size = int(re.findall("<h4>([0-9]+) chosen", shown.regions["lists"])[0])
    shown.act("list", "last")
    assert chosen(shown) == [("kinds", 0), ("list", size - 1)]
    shown.act("tag", {"tag": "odd"})
    fine(shown)
    assert [mark.tags for mark in marks.read(finished).values()] == ["odd"] * size
    shown.act("point", "1")
    assert chosen(shown) == [("list", 0)]
    shown.act("lasso", [[5, 5], [6, 5], [6, 6]])
    assert chosen(shown) == []
    fine(shown)


def test_the_map_follows_marks_and_its_colouring_is_kept(finished: Run) -> None:
    shown = explore.pool_map(finished)
    hard = int(re.findall(r"hard \(([0-9]+)\)", shown.regions["map"])[0])
    source = reading.read_discrimination(finished, 2)
    easy = next(v.instruction_id for v in source.verdicts if v.label(finished.config.tau) == "easy")
    marks.add(finished, [easy], label="hard")
    shown.act("colour", "2")
    assert "<option value='2' selected>category" in shown.regions["controls"]
    shown.act("colour", "0")
    fine(shown)
    assert f"hard ({hard + 1})" in shown.regions["map"]


def test_an_instruction_that_is_its_own_parent_is_a_seed() -> None:
    own = Instruction("Own parent", id="own", parent="own")
    shown = explore.lineage([own, Instruction("Child", id="child", parent="own")])
    assert repr(shown).startswith("lineage: 1 seeds, 1 instructions made from them")
    assert "Own parent" in shown.regions["record"]


def test_pools_with_nothing_in_common_are_not_chosen(finished: Run) -> None:
    pool = reading.read_discrimination(finished, 2)
    with pytest.raises(LionkitError, match="nothing in common|no instruction in common"):
        explore.what_changed(pool, Judged([Instruction("Other", id="other")], [], [], []))


def test_what_changed_and_lineage_search_and_step(finished: Run) -> None:
    for explorer, nothing in ((explore.what_changed(finished), "here"), (explore.lineage(finished), "matches")):
        if nothing == "here":
            explorer.act(
                "group", str(np.argmax([int(n) for n in re.findall("<b>([0-9]+)</b>", explorer.regions["counts"])]))
            )
        explorer.act("list", "last")
        [(_, place)] = chosen(explorer)
        total = int(re.findall("aria-setsize='([0-9]+)'", explorer.regions["lists"])[0])
        assert place == total - 1
        explorer.act("search", "nowhere at all")
        assert "value='nowhere at all'" in explorer.regions["controls"]  # for a page that is opened later
        assert explorer.regions["record"] == f"<h4>Nothing {nothing}.</h4>"
        explorer.act("list", "+1")
        explorer.act("search", "")
        fine(explorer)
        assert chosen(explorer) == [("list", 0)]


# Errors, untrusted text, and pages without a kernel


def test_a_callback_error_is_shown_in_the_page_and_goes_with_the_next_success(monkeypatch: pytest.MonkeyPatch) -> None:
    items, _, _, verdicts = a_pool()
    explorer = explore.tau_explorer(items, verdicts)

    def broken(error: Exception) -> Callable[..., str]:
        def raises(*args: object) -> str:
            raise error

        return raises

    with monkeypatch.context() as patch:
        patch.setattr(tau_module, "histogram", broken(ValueError("no <b>ink</b> left")))
        explorer.act("tau", 2.0)
        message = explorer.regions["message"]
        assert "role='alert'>ValueError(&#x27;no &lt;b&gt;ink&lt;/b&gt; left&#x27;)" in message
        assert "<summary>traceback</summary>" in message
        assert "in raises" in message
        patch.setattr(tau_module, "histogram", broken(LionkitError("no <b>pen</b>\x1b")))
        explorer.act("tau", 2.2)
        assert explorer.regions["message"] == (
            "<div class='error' role='alert'>no &lt;b&gt;pen&lt;/b&gt;⟨U+001B⟩</div>"
        )
    explorer.act("tau", 2.5)
    fine(explorer)
    explorer.act("no such control", None)
    assert "KeyError" in explorer.regions["message"]
    explorer.act("tau", "far")
    assert "ValueError" in explorer.regions["message"]


@pytest.mark.parametrize("show", ["browser", "instruction", "tau"])
def test_hostile_text_is_inert_everywhere(show: str) -> None:
    name = HOSTILE.replace("\ud800", "")
    item = Instruction(HOSTILE, HOSTILE, id=name, category=HOSTILE, source=HOSTILE, parent=name)
    other = Instruction("plain", id="plain", parent=name)
    answers = [Response(name, HOSTILE, status="truncated", reason=HOSTILE), Response("plain", HOSTILE)]
    verdicts = [judged(name, 9.0, 2.0, HOSTILE), Verdict("plain", Judgement(None, None, HOSTILE, HOSTILE))]
    pool = ([item, other], answers, answers, verdicts)
    shown: list[tuple[str, str]] = []
    if show in ("browser", "tau"):
        explorer = explore.pool_browser(*pool) if show == "browser" else explore.tau_explorer(pool[0], verdicts)
        acts: list[tuple[str, Any]] = [("tau", 8.0), ("tau", 1.0)]
        if show == "browser":
            acts += [
                ("with_undecided", True),
                ("undecided", "last"),
                ("hard", "0"),
                ("search", "script"),
                ("search", HOSTILE),
            ]
            acts += [("search", "<script>"), ("category", "1"), ("source", HOSTILE), ("source", "0"), ("search", "")]
        for on, value in [("", None), *acts]:
            explorer.act(on, value)
            bundle = explorer._repr_mimebundle_()
            json.dumps(explorer.regions, ensure_ascii=False).encode("utf-8")
            shown += [(html, bundle["text/plain"]) for html in (bundle["text/html"], *explorer.regions.values())]
            assert "script" not in explorer.get_state().get("page", "")
    else:
        found = explore.show_instruction(name, *pool)
        shown.append((found.html, repr(found)))
    for html, plain in shown:
        elements = Elements(html)
        assert set(elements.names).isdisjoint({"script", "img", "iframe"})
        assert not [name for name in elements.attributes if name.startswith("on")]
        assert elements.attributes.isdisjoint({"src", "srcdoc", "href"})
        for text in (html, plain):
            assert not any(c in text for c in "\x1b\x07\x00\u202e\u2066\ud800")
    whole = [Elements(html).text for html, _ in shown]
    assert any("<script>owned=1</script>" in text for text in whole)  # shown as it was written
    if show in ("browser", "instruction"):
        assert any("</iframe>&lt;b&gt;" in text for text in whole)
    assert any("⟨U+001B⟩[31m" in html for html, _ in shown)


def test_huge_texts_are_cut_with_a_note_and_layout_survives() -> None:
    note = "<small>Shortened: the first 20,000 of 1,000,000 characters.</small>"
    huge = "x" * 1_000_000
    for shown in (block(huge), written([(huge[:LIMIT], False)], length=len(huge))):
        assert len(shown) < LIMIT + 500
        assert shown.endswith(note)
    assert block("\n a\r\n\tb ") == written([("\n a\r\n\tb ", False)]) == "<pre dir='auto'>\n\n a\n\tb </pre>"
    assert visible("été 日本 עברית 👩‍👧 a\tb") == "été 日本 עברית 👩‍👧 a\tb"
    answers = [Response("a", huge)]
    browser = explore.pool_browser([Instruction(huge, id="a")], answers, answers, [judged("a", 9.0, 2.0, huge)])
    assert browser.regions["record"].count(note) == 4
    assert len(browser.html()) < 6 * LIMIT


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


@pytest.mark.parametrize("variable", ["", "VSCODE_PID"])
def test_a_saved_explorer_is_a_page_and_a_line_with_its_counts(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VSCODE_PID", "VSCODE_CWD"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "1")
    pool = a_pool()
    for explorer, name in (
        (explore.tau_explorer(pool[0], pool[3]), "τ explorer"),
        (explore.pool_browser(*pool), "pool browser"),
    ):
        bundle = explorer._repr_mimebundle_()
        counts = "13 hard, 10 easy, 2 undecided at τ = 1"
        assert bundle["text/plain"] == f"{name}: {counts}. Run this cell in JupyterLab to use it."
        assert bundle["text/html"] == explorer.html()
        assert set(bundle) == {"text/html", "text/plain"} | ({VIEW_MIME} if variable else set())
        assert explorer.page == (explorer.html() if variable else "")


def test_a_page_without_a_kernel_can_be_read() -> None:
    browser = explore.pool_browser(*a_pool())
    html, page = browser.html(), Elements(browser.html())
    for text in ("▲ hard: 13", "● easy: 10", "Task 4", "Task 0", "good answer 4", "weak answer 4", "a reply again"):
        assert text in page.text
    assert "Run this cell in JupyterLab" in page.text
    assert "&:not(.live) :is(.controls, form, canvas, .wakes) { display: none; }" in html
    assert "class='lk " in html
    assert "live" not in re.search("<div class='(lk [^']*)'", html)[1].split()  # type: ignore[index]
    asleep = re.sub("<div class='controls.*?</div>|<form.*?</form>", "", html, flags=re.DOTALL)
    assert {"input", "select", "button", "form"}.isdisjoint(Elements(asleep).names)  # all of them are hidden asleep
    for text in ("Task 4", "good answer 4", "a reply again"):
        assert text in Elements(asleep).text
    assert not re.search(r"https?://|url\(|@import", html)


def test_pages_opened_later_hold_the_controls_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    browser = explore.pool_browser(*a_pool())
    sent: list[Any] = []
    monkeypatch.setattr(browser, "send", lambda content, buffers=None: sent.append(content))
    browser.act("search", 'task "2"')
    assert "controls" not in sent[-1]["regions"]  # what a reader types in is left alone
    browser.act("tau", "1.5")
    browser.act("category", "1")
    browser.act("down", False)
    browser._receive(None, {"on": "open", "value": None, "from": 0.5}, [])
    controls = sent[-2]["regions"]["controls"]
    assert sent[-1] == {"answered": 0.5}
    assert "data-on='search' value='task &quot;2&quot;'" in controls
    assert re.search("data-on='tau'[^>]* value='1.5'", controls)
    assert "<option value='1' selected>c0" in controls
    assert "data-on='down'>" in controls
    items, _, _, verdicts = a_pool()
    explorer = explore.tau_explorer(items, verdicts)
    explorer.act("tau", "2.5")
    assert re.search("data-on='tau'[^>]* value='2.5'", explorer.html())


def test_an_empty_pool_opens() -> None:
    explorer, browser = explore.tau_explorer([], []), explore.pool_browser([], [], [], [])
    assert "<b>0</b> ▲ hard" in explorer.regions["counts"]
    assert "Nothing matches" in browser.regions["record"]
    for on, value in (
        ("hard", "+1"),
        ("easy", "last"),
        ("with_undecided", True),
        ("search", "x"),
        ("sort", "3"),
        ("tau", 2),
    ):
        browser.act(on, value)
        fine(browser)
        assert "aria-activedescendant" not in browser.html()
    explorer.act("tau", "-1")
    fine(explorer)


def test_records_that_are_missing_are_shown_as_missing() -> None:
    items, teacher, _, verdicts = a_pool()
    browser = explore.pool_browser(items, teacher, [], verdicts)
    assert "Student&#x27;s response · score 2.5 · missing" in browser.regions["record"]
    browser.act("with_undecided", True)
    browser.act("search", "i24")
    assert "not judged" in browser.regions["record"]
    fine(browser)


def test_real_reviews(shared_data: Path) -> None:
    folder = shared_data / "vicuna80"
    verdicts = pools.read_fastchat_reviews(
        folder / "review_gpt35_vicuna-13b.jsonl", folder / "answer_gpt35.jsonl", folder / "answer_vicuna-13b.jsonl",
        folder / "question.jsonl",
    )  # fmt: skip
    items = [Instruction(v.instruction_id, id=v.instruction_id) for v in verdicts]
    assert repr(explore.tau_explorer(items, verdicts)).startswith("τ explorer: 27 hard, 53 easy, 0 undecided")
    browser = explore.pool_browser(items, [], [], verdicts)
    assert (title(browser, "hard"), title(browser, "easy")) == ("▲ hard: 27", "● easy: 53")
