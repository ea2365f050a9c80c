"""The scores that stand behind labels in a referee's reply: which line names which answer, and what its value is.

Lines differ in how much they look like a verdict's: what is called a score outranks a label alone, and that one in a
line about something else ("Errors in answer 1: 2"). `scores` chooses the pair that counts.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from lionkit.referee.patterns import CLEAN, PATTERN


class Found(NamedTuple):
    at: int
    seat: int
    value: float | str
    """A score, or the reason why it is none."""
    leads: int = 3
    """How much its line looks like a verdict's: 4 where the label is said to have a score, 3 where it stands alone, 2
    where words before it name something else, 1 where it is a bare number, 0 where it stands far into a line."""
    doubts: int = 4
    """The highest `leads` of a pair before it that it casts doubt on, where it has another score."""


def plain(text: str) -> str:
    """Lower case, one kind of colon, space and minus, no markup."""
    text = text if "\n" in text else text.replace("\\n", "\n")
    text = re.sub(r"<([a-z_]{3,20}[12ab](?:_[a-z]{3,20})?)>", r"\1: ", text.lower().replace("\r", "\n"))
    return re.sub(r" {2,}", " ", PATTERN.tag.sub(" ", text).translate(CLEAN))


def seat_of(mark: re.Match[str]) -> int:
    return 1 if mark["first"] or (mark["seat"] or mark.groupdict().get("bare")) in ("1", "a", "一", "one") else 2


def labelled(text: str) -> Iterator[Found]:
    """Every score behind a label, good or bad, in order."""
    end, head, topic = 0, "", ""
    for mark in PATTERN.mark.finditer(text):
        before = text[max(0, mark.start() - 40) : mark.start()].rpartition("\n")[2]
        if (begin := mark.start() - len(before)) >= end:  # the first label of its line
            between = [line for line in text[end:begin].split("\n")[end > 0 :] if PATTERN.letter.search(line)]
            head, topic = before, between[-1] if between else topic
        line, end = before + mark[0], mark.end()
        explicit = not mark["bare"] and PATTERN.score.search(line) is not None
        if explicit or mark["bare"] or PATTERN.separates.search(mark["tail"]):
            alone = "\n" in mark["tail"] or (mark["bare"] is not None and ":" not in mark["tail"])
            value = _value(mark["value"], mark["tail"], explicit, alone)
            ranked = value in (1.0, 2.0) and PATTERN.rank.search(before) and not PATTERN.score.search(mark[0])
            if value is not None and not ranked:
                yield Found(mark.end(), seat_of(mark), value, *_looks(mark, head, topic))


def _looks(mark: re.Match[str], head: str, topic: str) -> tuple[int, int]:
    """`leads` and `doubts` of a label, by the words before the first one in its line, and the line of words above."""
    if len(head) > 30:
        return 0, 4
    if mark["bare"]:
        return 1, 0
    if PATTERN.score.search(mark[0]) or PATTERN.own.search(head):
        return 4, 4
    if PATTERN.letter.search(head):
        return 2, 4 if PATTERN.decides.search(head) else 0
    if not topic or PATTERN.prose.search(topic):
        return 3, 4
    return (4, 4) if PATTERN.own.search(topic) else (3, 4) if PATTERN.decides.search(topic) else (2, 3)


def under_headings(text: str) -> Iterator[Found]:
    """The last `Score: 8` of each passage that begins with a label."""
    headings = list(PATTERN.heading.finditer(text))
    for heading, end in zip(headings, [*(h.start() for h in headings[1:]), len(text)]):
        marks = PATTERN.headed.finditer(text, heading.end(), end)
        read = [(m.end(), value) for m in marks if (value := _value(m["value"], m["tail"])) is not None]
        yield from (Found(at, seat_of(heading), value) for at, value in read[-1:] if isinstance(value, float))


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
    return number(("-" if tail.endswith(("-", "–")) else "") + match["number"])


def number(digits: str) -> float | str:
    """The number as a score, or why it is none; a comma before one or two digits is a decimal comma."""
    if not re.fullmatch(r"\+?[0-9]{1,9}(?:\.[0-9]{1,17}|,[0-9]{1,2})?", digits):
        return f"is not a number from 1 to 10: {digits[:20]!r}"
    score = float(digits.replace(",", "."))
    return score if 1 <= score <= 10 else f"is outside 1 to 10: {digits[:20]!r}"
