"""Reading two scores out of a referee's reply: generous in how answers are named, strict in what a score is.

Thinking blocks are dropped, JSON objects become `label: value` lines, markup is removed, and each label with its value
is collected in order. Only the last pair counts, so a score line quoted from an answer is never the verdict; labels in
words outrank bare numbers (a table's rows), those a pair without labels, which counts on the first line or the last.
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
from lionkit.referee.patterns import CLEAN, PATTERN


class Scores(NamedTuple):
    """Two scores in [1, 10], by seat: `first` is the score of the answer shown first."""

    first: float
    second: float


class Unscored(NamedTuple):
    """A reply without two usable scores, and why."""

    reason: str


WINDOW = 40_000
"""Characters read at each end of a very long reply."""


class _Found(NamedTuple):
    at: int
    seat: int
    value: float | str
    """A score, or the reason why it is none."""
    leads: int = 2
    """2 where its label stands at the start of a line, as a verdict's does; 1 where that is a bare number; else 0."""


def parse_scores(reply: str) -> Scores | Unscored:
    """The referee's two scores by seat, each in [1, 10], or the reason why there are none. Raises on nothing."""
    if not isinstance(reply, str) or not reply.strip():
        return Unscored("the reply is empty" if not reply or isinstance(reply, str) else "the reply is no text")
    text = without_thoughts(reply, anywhere=True)
    if text is None:
        return Unscored("the reply ends inside its thinking block")
    text = _without_quotations(_json_as_lines(text))
    if text is None:
        return Unscored("there are scores both in the block quotation at its end and outside it")
    text = _plain(text)
    # Where both read the same place, what `_labelled` found counts.
    found = {item.at: item for item in [*_under_headings(text), *_labelled(text)]}
    final = _final_pair([found[at] for at in sorted(found)]) if found else Unscored("no scores were found")
    if isinstance(final, Scores) or {item.seat for item in found.values() if item.leads} == {1, 2}:
        return final
    return _bare_pair(text) or final


def _json_as_lines(text: str) -> str:
    """JSON objects replaced by lines with their numbers, so that prose inside them (a quoted score) is not read.

    Of an object, or of several in a row, the lines that are called overall or final come last, and so they count.
    """
    decoder = json.JSONDecoder(strict=False, parse_int=str, parse_float=str, parse_constant=str)
    read: list[tuple[str, list[str]]] = []  # what stands before an object, and its lines
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
    for _, lines in read:
        lines.sort(key=_counts)
    return "".join(f"{before}\n{''.join(lines)}" for before, lines in read) + text[at:]


def _counts(line: str) -> bool:
    """Whether a line is called overall or final, and holds a score."""
    return PATTERN.overall.search(line) is not None and isinstance(_number(line.rpartition(": ")[2].strip()), float)


def _leaves(value: Any, label: str, depth: int) -> Iterator[str]:
    """`label: value` for each number, or for what stands in its place, in a decoded object; keys joined by spaces."""
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
        for number, item in enumerate(value, start=1):
            yield from _leaves(item, f"{label} {number}", depth + 1)
    elif PATTERN.nothing.match(shown := str(value)[:21].lower()) or re.fullmatch(r"[+-]?[0-9].{0,19}", shown):
        yield f"{label.strip()}: {shown}\n"


def _without_quotations(text: str) -> str | None:
    """The text without quoted scores: block quotations, and score lines in quotation marks after a word or colon.

    A block quotation at the end of the reply may be the verdict itself; None where there are scores outside it as well.
    The middle of a very long text is left out.
    """
    if len(text) > 2 * WINDOW:
        text = text.lstrip()[:WINDOW] + "\n" + text.rstrip()[-WINDOW:]
    alone = _plain(PATTERN.quoted.sub("", text))
    pair = _bare_pair(alone)
    if pair and pair == _bare_pair(_plain(text)) and not any(_labelled(alone)):
        return alone  # the verdict is the pair, and the labels are in what the reply quotes
    text = PATTERN.quotation.sub(lambda found: " " if any(_labelled(_plain(found[0]))) else found[0], text)
    own = PATTERN.block_quotation.sub("", text)
    if not text.rstrip().rpartition("\n")[2].lstrip().startswith(">"):
        return own
    outside, inside = (any(_labelled(_plain(t))) for t in (own, "\n".join(PATTERN.block_quotation.findall(text))))
    return None if outside and inside else text


def _plain(text: str) -> str:
    """Lower case, one kind of colon, space and minus, no markup."""
    text = text if "\n" in text else text.replace("\\n", "\n")
    text = re.sub(r"<([a-z_]{3,20}[12ab](?:_[a-z]{3,20})?)>", r"\1: ", text.lower().replace("\r", "\n"))
    return re.sub(r" {2,}", " ", PATTERN.tag.sub(" ", text).translate(CLEAN))


def _seat(mark: re.Match[str]) -> int:
    return 1 if mark["first"] or (mark["seat"] or mark.groupdict().get("bare")) in ("1", "a", "一", "one") else 2


def _labelled(text: str) -> Iterator[_Found]:
    """Every score behind a label, good or bad, in order."""
    for mark in PATTERN.mark.finditer(text):
        before = text[max(0, mark.start() - 40) : mark.start()].rpartition("\n")[2]
        line = before + mark[0]
        explicit = not mark["bare"] and PATTERN.score.search(line) is not None
        if explicit or mark["bare"] or PATTERN.separates.search(mark["tail"]):
            alone = "\n" in mark["tail"] or (mark["bare"] is not None and ":" not in mark["tail"])
            leads = (len(line) - len(mark[0]) <= 30) * (1 if mark["bare"] else 2)
            value = _value(mark["value"], mark["tail"], explicit, alone)
            ranked = value in (1.0, 2.0) and PATTERN.rank.search(before) and not PATTERN.score.search(mark[0])
            if value is not None and not ranked:
                yield _Found(mark.end(), _seat(mark), value, leads)


def _under_headings(text: str) -> Iterator[_Found]:
    """The last `Score: 8` of each passage that begins with a label."""
    headings = list(PATTERN.heading.finditer(text))
    for heading, end in zip(headings, [*(h.start() for h in headings[1:]), len(text)]):
        marks = PATTERN.headed.finditer(text, heading.end(), end)
        read = [(m.end(), value) for m in marks if (value := _value(m["value"], m["tail"])) is not None]
        yield from (_Found(at, _seat(heading), value) for at, value in read[-1:] if isinstance(value, float))


def _value(text: str, tail: str, explicit: bool = False, alone: bool = False) -> float | str | None:
    """The score in [1, 10]; the reason where something else stands in a score's place; None where it is prose.

    `explicit`: the line speaks of scores, so words may follow. `alone`: nothing may follow on the line.
    """
    match = PATTERN.value.match(text)
    if not match:
        said = explicit and not alone and re.search("[:=]", tail) and text.strip()
        return f"is not a number: {text[:20].strip()!r}" if said or PATTERN.nothing.match(text) else None
    rest, shown = PATTERN.next.sub("", text[match.end() :]), repr(text[: match.end() + 8].strip())
    if alone and rest.strip(" .|);,") and not (match["top"] and re.match(" ?[,;:(—–-]", rest)):
        return None
    if PATTERN.more.match(rest):
        return f"is not one number: {shown}"
    if not (explicit or match["top"] or PATTERN.ends.match(rest)):
        return None
    if match["top"] and float(match["top"].replace(",", ".")) != 10:
        return f"is on another scale than 10: {shown}"
    return _number(("-" if tail.endswith(("-", "–")) else "") + match["number"])


def _number(digits: str) -> float | str:
    """The number as a score, or why it is none; a comma before one or two digits is a decimal comma."""
    if not re.fullmatch(r"\+?[0-9]{1,9}(?:\.[0-9]{1,17}|,[0-9]{1,2})?", digits):
        return f"is not a number from 1 to 10: {digits[:20]!r}"
    number = float(digits.replace(",", "."))
    return number if 1 <= number <= 10 else f"is outside 1 to 10: {digits[:20]!r}"


def _final_pair(found: list[_Found]) -> Scores | Unscored:
    """The last two scores, where they are a pair.

    In an odd run of seats such as 1 2 1, the last score may stand alone after a quoted pair. It is paired with its
    neighbour only when it is nearer to it than the neighbour is to the score before: at most half as far where the two
    are in reversed order (2 before 1), a little less far where they are in natural order.
    """
    for least in (1, 2) if found[-1].leads else ():
        better = [item for item in found if item.leads >= least]
        found = better if {item.seat for item in better} == {1, 2} else found
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
    seats = [[_seat(mark) for mark in PATTERN.mark.finditer(line)] for line in headings]
    named = next((found for found in seats if sorted(found) == [1, 2]), [1, 2] if seats == [[]] else [])
    scores = dict(zip(named, (_number(pair[2] or pair[4]), _number(pair[3] or pair[5]))))
    return _scores(scores) if len(scores) == 2 else None


def _scores(values: dict[int, float | str]) -> Scores | Unscored:
    bad = [f"the score of answer {seat} {value}" for seat, value in sorted(values.items()) if isinstance(value, str)]
    return Unscored("; ".join(bad)) if bad else Scores(float(values[1]), float(values[2]))
