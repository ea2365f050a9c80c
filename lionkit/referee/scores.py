"""Reading two scores out of a referee's reply: generous in how answers are named, strict in what a score is.

Thinking blocks are dropped, JSON objects become `label: value` lines, markup is removed, and each label with its value
is collected in order. Only the last pair counts, so a score line quoted from an answer is never the verdict; what is
called a score outranks other labels, those bare numbers (a table's rows), and those a pair without labels, which counts
on the first line or the last. Where a later pair of lower rank may be the verdict all the same, there is none.
Nothing is clamped or guessed: without one number in [1, 10] for each answer a reply is `Unscored`, with the reason.
Time is linear in the length of the reply: patterns (in `patterns`) have bounded repeats, attempts to read JSON are
limited, and of a reply over 2 x `WINDOW` characters (JSON and thinking aside) only both ends are read. Numbers in
words, and scores given only in prose, are unscored.
"""

import json
import re
from collections.abc import Iterator
from itertools import takewhile
from typing import Any, NamedTuple

from lionkit.markup import without_thoughts
from lionkit.referee.labels import Found, labelled, number, plain, seat_of, under_headings
from lionkit.referee.patterns import PATTERN


class Scores(NamedTuple):
    """Two scores in [1, 10], by seat: `first` is the score of the answer shown first."""

    first: float
    second: float


class Unscored(NamedTuple):
    """A reply without two usable scores, and why."""

    reason: str


WINDOW = 40_000
"""Characters read at each end of a very long reply."""


def parse_scores(reply: str) -> Scores | Unscored:
    """The referee's two scores by seat, each in [1, 10], or the reason why there are none. Raises on nothing."""
    if not isinstance(reply, str) or not reply.strip():
        return Unscored("the reply is empty" if not reply or isinstance(reply, str) else "the reply is no text")
    text = without_thoughts(reply, anywhere=True)
    if text is None:
        return Unscored("the reply ends inside its thinking block")
    text = _without_quotations(_json_as_lines(text))
    if text is None:
        return Unscored("there are scores both in the block quotation or fenced block at its end and outside it")
    return _verdict(plain(text))


def _verdict(text: str) -> Scores | Unscored:
    # Where both read the same place, what `labelled` found counts.
    found = {item.at: item for item in [*under_headings(text), *labelled(text)]}
    final = _final_pair([found[at] for at in sorted(found)]) if found else Unscored("no scores were found")
    if isinstance(final, Scores) or {item.seat for item in found.values() if item.leads} == {1, 2}:
        return final
    return _bare_pair(text) or final


def _json_as_lines(text: str) -> str:
    """JSON objects, several in a row as one, replaced by lines with their numbers, so that prose inside them (a quoted
    score) is not read."""
    decoder = json.JSONDecoder(strict=False, parse_int=str, parse_float=str, parse_constant=str)
    read: list[tuple[str, list[tuple[int, str]]]] = []  # what stands before an object, and its lines
    at, allowance = 0, 3 * len(text)
    for start in (mark.start() for mark in re.finditer(r'\{(?=\s{0,99}")', text)):
        if start < at or allowance < 0:
            continue
        try:
            value, end = decoder.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError) as error:
            cost = len(text) if isinstance(error, RecursionError) or "Unterminated" in error.msg else error.pos - start
            allowance -= max(cost, len(text) // 17)
        else:
            between, at = text[at:start], end
            if not read or between.strip(" \n,"):
                read.append((between, []))
            read[-1][1].extend(_leaves(value, "", 0))
    return "".join(f"{before}\n{_counting(leaves)}" for before, leaves in read) + text[at:]


def _counting(leaves: list[tuple[int, str]]) -> str:
    """Of an object's lines, with their depths, those that count: the ones that are called overall or final or, where
    they do not name both answers, no deeper ones than are needed before them."""
    last = "".join(line for _, line in leaves if _counts(line))
    for most in (0, *sorted({depth for depth, _ in leaves})):
        lines = "".join(line for depth, line in leaves if depth <= most and not _counts(line)) + last
        if {item.seat for item in labelled(plain(lines))} == {1, 2}:
            break
    return lines


def _counts(line: str) -> bool:
    """Whether a line is called overall or final, and holds a score."""
    return PATTERN.overall.search(line) is not None and isinstance(number(line.rpartition(": ")[2].strip()), float)


def _leaves(value: Any, label: str, depth: int) -> Iterator[tuple[int, str]]:
    """Depth and `label: value` for each number, or what stands in its place, in an object; keys joined by spaces."""
    if isinstance(value, dict) and depth < 6:
        for key, item in value.items():
            words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", key[:60])
            if key in ("answer", "assistant", "response", "id", "name") and "score" in value and isinstance(item, str):
                label = f"{label} answer {item[:20]}"  # {"answer": 1, "score": 8}
            elif isinstance(item, str) and PATTERN.overall.match(f"{item[:20]}:"):
                label = f"{item} {label}"  # {"criterion": "overall", "answer_1": 8, "answer_2": 6}
            else:
                bare = "answer " if key.lower() in ("1", "2", "a", "b") else ""
                yield from _leaves(item, f"{label} {bare}{words}", depth + 1)
    elif isinstance(value, list) and len(value) == 2 and depth < 6:
        for place, item in enumerate(value, start=1):
            yield from _leaves(item, f"{label} {place}", depth + 1)
    elif PATTERN.nothing.match(shown := str(value)[:21].lower()) or re.fullmatch(r"[+-]?[0-9].{0,19}", shown):
        yield depth, f"{label.strip()}: {shown}\n"


def _without_quotations(text: str) -> str | None:
    """The text without quoted scores: block quotations, score lines in quotation marks after a word or colon, and
    fenced blocks beside a verdict.

    A block at the end of the reply may be the verdict itself; None where there are scores outside it as well, other
    ones if it is fenced. The middle of a very long text is left out.
    """
    if len(text) > 2 * WINDOW:
        text = text.lstrip()[:WINDOW] + "\n" + text.rstrip()[-WINDOW:]
    alone = plain(PATTERN.quoted.sub("", text))
    pair = _bare_pair(alone)
    if pair and pair == _bare_pair(plain(text)) and not any(labelled(alone)):
        return alone  # the verdict is the pair, and the labels are in what the reply quotes
    text = PATTERN.quotation.sub(lambda found: " " if any(labelled(plain(found[0]))) else found[0], text)
    blocks = list(PATTERN.fenced.finditer(text))
    if blocks and isinstance(outside := _verdict(plain(PATTERN.fenced.sub("", text))), Scores):
        inside = _verdict(plain(blocks[-1][0]))
        if isinstance(inside, Scores) and inside != outside and not text[blocks[-1].end() :].strip():
            return None
        text = PATTERN.fenced.sub("", text)
    own = PATTERN.block_quotation.sub("", text)
    if not text.rstrip().rpartition("\n")[2].lstrip().startswith(">"):
        return own
    apart, within = (any(labelled(plain(t))) for t in (own, "\n".join(PATTERN.block_quotation.findall(text))))
    return None if apart and within else text


def _final_pair(found: list[Found]) -> Scores | Unscored:
    """The last two scores, where they are a pair, of those whose lines look most like a verdict's.

    In an odd run of seats such as 1 2 1, the last score may stand alone after a quoted pair. It is paired with its
    neighbour only when it is nearer to it than the neighbour is to the score before: at most half as far where the two
    are in reversed order (2 before 1), a little less far where they are in natural order.
    """
    every, rank = found, 0
    for least in (1, 2, 3, 4) if found[-1].leads else (4,):
        better = [item for item in found if item.leads >= least]
        if {item.seat for item in better} == {1, 2}:
            found, rank = better, least
    pair = _last_pair(found)
    later = [item for item in every if item.at > found[-1].at and item.doubts >= rank and isinstance(item.value, float)]
    if isinstance(pair, Scores) and any(item.value != pair[item.seat - 1] for item in later):
        return Unscored("other scores follow those that look like the verdict")
    return pair


def _last_pair(found: list[Found]) -> Scores | Unscored:
    run = next((n for n in range(1, len(found)) if found[-n - 1].seat == found[-n].seat), len(found))
    last = found[-1]
    if run == 1:
        return Unscored(f"there is no score for answer {3 - last.seat} beside the last one for answer {last.seat}")
    lonely = run == 3 or (run % 2 and last.seat == 1)
    if lonely and (last.at - found[-2].at) * (2 if last.seat == 1 else 1.2) >= found[-2].at - found[-3].at:
        return Unscored(f"the last score for answer {last.seat} stands alone after an earlier pair")
    return _scores({item.seat: item.value for item in found[-2:]})


def _bare_pair(text: str) -> Scores | Unscored | None:
    """Two numbers that fill the last line or the first; the others, from there on, stand beside it.

    FastChat's judges begin with such a line, others end with one. A row of a table is none, unless it is the total, or
    the only row under a heading that names both answers. Words before the numbers name no answer, or both in order.
    """
    lines = text.strip().split("\n")
    return _pair_ahead(lines[::-1]) or _pair_ahead(lines)


def _pair_ahead(lines: list[str]) -> Scores | Unscored | None:
    pair = PATTERN.pair.fullmatch(lines[0].strip(" |"))
    beside, words = list(takewhile(str.strip, (line[:200] for line in lines[1:40]))), (pair and pair[1]) or ""
    if not pair or (beside and PATTERN.row.match(beside[0]) and not PATTERN.total.search(words)):
        return None
    headings = [words, *beside] if "|" in lines[0] else [words]
    seats = [[seat_of(mark) for mark in PATTERN.mark.finditer(line)] for line in headings]
    named = next((found for found in seats if sorted(found) == [1, 2]), [1, 2] if seats == [[]] else [])
    scores = dict(zip(named, (number(pair[2] or pair[4]), number(pair[3] or pair[5]))))
    return _scores(scores) if len(scores) == 2 else None


def _scores(values: dict[int, float | str]) -> Scores | Unscored:
    bad = [f"the score of answer {seat} {value}" for seat, value in sorted(values.items()) if isinstance(value, str)]
    return Unscored("; ".join(bad)) if bad else Scores(float(values[1]), float(values[2]))
