"""Judge files that exist: FastChat's published totals, the reference implementation's sentinels and failures."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from lionkit import evaluate, pools
from lionkit.errors import DataError
from lionkit.pools.reviews import read_fastchat_answers, read_fastchat_reviews, read_reference_results


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return path


# FastChat


@pytest.mark.parametrize(
    ("judged", "teacher", "student", "hard", "easy"),
    [("gpt35", 693, 638, 27, 53), ("alpaca-13b", 583, 704, 3, 77)],
)
def test_published_totals(shared_data: Path, judged: str, teacher: int, student: int, hard: int, easy: int) -> None:
    folder = shared_data / "vicuna80"
    verdicts = pools.read_fastchat_reviews(
        folder / f"review_{judged}_vicuna-13b.jsonl", folder / f"answer_{judged}.jsonl",
        folder / "answer_vicuna-13b.jsonl", folder / "question.jsonl",
    )  # fmt: skip
    total = evaluate.relative_score(verdicts)
    assert (total.teacher_total, total.student_total, total.scored, total.unscored) == (teacher, student, 80, 0)
    assert total.score == student / teacher
    split = pools.split_by_gap(pools.read_instructions(folder / "question.jsonl"), verdicts, 1.0)
    assert (len(split.hard), len(split.easy), len(split.undecided)) == (hard, easy, 0)


def fastchat(folder: Path, reviews: list[Any]) -> tuple[Path, Path, Path, Path]:
    """Three questions, two answers each, and the given reviews."""
    questions = [{"question_id": i, "text": f"question {i}", "category": "generic"} for i in (1, 2, 3)]
    one, two = ([{"question_id": i, "text": f"{who} {i}", "answer_id": f"{who}{i}"} for i in (1, 2, 3)] for who in "ab")
    return (lines(folder / "review.jsonl", reviews), lines(folder / "one.jsonl", one), lines(folder / "two.jsonl", two),
            lines(folder / "question.jsonl", questions))  # fmt: skip


def review(number: int, text: str, **values: Any) -> dict[str, Any]:
    return {"question_id": number, "answer1_id": f"a{number}", "answer2_id": f"b{number}", "text": text, **values}


def test_fastchat_rows_become_verdicts_in_the_order_of_the_questions(tmp_path: Path) -> None:
    reviews = [
        review(3, "9 7\nAssistant 1: 8, Assistant 2: 8 would be too even.", score=[9, 7]),
        review(1, "I cannot say."),
    ]
    verdicts = read_fastchat_reviews(*fastchat(tmp_path, reviews))
    assert [v.instruction_id for v in verdicts] == ["1", "2", "3"]
    assert (verdicts[2].teacher_score, verdicts[2].student_score, verdicts[2].gap) == (9, 7, 2)
    assert verdicts[2].student_first is None
    assert [v.label(1.0) for v in verdicts] == ["undecided", "undecided", "hard"]
    assert "no scores were found" in verdicts[0].reason
    assert "there is no review of it" in verdicts[1].reason
    assert verdicts[0].teacher_first.reply == "I cannot say."


def test_thirty_thousand_reviews_are_read_in_seconds(tmp_path: Path) -> None:
    count = 30_000
    questions = lines(tmp_path / "q.jsonl", [{"question_id": i, "text": f"question {i}"} for i in range(count)])
    answers = lines(tmp_path / "a.jsonl", [{"question_id": i, "text": "x", "answer_id": i} for i in range(count)])
    reviews = lines(tmp_path / "r.jsonl", [{"question_id": i, "text": "9 7"} for i in range(count)])
    started = time.process_time()
    verdicts = read_fastchat_reviews(reviews, answers, answers, questions)
    assert time.process_time() - started < 40
    assert [v.instruction_id for v in verdicts] == [str(i) for i in range(count)]


def test_a_failure_mark_is_unscored_and_the_score_field_counts_where_the_text_is_unreadable(tmp_path: Path) -> None:
    reviews = [
        review(1, "-1 -1", score=[-1, -1]),
        review(2, "mended by hand", score=[8, 6]),
        review(3, "7 7", score=[-1, -1]),
    ]
    verdicts = read_fastchat_reviews(*fastchat(tmp_path, reviews))
    assert [v.scored for v in verdicts] == [False, True, True]
    assert (verdicts[1].gap, verdicts[2].gap) == (2, 0)
    total = evaluate.relative_score(verdicts)
    assert (total.teacher_total, total.student_total, total.scored, total.unscored) == (15, 13, 2, 1)


def test_recorded_scores_win_over_the_text_and_differences_are_counted_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fault: files refused whole for one row whose score differs from its text, and a recorded 0 thrown out."""
    reviews = [
        review(1, "8 9\nAssistant 2 is fuller.", score=[8, 7]),
        review(2, "0 7\nAssistant 1 says nothing.", score=[0, 7]),
        review(3, "9 8.5", score=[9.0, 8.5]),
    ]
    paths = fastchat(tmp_path, reviews)
    verdicts = read_fastchat_reviews(*paths)
    total = evaluate.relative_score(verdicts)
    assert (total.teacher_total, total.student_total, total.scored, total.unscored) == (17, 22.5, 3, 0)
    assert [v.reason for v in verdicts] == [
        "teacher first: recorded as [8, 7] where the text says 8 and 9",
        "teacher first: recorded as [0, 7] outside 1 to 10",
        "",
    ]
    told = "of 3 reviews 1 have scores that differ from their text and 1 scores outside 1 to 10; they count as recorded"
    assert f"{paths[0]}: {told}" in capsys.readouterr().out
    assert [v.label(1.0) for v in verdicts] == ["hard", "easy", "easy"]
    table = pools.pool_table(pools.read_instructions(paths[3]), verdicts=verdicts)
    assert list(table["reason"]) == [v.reason for v in verdicts]


@pytest.mark.parametrize(
    ("text", "score", "counted", "reason"),
    [
        ("-1 -1", [7, 8], (7, 8), ""),
        ("Both are good: 8 of 10 facts.", [0, 0], (0, 0), "recorded as [0, 0] outside 1 to 10"),
        ("85 90", [85, 90], (85, 90), "recorded as [85, 90] outside 1 to 10"),
        ("8 9", [0, 9], (0, 9), "recorded as [0, 9] where the text says 8 and 9 outside 1 to 10"),
        ("8 9", [-1, -1], (8, 9), "recorded as [-1, -1] where the text says 8 and 9"),
        ("8 9", None, (8, 9), ""),
        ("8 9", [9.5, float("inf")], (8, 9), "recorded as [9.5, inf] where the text says 8 and 9"),
        ("none", [float("nan"), 3], None, "no scores were found"),
    ],
)
def test_what_counts_of_record_and_text(
    tmp_path: Path, text: str, score: Any, counted: tuple[float, float] | None, reason: str
) -> None:
    first = read_fastchat_reviews(*fastchat(tmp_path, [review(1, text, score=score)]))[0].teacher_first
    assert ((first.teacher, first.student) if first.scored else None, first.reason) == (counted, reason)


def test_published_totals_with_a_row_that_differs_and_a_zero(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared_data / "vicuna80"
    rows = [json.loads(line) for line in (folder / "review_gpt35_vicuna-13b.jsonl").open(encoding="utf-8")]
    totals = [sum(row["score"][seat] for row in rows) for seat in (0, 1)]
    assert totals == [693, 638]
    for row, score in ((rows[4], [rows[4]["score"][0], 3]), (rows[9], [0, rows[9]["score"][1]])):
        totals = [total - old + new for total, old, new in zip(totals, row["score"], score)]
        row["score"] = score
    others = [folder / name for name in ("answer_gpt35.jsonl", "answer_vicuna-13b.jsonl", "question.jsonl")]
    total = evaluate.relative_score(read_fastchat_reviews(lines(tmp_path / "reviews.jsonl", rows), *others))
    assert ([total.teacher_total, total.student_total], total.scored, total.unscored) == (totals, 80, 0)
    assert "of 80 reviews 2 have scores that differ from their text and 1 scores outside" in capsys.readouterr().out


def test_every_ill_formed_review_is_named(tmp_path: Path) -> None:
    reviews = [
        review(1, "8 9"),
        "{not json",
        review(2, "8 9", score=[8]),
        review(3, "8 9", score="8 9"),
        "[1, 2]",
        {"question_id": 3, "score": [1, 2]},
        {"text": "8 9"},
        review(99, "8 9"),
        review(1, "8 9"),
        review(3, "8 9", answer2_id="c3"),
    ]
    with pytest.raises(DataError) as caught:
        read_fastchat_reviews(*fastchat(tmp_path, reviews))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'review.jsonl'}, line 2: not readable as JSON")
    assert caught.value.line == 2
    for number, words in (
        (3, "score is [8], expected two numbers"), (4, "score is '8 9', expected two numbers"),
        (5, "not an object"), (6, "text is None"), (7, "no question_id"), (8, "question 99 is not in"),
        (9, "a second review of question 1"), (10, "answer2_id is 'c3'"),
    ):  # fmt: skip
        assert f"line {number}: {words}" in message
    assert "\n" not in message
    assert "line 1:" not in message


def test_a_line_cut_anywhere_is_named_by_its_own_number_and_the_next_is_read(tmp_path: Path) -> None:
    whole = json.dumps(review(2, "8 9"))
    for cut in range(1, len(whole) - 1):
        reviews = [review(1, "8 9"), whole[:cut], review(99, "8 9")]
        with pytest.raises(DataError, match=r"line 2: not readable as JSON: .*; line 3: question 99 is not in"):
            read_fastchat_reviews(*fastchat(tmp_path, reviews))


def test_ill_formed_answers_and_missing_files_are_named(tmp_path: Path) -> None:
    review_file, one, two, questions = fastchat(tmp_path, [review(1, "8 9")])
    lines(two, [{"question_id": 1, "text": None}, {"question_id": 2, "text": "x"}, {"text": "x"}])
    with pytest.raises(DataError, match="two.jsonl, line 1: text is None, expected the answer; line 3: no question_id"):
        read_fastchat_reviews(review_file, one, two, questions)
    with pytest.raises(DataError, match="missing.jsonl"):
        read_fastchat_answers(tmp_path / "missing.jsonl")
    lines(two, [{"question_id": 2, "text": "x"}])
    with pytest.raises(DataError, match="line 1: question 1 has no answer in .*two.jsonl"):
        read_fastchat_reviews(review_file, one, two, questions)


def test_byte_order_mark_windows_line_ends_and_arrays_are_read(tmp_path: Path) -> None:
    reviews = [review(i, "8 9", score=[8.0, 9.0]) for i in (1, 2, 3)]
    paths = fastchat(tmp_path, reviews)
    plain = read_fastchat_reviews(*paths)
    paths[0].write_bytes(b"\xef\xbb\xbf" + paths[0].read_bytes().replace(b"\n", b"\r\n"))
    assert read_fastchat_reviews(*paths) == plain
    paths[0].write_text(json.dumps(reviews, indent=2), encoding="utf-8")
    assert read_fastchat_reviews(*paths) == plain


# the reference implementation


def reference(
    folder: Path, first: list[Any], second: list[Any], outputs: tuple[str, ...] = ("t", "t", "t", "t")
) -> list[Path]:
    rows = [
        [{"instruction": f"do {i}", "input": "", "output": o} for i, o in enumerate(out)] for out in (outputs, "ssss")
    ]
    responses = [folder / "teacher.json", folder / "student.json"]
    for path, items in zip(responses, rows):
        path.write_text(json.dumps(items, indent=4), encoding="utf-8")
    return [lines(folder / "review12.jsonl", first), lines(folder / "review21.jsonl", second), *responses]


def scored(one: float, two: float, *, read: bool = True) -> dict[str, Any]:
    text = f"Fine.\nScore of the Assistant 1: {one:g}\nScore of the Assistant 2: {two:g}"
    return {"score": [one, two], "text": text} if read else {"score": [-1, -1], "text": "error"}


def test_reference_results_are_read_by_role_and_sentinels_never_averaged(tmp_path: Path) -> None:
    lost = scored(0, 0, read=False)
    first = [scored(9, 6), scored(8, 5), lost, {"score": [-1, -1], "text": scored(7, 6)["text"] + "\n"}]
    second = [scored(7, 8), lost, lost, scored(5, 8)]
    judged = read_reference_results(*reference(tmp_path, first, second))
    assert [(v.teacher_score, v.student_score) for v in judged.verdicts[::3]] == [(8.5, 6.5), (7.5, 5.5)]
    assert [v.label(1.0) for v in judged.verdicts] == ["hard", "undecided", "undecided", "hard"]
    assert [v.instruction_id for v in judged.verdicts] == [i.id for i in judged.instructions]
    table = pools.pool_table(*judged)
    assert list(table["teacher_response"]) == ["t"] * 4
    assert list(table["student_response"]) == ["s"] * 4
    assert list(table["student_first_teacher"].fillna(0)) == [8, 0, 0, 8]


def test_reference_output_error_is_a_failed_response(tmp_path: Path) -> None:
    reviews = [scored(9, 1)] * 4
    judged = read_reference_results(*reference(tmp_path, reviews, reviews, ("t", "error", "t", "t")))
    assert [r.status for r in judged.teacher] == ["ok", "failed", "ok", "ok"]
    assert [v.scored for v in judged.verdicts] == [True, False, True, True]
    assert "a response failed" in judged.verdicts[1].reason


def test_reference_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    reviews = [scored(9, 1)] * 4
    with pytest.raises(DataError, match="review21.jsonl: 3 reviews for 4 pairs"):
        read_reference_results(*reference(tmp_path, reviews, reviews[:3]))
    with pytest.raises(DataError, match=r"review12.jsonl, line 2: score is \[1\].*; line 4: text is 3"):
        read_reference_results(
            *reference(tmp_path, [reviews[0], {"score": [1], "text": "x"}, reviews[0], {"text": 3}], reviews)
        )
    paths = reference(tmp_path, reviews, reviews)
    paths[3].write_text(json.dumps([{"instruction": "other", "output": "x"}] * 4), encoding="utf-8")
    with pytest.raises(DataError, match="student.json: holds other instructions than"):
        read_reference_results(*paths)
