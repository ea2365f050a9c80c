"""Other people's instruction files, read into `Instruction` records.

What a row's columns mean is in the table of `layouts`, in every form that `rows` reads; the keys of a row decide what
it is, not the file's name. Every problem is a DataError that names the file and the line; text that is left out is
named aloud. Of a conversation the first question and its answer are read. docs/formats.md shows rows of every kind.
"""

import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lionkit.errors import ConfigError, DataError
from lionkit.pools.layouts import MEANINGS, SPEAKERS, TABLE, TEXTS, best, cell, choose, exchange, layout, plain, turns
from lionkit.pools.missed import Notes, lone, missed, note
from lionkit.pools.rows import read_rows
from lionkit.records import Instruction

_NO_INPUT = {"", "n/a", "none", "null", "nan", "noinput", "no input", "<noinput>", "<no input>"}
LATER = "later questions of conversations are not read, only the first of each"
UNWANTED = "outputs are marked as not wanted (label: false) and are not read"
SIGNS = (
    "texts have signs of a chat template that is not known (<|...|>), and are read as an instruction without an answer"
)
_OWN_KEYS = {f.name for f in dataclasses.fields(Instruction)}


def read_instructions(
    path: str | Path, *, columns: Mapping[str, str] | None = None, split: str = ""
) -> list[Instruction]:
    """The instructions of a file, a `datasets` folder or a hub data set, in order; ids are unique.

    Texts lose the space around them. "N/A", "<noinput>" and their like are no input; an output "None" stays.
    Numbers become text. Rows without output and repeated rows are kept: `set_aside_unanswered` and
    `pools.deduplicate` count and separate them. A repeated id gets a number behind it.

    `columns` says what a column is that is not known, or known as something else: `{"context": "input"}`, or "" for
    nothing; what it can be are the keys of `layouts.MEANINGS`. Columns that are not read and hold text are printed,
    with the number of rows, and so is the number of later questions in conversations. `split` is a data set's; without
    it `train` counts, else the first. Raises ConfigError for a meaning that is none.
    """
    columns = dict(columns or {})
    if wrong := [meaning for meaning in columns.values() if meaning not in (*MEANINGS, "")]:
        raise ConfigError(f"columns: a column cannot be {wrong[0]!r}, choose one of {', '.join(MEANINGS)}, or ''")
    layouts: dict[tuple[Any, ...], dict[str, list[Any]]] = {}
    items: list[Instruction] = []
    numbers: dict[str, int] = {}  # each id there is, with the last number put behind it
    unread: Counter[str] = Counter()
    notes: Notes = {}
    for line, row in read_rows(path, split):
        try:
            for whole in _wholes(row):
                by = layouts.get(names := tuple(whole)) or layouts.setdefault(names, layout(names, columns))
                own = whole.keys() == _OWN_KEYS and not columns
                item = _own(whole) if own else _instruction(whole, by, unread, notes)
                name = item.id
                while name in numbers:
                    numbers[item.id] += 1
                    name = f"{item.id}-{numbers[item.id]}"
                numbers[name] = 1
                items.append(item if name == item.id else dataclasses.replace(item, id=name))
        except (ValueError, RecursionError) as error:
            deep = isinstance(error, RecursionError)
            raise DataError(path, line, "the row is nested too deeply" if deep else str(error)) from None
    if not items:
        raise DataError(path, None, "there are no instructions in it")
    there = {plain(name): name for names in layouts for name in names}
    if absent := [name for name in columns if plain(name) not in there]:
        raise DataError(path, None, f"there is no column {absent[0]!r}, only {listed(there.values())}")
    for remark in (LATER, UNWANTED, SIGNS):
        if count := unread[remark]:
            print(f"{path}: {count} {remark}.")
    if lost := missed(notes):
        counts = ", ".join(f"{name} ({count} of {len(items)} rows)" for name, count in lost.items())
        call = f'read_instructions(path, columns={{"{next(iter(lost))}": "input"}})'
        print(f'{path}: text that is not read: column {counts}. {call} reads it, "" for input leaves it out.')
    return items


def set_aside_unanswered(instructions: Sequence[Instruction]) -> tuple[list[Instruction], list[Instruction]]:
    """(with an output, without): the latter must never be trained on as if empty were the answer."""
    return [item for item in instructions if item.output], [item for item in instructions if not item.output]


def _wholes(row: Any) -> Iterator[dict[str, Any]]:
    """The row, or one for each of its instances (self-instruct). ValueError says what is wrong."""
    if isinstance(row, ValueError):
        raise row
    if isinstance(row, str):
        if re.fullmatch(r'\s*\{".*\}\s*', row, re.DOTALL):
            raise ValueError("the row is a text that holds an object: it was encoded twice, write the object itself")
        row = {"instruction": row}
    if not isinstance(row, dict):
        raise ValueError(f"expected an object with an instruction, found {_kind(row)}")
    key = next((key for key in row if plain(key) == "instances" and isinstance(row[key], list) and row[key]), None)
    for instance in row[key] if key else [{}]:
        if not isinstance(instance, dict):
            raise ValueError(f"instances holds {_kind(instance)}, expected an object")
        yield {**{name: value for name, value in row.items() if name != key}, **instance} if key else row


def _instruction(row: dict[str, Any], by: dict[str, list[Any]], unread: Counter[str], notes: Notes) -> Instruction:
    """The instruction of one row; `unread` counts what the remarks say, `notes` takes down what is left out."""
    row = row | {name: cell(row[name]) for name in by["cells"]}
    if by["refused"]:
        raise ValueError(f"{by['refused'][0]} (keys: {listed(row)}): {by['refused'][1]}")
    [key], given, output = by["instruction"], [_first(row, [name]) for name in by["input"]], ""
    if by["dialogue"] != ["each"] and all(_texts(row[name], 2) for name in (key, *by["output"][:1])) and by["output"]:
        raise ValueError(f"{key} and {by['output'][0]} are lists of texts: write a row for each text of {key}")
    question, system = "", _first(row, by["system"])
    history = [turn for name in by["history"] if row[name] for turn in turns(name, row[name])]
    if by["dialogue"] or history:
        last, value = bool(history) or by["dialogue"] == ["last"], row[key]
        each = by["dialogue"] == ["each"] and isinstance(value, list)
        asked = [turn for said in value for turn in turns(key, [said])] if each else turns(key, value)
        if isinstance(value, str) and any(row[name] for name in by["output"]):  # which then is to the last question
            last, ended = True, asked[-1][0] == "user" or not asked[-1][1]
            asked = asked if ended else [("user", value)]
        *texts, later = exchange(key, [*history, *asked], last)
        own, question, before, output = (_whole(key, text) for text in texts)
        system, given = "\n\n".join(filter(None, [system, own])), [before, *given]
        unread[LATER] += 0 if last else later
    question = question or _text(key, row[key])
    if not question:
        raise ValueError(f"{key} is empty")
    given = [text for text in given if text.lower().rstrip(".") not in _NO_INPUT]
    answer = min(by["output"], key=lambda name: row[name] in (None, ""), default=None)
    group: Any = {label: row[name] for label, name in by["group"] if row[name] not in (None, "")}
    if options := group or next((row[name] for name in by["choices"]), None):
        right = "" if answer is None else row[answer]
        choices, output = (_whole("a choice", text) for text in choose(options, answer, right))
        given.append(choices)
    elif answer is not None and not output and answer != "label" and str(row.get("label")).lower() == "false":
        unread[UNWANTED] += 1
    elif answer is not None and not output:
        output = _answer(answer, row[answer], question)
    task = "\n\n".join(filter(None, [system, question]))
    item = Instruction(task, "\n\n".join(given), output, _first(row, by["id"]), category=_first(row, by["category"]))
    unread[SIGNS] += bool(by["dialogue"] and not output and re.search(r"<[|｜][^<>\n]{1,40}[|｜]>", question))
    note(row, by, item, notes)
    return item


def _answer(key: str, value: Any, question: str) -> str:
    """The text of an output: of several the first, of a conversation about the question the last answer."""
    value = next((value[k] for k in ("text", "value") if k in value), value) if isinstance(value, dict) else value
    chosen = isinstance(value, str) and plain(key) in TABLE["dialogue"]["last"]
    value = cell(value) if chosen and re.match(r"""\s*\[\s*\{\s*['"](role|from|content|value)\b""", value) else value
    if (
        isinstance(value, list)
        and value
        and isinstance(value[0], dict)
        and not any(name in value[0] for name in SPEAKERS)
    ):
        [first] = best(value)
        value = next((first[name] for name in TEXTS if name in first), value)  # of several models, or a span
    spoken = isinstance(value, list) and value and isinstance(value[0], dict)
    said = turns(key, value, "assistant") if spoken or (isinstance(value, str) and plain(key) == "chosen") else []
    if (spoken and said) or ("user", question) in said:
        value = "".join([text for role, text in said if role == "assistant"][-1:])
    if isinstance(value, list) and all(isinstance(part, dict | int | float) for part in value):
        value = _listed(value)
    value = (value[0] if value else "") if isinstance(value, list) else value
    if isinstance(value, str) and re.match("\\s*?(  |\t)\\S.*\n", value):  # code: its first line is indented too
        return _whole(key, value).strip("\r\n").rstrip()
    return _text(key, value)


def _own(row: dict[str, Any]) -> Instruction:
    """A record as lionkit exports it; its texts are not changed."""
    texts = {key: _whole(key, value) for key, value in row.items() if key != "iteration"}
    number = str(row["iteration"]).removesuffix(".0")
    if not re.fullmatch("[0-9]{1,4}|10000", number):
        raise ValueError(f"iteration is {_kind(row['iteration'])}, expected a whole number from 0 to 10,000")
    if not row["instruction"].strip():
        raise ValueError("instruction is empty")
    return Instruction(**texts, iteration=int(number))


def _texts(value: Any, least: int = 0) -> bool:
    """Whether it is a list of at least so many texts."""
    return isinstance(value, list) and len(value) >= least and all(isinstance(part, str) for part in value)


def _first(row: dict[str, Any], keys: Sequence[Any]) -> str:
    """The text under the first of the keys that holds any; empty where there is none."""
    for key in keys:
        value = _listed(row[key]) if isinstance(row[key], list | dict) else row[key]
        if value is not None and (text := _text(key, value)):
            return text
    return ""


def _listed(value: Any) -> str:
    """A list as text: texts a line each, numbers in one; what is no such list as JSON."""
    if isinstance(value, list) and all(isinstance(part, str) or lone(part) for part in value):
        return ("\n" if _texts(value) else ", ").join(v if isinstance(v, str) else json.dumps(v) for v in value)
    return json.dumps(value, ensure_ascii=False) if value else ""


def listed(names: Iterable[Any]) -> str:
    """The names in one line, as far as they fit an error; what is not printable as a question mark."""
    listed = "".join(c if c.isprintable() else "?" for c in ", ".join(map(str, names)))
    return f"{listed[:60] or 'none'}{'...' * (len(listed) > 60)}"


def _text(key: str, value: Any) -> str:
    if value is None or isinstance(value, float) and not math.isfinite(value):
        remedy = f'fill the cell, remove the row, or leave out columns={{"{key}": ""}}'
        raise ValueError(f"{key} is {_kind(value)}: {remedy}")
    return json.dumps(value) if isinstance(value, bool | int | float) else _whole(key, value).strip()


def _whole(key: str, text: Any) -> str:
    """The text where it can be encoded; a cut emoji ("\\ud83d" in JSON) cannot, and no tokenizer or table takes it."""
    if not isinstance(text, str):
        raise ValueError(f"{key} is {_kind(text)}, expected text")
    if not text.isascii() and re.search("[\ud800-\udfff]", text):
        raise ValueError(f"{key} holds half a character (a lone surrogate): mend or remove it")
    return text


def _kind(value: Any) -> str:
    names: dict[type, str] = {dict: "an object", list: "a list (of rows? then give a file of it alone)", str: "a text"}
    return "missing (null)" if value is None else names.get(type(value), f"{value!r:.40}")
