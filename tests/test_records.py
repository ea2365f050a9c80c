"""Records: ids from content, gaps and labels at the boundary, files whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lionkit import files, records
from lionkit.errors import DataError, LionkitError
from lionkit.records import Candidate, Instruction, Judgement, Response, Verdict


def verdict(teacher_first: tuple[float, float] | None, student_first: tuple[float, float] | None) -> Verdict:
    first, second = (Judgement(*pair) if pair else Judgement(None, None, "?", "no score") for pair in
                     (teacher_first, student_first))  # fmt: skip
    return Verdict("x", first, second)


def test_id_depends_on_text_only() -> None:
    assert Instruction("Sort", "b a").id == Instruction("Sort", "b a", output="a b", category="words").id
    assert Instruction("Sort", "b a").id != Instruction("Sort b", "a").id
    assert Instruction("Sort", id="seed_7").id == "seed_7"


@pytest.mark.parametrize(
    ("first", "second", "gap", "label"),
    [
        ((8, 7), (8, 7), 1.0, "hard"),
        ((8.1, 7.1), (8.1, 7.1), 1.0, "hard"),  # 8.1 - 7.1 is below 1 in floating point
        ((8, 7.1), (8, 7.1), 0.9, "easy"),
        ((9, 5), (5, 9), 0.0, "easy"),
        ((7, 8), (7, 8), -1.0, "easy"),
        ((8, 7), None, math.nan, "undecided"),
        (None, None, math.nan, "undecided"),
    ],
)
def test_label_at_tau(first: tuple, second: tuple, gap: float, label: str) -> None:
    found = verdict(first, second)
    assert found.label(1.0) == label
    assert found.gap == gap or (math.isnan(gap) and math.isnan(found.gap))


def test_a_missing_order_is_not_a_gap_of_zero() -> None:
    half = verdict((9, 3), None)
    assert math.isnan(half.gap)
    assert math.isnan(half.teacher_score)
    assert "student first: no score" in half.reason
    one_order = Verdict("x", Judgement(9, 3))
    assert one_order.gap == 6  # foreign files that asked one order only


text = st.text(max_size=40)


@given(st.lists(st.builds(Instruction, text, text, text, source=st.sampled_from(["hard", "easy"]), category=text)))
def test_any_text_survives_the_file(tmp_path_factory: pytest.TempPathFactory, items: list[Instruction]) -> None:
    path = tmp_path_factory.mktemp("r") / "a.jsonl"
    records.write_jsonl(path, items)
    assert records.read_jsonl(path, Instruction) == items


def test_every_kind_round_trips_and_has_no_nan(tmp_path: Path) -> None:
    kinds = {
        Response: [Response("a", "line\n\u2028two", "truncated", "cut")],
        Verdict: [verdict((8, 7), None), Verdict("y", Judgement(1, 10, "r"))],
        Candidate: [
            Candidate("t", "hard", "s", "rejected", "cut"),
            Candidate("t", "easy", "s", "accepted", similarity=0.5),
        ],
    }
    for kind, items in kinds.items():
        records.write_jsonl(tmp_path / "x.jsonl", items)
        assert "NaN" not in (tmp_path / "x.jsonl").read_text()
        again = records.read_jsonl(tmp_path / "x.jsonl", kind)
        assert [dataclasses.asdict(r) for r in again] == [dataclasses.asdict(r) for r in items]


def test_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(dataclasses.asdict(Instruction("a"))) + '\n{"instruction": "b", "colour": 1}\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: .*colour"):
        records.read_jsonl(path, Instruction)
    with pytest.raises(DataError, match="no such file"):
        records.read_jsonl(tmp_path / "b.jsonl", Instruction)
    path.write_bytes(b'{"instruction": "half a pair \xed\xa0\xbd", and more}\n')
    with pytest.raises(DataError, match=r"line 1: not a Instruction record \(Expecting"):
        records.read_jsonl(path, Instruction)


JUDGED = {"teacher": 8, "student": 7.5, "reply": "r", "reason": "", "call_id": ""}


@pytest.mark.parametrize(
    "change",
    [{"teacher_first": {**JUDGED, "teacher": wrong}} for wrong in (math.nan, math.inf, -1, "8", True)]
    + [{"teacher_first": None}, {"teacher_first": 5}, {"student_first": {**JUDGED, "reply": None}},
       {"instruction_id": None}, {"instruction_id": 7}, {"iteration": math.nan}, {"iteration": -1}, {"iteration": "1"}],
)  # fmt: skip
def test_a_verdict_that_would_break_later_is_refused_with_its_line(tmp_path: Path, change: dict) -> None:
    good = {"instruction_id": "x", "teacher_first": JUDGED, "student_first": None, "iteration": 1}
    (tmp_path / "v.jsonl").write_text(json.dumps(good) + "\n" + json.dumps(good | change) + "\n")
    with pytest.raises(DataError, match=r"v\.jsonl, line 2: not a Verdict record"):
        records.read_jsonl(tmp_path / "v.jsonl", Verdict)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    (tmp_path / "deep").write_text("[" * 100_000)
    for path in (tmp_path, "a\0b", tmp_path / "latin", tmp_path / "deep"):
        with pytest.raises(DataError):
            records.read_jsonl(path, Instruction)
    (tmp_path / "status").write_text('{"instruction_id": "x", "text": "t", "status": "fine"}')
    with pytest.raises(DataError, match="status = 'fine'"):
        records.read_jsonl(tmp_path / "status", Response)


def test_full_disk_and_no_permission_leave_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    records.write_jsonl(path, [Instruction("old")])
    for code, words in ((errno.ENOSPC, "disk is full"), (errno.EACCES, "no permission")):

        def fail(fd: int, code: int = code) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(LionkitError, match=words):
            records.write_jsonl(path, [Instruction("new")])
    monkeypatch.undo()
    assert records.read_jsonl(path, Instruction) == [Instruction("old")]
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_folder_is_whole_whatever_a_killed_process_left_beside_it(tmp_path: Path) -> None:
    left = tmp_path / f".out.{os.getpid()}.tmp"  # process ids come again, in containers at once
    left.mkdir()
    with files.whole_folder(tmp_path / "out") as work:
        (work / "a").write_text("a")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [left.name, "out"]


def test_what_the_disk_refuses_a_library_is_said_by_its_number(tmp_path: Path) -> None:
    for said, words in (("I/O error: (os error 28)", "disk is full"), ("(os error 13)", "no permission to write")):
        with pytest.raises(LionkitError, match=words), files.whole_folder(tmp_path / "out"):
            raise RuntimeError(said)
    with pytest.raises(LionkitError, match="no such model: os error 2"), files.whole_folder(tmp_path / "out"):
        raise LionkitError("no such model: os error 2")
    assert list(tmp_path.iterdir()) == []


def test_a_whole_folder_may_be_the_one_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with files.whole_folder(Path()) as work:
        (work / "file").write_text("x")
    assert (tmp_path / "here" / "file").read_text() == "x"
