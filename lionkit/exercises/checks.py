"""Checks of a reader's function, and of a prediction about the reader's own run: one line on what is wrong with it.

Each call of the exercise's part of `mistakes.toml` is made; a wrong answer that stands there is told by its sentence.
"""

import ast
import builtins
import copy
import math
import tomllib
from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import cache, partial
from importlib.resources import files
from itertools import islice
from numbers import Real
from operator import itemgetter
from typing import Any, NamedTuple

Function = Callable[..., Any]


class Call(NamedTuple):
    """One call as the table has it: its arguments as text and as values, the right answer, and known wrong ones."""

    text: str
    arguments: tuple[Any, ...]
    right: Any
    wrong: list[tuple[Any, str]]


@cache
def table() -> dict[str, dict[str, Any]]:
    """What `mistakes.toml` says, by exercise."""
    return tomllib.loads((files(__package__) / "mistakes.toml").read_text(encoding="utf-8"))


def calls(name: str) -> list[Call]:
    """The calls of an exercise."""
    found = []
    for row in table()[name]["calls"]:
        wrong = [(_value(answer), said) for answer, said in row["wrong"]]
        found.append(Call(row["call"], _value(f"({row['call']},)"), _value(row["right"]), wrong))
    return found


class _Names(ast.NodeTransformer):
    """Puts in place of a name what it stands for: not a number, or a class of errors."""

    def visit_Name(self, node: ast.Name) -> ast.Constant:
        return ast.Constant(float("nan") if node.id == "nan" else getattr(builtins, node.id))  # never math.nan itself


def _value(text: str) -> Any:
    return ast.literal_eval(_Names().visit(ast.parse(text, mode="eval")))


def _stub() -> None: ...


def check(name: str, function: Function) -> bool:
    """Whether the function solves the exercise; prints what it got wrong, and raises nothing."""
    return _said(name, _tried(_check, name, function))


def _said(name: str, found: Any) -> bool:
    """What a check found; where it came to an error, an answer could not be held against anything."""
    if isinstance(found, BaseException):
        print(f"{name}: the answer is of a kind that cannot be compared ({_shown(found)})")
    return found is True


def _check(name: str, function: Function) -> bool:
    told = table()[name]
    if "note" in told:
        print(told["note"])
    if getattr(function, "__code__", check.__code__).co_code == _stub.__code__.co_code:
        print(f"{name}: yours to write")
        return False
    solve = partial(_THROUGH[name], function) if name in _THROUGH else function
    tolerance = told.get("tolerance", 1e-9)

    def answer_to(call: Call) -> Any:
        return _plain(solve(*copy.deepcopy(call.arguments)), told.get("keys", ()))  # a copy: it may take from its lists

    answered = [(call, _tried(answer_to, call)) for call in calls(name)]
    wrong = [(call, answer) for call, answer in answered if not _same(answer, call.right, tolerance)]
    if not wrong:
        print(f"{name}: correct")
        return True
    known = [
        (mistake is ..., said, call, answer)
        for call, answer in wrong
        for mistake, said in call.wrong
        if (mistake is not ... or call is wrong[0][0]) and _betrays(answer, mistake, tolerance)
    ]
    _, said, call, answer = min(known, key=itemgetter(0), default=(True, told["rule"], *wrong[0]))
    stopped = [isinstance(given, BaseException) for _, given in answered]
    if all(given is None for _, given in answered):
        said = "the function returned nothing: is a `return` missing?"
    elif all(stopped) or (isinstance(answer, BaseException) and not known):
        said = "the function stopped with an error"
    gave = f"{'raised' if isinstance(answer, BaseException) else 'gave'} {_shown(answer)}"
    print(f"{name}: {said} ({_line(f'{name}({call.text}) {gave[:200]}, not {call.right!r}')})")
    return False


def predict(name: str, guess: Any, truth: Any, tolerance: float = 0) -> bool:
    """Whether a prediction of the reader's own run (a number, or a word) came true; prints it beside what came of it.

    `tolerance` is how far off a number may be. None is a prediction that was not made yet; nothing is given away then.
    """
    if guess is None:
        print(f"{name}: yours to predict")
        return False
    return _said(name, _tried(_predict, name, guess, truth, tolerance))


def _predict(name: str, guess: Any, truth: Any, tolerance: float) -> bool:
    got, found = _tried(_plain, guess), _plain(truth)
    if isinstance(got, str) and isinstance(found, str):
        got, found = got.strip().lower(), found.lower()
    right = not isinstance(got, bool) and _same(got, found, max(tolerance, 1e-9))
    shown = f"{found:.4g}" if isinstance(found, float) else found
    print(f"{name}: {'right' if right else 'not so'}: you said {_line(_shown(guess)[:60])}, your run says {shown}")
    return right


def _line(text: str) -> str:
    return " ".join(text.split())


def _shown(answer: Any) -> str:
    """An answer or error as text; of one that has none, its kind."""
    error = isinstance(answer, BaseException)
    text = _tried(str if error else repr, answer)
    kind = type(answer).__name__
    if isinstance(text, BaseException):
        return f"{kind} (which cannot be printed)"
    return ": ".join(filter(None, (kind, text))) if error else text


def _tried(function: Function, *arguments: Any) -> Any:
    """What the function answers; the error where it ends in one. It is the reader's code: only Ctrl-C passes."""
    try:
        return function(*arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return error


def _plain(answer: Any, keys: Iterable[Any] = ()) -> Any:
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
        return not isinstance(got, BaseException) and bool(got) == wanted
    if isinstance(wanted, list | tuple):
        alike = isinstance(got, list) and len(got) == len(wanted)
        return alike and all(_same(one, other, tolerance) for one, other in zip(got, wanted))
    if isinstance(wanted, int | float) and isinstance(got, int | float):
        if got != got or abs(got) > 1e300:  # NaN, or what may be too large an int for a float
            return got != got and wanted != wanted
        return math.isclose(got, wanted, rel_tol=1e-6, abs_tol=tolerance)
    return isinstance(got, type(wanted)) and bool(got == wanted)


def _betrays(got: Any, mistake: Any, tolerance: float) -> bool:
    if isinstance(got, BaseException):
        return isinstance(mistake, type) and isinstance(got, mistake)
    return mistake is ... or _same(got, mistake, tolerance)


def _picked(function: Function, groups: dict[str, list[int]], size: int) -> Any:
    """How many each list gave, fewest first: which items, and in which order, is free."""
    chosen = function(copy.deepcopy(groups), size)
    if chosen is None:
        return None
    chosen = list(_plain(chosen))
    if any(chosen.count(item) > 1 for item in chosen):
        return "an item twice"
    counts = sorted(sum(item in group for item in chosen) for group in groups.values())
    return f"{'+'.join(map(str, counts))} items" if sum(counts) == len(chosen) else "an item of no list"


def _repeated(function: Function, values: list[float], draws: int, seed: int) -> Any:
    """The interval, or what is odd about it beside those of the same seed, of another seed and of fewer draws."""
    calls = [(draws, seed), (draws, seed), (draws, seed + 1), (draws // 100, seed)]
    found = [_plain(function(list(values), *call), ("low", "high")) for call in calls]
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in found):
        return found[0]
    once, again, other, fewer = found
    low, high = once
    odd = {
        "one list": _same(low, high, 1e-9) and not _same(low, sum(values) / len(values), 1e-9),
        "no width": _same(low, high, 1e-9),
        "another for the same seed": once != again,
        "not about the mean": low < high < sum(values) / len(values),
        "as wide as the values": high - low > 0.8 * (max(values) - min(values)),
        "one for all seeds": once == other,
        "one for all draws": once == fewer,
    }
    return next((what for what, found in odd.items() if found), once)


_THROUGH: dict[str, Function] = {"spread": _picked, "bootstrap": _repeated}
"""Exercises with more than one right answer: what is called in the function's place, and makes its answers one."""
