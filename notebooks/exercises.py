"""Checks for the exercises at the end of each notebook: each takes the reader's function and says what it got wrong.

A check prints one line and never raises, so that a notebook with unsolved exercises still runs to its end. The calls it
makes, and what is said of a known mistake, are the rows of `mistakes`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import partial
from itertools import islice
from numbers import Real
from typing import Any

import mistakes
from mistakes import Row


def _stub() -> None: ...


def _check(
    name: str,
    function: Callable[..., Any],
    rule: str,
    rows: list[Row],
    through: Callable[..., Any] = lambda function, *arguments: function(*arguments),
    keys: tuple[Any, ...] = (),
    tolerance: float = 1e-9,
) -> bool:
    """Make every call of the rows. `rule` is what an answer is told that is wrong in a way the rows do not know."""
    if getattr(function, "__code__", _check.__code__).co_code == _stub.__code__.co_code:
        print(f"{name}: yours to write")
        return False
    calls = {repr(arguments): (arguments, wanted) for arguments, wanted, *_ in rows}
    answers = {call: _answer(partial(through, function), arguments, keys) for call, (arguments, _) in calls.items()}
    wrong = [call for call, (_, wanted) in calls.items() if not _same(answers[call], wanted, tolerance)]
    if not wrong:
        print(f"{name}: correct")
        return True
    known = [
        (mistake is ..., said, call)
        for arguments, _, mistake, said in rows
        if (call := repr(arguments)) in (wrong[:1] if mistake is ... else wrong)
        and _betrays(answers[call], mistake, tolerance)
    ]
    _, said, call = min(known, key=lambda found: found[0], default=(True, rule, wrong[0]))
    errors = [isinstance(answer, Exception) for answer in answers.values()]
    if all(answer is None for answer in answers.values()):
        said = "the function returned nothing: is a `return` missing?"
    elif all(errors) or (isinstance(answers[call], Exception) and not known):
        said = "the function stopped with an error"
    print(f"{name}: {said} ({_shown(name, *calls[call], answers[call])})")
    return False


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...], keys: tuple[Any, ...]) -> Any:
    """What the function answers, on copies since it may take from its lists; the error where it raises one."""
    try:
        return _plain(function(*copy.deepcopy(arguments)), keys)
    except Exception as error:  # the reader's own code: any error is an answer to show
        return error


def _plain(answer: Any, keys: tuple[Any, ...] = ()) -> Any:
    """Numbers, texts and lists of an array, tensor, tuple or iterator, or of a dictionary that has just these keys."""
    answer = answer.tolist() if hasattr(answer, "tolist") else answer
    if isinstance(answer, Real | Decimal) and not isinstance(answer, int):
        return float(answer)
    if isinstance(answer, dict) and set(answer) == set(keys):
        answer = [answer[key] for key in keys]
    if isinstance(answer, Iterable) and not isinstance(answer, str | bytes | dict | set | frozenset):
        return [_plain(item) for item in islice(answer, 1000)]
    return answer


def _same(got: Any, wanted: Any, tolerance: float) -> bool:
    """Whether an answer is the wanted one: any number for a number, and what counts as true or false for a bool."""
    if isinstance(wanted, bool):
        return not isinstance(got, Exception) and bool(got) == wanted
    if isinstance(wanted, list | tuple):
        alike = isinstance(got, list) and len(got) == len(wanted)
        return alike and all(_same(one, other, tolerance) for one, other in zip(got, wanted))
    if isinstance(wanted, int | float) and isinstance(got, int | float):
        if got != got or abs(got) > 1e300:  # NaN, or what may be too large an int for a float
            return got != got and wanted != wanted
        return math.isclose(got, wanted, rel_tol=1e-6, abs_tol=tolerance)
    return isinstance(got, type(wanted)) and bool(got == wanted)


def _betrays(got: Any, mistake: Any, tolerance: float) -> bool:
    if isinstance(got, Exception):
        return isinstance(mistake, type) and isinstance(got, mistake)
    return mistake is ... or _same(got, mistake, tolerance)


def _shown(name: str, arguments: tuple[Any, ...], wanted: Any, got: Any) -> str:
    """The call and what became of it, in one line."""
    gave = f"raised {type(got).__name__}: {got}" if isinstance(got, Exception) else f"gave {got!r}"
    return " ".join(f"{name}({', '.join(map(repr, arguments))}) {gave[:200]}, not {wanted!r}".split())


def check_gap(function: Callable[..., Any]) -> bool:
    rule = "the gap is teacher minus student, averaged over the two orders"
    return _check("gap", function, rule, mistakes.GAP)


def check_dollars(function: Callable[..., Any]) -> bool:
    rule = "each kind of token has its own price, which is for a million of them"
    return _check("dollars", function, rule, mistakes.DOLLARS)


def check_no_input(function: Callable[..., Any]) -> bool:
    rule = 'a text that is one of the spellings becomes "", any other stays as it is'
    return _check("no_input", function, rule, mistakes.NO_INPUT)


def check_spread(function: Callable[..., Any]) -> bool:
    rule = "take one item from each list in turn, until there are `size` of them"
    return _check("spread", function, rule, mistakes.SPREAD, through=_picked)


def _picked(function: Callable[..., Any], groups: dict[str, list[int]], size: int) -> Any:
    """How many each list gave, fewest first: which items, and in which order, is free."""
    chosen = function(copy.deepcopy(groups), size)
    if chosen is None:
        return None
    chosen = list(_plain(chosen))
    if any(chosen.count(item) > 1 for item in chosen):
        return "an item twice"
    counts = sorted(sum(item in group for item in chosen) for group in groups.values())
    return f"{'+'.join(map(str, counts))} items" if sum(counts) == len(chosen) else "an item of no list"


def check_labels_for(function: Callable[..., Any]) -> bool:
    rule = "a label for each token: −100 over the prompt, then the response's own ids, then eos"
    return _check("labels_for", function, rule, mistakes.LABELS_FOR)


def check_mean_loss(function: Callable[..., Any]) -> bool:
    rule = "the sum of the losses over the sum of the tokens"
    return _check("mean_loss", function, rule, mistakes.MEAN_LOSS)


def check_label(function: Callable[..., Any]) -> bool:
    rule = "hard from τ on, easy below it, undecided where the gap is NaN: one of these three words"
    return _check("label", function, rule, mistakes.LABEL)


def check_seat_bias(function: Callable[..., Any]) -> bool:
    rule = "for each role the score in the first seat minus that in the second, averaged over roles and rows"
    print("(a row is teacher and student with the teacher first, then teacher and student with the student first)")
    return _check("seat_bias", function, rule, mistakes.SEAT_BIAS)


def check_scores(function: Callable[..., Any]) -> bool:
    rule = "the score of answer 1, then that of answer 2, each a number from 1 to 10 or None"
    return _check("scores", function, rule, mistakes.SCORES, keys=(1, 2))


def check_rouge_l_f1(function: Callable[..., Any]) -> bool:
    rule = "twice the length of the longest common subsequence, over the lengths of both lists together"
    return _check("rouge_l_f1", function, rule, mistakes.ROUGE_L_F1)


def check_not_self_contained(function: Callable[..., Any]) -> bool:
    rule = "true where a text or passage is said to be above or below, else false"
    return _check("not_self_contained", function, rule, mistakes.NOT_SELF_CONTAINED)


def check_interleave(function: Callable[..., Any]) -> bool:
    rule = "hard, easy, hard, easy, and at the end what is left of the longer one"
    return _check("interleave", function, rule, mistakes.INTERLEAVE)


def check_should_stop(function: Callable[..., Any]) -> bool:
    rule = "stop when none of the last `patience` scores is above the best of those before them"
    return _check("should_stop", function, rule, mistakes.SHOULD_STOP)


def check_relative_score(function: Callable[..., Any]) -> bool:
    rule = "the student's total over the teacher's, over the pairs that have both scores"
    return _check("relative_score", function, rule, mistakes.RELATIVE_SCORE)


def check_bootstrap(function: Callable[..., Any]) -> bool:
    rule = "the ends between which 95 % of the means of `draws` lists lie, each list as long as the first"
    return _check("bootstrap", function, rule, mistakes.BOOTSTRAP, through=_repeated, tolerance=0.24)


def _repeated(function: Callable[..., Any], values: list[float], draws: int, seed: int) -> Any:
    """The interval, or what is odd about it beside those of the same seed, of another seed and of fewer draws."""
    calls = [(draws, seed), (draws, seed), (draws, seed + 1), (draws // 100, seed)]
    found = [_plain(function(list(values), *call), ("low", "high")) for call in calls]
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in found):
        return found[0]
    once, again, other, fewer = found
    low, high = once
    odd = {
        "no width": _same(low, high, 1e-9),
        "another for the same seed": once != again,
        "not about the mean": low < high < sum(values) / len(values),
        "as wide as the values": high - low > 0.8 * (max(values) - min(values)),
        "one for all seeds": once == other,
        "one for all draws": once == fewer,
    }
    return next((what for what, found in odd.items() if found), once)


def check_hardest(function: Callable[..., Any]) -> bool:
    rule = "the ids by gap, largest first, then by id; NaN left out; the first `k` of them"
    return _check("hardest", function, rule, mistakes.HARDEST)


def check_root(function: Callable[..., Any]) -> bool:
    rule = 'go on to the parent until the parent is "": that item is the root'
    return _check("root", function, rule, mistakes.ROOT)


def check_changes(function: Callable[..., Any]) -> bool:
    rule = "learned is hard before and easy after, lost is easy before and hard after, id by id"
    return _check("changes", function, rule, mistakes.CHANGES, keys=("learned", "lost"))


def check_mean_over_seeds(function: Callable[..., Any]) -> bool:
    rule = "for each seed, the total of second minus first over the teacher's; then the mean over the seeds"
    return _check("mean_over_seeds", function, rule, mistakes.MEAN_OVER_SEEDS)
