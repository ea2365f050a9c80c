"""Which columns of a row hold a part of the task that is not read, and which only say where the row comes from.

By one row the two cannot always be told apart: `note` takes down what each row has, `missed` looks at all of them.
"""

import re
from collections import Counter
from typing import Any, Literal

from lionkit.records import Instruction

Kind = Literal["text", "origin", "number", "category"]
Mark = tuple[int, str, bool]
"""What tells a task's text from others, a column's value, and whether the instruction names the column."""
Notes = dict[tuple[str, Kind], list[Mark | None]]
"""By column and what it seems to be, an entry for each row that holds something; marks in no more than `SAMPLE`."""
SAMPLE = 10_000


def note(row: dict[str, Any], by: dict[str, list[Any]], item: Instruction, notes: Notes) -> None:
    """Take down the columns of a row that `item` leaves out; `by` is what `layouts.layout` says of them."""
    for name in (*by["unread"], *by["category"]):
        kind: Kind = "category" if name in by["category"] else "number" if lone(row[name]) else "text"
        if kind == "text" and name in by["origin"]:
            kind = "origin"
        wanted = kind == "number" and str(name).lower() == "label"  # whether a completion is a good one: it is read
        if not wanted and (kind in ("category", "number") or _says(row[name], item)):
            rows = notes.setdefault((name, kind), [])
            rows.append(_mark(name, row[name], item) if kind != "text" and len(rows) < SAMPLE else None)


def _mark(name: str, value: Any, item: Instruction) -> Mark:
    named = re.search(rf"\b{re.escape(str(name))}\b", item.instruction, re.IGNORECASE)
    return hash(item.text), str(value), named is not None


def missed(notes: Notes) -> Counter[str]:
    """The columns that the tasks need, with the number of rows, those that nobody knows in front."""
    found: Counter[str] = Counter()
    for (name, kind), rows in sorted(notes.items(), key=lambda noted: noted[0][1] != "text"):
        found[name] += len(rows) if kind == "text" or _needed(kind, [mark for mark in rows if mark]) else 0
    return +found


def _needed(kind: Kind, marks: list[Mark]) -> bool:
    """Whether a column is more than a source, a score or a kind: most instructions name it, it tells texts apart that
    are the same without it, or, as no source does, it differs from row to row (scores do so, too)."""
    texts, values, named = zip(*marks)
    words = {value for value in values if not re.fullmatch(r"[\w.-]+[_/][\w./-]+", value)}  # no owner/name, no set_2
    differs = {"origin": 2 * len(words) > len(marks), "number": len(marks) == 1}
    apart = len(set(zip(texts, values))) >= 2 * len(set(texts))
    return apart or 2 * sum(named) >= len(marks) or differs.get(kind, False)


def lone(value: Any) -> bool:
    """Whether it is a number alone, or an object of such, as scores and counts are."""
    if isinstance(value, dict):
        return bool(value) and all(map(lone, value.values()))
    number = r"\s*([+-]?\d+(\.\d+)?(e[+-]?\d+)?%?|true|false|-?inf|nan)\s*"
    return isinstance(value, str | int | float) and bool(re.fullmatch(number, str(value), re.IGNORECASE))


def _says(value: Any, item: Instruction) -> bool:
    """Whether it holds a text, or several numbers, that neither stand in the instruction nor are made of all of it."""
    if isinstance(value, list) and len(value) > 1 and all(map(lone, value)):
        value = ", ".join(map(str, value))
    if isinstance(value, list | dict):
        return any(_says(part, item) for part in (value.values() if isinstance(value, dict) else value))
    if not isinstance(value, str) or lone(value) or not any(map(str.isalnum, value)):
        return False
    whole = item.instruction in value and item.output in value
    text, value = f"{item.text}\n{item.output}", value.strip()
    long = len(value) > 30 or not value.isascii()  # of a short one only the word: "art" does not stand in "start"
    stands = value in text and (long or re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) is not None)
    return not whole and not stands
