"""Judge results that already exist: FastChat's reviews, the reference implementation's, MT-Bench's and AlpacaEval's.

FastChat: JSON Lines of questions, two answer files and one review file, scores on the first line of a review
(`question_id`, `answer1_id`, `answer2_id`, `text`, `score`). Reference implementation: two review files in the order
of the response files (`text`, `score`), one for each order of the answers. The recorded score counts, as it is, so that
published totals come out; where it differs from the text or lies outside 1 to 10, the judgement's `reason` says so, and
the rows are counted aloud. Failure marks such as -1 are no scores: there the text counts.

MT-Bench's grades are scores as they are recorded. A preference (its pairs, an arena's votes, AlpacaEval's annotations)
becomes shares of 1: the better answer has 1, the other 0, in a draw each 0.5, so that the student's mean score is its
win rate. Where nothing is recorded, the last `[[7]]` or `[[A]]` of the judge's text counts.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lionkit.errors import DataError
from lionkit.pools.layouts import TABLE, plain
from lionkit.pools.readers import listed, read_instructions
from lionkit.pools.rows import read_rows
from lionkit.records import Instruction, Judged, Judgement, Response, Verdict
from lionkit.referee.scores import Scores, Unscored, parse_scores

T = TypeVar("T")
NAMED = 50
"""Ill-formed rows named in one error; beyond that they are counted."""
Game = tuple[str, dict[str, float | None], str]
"""A question, what each model got (None: nothing), the one shown first in front, and the judge's words."""
_FIRST = {words: float(share) for share, all_words in TABLE["better"].items() for words in all_words}


def read_fastchat_reviews(
    reviews: str | Path, answers_1: str | Path, answers_2: str | Path, questions: str | Path
) -> list[Verdict]:
    """One verdict a question, in the questions' order, in the one order asked; teacher = assistant 1.

    A question without review is undecided. DataError names file and line of every review that is ill-formed, doubled,
    or about a question or answer that the other files do not have.
    """
    ids = dict.fromkeys(item.id for item in read_instructions(questions))
    answers = [{r.instruction_id: r for r in read_fastchat_answers(path)} for path in (answers_1, answers_2)]
    found: dict[str, Judgement] = {}

    def read(row: dict[str, Any]) -> None:
        question = _key(row, "question_id")
        if question not in ids:
            raise ValueError(f"question {question} is not in {questions}")
        if question in found:
            raise ValueError(f"a second review of question {question}")
        for seat, (known, path) in enumerate(zip(answers, (answers_1, answers_2)), start=1):
            if question not in known:
                raise ValueError(f"question {question} has no answer in {path}")
            if row.get(f"answer{seat}_id", known[question].call_id) != known[question].call_id:
                raise ValueError(f"answer{seat}_id is {row[f'answer{seat}_id']!r}, not the one in {path}")
        found[question] = _judgement(row)

    _checked(reviews, read)
    _say_differences(reviews, list(found.values()))
    missing = Judgement(None, None, reason="there is no review of it")
    return [Verdict(name, found.get(name, missing)) for name in ids]


def read_fastchat_answers(path: str | Path) -> list[Response]:
    """A FastChat answer file; `instruction_id` is the question's id, `call_id` the answer's."""

    def read(row: dict[str, Any]) -> Response:
        text, model = row.get("text"), str(row.get("model_id", ""))
        if not isinstance(text, str):
            raise ValueError(f"text is {text!r:.40}, expected the answer")
        return Response(_key(row, "question_id"), text, model=model, call_id=str(row.get("answer_id")))

    return _checked(path, read)


def read_reference_results(
    teacher_first: str | Path, student_first: str | Path, teacher: str | Path, student: str | Path
) -> Judged:
    """The reference implementation's four files: reviews with the teacher as assistant 1, then as assistant 2, and
    both response files. An output "error" is a failed response, its pair undecided. DataError names every bad row."""
    asked, answered = read_instructions(teacher), read_instructions(student)
    if [i.text for i in asked] != [i.text for i in answered]:
        raise DataError(student, None, f"holds other instructions than {teacher}, or in another order")
    first, second = (_checked(path, _judgement) for path in (teacher_first, student_first))
    for path, judged in ((teacher_first, first), (student_first, second)):
        _say_differences(path, judged)
        if len(judged) != len(asked):
            raise DataError(path, None, f"{len(judged)} reviews for {len(asked)} pairs: is the file whole?")
    by = [[_response(i.id, r.output) for i, r in zip(asked, rows)] for rows in (asked, answered)]
    verdicts = []
    for item, by_teacher, by_student, one, two in zip(asked, *by, first, second):
        two = Judgement(two.student, two.teacher, two.reply, two.reason)  # the file has it by seat
        if "failed" in (by_teacher.status, by_student.status):
            one, two = (Judgement(None, None, j.reply, "a response failed") for j in (one, two))
        verdicts.append(Verdict(item.id, one, two))
    return Judged(asked, by[0], by[1], verdicts)


def read_judgements(path: str | Path, *, teacher: str = "", student: str = "") -> list[Verdict]:
    """MT-Bench's or AlpacaEval's judgements, one file: a verdict a question and turn (`81`, `81-2`) of both models.

    `teacher` and `student` are names of models; a file of two needs none, its first (AlpacaEval's reference) being the
    teacher. A second judgement of a question is a verdict of its own, `81+`. A result that is none is unscored.
    DataError names the file, and every bad line.
    """
    rows = _checked(path, _games)
    models = list(dict.fromkeys(model for games in rows for _, results, _ in games for model in results))
    others = [model for model in models if model not in (teacher, student)] or [""]
    first, second = pair = (teacher or others[0], student or others[-1])
    if (not (teacher and student) and len(models) != 2) or first == second or not {*pair} <= {*models}:
        call = "read_judgements(path, teacher=..., student=...)"
        raise DataError(path, None, f"{call} takes two of its models: {listed(models)}")
    grades: dict[str, dict[str, float | None]] = defaultdict(dict)
    found: dict[str, list[Judgement]] = {}
    for games in rows:
        judged: list[Judgement] = []
        for name, results, reply in games:
            if results.keys() < {*pair}:  # a grade: with that of the other model it makes a pair
                while results.keys() & grades[name].keys():
                    name += "+"
                results = grades[name] = grades[name] | results
            if results.keys() >= {*pair}:
                scores = (results[first], results[second])
                unscored = Judgement(None, None, reply, "no result is recorded")
                judged.insert([*results][0] != first, unscored if None in scores else Judgement(*scores, reply))
        while judged and name in found:
            name += "+"
        found |= {name: judged} if judged else {}
    return [Verdict(name, *judged[:2]) for name, judged in found.items()]  # type: ignore[arg-type]


def _response(name: str, text: str) -> Response:
    return Response(name, "", "failed", "recorded as error") if text == "error" else Response(name, text)


def _judgement(row: dict[str, Any]) -> Judgement:
    """Scores by seat, the first as teacher's. Raises ValueError with what is wrong with the row."""
    text, score = row.get("text"), row.get("score")
    if not isinstance(text, str):
        raise ValueError(f"text is {text!r:.40}, expected the review")
    numbers = isinstance(score, list) and len(score) == 2 and all(type(s) in (int, float) for s in score)
    if score is not None and not numbers:
        raise ValueError(f"score is {score!r:.40}, expected two numbers")
    known = Scores(*map(_number, score)) if score and all(0 <= s < math.inf for s in score) else None
    read = parse_scores(text.lstrip().split("\n")[0])
    read = parse_scores(text) if isinstance(read, Unscored) else read
    counted = known or read
    if isinstance(counted, Unscored):
        return Judgement(None, None, text, counted.reason)
    noted = [f"recorded as {score}"] if score else []
    if score and isinstance(read, Scores) and tuple(score) != read:
        noted.append(f"where the text says {read.first:g} and {read.second:g}")
    if not all(1 <= s <= 10 for s in counted):
        noted.append("outside 1 to 10")
    return Judgement(*counted, text, " ".join(noted) if len(noted) > 1 else "")


def _say_differences(path: str | Path, judged: list[Judgement]) -> None:
    """One printed line where recorded scores differ from their texts, or lie outside 1 to 10."""
    noted = [j.reason for j in judged if j.scored and j.reason]
    differ, outside = (sum(words in reason for reason in noted) for words in ("where the text says", "outside 1 to 10"))
    if noted:
        counts = f"{differ} have scores that differ from their text and {outside} scores outside 1 to 10"
        print(f"{path}: of {len(judged)} reviews {counts}; they count as recorded, a failure mark as its text.")


def _games(row: dict[str, Any]) -> list[Game]:
    """What a row says, in one order or in both. ValueError says what is wrong with it."""
    reply = next((row[k] for k in ("judgment", "g1_judgment", "text") if isinstance(row.get(k), str)), "")
    said = re.findall(r"\[\[([^\[\]/]{1,9}?)(?: ?/ ?10)?\]\]", reply)[-1:]
    if "games" in row:
        raise ValueError("these are games against a baseline that they do not name (Arena-Hard): they are not read")
    if "preference" in row:
        item, value = Instruction(str(row.get("instruction")).strip(), str(row.get("input") or "")), row["preference"]
        value = _number(math.nan if value is None else value) or 1.5
        if not 1 <= value <= 2 and value == value:
            raise ValueError(f"preference is {value:g}, expected 1 to 2, or 0 for a draw")
        names, shares = [str(row.get(f"generator_{n}", f"output_{n}")) for n in (1, 2)], (2 - value, value - 1)
        return [(item.id, {n: None if s != s else s for n, s in zip(names, shares)}, reply)]
    turn = str(row.get("turn") or 1).removesuffix(".0")
    name = _key(row, "question_id") + (f"-{turn}" if turn != "1" else "")
    if "model" in row:
        told = [float(words) for words in said if re.fullmatch(r"\d+(\.\d+)?", words)]
        grade = _number(next((score for score in (row.get("score"), *told) if score is not None), -1))
        return [(name, {str(row["model"]): grade if 0 <= grade < math.inf else None}, reply)]
    one, two = (_key(row, f"model_{mark}") for mark in ("12" if "model_1" in row else "ab"))
    winners = [row[k] for k in ("g1_winner", "g2_winner", "winner") if k in row] or said or [""]
    won = [_FIRST.get(plain(winner)) for winner in winners]
    pairs = [[(one, share), (two, None if share is None else 1 - share)] for share in won]
    return [(name, dict(pair[:: -1 if n else 1]), reply) for n, pair in enumerate(pairs)]


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"the result is {value!r:.40}, expected a number") from None


def _key(row: dict[str, Any], name: str) -> str:
    if not isinstance(row.get(name), int | str):
        raise ValueError(f"no {name}")
    return str(row[name])


def _checked(path: str | Path, read: Callable[[dict[str, Any]], T]) -> list[T]:
    """What `read` makes of each row; its ValueErrors become one DataError that names all ill-formed rows."""
    good: list[T] = []
    bad: list[tuple[int, str]] = []
    for line, row in read_rows(path):
        try:
            if not isinstance(row, dict):
                raise row if isinstance(row, ValueError) else ValueError("not an object")
            good.append(read(row))
        except ValueError as error:
            bad.append((line, str(error)))
    if bad:
        told = [bad[0][1], *(f"line {line}: {problem}" for line, problem in bad[1:NAMED])]
        raise DataError(path, bad[0][0], "; ".join(told) + f"; and {len(bad) - NAMED} more" * (len(bad) > NAMED))
    return good
