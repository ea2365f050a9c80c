"""Wrong solutions to the exercises, by exercise: `gap__added` is one to `gap`. Each docstring names the mistake.

What stands between asterisks in a docstring is said to the reader too. Beside them, the right ones are in
`notebooks/solutions/solutions.py`.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import cycle, zip_longest
from typing import Any

import numpy as np

Score = float | None
Pair = tuple[Score, Score]


# 00 · Start here
def gap__added(first: Any, second: Any) -> Any:
    """The differences of the two orders are *added*."""
    return None if None in (*first, *second) else first[0] - first[1] + second[0] - second[1]


def gap__student_minus_teacher(first: Any, second: Any) -> Any:
    """The difference the wrong way round: not *teacher minus student*."""
    return None if None in (*first, *second) else (first[1] - first[0] + second[1] - second[0]) / 2


def gap__absolute(first: Any, second: Any) -> Any:
    """The absolute gap: it *keeps its sign* no longer."""
    return None if None in (*first, *second) else abs(first[0] - first[1] + second[0] - second[1]) / 2


def gap__absolute_in_each_order(first: Any, second: Any) -> Any:
    """The absolute difference in each order: it *keeps its sign* no longer."""
    return None if None in (*first, *second) else (abs(first[0] - first[1]) + abs(second[0] - second[1])) / 2


def gap__first_order(first: Any, second: Any) -> Any:
    """One order alone: *the second order counts too*."""
    return None if None in (*first, *second) else first[0] - first[1]


def gap__by_seat(first: Any, second: Any) -> Any:
    """The second pair read as (student, teacher): averaged *by seat*."""
    return None if None in (*first, *second) else (first[0] - first[1] + second[1] - second[0]) / 2


def gap__none_as_zero(first: Any, second: Any) -> Any:
    """A missing score *is not a 0*."""
    return sum((teacher or 0) - (student or 0) for teacher, student in (first, second)) / 2


def gap__one_order_left(first: Any, second: Any) -> Any:
    """Where one order is incomplete, the *one order alone* that is left."""
    gaps = [teacher - student for teacher, student in (first, second) if None not in (teacher, student)]
    return sum(gaps) / len(gaps) if gaps else None


def gap__means_of_what_is_there(first: Any, second: Any) -> Any:
    """The mean of each role over what is there: they do not *cover the same orders*."""
    roles = [[score for score in role if score is not None] for role in zip(first, second)]
    return sum(roles[0]) / len(roles[0]) - sum(roles[1]) / len(roles[1])


def gap__nan(first: Any, second: Any) -> Any:
    """NaN where None is asked for, *not as NaN*."""
    found = np.array([first, second], dtype=float)
    return float((found[:, 0] - found[:, 1]).mean())


def gap__no_look(first: Any, second: Any) -> Any:
    """No look at whether *a score may be None*."""
    return (first[0] + second[0]) / 2 - (first[1] + second[1]) / 2


def gap__looks_at_the_last(first: Any, second: Any) -> Any:
    """Looks for None in the second order only, and returns 0 for the first: *any of the four scores*."""
    if None in second:
        return None
    return (first[0] - first[1] + second[0] - second[1]) / 2 if None not in first else 0


def gap__floored(first: Any, second: Any) -> Any:
    """Divided with //, though *half points count*."""
    return None if None in (*first, *second) else (first[0] - first[1] + second[0] - second[1]) // 2


def gap__floored_by_role(first: Any, second: Any) -> Any:
    """Each mean cut with //, though *half points* count."""
    return None if None in (*first, *second) else (first[0] + second[0]) // 2 - (first[1] + second[1]) // 2


def gap__rounded(first: Any, second: Any) -> Any:
    """The gap rounded: *half points count: neither // nor round*."""
    return None if None in (*first, *second) else round((first[0] - first[1] + second[0] - second[1]) / 2)


def gap__zero_is_none(first: Any, second: Any) -> Any:
    """*A gap of 0* counts as missing."""
    return None if None in (*first, *second) else (first[0] - first[1] + second[0] - second[1]) / 2 or None


def gap__looks_at_two(first: Any, second: Any) -> Any:
    """Looks for None in two places, not in *any of the four*."""
    if first[0] is None or second[1] is None:
        return None
    return (first[0] - first[1] + second[0] - second[1]) / 2


def gap__looks_at_teachers(first: Any, second: Any) -> Any:
    """Looks for None of the teacher only: *a score may be None*."""
    if first[0] is None or second[0] is None:
        return None
    return (first[0] - first[1] + second[0] - second[1]) / 2


def gap__looks_at_students(first: Any, second: Any) -> Any:
    """Looks for None of the student only, not at *any of the four*."""
    if first[1] is None or second[1] is None:
        return None
    return (first[0] - first[1] + second[0] - second[1]) / 2


def dollars__exchanged(prompt: int, reply: int, price_prompt: float, price_reply: float) -> float:
    """The prices are *exchanged*."""
    return (prompt * price_reply + reply * price_prompt) / 1e6


def dollars__a_thousand(prompt: int, reply: int, price_prompt: float, price_reply: float) -> float:
    """Prices for *a thousand* tokens."""
    return (prompt * price_prompt + reply * price_reply) / 1e3


def dollars__a_token(prompt: int, reply: int, price_prompt: float, price_reply: float) -> float:
    """Prices for a token: *for a million*, *not for one*."""
    return prompt * price_prompt + reply * price_reply


def dollars__prompt_only(prompt: int, reply: int, price_prompt: float, price_reply: float) -> float:
    """*The reply is paid for too*."""
    return prompt * price_prompt / 1e6


def dollars__prices_added(prompt: int, reply: int, price_prompt: float, price_reply: float) -> float:
    """All tokens at both prices *added*."""
    return (prompt + reply) * (price_prompt + price_reply) / 1e6


def dollars__mean_price(prompt: int, reply: int, price_prompt: float, price_reply: float) -> float:
    """All tokens at the *mean* of the prices."""
    return (prompt + reply) * (price_prompt + price_reply) / 2 / 1e6


def dollars__rounded(prompt: int, reply: int, price_prompt: float, price_reply: float) -> float:
    """*Rounded* to cents."""
    return round((prompt * price_prompt + reply * price_reply) / 1e6, 2)


def dollars__rounded_to_four_places(prompt: int, reply: int, price_prompt: float, price_reply: float) -> float:
    """*Rounded* to a hundredth of a cent."""
    return round((prompt * price_prompt + reply * price_reply) / 1e6, 4)


# 01 · The pools
def no_input__exact(text: str) -> str:
    """The *capitals* are not evened out."""
    return "" if text in ("", "N/A", "<noinput>") else text


def no_input__two_spellings(text: str) -> str:
    """One of the *three spellings* is missing."""
    return "" if text.lower() in ("", "n/a") else text


def no_input__lowered(text: str) -> str:
    """The answer is in lower case: an input *keeps its capitals*."""
    text = text.lower()
    return "" if text in ("", "n/a", "<noinput>") else text


def no_input__within(text: str) -> str:
    """The spelling in a text that *holds it within*."""
    return "" if not text or re.search("n/a|<noinput>", text.lower()) else text


def no_input__replaced(text: str) -> str:
    """The spelling is cut out of a text that *holds it within*."""
    return re.sub("n/a|<noinput>", "", text, flags=re.IGNORECASE)


def no_input__substring(text: str) -> str:
    """Asks whether the text is within a text of spellings: *`in` finds a text within a text*."""
    return "" if text.lower() in "n/a <noinput>" else text


def no_input__substring_of_one(text: str) -> str:
    """The same with *`in`* for one spelling, which *finds a text within a text*."""
    return "" if text.lower() == "n/a" or text.lower() in "<noinput>" else text


def no_input__prefix(text: str) -> str:
    """A pattern without an end, for a text that *begins with it*."""
    return "" if re.match("(?i)n/a|<noinput>", text) else text


def no_input__startswith(text: str) -> str:
    """startswith, for a text that *begins with it*."""
    return "" if text.lower().startswith(("n/a", "<noinput>")) else text


def no_input__none(text: str) -> str | None:
    """None in place of *the empty text*."""
    return None if text.lower() in ("", "n/a", "<noinput>") else text


def no_input__begins_with_none(text: str) -> str:
    """Everything that *begins with None* is empty."""
    return "" if text.lower() in ("", "n/a", "<noinput>") or text.lower().startswith("none") else text


def spread__in_a_row(groups: dict[str, list[int]], size: int) -> list[int]:
    """All lists in a row, so that *the first list gave all*."""
    return [item for group in groups.values() for item in group][:size]


def spread__quota(groups: dict[str, list[int]], size: int) -> list[int]:
    """An equal quota each, without the remainder: *fewer than `size`*."""
    return [item for group in groups.values() for item in group[: size // len(groups)]]


def spread__quota_rounded_up(groups: dict[str, list[int]], size: int) -> list[int]:
    """A *quota rounded up*, then cut."""
    return [item for group in groups.values() for item in group[: -(-size // len(groups))]][:size]


def spread__longest_first(groups: dict[str, list[int]], size: int) -> list[int]:
    """From the list that has most left: *the longest list first*."""
    left: list[list[int]] = [list(group) for group in groups.values()]
    return [max(left, key=len).pop() for _ in range(size)]


def spread__remainder_to_one(groups: dict[str, list[int]], size: int) -> list[int]:
    """What is left over is taken *all* from *one list*."""
    chosen = [item for group in groups.values() for item in group[: size // len(groups)]]
    rest = [item for group in reversed(groups.values()) for item in group if item not in chosen]
    rest = [item for item in next(iter(groups.values())) if item not in chosen] + rest
    return chosen + rest[: size - len(chosen)]


def spread__shortest(groups: dict[str, list[int]], size: int) -> list[int]:
    """zip stops with *the shortest list*, so *fewer than `size`* are picked."""
    return [item for turn in zip(*groups.values()) for item in turn][:size]


def spread__filler(groups: dict[str, list[int]], size: int) -> list[Any]:
    """zip_longest puts a *filler* where an empty list gives nothing."""
    return [item for turn in zip_longest(*groups.values()) for item in turn][:size]


def spread__twice(groups: dict[str, list[int]], size: int) -> list[int]:
    """Drawn with replacement: an item is *picked twice*."""
    rng, lists = random.Random(0), cycle(groups.values())
    return [rng.choice(next(lists)) for _ in range(size)]


def spread__empty_list(groups: dict[str, list[int]], size: int) -> list[int]:
    """Takes from *a list* that *was empty*."""
    lists = cycle(groups.values())
    return [next(lists).pop(0) for _ in range(size)]


def spread__all(groups: dict[str, list[int]], size: int) -> list[int]:
    """*`size`* is not looked at."""
    return [item for group in groups.values() for item in group]


# 02 · Imitation
def labels_for__no_eos(prompt_ids: list[int], response_ids: list[int], eos: int) -> list[int]:
    """*eos is learned too*, and here it is missing."""
    return [-100] * len(prompt_ids) + response_ids


def labels_for__eos_masked(prompt_ids: list[int], response_ids: list[int], eos: int) -> list[int]:
    """The eos at the end is *masked from the loss*."""
    return [-100] * len(prompt_ids) + response_ids + [-100]


def labels_for__eos_masked_inside(prompt_ids: list[int], response_ids: list[int], eos: int) -> list[int]:
    """An eos *inside the response* is masked, by its value."""
    return [-100] * len(prompt_ids) + [-100 if token == eos else token for token in response_ids] + [eos]


def labels_for__pad_is_eos(prompt_ids: list[int], response_ids: list[int], eos: int) -> list[int]:
    """Every eos is masked, as padding would be: *eos is learned too*."""
    return [-100] * len(prompt_ids) + [-100 if token == eos else token for token in [*response_ids, eos]]


def labels_for__prompt_learned(prompt_ids: list[int], response_ids: list[int], eos: int) -> list[int]:
    """*The prompt* is *not learned*, and here it is."""
    return prompt_ids + response_ids + [eos]


def labels_for__one_too_many(prompt_ids: list[int], response_ids: list[int], eos: int) -> list[int]:
    """The mask is *one too long*."""
    return ([-100] * (len(prompt_ids) + 1) + (response_ids + [eos])[1:])[: len(prompt_ids) + len(response_ids) + 1]


def labels_for__one_too_few(prompt_ids: list[int], response_ids: list[int], eos: int) -> list[int]:
    """The mask is *one too short*."""
    return [-100] * (len(prompt_ids) - 1) + prompt_ids[-1:] + response_ids + [eos]


def labels_for__shifted(prompt_ids: list[int], response_ids: list[int], eos: int) -> list[int]:
    """The labels are shifted (*do not shift*) as the model does it again."""
    return ([-100] * len(prompt_ids) + response_ids + [eos, -100])[1:]


def labels_for__response_only(prompt_ids: list[int], response_ids: list[int], eos: int) -> list[int]:
    """Labels for the response only: not *as many as tokens*."""
    return response_ids + [eos]


def labels_for__zero(prompt_ids: list[int], response_ids: list[int], eos: int) -> list[int]:
    """Masked with 0, where *only −100* is passed over."""
    return [0] * len(prompt_ids) + response_ids + [eos]


def mean_loss__mean_of_means(batches: list[tuple[float, int]]) -> float:
    """A *mean of means*."""
    return sum(total / tokens for total, tokens in batches) / len(batches)


def mean_loss__mean_of_means_without_empty_ones(batches: list[tuple[float, int]]) -> float:
    """A *mean of means*, careful at a batch without tokens."""
    return sum(total / max(tokens, 1) for total, tokens in batches) / len(batches)


def mean_loss__by_batches(batches: list[tuple[float, int]]) -> float:
    """The sum over *the number of batches*."""
    return sum(total for total, _ in batches) / len(batches)


def mean_loss__means_added(batches: list[tuple[float, int]]) -> float:
    """The means *added*."""
    return sum(total / max(tokens, 1) for total, tokens in batches)


def mean_loss__undivided(batches: list[tuple[float, int]]) -> float:
    """The sum, not *a loss a token*."""
    return sum(total for total, _ in batches)


def mean_loss__weighted_again(batches: list[tuple[float, int]]) -> float:
    """The sums weighted by tokens, as if they were means: they *count twice*."""
    return sum(total * tokens for total, tokens in batches) / sum(tokens for _, tokens in batches)


def mean_loss__floored(batches: list[tuple[float, int]]) -> float:
    """Divided with // : *keep the fraction*."""
    return sum(total for total, _ in batches) // sum(tokens for _, tokens in batches)


# 03 · Discrimination
def label__above(gap: float, tau: float) -> str:
    """> in place of *>=* at τ."""
    return "undecided" if math.isnan(gap) else "hard" if gap > tau else "easy"


def label__reversed(gap: float, tau: float) -> str:
    """The comparison *the wrong way round*."""
    return "undecided" if math.isnan(gap) else "easy" if gap >= tau else "hard"


def label__nan_is_easy(gap: float, tau: float) -> str:
    """*NaN* falls through to easy."""
    return "hard" if gap >= tau else "easy"


def label__nan_is_hard(gap: float, tau: float) -> str:
    """*NaN* falls through to hard."""
    return "easy" if gap < tau else "hard"


def label__nan_by_equality(gap: float, tau: float) -> str:
    """Asks for NaN with *==*, which is never true."""
    return "undecided" if gap == float("nan") else "hard" if gap >= tau else "easy"


def label__nan_by_identity(gap: float, tau: float) -> str:
    """Asks for NaN with *`is`*, which finds one NaN of many."""
    return "undecided" if gap is math.nan else "hard" if gap >= tau else "easy"


def label__nan_in_a_list(gap: float, tau: float) -> str:
    """Asks for NaN with in, which asks `==` and *`is`*."""
    return "undecided" if gap in (math.nan, None) else "hard" if gap >= tau else "easy"


def label__rounded_to_a_tenth(gap: float, tau: float) -> str:
    """The gap is *round*ed to a tenth."""
    return "undecided" if math.isnan(gap) else "hard" if round(gap, 1) >= tau else "easy"


def label__cut(gap: float, tau: float) -> str:
    """The gap is cut to a *whole number*, though *fractions count*."""
    return "undecided" if math.isnan(gap) else "hard" if int(gap) >= tau else "easy"


def label__absolute(gap: float, tau: float) -> str:
    """The *absolute value* of the gap."""
    return "undecided" if math.isnan(gap) else "hard" if abs(gap) >= tau else "easy"


def label__rounded(gap: float, tau: float) -> str:
    """The gap is *round*ed first."""
    return "undecided" if math.isnan(gap) else "hard" if round(gap) >= tau else "easy"


def label__fixed(gap: float, tau: float) -> str:
    """1 in place of *`tau`*."""
    return "undecided" if math.isnan(gap) else "hard" if gap >= min(1, tau) else "easy"


def label__zero_undecided(gap: float, tau: float) -> str:
    """*A gap of 0* counts as missing, as it counts as false."""
    return "undecided" if not gap or math.isnan(gap) else "hard" if gap >= tau else "easy"


Rows = Sequence[tuple[float, float, float, float]]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def seat_bias__teacher_only(rows: Rows) -> float:
    """*The teacher's gain alone*."""
    return _mean([t1 - t2 for t1, _, t2, _ in rows])


def seat_bias__student_only(rows: Rows) -> float:
    """*The student's gain alone*."""
    return _mean([s1 - s2 for _, s2, _, s1 in rows])


def seat_bias__first_order(rows: Rows) -> float:
    """First seat minus second in *one order alone*."""
    return _mean([t1 - s2 for t1, s2, _, _ in rows])


def seat_bias__added(rows: Rows) -> float:
    """The gains of both roles *added*: they *are averaged*."""
    return _mean([t1 - t2 + s1 - s2 for t1, s2, t2, s1 in rows])


def seat_bias__absolute(rows: Rows) -> float:
    """*Absolute values* of the gains."""
    return _mean([(abs(t1 - t2) + abs(s1 - s2)) / 2 for t1, s2, t2, s1 in rows])


def seat_bias__absolute_rows(rows: Rows) -> float:
    """*Absolute values* of the rows."""
    return _mean([abs(t1 - t2 + s1 - s2) / 2 for t1, s2, t2, s1 in rows])


def seat_bias__absolute_mean(rows: Rows) -> float:
    """The absolute value of the mean, which *keeps its sign*."""
    return abs(_mean([(t1 - t2 + s1 - s2) / 2 for t1, s2, t2, s1 in rows]))


def seat_bias__reversed(rows: Rows) -> float:
    """Second seat minus first: *the reverse*."""
    return -_mean([(t1 - t2 + s1 - s2) / 2 for t1, s2, t2, s1 in rows])


def seat_bias__student_columns(rows: Rows) -> float:
    """The student's columns exchanged: it *sits first in the second order*."""
    return _mean([(t1 - t2 + s1 - s2) / 2 for t1, s1, t2, s2 in rows])


def seat_bias__quality(rows: Rows) -> float:
    """Teacher minus student: *how much better* it is."""
    return _mean([(t1 - s2 + t2 - s1) / 2 for t1, s2, t2, s1 in rows])


def seat_bias__half(rows: Rows) -> float:
    """*Half* the difference, as if from a neutral seat."""
    return _mean([(t1 - t2 + s1 - s2) / 4 for t1, s2, t2, s1 in rows])


def seat_bias__floored(rows: Rows) -> float:
    """Divided with //, where it *may be a fraction of a point*."""
    return _mean([(t1 - t2 + s1 - s2) // 2 for t1, s2, t2, s1 in rows])


def seat_bias__rounded(rows: Rows) -> float:
    """Rounded, where it *may be a fraction of a point*."""
    return round(_mean([(t1 - t2 + s1 - s2) / 2 for t1, s2, t2, s1 in rows]))


def seat_bias__second_order(rows: Rows) -> float:
    """First seat minus second in the *one order alone* that comes second."""
    return _mean([s1 - t2 for _, _, t2, s1 in rows])


def seat_bias__median(rows: Rows) -> float:
    """The median of the rows, where *the mean* is asked for."""
    return float(np.median([(t1 - t2 + s1 - s2) / 2 for t1, s2, t2, s1 in rows]))


def _scored(values: Sequence[str | float | None]) -> tuple[float | None, ...]:
    numbers = [None if value in (None, "") else float(value) for value in values]  # type: ignore[arg-type]
    return tuple(number if number is not None and 1 <= number <= 10 else None for number in numbers)


def _found(reply: str, number: str = r"\d+(?:\.\d+)?", which: int = -1) -> list[str | None]:
    found = [re.findall(rf"Score of answer {seat}: ({number})", reply) for seat in (1, 2)]
    return [values[which] if values else None for values in found]


def scores__first_two_numbers(reply: str) -> Any:
    """*The first two numbers* of the reply."""
    return _scored((re.findall(r"\d+(?:\.\d+)?", reply) + [None, None])[:2])


def scores__first_match(reply: str) -> Any:
    """The first match, which may be *a quotation*."""
    return _scored(_found(reply, which=0))


def scores__last_only(reply: str) -> Any:
    """*Only the last score* is read, for both."""
    return _scored(re.findall(r"Score of answer \d: (\d+(?:\.\d+)?)", reply)[-1:] * 2)


def scores__by_place(reply: str) -> Any:
    """The last two scores in their order: *by the place*."""
    return _scored(re.findall(r"Score of answer \d: ([\d.]+|N/A)", reply.replace("N/A", "0"))[-2:])


def scores__whole_numbers(reply: str) -> Any:
    """Whole numbers only, where *a score may have decimals*."""
    return _scored(_found(reply, r"\d+"))


def scores__one_digit(reply: str) -> Any:
    """One digit only, where a score *may have two digits*."""
    return _scored(_found(reply, r"\d(?:\.\d+)?"))


def scores__any_number(reply: str) -> Any:
    """No look at the scale: *outside 1 to 10 it is no score*."""
    return [None if value is None else float(value) for value in _found(reply)]


def scores__clamped(reply: str) -> Any:
    """*Clamp*ed to the scale."""
    return [None if value is None else min(max(float(value), 1.0), 10.0) for value in _found(reply)]


def scores__both_or_none(reply: str) -> Any:
    """*Only the score that is outside* is None, and here both are."""
    found = _scored(_found(reply))
    return (None, None) if None in found else found


def scores__ends_left_out(reply: str) -> Any:
    """< in place of <=: *1 and 10 are on the scale*."""
    return [None if value is None or not 1 < value < 10 else value for value in _scored(_found(reply))]


def scores__texts(reply: str) -> Any:
    """Texts where *numbers are asked for*."""
    return [None if value is None or not 1 <= float(value) <= 10 else value for value in _found(reply)]


def scores__not_found(reply: str) -> Any:
    """Reads the match without a look at *whether anything was found*."""
    return _scored([re.findall(rf"Score of answer {seat}: (\d+(?:\.\d+)?)", reply)[-1] for seat in (1, 2)])


def scores__nan(reply: str) -> Any:
    """NaN where None is asked for, *not as NaN*."""
    return [float("nan") if value is None else value for value in _scored(_found(reply))]


def scores__zero(reply: str) -> Any:
    """*The scale begins at 1*, not at 0."""
    return [None if value is None or not 0 <= float(value) <= 10 else float(value) for value in _found(reply)]


def scores__filtered_first(reply: str) -> Any:
    """Those in 1 to 10 first, then the last of them: *take it first, then look at the scale*."""
    found = [re.findall(rf"Score of answer {seat}: (\d+(?:\.\d+)?)", reply) for seat in (1, 2)]
    kept = [[float(value) for value in values if 1 <= float(value) <= 10] for values in found]
    return [values[-1] if values else None for values in kept]


def scores__two_digits(reply: str) -> Any:
    """Two digits at most of a number, which *is read whole*."""
    return _scored(_found(reply, r"\d{1,2}(?:\.\d+)?"))


def scores__no_sign(reply: str) -> Any:
    """Whatever stands before the digits is passed over: *-3 is no 3*."""
    found = [re.findall(rf"Score of answer {seat}: -?(\d+(?:\.\d+)?)", reply) for seat in (1, 2)]
    return _scored([values[-1] if values else None for values in found])


def scores__of_two_lines(reply: str) -> Any:
    """Counts on two lines, without a look at *whether anything was found*."""
    one, two = sorted(line.rpartition(": ")[::2] for line in reply.splitlines()[-2:])
    return _scored([score if re.fullmatch(r"[\d.]+", score) else None for _, score in (one, two)])


# 04 · Generation
def _subsequence(a: list[str], b: list[str]) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        after = [0]
        for j, y in enumerate(b):
            after.append(row[j] + 1 if x == y else max(row[j + 1], after[j]))
        row = after
    return row[-1]


def rouge_l_f1__substring(a: list[str], b: list[str]) -> float:
    """The longest *common substring*."""
    match = SequenceMatcher(None, a, b, autojunk=False).find_longest_match()
    return 2 * match.size / (len(a) + len(b))


def rouge_l_f1__bag(a: list[str], b: list[str]) -> float:
    """A *bag of words*."""
    return 2 * sum((Counter(a) & Counter(b)).values()) / (len(a) + len(b))


def rouge_l_f1__sets(a: list[str], b: list[str]) -> float:
    """Sets: a *bag of words* without repetitions."""
    return 2 * len(set(a) & set(b)) / (len(set(a)) + len(set(b)))


def rouge_l_f1__contained(a: list[str], b: list[str]) -> float:
    """Counts the words of a that are in b: a *bag of words*."""
    return 2 * sum(word in b for word in a) / (len(a) + len(b))


def rouge_l_f1__greedy(a: list[str], b: list[str]) -> float:
    """Each word takes *the first match* that is left."""
    at = length = 0
    for word in a:
        if word in b[at:]:
            at, length = b.index(word, at) + 1, length + 1
    return 2 * length / (len(a) + len(b))


def rouge_l_f1__greedy_over_b(a: list[str], b: list[str]) -> float:
    """Each word of b takes *the first match* that is left."""
    return rouge_l_f1__greedy(b, a)


def rouge_l_f1__difflib(a: list[str], b: list[str]) -> float:
    """difflib's ratio: it takes the longest block first, where *the first match is not always the best*."""
    return SequenceMatcher(None, a, b).ratio()


def _dynamic(a: list[str], b: list[str], cell: Any) -> float:
    """F1 from a table whose cells are `cell(up, left, diagonal, equal)`."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = cell(table[i][j + 1], table[i + 1][j], table[i][j], x == y)
    return 2 * table[-1][-1] / (len(a) + len(b))


def rouge_l_f1__no_diagonal(a: list[str], b: list[str]) -> float:
    """Equal words go on from the larger neighbour, not *from the diagonal*."""
    return _dynamic(a, b, lambda up, left, diagonal, equal: max(up, left) + equal)


def rouge_l_f1__leaves_out_on_one_side(a: list[str], b: list[str]) -> float:
    """Leaves a word of a out, never one of b: *on either side*."""
    return _dynamic(a, b, lambda up, left, diagonal, equal: diagonal + 1 if equal else up)


def rouge_l_f1__leaves_out_on_the_other_side(a: list[str], b: list[str]) -> float:
    """Leaves a word of b out, never one of a, and so does not *keep the longer*."""
    return _dynamic(a, b, lambda up, left, diagonal, equal: diagonal + 1 if equal else left)


def rouge_l_f1__rounded(a: list[str], b: list[str]) -> float:
    """*Rounded* to two places."""
    return round(2 * _subsequence(a, b) / (len(a) + len(b)), 2)


def rouge_l_f1__pairs_of_words(a: list[str], b: list[str]) -> float:
    """Pairs of neighbours, which are *ROUGE-2*."""
    one, two = (Counter(zip(words, words[1:])) for words in (a, b))
    return 2 * (one & two).total() / (one.total() + two.total()) if one and two else 0.0


def rouge_l_f1__precision(a: list[str], b: list[str]) -> float:
    """Precision: *one side alone*, the other one."""
    return _subsequence(a, b) / len(a)


def rouge_l_f1__by_place(a: list[str], b: list[str]) -> float:
    """Words that stand *at equal places*."""
    return 2 * sum(x == y for x, y in zip(a, b)) / (len(a) + len(b))


def rouge_l_f1__recall(a: list[str], b: list[str]) -> float:
    """Recall: *one side alone*."""
    return _subsequence(a, b) / len(b)


def rouge_l_f1__jaccard(a: list[str], b: list[str]) -> float:
    """A share of the union (*Jaccard*)."""
    return _subsequence(a, b) / (len(a) + len(b) - _subsequence(a, b))


def rouge_l_f1__arithmetic(a: list[str], b: list[str]) -> float:
    """The *arithmetic* mean of precision and recall."""
    return (_subsequence(a, b) / len(a) + _subsequence(a, b) / len(b)) / 2


def rouge_l_f1__once(a: list[str], b: list[str]) -> float:
    """The length once, where it *counts twice*."""
    return _subsequence(a, b) / (len(a) + len(b))


def rouge_l_f1__nothing_in_common(a: list[str], b: list[str]) -> float:
    """Divides by *precision plus recall*, which may be 0."""
    precision, recall = _subsequence(a, b) / len(a), _subsequence(a, b) / len(b)
    return 2 * precision * recall / (precision + recall)


def not_self_contained__place_alone(text: str) -> bool:
    """*above alone* is enough."""
    return re.search("above|below", text.lower()) is not None


def not_self_contained__noun_alone(text: str) -> bool:
    """A *text* or passage is enough, even one *to be written*."""
    return re.search("text|passage", text.lower()) is not None


def not_self_contained__both_somewhere(text: str) -> bool:
    """Both words somewhere, not *next to each other*."""
    return re.search("(text|passage).*(above|below)", text.lower()) is not None


def not_self_contained__two_phrases(text: str) -> bool:
    """The two phrases of the task only, not *each noun* with *each place*."""
    return "the text above" in text.lower() or "the passage below" in text.lower()


def not_self_contained__capitals(text: str) -> bool:
    """*Capitals* make a difference."""
    return re.search(r"\b(text|passage) (above|below)\b", text) is not None


def not_self_contained__with_article(text: str) -> bool:
    """Wants the article too, though *no article need stand before*."""
    return re.search("(?i)(the )(text|passage) (above|below)", text) is not None


def not_self_contained__no_brackets(text: str) -> bool:
    """A choice without *brackets of its own*."""
    return re.search("(text|passage) above|below", text.lower()) is not None


def not_self_contained__reversed(text: str) -> bool:
    """True for what is self-contained; but *the text that is spoken of* is not there."""
    return re.search(r"\b(text|passage) (above|below)\b", text.lower()) is None


# 05 · The adversarial loop
def interleave__one_after_the_other(hard: list[Any], easy: list[Any]) -> list[Any]:
    """*One after the other*."""
    return hard + easy


def interleave__easy_first(hard: list[Any], easy: list[Any]) -> list[Any]:
    """Easy first, where *hard comes first*."""
    paired = min(len(hard), len(easy))
    return [item for pair in zip(easy, hard) for item in pair] + hard[paired:] + easy[paired:]


def interleave__lost_tail(hard: list[Any], easy: list[Any]) -> list[Any]:
    """*The tail* is lost."""
    return [item for pair in zip(hard, easy) for item in pair]


def interleave__filler(hard: list[Any], easy: list[Any]) -> list[Any]:
    """None at *a place without an item*."""
    return [item for pair in zip_longest(hard, easy) for item in pair]


def interleave__falsy(hard: list[Any], easy: list[Any]) -> list[Any]:
    """Leaves out what counts as false: *0 is an item*."""
    return [item for pair in zip_longest(hard, easy) for item in pair if item]


def interleave__no_repetition(hard: list[Any], easy: list[Any]) -> list[Any]:
    """Leaves out what *may come twice*."""
    paired = min(len(hard), len(easy))
    mixed = [item for pair in zip(hard, easy) for item in pair] + hard[paired:] + easy[paired:]
    return list(dict.fromkeys(mixed))


def interleave__one_item_of_the_tail(hard: list[Any], easy: list[Any]) -> list[Any]:
    """One item of *the tail* only."""
    paired = min(len(hard), len(easy))
    mixed = [item for pair in zip(hard, easy) for item in pair]
    return mixed + (hard[paired:] or easy[paired:])[: 1 if len(hard) > len(easy) else None]


def interleave__begun_again(hard: list[Any], easy: list[Any]) -> list[Any]:
    """The shorter one is *begun again*."""
    length = max(len(hard), len(easy))
    turns = zip(range(length), cycle(hard or easy), cycle(easy or hard))
    return [item for _, one, other in turns for item in (one, other)]


def interleave__hard_is_longer(hard: list[Any], easy: list[Any]) -> list[Any]:
    """Counts on an item of easy for each of hard, where *either may be the longer one*."""
    return [item for i in range(len(hard)) for item in (hard[i], easy[i])] + easy[len(hard) :]


def should_stop__last_only(scores: list[float], patience: int) -> bool:
    """Only *the last score alone* is read."""
    return len(scores) > patience and scores[-1] <= max(scores[:-patience])


def should_stop__any(scores: list[float], patience: int) -> bool:
    """Enough that any of the last is no better, though *one of the last* was."""
    return len(scores) > patience and min(scores[-patience:]) <= max(scores[:-patience])


def should_stop__first_of_the_last(scores: list[float], patience: int) -> bool:
    """Reads *the first of them alone*."""
    return len(scores) > patience and scores[-patience] <= max(scores[:-patience])


def should_stop__counter(scores: list[float], patience: int) -> bool:
    """Counts from the start and stops at *a stretch without a better one that is over*."""
    best, since = -math.inf, 0
    for score in scores:
        best, since = (score, 0) if score > best else (best, since + 1)
        if since >= patience:
            return True
    return False


def should_stop__one_more(scores: list[float], patience: int) -> bool:
    """Off by one: waits for one more than *`patience`*."""
    return len(scores) > patience + 1 and max(scores[-patience - 1 :]) <= max(scores[: -patience - 1])


def should_stop__strict(scores: list[float], patience: int) -> bool:
    """< in place of <=: one that *equals the best* counts as better."""
    return len(scores) > patience and max(scores[-patience:]) < max(scores[:-patience])


def should_stop__window(scores: list[float], patience: int) -> bool:
    """Compares with *a neighbour*: the window before, not all before."""
    return len(scores) > patience and max(scores[-patience:]) <= max(scores[-2 * patience : -patience])


def should_stop__falls(scores: list[float], patience: int) -> bool:
    """Compares with *a neighbour*: stops only where the scores fall."""
    last = scores[-patience - 1 :]
    return len(scores) > patience and all(b <= a for a, b in zip(last, last[1:]))


def should_stop__first(scores: list[float], patience: int) -> bool:
    """Compares *with the first* score."""
    return len(scores) > patience and max(scores[-patience:]) <= scores[0]


def should_stop__worst(scores: list[float], patience: int) -> bool:
    """Compares with *the worst* before."""
    return len(scores) > patience and max(scores[-patience:]) <= min(scores[:-patience])


def should_stop__patience_of_two(scores: list[float], patience: int) -> bool:
    """Two in place of *`patience`*."""
    return len(scores) > 2 and max(scores[-2:]) <= max(scores[:-2])


def should_stop__too_early(scores: list[float], patience: int) -> bool:
    """Stops where *there is no best to compare with*."""
    return max(scores[-patience:]) <= max(scores[:-patience], default=1.0)


def should_stop__no_look(scores: list[float], patience: int) -> bool:
    """Fails where *there is no best to compare with*."""
    return max(scores[-patience:]) <= max(scores[:-patience])


def should_stop__reversed(scores: list[float], patience: int) -> bool:
    """Stops while the scores *still rise*."""
    return len(scores) > patience and max(scores[-patience:]) > max(scores[:-patience])


# 06 · Evaluation
Pairs = list[Pair]


def _both(pairs: Pairs) -> list[tuple[float, float]]:
    return [(teacher, student) for teacher, student in pairs if teacher is not None and student is not None]


def relative_score__mean_of_ratios(pairs: Pairs) -> float:
    """The *mean of the ratios*."""
    return _mean([student / teacher for teacher, student in _both(pairs)])


def relative_score__none_as_zero(pairs: Pairs) -> float:
    """*None* counted as *0*."""
    return sum(student or 0 for _, student in pairs) / sum(teacher or 0 for teacher, _ in pairs)


def relative_score__students_none_as_zero(pairs: Pairs) -> float:
    """*None* of the student counted as *0*, pairs without the teacher left out."""
    there = [(teacher, student or 0) for teacher, student in pairs if teacher is not None]
    return sum(student for _, student in there) / sum(teacher for teacher, _ in there)


def relative_score__other_items(pairs: Pairs) -> float:
    """The teacher's total over the whole pairs only: the totals *cover different items*."""
    return sum(student or 0 for _, student in pairs) / sum(teacher for teacher, _ in _both(pairs))


def relative_score__nan(pairs: Pairs) -> float:
    """*NaN* kept in the sums."""
    table = np.array(pairs, dtype=float)
    return float(table[:, 1].sum() / table[:, 0].sum())


def relative_score__no_look(pairs: Pairs) -> Any:
    """No look at whether *a score may be None*."""
    return sum(student for _, student in pairs) / sum(teacher for teacher, _ in pairs)  # type: ignore[misc]


def relative_score__upside_down(pairs: Pairs) -> float:
    """The fraction *upside down*."""
    return sum(teacher for teacher, _ in _both(pairs)) / sum(student for _, student in _both(pairs))


def relative_score__difference(pairs: Pairs) -> float:
    """A *mean difference*."""
    return _mean([student - teacher for teacher, student in _both(pairs)])


def relative_score__kept_up(pairs: Pairs) -> float:
    """*How often* the student keeps up."""
    return _mean([student >= teacher for teacher, student in _both(pairs)])


def relative_score__rounded(pairs: Pairs) -> float:
    """*Round*ed to a hundredth."""
    return round(sum(student for _, student in _both(pairs)) / sum(teacher for teacher, _ in _both(pairs)), 2)


def relative_score__at_most_one(pairs: Pairs) -> float:
    """Cut at 1, though it *may be ahead of its teacher*."""
    return min(1.0, sum(student for _, student in _both(pairs)) / sum(teacher for teacher, _ in _both(pairs)))


def _means(values: list[float], draws: int, rng: random.Random) -> list[float]:
    return sorted(_mean(rng.choices(values, k=len(values))) for _ in range(draws))


def bootstrap__ninety_per_cent(values: list[float], draws: int, seed: int) -> Any:
    """The *5th to 95th* percentile."""
    means = _means(values, draws, random.Random(seed))
    return means[int(0.05 * draws)], means[int(0.95 * draws)]


def bootstrap__no_seed(values: list[float], draws: int, seed: int) -> Any:
    """*The seed is ignored*: another interval each time."""
    means = _means(values, draws, random.Random())
    return means[int(0.025 * draws)], means[int(0.975 * draws)]


def bootstrap__fixed_seed(values: list[float], draws: int, seed: int) -> Any:
    """*The seed is ignored*: the same interval for all."""
    means = _means(values, draws, random.Random(0))
    return means[int(0.025 * draws)], means[int(0.975 * draws)]


def bootstrap__median(values: list[float], draws: int, seed: int) -> Any:
    """Medians, where *it is not the mean that is taken*."""
    drawn = np.random.default_rng(seed).choice(values, (draws, len(values)))
    return np.percentile(np.median(drawn, axis=1), [2.5, 97.5])


def bootstrap__no_replacement(values: list[float], draws: int, seed: int) -> Any:
    """Drawn *without replacement*."""
    rng = random.Random(seed)
    means = sorted(_mean(rng.sample(values, k=len(values))) for _ in range(draws))
    return means[int(0.025 * draws)], means[int(0.975 * draws)]


def bootstrap__seeded_each_time(values: list[float], draws: int, seed: int) -> Any:
    """Seeded before each list, so that *every list is the same*."""
    means = sorted(_mean(random.Random(seed).choices(values, k=len(values))) for _ in range(draws))
    return means[int(0.025 * draws)], means[int(0.975 * draws)]


def bootstrap__of_values(values: list[float], draws: int, seed: int) -> Any:
    """Percentiles of *the values*, not of the means."""
    drawn = np.random.default_rng(seed).choice(values, (draws, len(values)))
    return np.percentile(drawn, [2.5, 97.5])


def bootstrap__shares(values: list[float], draws: int, seed: int) -> Any:
    """Shares where np.percentile counts *in per cent*."""
    return np.percentile(_means(values, draws, random.Random(seed)), [0.025, 0.975])


def bootstrap__high_first(values: list[float], draws: int, seed: int) -> Any:
    """The upper end first, where *the lower end comes first*."""
    means = _means(values, draws, random.Random(seed))
    return means[int(0.975 * draws)], means[int(0.025 * draws)]


def bootstrap__fixed_draws(values: list[float], draws: int, seed: int) -> Any:
    """*`draws` is ignored*."""
    means = _means(values, 1000, random.Random(seed))
    return means[25], means[975]


# 07 · Explore the hard pool
Gaps = dict[str, float]


def hardest__no_rule_for_ties(gaps: Gaps, k: int) -> list[str]:
    """*No rule for ties*: the order of the dictionary."""
    known = [item for item in gaps if not math.isnan(gaps[item])]
    return sorted(known, key=lambda item: -gaps[item])[:k]


def hardest__ids_reversed(gaps: Gaps, k: int) -> list[str]:
    """*reverse=True* turns the ids as well."""
    known = [(value, item) for item, value in gaps.items() if not math.isnan(value)]
    return [item for _, item in sorted(known, reverse=True)[:k]]


def hardest__nan_kept(gaps: Gaps, k: int) -> list[str]:
    """*NaN* is sorted along."""
    return [item for _, item in sorted((-value, item) for item, value in gaps.items())[:k]]


def hardest__nan_last(gaps: Gaps, k: int) -> list[str]:
    """*NaN* at the end, not left out."""
    falling = {item: math.inf if math.isnan(gap) else -gap for item, gap in gaps.items()}
    return sorted(gaps, key=lambda item: (falling[item], item))[:k]


def hardest__nan_by_identity(gaps: Gaps, k: int) -> list[str]:
    """Asks for *NaN* with `is`, and so keeps it."""
    return [item for _, item in sorted((-value, item) for item, value in gaps.items() if value is not math.nan)[:k]]


def hardest__from_the_end(gaps: Gaps, k: int) -> list[str]:
    """Takes them from the end with *[-0:]*, which is *the whole list*."""
    rising = sorted(((value, item) for item, value in gaps.items() if not math.isnan(value)), key=lambda pair: pair[0])
    known = sorted(rising, key=lambda pair: (-pair[0], pair[1]))[::-1]
    return [item for _, item in known[-k:]][::-1]


def hardest__absolute(gaps: Gaps, k: int) -> list[str]:
    """The largest absolute gaps, though *the sign counts*."""
    known = [(-abs(value), item) for item, value in gaps.items() if not math.isnan(value)]
    return [item for _, item in sorted(known)[:k]]


def hardest__smallest(gaps: Gaps, k: int) -> list[str]:
    """*The smallest*."""
    return [item for _, item in sorted((value, item) for item, value in gaps.items() if not math.isnan(value))[:k]]


def hardest__positive(gaps: Gaps, k: int) -> list[str]:
    """Only gaps above 0, though *only NaN is left out*."""
    return [item for _, item in sorted((-value, item) for item, value in gaps.items() if value > 0)[:k]]


def hardest__falsy(gaps: Gaps, k: int) -> list[str]:
    """A gap of *0* counts as missing."""
    known = [(-value, item) for item, value in gaps.items() if value and not math.isnan(value)]
    return [item for _, item in sorted(known)[:k]]


def hardest__first_k(gaps: Gaps, k: int) -> list[str]:
    """The first `k` of the dictionary, sorted: not *sort first*."""
    return sorted([item for item in gaps if not math.isnan(gaps[item])][:k], key=lambda item: (-gaps[item], item))


def hardest__rounded(gaps: Gaps, k: int) -> list[str]:
    """Rounded gaps: *do not round them*."""
    return [item for _, item in sorted((-round(gap), item) for item, gap in gaps.items() if not math.isnan(gap))[:k]]


def hardest__values(gaps: Gaps, k: int) -> list[float]:
    """The gaps, where *ids are asked for*."""
    return sorted((value for value in gaps.values() if not math.isnan(value)), reverse=True)[:k]


def hardest__all(gaps: Gaps, k: int) -> list[str]:
    """*`k`* is not looked at."""
    return [item for _, item in sorted((-value, item) for item, value in gaps.items() if not math.isnan(value))]


def root__two_steps(parents: dict[str, str], item: str) -> str:
    """Two steps at most: *a fixed number of steps*."""
    for _ in range(2):
        item = parents[item] or item
    return item


def root__three_steps(parents: dict[str, str], item: str) -> str:
    """Three steps at most: *a fixed number of steps*."""
    for _ in range(3):
        item = parents[item] or item
    return item


def root__ten_steps(parents: dict[str, str], item: str) -> str:
    """Ten steps at most: *a fixed number of steps*, only larger."""
    for _ in range(10):
        item = parents[item] or item
    return item


def root__parent(parents: dict[str, str], item: str) -> str:
    """The parent, which *is not yet the root*."""
    return parents[item] or item


def root__too_far(parents: dict[str, str], item: str) -> str:
    """*One step too far*."""
    while item:
        item = parents[item]
    return item


def root__seed_has_none(parents: dict[str, str], item: str) -> str:
    """*A seed is its own root*, and here it has none."""
    if not parents[item]:
        return ""
    while parents[item]:
        item = parents[item]
    return item


def root__looks_up_nothing(parents: dict[str, str], item: str) -> str:
    """Goes to the parent before it looks, and so asks for *no id*: *a seed is its own root*."""
    item = parents[item]
    while parents[item]:
        item = parents[item]
    return item


def root__first_seed(parents: dict[str, str], item: str) -> str:
    """Any seed, though *there is more than one*."""
    return next(name for name, parent in parents.items() if not parent)


# 08 · Does it pay?
Labels = dict[str, str]


def changes__exchanged(before: Labels, after: Labels) -> Any:
    """Lost first, where *learned comes first*."""
    both = [(before[item], after[item]) for item in before if item in after]
    return both.count(("easy", "hard")), both.count(("hard", "easy"))


def changes__new_ones(before: Labels, after: Labels) -> Any:
    """*A new id* counts as learned."""
    pairs = [(before.get(item, "hard"), after[item]) for item in after]
    return pairs.count(("hard", "easy")), pairs.count(("easy", "hard"))


def changes__gone(before: Labels, after: Labels) -> Any:
    """An id that is *gone* counts as *lost*."""
    pairs = [(before[item], after.get(item, "hard")) for item in before]
    return pairs.count(("hard", "easy")), pairs.count(("easy", "hard"))


def changes__not_hard_any_more(before: Labels, after: Labels) -> Any:
    """What is no longer hard is learned, no longer easy lost, *gone* or not."""
    learned = sum(before[item] == "hard" != after.get(item) for item in before)
    return learned, sum(before[item] == "easy" != after.get(item) for item in before)


def changes__by_place(before: Labels, after: Labels) -> Any:
    """Pairs by place, as if both were *in the same order*."""
    both = list(zip(before.values(), after.values()))
    return both.count(("hard", "easy")), both.count(("easy", "hard"))


def changes__net(before: Labels, after: Labels) -> Any:
    """The *net change*."""
    both = [(before[item], after[item]) for item in before if item in after]
    return both.count(("hard", "easy")) - both.count(("easy", "hard"))


def changes__labels_counted(before: Labels, after: Labels) -> Any:
    """*Counts labels, not changes*."""
    return list(after.values()).count("easy"), list(after.values()).count("hard")


def changes__no_look(before: Labels, after: Labels) -> Any:
    """Asks for an id that *may be in one of the two only*."""
    both = [(before[item], after[item]) for item in before]
    return both.count(("hard", "easy")), both.count(("easy", "hard"))


def changes__shares(before: Labels, after: Labels) -> Any:
    """*Shares* of those labelled both times."""
    both = [(before[item], after[item]) for item in before if item in after]
    return both.count(("hard", "easy")) / len(both), both.count(("easy", "hard")) / len(both)


Seeds = list[list[tuple[float, float, float]]]


def _difference(scores: list[tuple[float, float, float]]) -> float:
    second, first, teacher = (sum(column) for column in zip(*scores))
    return (second - first) / teacher


def mean_over_seeds__one_list(seeds: Seeds) -> float:
    """*One long list* of all seeds."""
    return _difference([scores for seed in seeds for scores in seed])


def mean_over_seeds__reversed(seeds: Seeds) -> float:
    """First minus second, not *second minus first*."""
    return -_mean([_difference(seed) for seed in seeds])


def mean_over_seeds__added(seeds: Seeds) -> float:
    """The seeds are *added*."""
    return sum(_difference(seed) for seed in seeds)


def mean_over_seeds__mean_of_ratios(seeds: Seeds) -> float:
    """The *mean of the ratios* within each seed."""
    return _mean([_mean([(second - first) / teacher for second, first, teacher in seed]) for seed in seeds])


def mean_over_seeds__mean_of_all_ratios(seeds: Seeds) -> float:
    """The *mean of the ratios* of all items."""
    return _mean([(second - first) / teacher for seed in seeds for second, first, teacher in seed])


def mean_over_seeds__first_seed(seeds: Seeds) -> float:
    """*The first alone*."""
    return _difference(seeds[0])


def mean_over_seeds__last_seed(seeds: Seeds) -> float:
    """*The last alone*."""
    return _difference(seeds[-1])


def mean_over_seeds__absolute(seeds: Seeds) -> float:
    """Absolute differences, which should *keep their sign*."""
    return _mean([abs(_difference(seed)) for seed in seeds])


def mean_over_seeds__without_teacher(seeds: Seeds) -> float:
    """The students against each other, not *against the teacher*."""
    return _mean([sum(row[0] for row in seed) / sum(row[1] for row in seed) - 1 for seed in seeds])


def mean_over_seeds__points(seeds: Seeds) -> float:
    """The mean difference in *points*, not a share of the teacher's total."""
    return _mean([_mean([second - first for second, first, _ in seed]) for seed in seeds])


def mean_over_seeds__rounded(seeds: Seeds) -> float:
    """*Round*ed to a hundredth."""
    return round(_mean([_difference(seed) for seed in seeds]), 2)


def mean_over_seeds__median(seeds: Seeds) -> float:
    """The median of the seeds, where *the mean* is asked for."""
    return float(np.median([_difference(seed) for seed in seeds]))
