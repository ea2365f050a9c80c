"""Checks for the exercises at the end of each notebook: each takes the reader's function and says what it got wrong.

A check prints one line and never raises, so that a notebook with unsolved exercises still runs to its end.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

NAN = float("nan")


def _stub() -> None: ...


def _check(
    name: str,
    function: Callable[..., Any],
    cases: list[tuple[tuple[Any, ...], Any]],
    through: Callable[..., Any] | None = None,
) -> bool:
    """Call the function (or `through`, which calls it and says what matters of its answer) on every case."""
    if getattr(function, "__code__", _check.__code__).co_code == _stub.__code__.co_code:
        print(f"{name}: yours to write")
        return False
    for arguments, wanted in cases:
        try:
            got = (through or function)(*arguments)
            got = got.tolist() if hasattr(got, "tolist") else got  # an array of NumPy or PyTorch
            number = isinstance(wanted, float) and isinstance(got, int | float)
            right = math.isclose(got, wanted, abs_tol=1e-9) if number else bool(got == wanted)
        except Exception as error:  # the reader's own code: any error is an answer to show
            got, right = f"{type(error).__name__}: {error}", False
        if got is None and wanted is not None:
            print(f"{name}{arguments}: expected {wanted!r}, but the function returned nothing. Is a `return` missing?")
            return False
        if not right:
            print(f"{name}{arguments}: expected {wanted!r}, got {got!r}")
            return False
    print(f"{name}: correct")
    return True


def check_gap(function: Callable[..., Any]) -> bool:
    return _check("gap", function, [(((8, 6), (9, 5)), 3.0), (((5, 8), (7, 4)), 0.0), (((8, 6), (9, None)), None)])


def check_dollars(function: Callable[..., Any]) -> bool:
    return _check("dollars", function, [((1_000_000, 0, 0.15, 0.6), 0.15), ((2000, 500, 1.0, 4.0), 0.004)])


def check_no_input(function: Callable[..., Any]) -> bool:
    cases = [("", ""), ("N/A", ""), ("n/a", ""), ("<noinput>", ""), ("<NoInput>", ""), ("None of them", "None of them")]
    return _check("no_input", function, [((text,), wanted) for text, wanted in cases])


def check_spread(function: Callable[..., Any]) -> bool:
    def sizes(groups: dict[str, list[int]], size: int) -> Any:
        chosen = function(copy.deepcopy(groups), size)  # a solution may take from the lists
        return None if chosen is None else sorted(sum(x in group for x in chosen) for group in groups.values())

    groups = {"a": [1, 2, 3, 4], "b": [5, 6, 7], "c": [8]}
    cases = [((groups, 3), [1, 1, 1]), ((groups, 5), [1, 2, 2]), ((groups, 8), [1, 3, 4])]
    return _check("spread", function, cases, through=sizes)


def check_labels_for(function: Callable[..., Any]) -> bool:
    cases = [(([5, 6, 7], [8, 9], 2), [-100, -100, -100, 8, 9, 2]), (([5], [], 2), [-100, 2])]
    return _check("labels_for", function, cases)


def check_mean_loss(function: Callable[..., Any]) -> bool:
    return _check("mean_loss", function, [(([(10.0, 5), (1.0, 1)],), 11 / 6), (([(4.0, 4)],), 1.0)])


def check_label(function: Callable[..., Any]) -> bool:
    cases = [(1.0, 1.0, "hard"), (0.9, 1.0, "easy"), (-3.0, 1.0, "easy"), (NAN, 1.0, "undecided"), (0.0, 0.0, "hard")]
    return _check("label", function, [((gap, tau), wanted) for gap, tau, wanted in cases])


def check_seat_bias(function: Callable[..., Any]) -> bool:
    fair, biased = [(8, 6, 8, 6), (7, 7, 7, 7)], [(9, 5, 7, 7), (8, 6, 6, 8)]
    print("(a row is teacher and student with the teacher first, then teacher and student with the student first)")
    return _check("seat_bias", function, [((fair,), 0.0), ((biased,), 2.0)])


def check_scores(function: Callable[..., Any]) -> bool:
    text = "Score of answer 1: {}\nScore of answer 2: {}"
    cases = [((8, 6), (8.0, 6.0)), (("7.5", "10"), (7.5, 10.0)), ((85, 6), (None, 6.0)), ((0, "N/A"), (None, None))]
    return _check("scores", function, [((text.format(*pair),), wanted) for pair, wanted in cases])


def check_rouge_l_f1(function: Callable[..., Any]) -> bool:
    a = "sort the words pear fig".split()
    cases = [((a, a), 1.0), ((a, "sort the words apple".split()), 2 * 3 / 9), ((a, ["none"]), 0.0)]
    return _check("rouge_l_f1", function, cases)


def check_not_self_contained(function: Callable[..., Any]) -> bool:
    cases = [("Summarise the text above.", True), ("Translate the passage below.", True), ("Add 2 and 3.", False),
             ("Name a bird that flies above the clouds.", False)]  # fmt: skip
    return _check("not_self_contained", function, [((text,), wanted) for text, wanted in cases])


def check_interleave(function: Callable[..., Any]) -> bool:
    even = ((["h1", "h2"], ["e1", "e2"]), ["h1", "e1", "h2", "e2"])
    cases = [even, ((["h1"], ["e1", "e2", "e3"]), ["h1", "e1", "e2", "e3"])]
    return _check("interleave", function, cases)


def check_should_stop(function: Callable[..., Any]) -> bool:
    cases = [(([0.3, 0.5, 0.6], 2), False), (([0.3, 0.6, 0.5, 0.6], 2), True), (([0.6, 0.5], 2), False)]
    return _check("should_stop", function, cases)


def check_relative_score(function: Callable[..., Any]) -> bool:
    return _check("relative_score", function, [(([(8, 4), (10, 5)],), 0.5), (([(8, 8), (None, 9), (9, None)],), 1.0)])


def check_bootstrap(function: Callable[..., Any]) -> bool:
    wanted = "an interval of about (2.0, 3.0)"  # the mean is 2.5, its standard error 0.25

    def rounded(values: list[float], draws: int, seed: int) -> Any:
        found = function(values, draws, seed)
        if found is None:
            return None
        low, high = found
        return wanted if 1.9 <= low <= 2.1 and 2.9 <= high <= 3.1 else found

    return _check("bootstrap", function, [(([1.0, 2.0, 3.0, 4.0] * 5, 2000, 0), wanted)], through=rounded)


def check_hardest(function: Callable[..., Any]) -> bool:
    return _check("hardest", function, [(({"a": 1.0, "b": 3.0, "c": NAN, "d": 3.0}, 3), ["b", "d", "a"])])


def check_root(function: Callable[..., Any]) -> bool:
    parents = {"s": "", "a": "s", "b": "a"}
    return _check("root", function, [((parents, "b"), "s"), ((parents, "s"), "s")])


def check_changes(function: Callable[..., Any]) -> bool:
    before = {"a": "hard", "b": "easy", "c": "easy", "d": "hard", "e": "hard", "gone": "easy"}
    after = {"new": "easy", "e": "easy", "d": "hard", "c": "hard", "b": "easy", "a": "easy"}
    cases = [((before, after), (2, 1)), ((after, after), (0, 0))]
    return _check("changes", function, cases, _as_tuple(function))


def check_mean_over_seeds(function: Callable[..., Any]) -> bool:
    one, two = [(9, 6, 9), (6, 6, 9)], [(1, 4, 4), (1, 1, 1), (1, 1, 5)]
    return _check("mean_over_seeds", function, [(([one],), 1 / 6), (([one, two],), (1 / 6 - 3 / 10) / 2)])


def _as_tuple(function: Callable[..., Any]) -> Callable[..., Any]:
    """A pair in whatever form: list, tuple or array."""
    return lambda *arguments: tuple(function(*arguments))
