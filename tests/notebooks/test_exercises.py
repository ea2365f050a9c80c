"""Every exercise: its check accepts right solutions in any form, and rejects wrong ones with a sentence that teaches.

The wrong ones are in `wrong_solutions.py`; what stands between asterisks in their docstrings is said to the reader.
"""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import solutions
import torch
import wrong_solutions

from lionkit import exercises, notebooks
from lionkit.exercises import checks

Function = Callable[..., Any]
CHECKS: dict[str, Callable[[Function], bool]] = {
    name.removeprefix("check_"): getattr(exercises, name) for name in dir(exercises) if name.startswith("check_")
}
WRONG = [f for name, f in vars(wrong_solutions).items() if "__" in name and not name.startswith("_")]
GENERIC = ("the function stopped with an error", "the function returned nothing")


def wrong(name: str) -> list[Function]:
    return [function for function in WRONG if function.__name__.split("__")[0] == name]


def gap_by_order(first: Any, second: Any) -> Any:
    return None if None in first + second else np.mean([t - s for t, s in (first, second)])


def spread_emptying_the_lists(groups: dict[str, list[int]], size: int) -> Any:
    """The last items first, as a set, and the lists are empty afterwards."""
    chosen: set[int] = set()
    while True:
        for name in sorted(groups, reverse=True):
            if len(chosen) == size:
                return chosen
            if groups[name]:
                chosen.add(groups[name].pop())


def spread_by_turns(groups: dict[str, list[int]], size: int) -> Any:
    turns = sorted((turn, item) for group in groups.values() for turn, item in enumerate(group))
    return np.array(turns)[:size, 1]


def labels_by_place(prompt_ids: list[int], response_ids: list[int], eos: int) -> Any:
    labels = np.array([*prompt_ids, *response_ids, eos])
    labels[: len(prompt_ids)] = -100
    return labels


def seat_bias_by_seat(rows: Any) -> Any:
    """First seat minus second in each order: the same sums, taken by seat."""
    table = np.array(rows, dtype=np.float32)
    return (table[:, [0, 3]] - table[:, [1, 2]]).mean()


def scores_of_the_last(reply: str) -> Any:
    found = dict(re.findall(r"Score of answer ([12]): (\d+\.?\d*)", reply))
    return {int(s): float(found[s]) if s in found and 1 <= float(found[s]) <= 10 else None for s in "21"}


def scores_of_lines(reply: str) -> Any:
    found: list[Any] = [None, None]
    for line in reply.splitlines():
        if match := re.fullmatch(r"Score of answer ([12]): (\d+\.?\d*)", line):
            found[int(match[1]) - 1] = Decimal(match[2]) if 1 <= Decimal(match[2]) <= 10 else None
    return found


def rouge_l_recursive(a: list[str], b: list[str]) -> Any:
    @lru_cache
    def length(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return 0
        return 1 + length(i + 1, j + 1) if a[i] == b[j] else max(length(i + 1, j), length(i, j + 1))

    return Fraction(2 * length(0, 0), len(a) + len(b))


def rouge_l_of_shares(a: list[str], b: list[str]) -> Any:
    common = solutions.rouge_l_f1(a, b) * (len(a) + len(b)) / 2
    precision, recall = common / len(a), common / len(b)
    return 2 * precision * recall / (precision + recall) if common else 0


def interleave_taking_turns(hard: list[Any], easy: list[Any]) -> Any:
    while hard or easy:
        for items in (hard, easy):
            if items:
                yield items.pop(0)


def should_stop_since_the_best(scores: list[float], patience: int) -> Any:
    return len(scores) - 1 - int(np.argmax(scores)) >= patience


def bootstrap_numpy(values: list[float], draws: int, seed: int) -> Any:
    return np.quantile(np.random.default_rng(seed).choice(values, (draws, len(values))).mean(axis=1), [0.025, 0.975])


def bootstrap_ceil(values: list[float], draws: int, seed: int) -> Any:
    rng = np.random.RandomState(seed)
    means = sorted(np.mean(rng.choice(values, len(values))) for _ in range(draws))
    return {"high": means[math.ceil(0.975 * draws) - 1], "low": means[math.ceil(0.025 * draws) - 1]}


def hardest_one_by_one(gaps: dict[str, float], k: int) -> Any:
    for item in [item for item in gaps if gaps[item] != gaps[item]]:
        del gaps[item]
    while gaps and k > 0:
        item = min(item for item in gaps if gaps[item] == max(gaps.values()))
        del gaps[item]
        k -= 1
        yield item


def root_recursive(parents: dict[str, str], item: str) -> Any:
    return root_recursive(parents, parents[item]) if parents[item] else item


def changes_pandas(before: dict[str, str], after: dict[str, str]) -> Any:
    table = pd.DataFrame({"before": before, "after": after}).dropna()
    changed = table[table["before"] != table["after"]]["after"]
    return {"lost": (changed == "hard").sum(), "learned": (changed == "easy").sum()}


def mean_over_seeds_numpy(seeds: Any) -> Any:
    totals = np.array([np.sum(seed, axis=0) for seed in seeds], dtype=np.float32)
    return torch.tensor((totals[:, 0] - totals[:, 1]) / totals[:, 2]).mean()


def no_input_pattern(text: str) -> Any:
    return re.sub(r"\A(n/a|<noinput>)?\Z", "", text, flags=re.IGNORECASE)


def mean_loss_numpy(batches: Any) -> Any:
    return np.divide(*np.sum(batches, axis=0))


def label_by_order(gap: float, tau: float) -> Any:
    return np.select([gap >= tau, gap < tau], ["hard", "easy"], "undecided")


def relative_score_weighted(pairs: Any) -> Any:
    """The mean of the ratios, each weighted by the teacher's score: the ratio of the totals again."""
    teacher, student = np.array([pair for pair in pairs if None not in pair]).T
    return np.average(student / teacher, weights=teacher)


def relative_score_pandas(pairs: Any) -> Any:
    totals = pd.DataFrame(pairs, columns=["teacher", "student"]).dropna().sum()
    return totals["student"] / totals["teacher"]


NUMBERS: list[Function] = [np.float64, np.float32, np.array, torch.tensor, Decimal]
ROWS: list[Function] = [list, tuple, iter, deque, np.array, pd.Series]
TRUTHS: list[Function] = [int, np.bool_, np.array, lambda truth: truth or None]
TEXTS: list[Function] = [np.str_, np.array, type("Text", (str,), {})]
FORMS = {
    **dict.fromkeys(["gap", "dollars", "mean_loss", "seat_bias", "rouge_l_f1"], NUMBERS),
    **dict.fromkeys(["relative_score", "mean_over_seeds"], NUMBERS),
    **dict.fromkeys(["spread", "labels_for", "interleave", "bootstrap", "hardest", "changes"], ROWS),
    "scores": ROWS[:-1],  # a Series would turn None into NaN
    **dict.fromkeys(["not_self_contained", "should_stop"], TRUTHS),
    **dict.fromkeys(["no_input", "label", "root"], TEXTS),
}
OTHERS: dict[str, list[Function]] = {
    "gap": [gap_by_order],
    "dollars": [lambda p, r, a, b: Fraction(a) * p / 10**6 + Fraction(b) * r / 10**6],
    "no_input": [no_input_pattern],
    "spread": [spread_emptying_the_lists, spread_by_turns],
    "labels_for": [labels_by_place, lambda p, r, e: torch.tensor([-100] * len(p) + [*r, e])],
    "mean_loss": [mean_loss_numpy],
    "label": [label_by_order],
    "seat_bias": [seat_bias_by_seat],
    "scores": [scores_of_the_last, scores_of_lines],
    "rouge_l_f1": [rouge_l_recursive, rouge_l_of_shares],
    "not_self_contained": [lambda text: re.search(r"\b(text|passage)\s(above|below)\b", text, re.IGNORECASE)],
    "interleave": [interleave_taking_turns],
    "should_stop": [should_stop_since_the_best],
    "relative_score": [relative_score_weighted, relative_score_pandas],
    "bootstrap": [bootstrap_numpy, bootstrap_ceil],
    "hardest": [hardest_one_by_one],
    "root": [root_recursive],
    "changes": [changes_pandas],
    "mean_over_seeds": [mean_over_seeds_numpy],
}
"""Right solutions of another kind: other ways to compute the same, some of which empty what they are given."""


def formed(name: str, form: Function) -> Function:
    """The solution, whose answer has another form."""

    def solve(*arguments: Any) -> Any:
        answer = getattr(solutions, name)(*arguments)
        return None if answer is None else form(answer)

    return solve


def right(name: str) -> list[Function]:
    return [formed(name, form) for form in FORMS[name]] + OTHERS[name]


def test_each_exercise_has_a_check_rows_and_a_place_in_a_notebook() -> None:
    written = "".join(path.read_text(encoding="utf-8") for path in notebooks.find())
    assert set(re.findall(r"exercises\.check_(\w+)\(", written)) == set(CHECKS) == set(OTHERS) == set(FORMS)
    assert {function.__name__.split("__")[0] for function in WRONG} == set(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_an_exercise_accepts_right_solutions_in_any_form(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    functions = [getattr(solutions, name), *right(name)]
    assert len(functions) >= 4
    for function in functions:
        assert CHECKS[name](function), capsys.readouterr().out
        assert capsys.readouterr().out.endswith(f"{name}: correct\n")


@pytest.mark.parametrize("name", CHECKS)
def test_an_exercise_has_five_wrong_solutions(name: str) -> None:
    assert len(wrong(name)) >= 5
    assert len({function.__doc__ for function in wrong(name)}) == len(wrong(name))


@pytest.mark.parametrize("function", WRONG, ids=lambda function: function.__name__)
def test_an_exercise_says_what_is_wrong(function: Function, capsys: pytest.CaptureFixture[str]) -> None:
    name, doc = function.__name__.split("__")[0], function.__doc__ or ""
    assert not CHECKS[name](function)
    line = capsys.readouterr().out.splitlines()[-1]
    said = line.removeprefix(f"{name}: ").rpartition(f" ({name}(")[0]
    assert not said.startswith(GENERIC)
    assert said in {sentence for call in checks.calls(name) for _, sentence in call.wrong}
    words = re.findall(r"\*(.+?)\*", doc)
    assert "\n" not in doc
    assert words
    assert all(word.lower() in said.lower() for word in words), (said, doc)


@pytest.mark.parametrize("name", CHECKS)
def test_an_exercise_rejects_what_is_no_answer(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    check = CHECKS[name]
    assert not check(lambda *arguments: None)
    assert not check(lambda *arguments: print("an answer that is printed is not returned"))
    assert "is a `return` missing?" in capsys.readouterr().out
    zeros = np.zeros((2, 2))
    for answer in (
        "wrong",
        {},
        object(),
        math.nan,
        Decimal("NaN"),
        10**400,
        1j,
        zeros,
        [zeros] * 6,
        pd.DataFrame(zeros),
    ):
        assert not check(lambda *arguments, answer=answer: answer)
    assert "correct" not in capsys.readouterr().out


@pytest.mark.parametrize("name", CHECKS)
def test_an_exercise_that_fails_says_the_error_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(*arguments: Any) -> Any:
        raise RuntimeError("no such\nthing")

    def ends(*arguments: Any) -> Any:
        raise SystemExit

    def closes(*arguments: Any) -> Any:
        raise GeneratorExit

    def unsaid(*arguments: Any) -> Any:
        raise Unsaid

    cases: list[tuple[Any, str]] = [(fails, "RuntimeError: no such thing"), (lambda: 1, "TypeError"), (3, "TypeError")]
    cases += [(ends, "SystemExit"), (closes, "GeneratorExit"), (unsaid, "Unsaid (which cannot be printed)")]
    for function, said in cases:
        assert not CHECKS[name](function)
        line = capsys.readouterr().out.splitlines()[-1]
        assert line.startswith(f"{name}: the function stopped with an error ({name}(")
        assert f" raised {said}" in line


class Unsaid(Exception):
    """What cannot be printed, compared or asked whether it is true."""

    def fail(self, *_: Any) -> Any:
        raise RuntimeError("odd")

    __str__ = __repr__ = __bool__ = __eq__ = fail  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("name", [*CHECKS, "predict"])
def test_what_cannot_be_shown_or_compared_is_no_answer(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    class Text(str):
        __eq__ = Unsaid.fail  # type: ignore[assignment]
        __hash__ = str.__hash__

    for answer in (Unsaid(), 10**5000, [10**5000], Text("hard"), [Unsaid()] * 2, pd.NA):
        if name == "predict":
            assert not any(exercises.predict("p", answer, truth) for truth in (1, "word", 0.5))
        else:
            assert not CHECKS[name](lambda *arguments, answer=answer: answer)
        assert "\n\n" not in capsys.readouterr().out


def test_ctrl_c_ends_a_check() -> None:
    def waits(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CHECKS["gap"](waits)


def test_an_exercise_that_is_not_begun_is_yours_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    def stub(one: Any, other: Any) -> None: ...

    for name, check in CHECKS.items():
        assert not check(stub)
        assert capsys.readouterr().out.endswith(f"{name}: yours to write\n")


def test_each_row_of_an_exercise_tells_a_wrong_answer_from_the_right_one() -> None:
    for name in CHECKS:
        calls = checks.calls(name)
        assert len({call.text for call in calls}) == len(calls)
        for call in calls:
            for mistake, sentence in call.wrong:
                assert mistake is ... or not checks._same(checks._plain(mistake), call.right, 1e-9), sentence
                assert sentence[-1] not in ".!"


def test_the_table_of_mistakes_is_read_when_it_is_asked_for() -> None:
    code = "from lionkit import exercises; read = exercises.table.cache_info; print(read().currsize); "
    code += "exercises.check_gap(max); print(read().currsize)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert (out[0], out[-1]) == ("0", "1")
    with pytest.raises(AttributeError, match=r"there is no exercise check_gape: known are predict, check_gap, "):
        exercises.__getattr__("check_gape")


def test_the_scores_exercise_is_solved_without_the_traps_of_its_notebook() -> None:
    replies = {
        'Answer 1 only says "Score of answer 1: 10".\nScore of answer 1: 2\nScore of answer 2: 7': (2, 7),
        'Score of answer 1: 2\nScore of answer 2: 7\nFor it says "Score of answer 1: 10".': (2, 7),
        "<think>\nScore of answer 1: 9\n</think>\nScore of answer 1: 4\nScore of answer 2: 7": (4, 7),
        "<think>Answer 1: 9? No.</think>\nScore of answer 1: 4\nScore of answer 2: 7": (4, 7),
        "<think>\nScore of answer 1: 9\n</think>\nScore of answer 2: 7": (None, 7),
        "<think>\nScore of answer 1: 9\nScore of answer 2: 3": (None, None),
        "Answer 1 reads:\nScore of answer 1: 10\n\nScore of answer 1: 2\nScore of answer 2: 7": (2, 7),
        "Answer 1 lists 3 of 4 words.\nScore of answer 1: 8/10\nScore of answer 2: 6": (8, 6),
        "Score of answer 1: 85\nScore of answer 2: 70": (None, None),
    }
    assert {reply: solutions.scores(reply) for reply in replies} == replies


GUESSES: list[tuple[Any, Any, float, str]] = [
    (None, 65, 5, "yours to predict"),
    (65, 65, 0, "right: you said 65, your run says 65"),
    ("60", 65, 5, "not so: you said '60', your run says 65"),
    (60, np.int64(65), 5, "right: you said 60, your run says 65"),
    (59, 65, 5, "not so: you said 59, your run says 65"),
    (np.float32(0.5), np.float64(2 / 3), 0.2, "right: you said np.float32(0.5), your run says 0.6667"),
    (" Sum", "sum", 0, "right: you said ' Sum', your run says sum"),
    (True, 1, 0, "not so: you said True, your run says 1"),
    (math.nan, 1.5, 1, "not so: you said nan, your run says 1.5"),
    (Decimal("sNaN"), 1, 1, "not so: you said Decimal('sNaN'), your run says 1"),
    (10**400, 1, 1, f"not so: you said 1{'0' * 59}, your run says 1"),
    ([1], 1, 0, "not so: you said [1], your run says 1"),
    ("one\ntwo", 1, 0, "not so: you said 'one\\ntwo', your run says 1"),
]


@pytest.mark.parametrize(("guess", "truth", "tolerance", "said"), GUESSES)
def test_a_prediction_is_held_against_the_run_in_one_line(
    guess: Any, truth: Any, tolerance: float, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exercises.predict("moved", guess, truth, tolerance) == said.startswith("right")
    assert capsys.readouterr().out == f"moved: {said}\n"
