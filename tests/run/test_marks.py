"""Readers' marks: kept whole, honoured by the next generation where the run says so, and by exports."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rote
from lionkit import generator, loop, pools
from lionkit.__main__ import app
from lionkit.errors import ConfigError, DataError, LionkitError
from lionkit.pools import Split
from lionkit.records import Instruction, read_jsonl
from lionkit.run import Run, marks, saved
from lionkit.run.marks import Mark

HOSTILE = "</script><img src=x onerror=alert(1)>\x00\u2028\u202e{{7*7}}\ud800"


def sides(run: Run, iteration: int = 1) -> Split:
    found = loop.read_discrimination(run, iteration)
    return pools.split_by_gap(found.instructions, found.verdicts, run.config.tau)


def ids(items: list[Instruction]) -> list[str]:
    return [item.id for item in items]


def seeds(run: Run) -> dict[str, set[str]]:
    """The seeds that the generation of iteration 1 was made from, by side."""
    _, candidates = loop.generate(run, rote.roles(run), 1)
    return {kind: {c.seed_id for c in candidates if c.kind == kind} for kind in ("hard", "easy")}


@pytest.fixture
def marked(finished: Run) -> tuple[Run, Split]:
    """A run in which one easy instruction is to be hard and all hard ones are to be dropped; and its split by gap."""
    split = sides(finished)
    assert len(split.hard) > 2
    assert len(split.easy) > 2
    marks.add(finished, ids(split.easy[:1]), label="hard")
    marks.add(finished, ids(split.hard), label="drop")
    return finished, split


def test_marks_choose_the_seeds_of_the_next_generation_where_the_run_says_so(marked: tuple[Run, Split]) -> None:
    run, split = marked
    used = run.fork("with", "1:discrimination", use_marks=True, short_generation=True)
    found = seeds(used)
    assert found["hard"] == {split.easy[0].id}
    assert found["easy"] <= set(ids(split.easy[1:]))
    assert used.result(1, "generation")["marked"] == len(split.hard) + 1
    assert read_jsonl(used.folder(1, "generation") / "marks.jsonl", Mark) == [*marks.read(run).values()]
    other = run.fork("without", "1:discrimination")
    assert seeds(other)["hard"] <= set(ids(split.hard))
    assert "marked" not in other.result(1, "generation")
    assert not (other.folder(1, "generation") / "marks.jsonl").exists()


@pytest.mark.parametrize("by", ["gap", "random", "frontier", "none"])
def test_what_is_dropped_seeds_nothing_and_is_not_replayed_but_stays_in_the_cache_pool(finished: Run, by: str) -> None:
    dropped = {id for side in sides(finished)[:2] for id in ids(side)[:-3]}
    marks.add(finished, dropped, label="drop")
    how: dict[str, Any] = {"seeds_by": by, "replay_share": 0.5, "use_marks": True, "short_generation": True}
    run = finished.fork("two", "1:discrimination", **how)
    found = seeds(run)
    assert not (found["hard"] | found["easy"]) & dropped
    train, cache = loop.pools_for(run, 2)
    assert run.result(1, "generation")["replayed"]
    assert not set(ids(train)) & dropped
    assert dropped <= set(ids(cache))


def test_an_undecided_one_that_is_marked_hard_has_a_place_in_every_choice() -> None:
    item = Instruction("what nobody could score")
    split = marks.honoured(Split([], [], [item]), {item.id: Mark(item.id, "hard")})
    for by in ("gap", "random", "frontier"):
        assert generator.seeds.choose(split, [], by).hard == [item]


def test_a_stage_cut_short_goes_on_with_the_marks_it_began_with(
    marked: tuple[Run, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = marked[0].fork("two", "1:discrimination", use_marks=True, short_generation=True)
    with monkeypatch.context() as patch:
        patch.setattr(pools, "grow", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            loop.generate(run, rote.roles(run), 1)
    before = marks.read(run)
    marks.add(run, ids(marked[1].hard), label="")
    asked = rote.Asked(run)
    loop.generate(run, asked.roles, 1)
    assert asked.texts == []
    assert run.result(1, "generation")["marked"] == len(before)
    marks.add(run, ids(marked[1].easy), label="drop")
    loop.generate(run, asked.roles, 1)  # finished: later marks are for the next
    assert asked.texts == []


def test_a_fork_takes_the_marks_along_and_each_run_has_its_own_from_then_on(marked: tuple[Run, Split]) -> None:
    run, split = marked
    for name, after in (("two", "1"), ("three", "start")):
        forked = run.fork(name, after)
        assert marks.read(forked) == marks.read(run)
    marks.add(forked, ids(split.easy[:1]), label="easy")
    assert marks.read(run)[split.easy[0].id].label == "hard"


def test_a_finished_generation_refuses_use_marks_with_both_ways(finished: Run) -> None:
    with pytest.raises(ConfigError, match=r"--after 1:discrimination use_marks=true`.*--from-here use_marks=true`"):
        finished.change(use_marks=True)
    run = finished.change(use_marks=True, from_here=True)
    loop.run_all(run, rote.roles(run))
    assert "marked" not in run.result(1, "generation")


def test_honoured_moves_drops_and_loses_nothing_else() -> None:
    h, e, u = ([Instruction(f"{side} {n}") for n in range(4)] for side in ("hard", "easy", "undecided"))
    said = {h[1]: "easy", h[2]: "drop", e[0]: "hard", u[3]: "easy", u[0]: "", e[1]: "easy"}
    split = marks.honoured(Split(h, e, u), {item.id: Mark(item.id, label, "tag") for item, label in said.items()})
    assert split == Split([h[0], h[3], e[0]], [h[1], e[1], e[2], e[3], u[3]], u[:3])
    assert marks.honoured(Split(h, e, u), {}) == Split(h, e, u)


def test_what_is_not_given_stays_and_an_empty_mark_takes_back(finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIONKIT_USER", "Ada")
    one, other = ids(sides(finished).easy[:2])
    marks.add(finished, [one, other], label="hard", tags="one two")
    marks.add(finished, one, note="see b", add_tag="two three")
    found = marks.read(finished)[one]
    assert (found.label, found.tags, found.note, found.by) == ("hard", "one two three", "see b", "Ada")
    assert found.at.endswith("Z")
    marks.add(finished, [one], label="", tags="", note="")
    assert list(marks.read(finished)) == [other]
    assert len(read_jsonl(finished.path / "marks.jsonl", Mark)) == 4  # none is lost


@pytest.mark.parametrize(
    ("marked", "said", "words"),
    [
        (None, {"label": "undecided"}, "a mark's label is hard, easy, drop or empty, not 'undecided'"),
        (None, {"label": ["hard"]}, "a mark's label is hard"),
        (None, {"note": 5}, "a mark's note is a text, not 5"),
        (None, {"tags": ["a"]}, r"a mark's tags is a text, not \['a'\]"),
        (None, {"add_tag": 5}, "a mark's add_tag is a text"),
        ("0320fa", {"label": "hard"}, r"r has no instruction '0320fa' \(1 of 1 ids\): give ids of its cache pool"),
        (["x", 5, ["y"]], {"label": "hard"}, r"r has no instruction 'x' \(3 of 3 ids\)"),
    ],
)
def test_what_marks_nothing_is_refused_and_writes_nothing(
    finished: Run, marked: Any, said: dict[str, Any], words: str
) -> None:
    with pytest.raises(LionkitError, match=words):
        marks.add(finished, sides(finished).easy[0].id if marked is None else marked, **said)
    assert not (finished.path / "marks.jsonl").exists()


def test_a_mark_can_be_taken_back_where_its_instruction_is_no_more(marked: tuple[Run, Split]) -> None:
    forked = marked[0].fork("two", "start")
    one, other = ids(marked[1].hard[:2])
    marks.add(forked, one, label="")
    assert one not in marks.read(forked)
    assert other in marks.read(forked)
    with pytest.raises(LionkitError, match="two has no instruction"):
        marks.add(forked, ids(marked[1].easy[-1:]), label="hard")


def test_hostile_texts_are_kept_as_they_are(finished: Run) -> None:
    tag = HOSTILE.replace(" ", "").replace("\u2028", "")
    one = sides(finished).easy[0].id
    marks.add(finished, [one], tags=tag, note=HOSTILE)
    marks.add(finished, [one], add_tag="more")
    found = marks.read(finished)[one]
    assert (found.tags, found.note) == (f"{tag} more", HOSTILE)


@pytest.mark.parametrize("line", ["{", '{"instruction_id": "b", "label": "best"}', "[]"])
def test_a_damaged_file_is_named_with_its_line_and_nothing_is_written_over_it(finished: Run, line: str) -> None:
    one, other = ids(sides(finished).easy[:2])
    marks.add(finished, [one], label="easy")
    path = finished.path / "marks.jsonl"
    path.write_text(text := path.read_text() + line + "\n")
    for use in (lambda: marks.read(finished), lambda: marks.add(finished, [other], label="hard")):
        with pytest.raises(DataError, match=r"marks.jsonl, line 2: not a Mark record"):
            use()
    assert path.read_text() == text


def test_what_the_disk_refuses_is_one_line(finished: Run) -> None:
    (finished.path / ".marks.lock").mkdir()
    with pytest.raises(LionkitError, match=r"(cannot|permission to) write .*marks.jsonl"):
        marks.add(finished, ["a"], label="easy")


def test_two_processes_that_mark_at_once_lose_nothing(finished: Run) -> None:
    code = (
        "import sys\nfrom lionkit.run import marks, saved\nrun = saved('r')\n"
        "for id in sys.argv[1:]: marks.add(run, [id], add_tag='x')"
    )
    pool = ids(loop.reading.cache_pool(finished, 1))
    both = [subprocess.Popen([sys.executable, "-c", code, *some]) for some in (pool[:30], pool[30:60])]
    assert [process.wait() for process in both] == [0, 0]
    assert marks.read(finished).keys() == set(pool[:60])


@pytest.fixture
def cli() -> Callable[..., str]:
    def said(*words: str) -> str:
        done = CliRunner().invoke(app, list(words))
        if done.exception:
            raise done.exception
        return done.output

    return said


def test_an_export_is_as_marked_and_says_so(finished: Run, tmp_path: Path, cli: Callable[..., str]) -> None:
    split = sides(finished, 2)
    assert "readers" not in cli("export", str(tmp_path / "out"), "--run", "r")
    marks.add(finished, ids(split.easy[:2]), label="hard")
    marks.add(finished, ids(split.easy[2:3]), label="drop")
    marks.add(finished, ids(split.easy[3:4]), note="says nothing of its side")
    out = cli("export", str(tmp_path / "out"), "--run", "r")
    assert "As readers marked them: 3 instructions, of which 1 are left out (drop)." in out
    hard, easy = (
        [row["id"] for row in json.loads((tmp_path / "out" / f"{s}.json").read_text())] for s in Split._fields[:2]
    )
    assert (hard, easy) == (ids(split.hard) + ids(split.easy[:2]), ids(split.easy[3:]))


def test_a_tag_is_exported_and_the_command_begins_a_run_from_it(
    finished: Run, tmp_path: Path, cli: Callable[..., str]
) -> None:
    split, out = sides(finished, 2), tmp_path / "my lists"
    chosen = split.easy[:12]
    marks.add(finished, ids(chosen), add_tag="../good")
    marks.add(finished, ids(chosen[:1]), label="drop")
    told = cli("export", str(out), "--run", "r", "--tag", "../good")
    assert [path.name for path in out.iterdir()] == ["___good.json"]
    command = shlex.split(told.partition("`python -m lionkit ")[2].partition("`")[0])
    assert command[:5] == ["fork", "r", "r-2", "--after", "start"]
    cli(*command)
    run = saved("r-2")
    train, _ = loop.prepare(run)
    apart = loop.reading.held_out(run)
    assert (len(train), len(apart)) == (9, 2)
    assert {*ids(train), *ids(apart)} == {*ids(chosen[1:])}
    with pytest.raises(LionkitError, match=r"no instruction carries the tag 'bad': tags are ../good"):
        cli("export", str(out), "--run", "r", "--tag", "bad")
