"""Other people's instruction files, read into `Instruction` records.

Read are Alpaca files, self-instruct seed tasks and user-oriented instructions with or without responses, FastChat
questions, the reference implementation's files, and lionkit's own exports, in every form that `rows` reads. The keys of
a row decide what it is, not the file's name. Every problem is a DataError that names the file and the line. Not
covered: conversations (only the first turn is taken).
"""

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lionkit.errors import DataError
from lionkit.pools.rows import is_hub_name, read_rows
from lionkit.records import Instruction

__all__ = ["is_hub_name", "read_instructions", "set_aside_unanswered"]

_INSTRUCTION_KEYS = ("instruction", "question", "prompt", "query", "turns", "text")
_OUTPUT_KEYS = ("output", "response", "completion", "answer", "assist1")
_CATEGORY_KEYS = ("category", "motivation_app")
_ID_KEYS = ("id", "question_id")
_OTHERS = {"answer_id": "answers", "review_id": "reviews", "teacher_first": "verdicts", "seed_id": "candidates"}
"""Keys that instructions do not have, and the records that do."""
_NO_INPUT = {"", "n/a", "none", "null", "nan", "noinput", "no input", "<noinput>", "<no input>"}
_OWN_KEYS = {f.name for f in dataclasses.fields(Instruction)}


def read_instructions(path: str | Path) -> list[Instruction]:
    """The instructions of a file, a `datasets` folder or a hub data set, in order; ids are unique.

    Texts lose the space around them. "N/A", "<noinput>" and their like are no input; an output "None" stays.
    Numbers become text. Rows without output and repeated rows are kept: `set_aside_unanswered` and
    `pools.deduplicate` count and separate them. A repeated id gets a number behind it.
    """
    items: list[Instruction] = []
    numbers: dict[str, int] = {}  # each id there is, with the last number put behind it
    for line, row in read_rows(path):
        try:
            found = list(_instructions(row))
        except ValueError as error:
            raise DataError(path, line, str(error)) from None
        for item in found:
            name = item.id
            while name in numbers:
                numbers[item.id] += 1
                name = f"{item.id}-{numbers[item.id]}"
            numbers[name] = 1
            items.append(item if name == item.id else dataclasses.replace(item, id=name))
    if not items:
        raise DataError(path, None, "there are no instructions in it")
    return items


def set_aside_unanswered(instructions: Sequence[Instruction]) -> tuple[list[Instruction], list[Instruction]]:
    """(with an output, without): the latter must never be trained on as if empty were the answer."""
    return [item for item in instructions if item.output], [item for item in instructions if not item.output]


def _instructions(row: Any) -> Iterator[Instruction]:
    """The instruction of one row, or one for each of its instances (self-instruct). ValueError says what is wrong."""
    if isinstance(row, ValueError):
        raise row
    if isinstance(row, str):
        row = {"instruction": row}
    if not isinstance(row, dict):
        raise ValueError(f"expected an object with an instruction, found {_kind(row)}")
    if set(row) == _OWN_KEYS:
        yield _own(row)
        return
    kind = next((what for key, what in _OTHERS.items() if key in row), None)
    key = next((k for k in _INSTRUCTION_KEYS if k in row), None)
    if kind or key is None:
        what = f"these are {kind}, not instructions" if kind else "no instruction"
        keys = "".join(c if c.isprintable() else "?" for c in ", ".join(map(str, row)))
        raise ValueError(f"{what} (keys: {keys[:60] or 'none'}{'...' * (len(keys) > 60)})")
    turns = key == "turns" and isinstance(row[key], list) and row[key]
    instruction = _text(key, turns[0] if turns else row[key])
    if not instruction:
        raise ValueError(f"{key} is empty")
    instances = row["instances"] if isinstance(row.get("instances"), list) and row["instances"] else [row]
    for instance in instances:
        if not isinstance(instance, dict):
            raise ValueError(f"instances holds {_kind(instance)}, expected an object")
        given, output = _first(instance, ("input",)), _first(instance, _OUTPUT_KEYS, nullable=False)
        given = "" if given.lower().rstrip(".") in _NO_INPUT else given
        yield Instruction(instruction, given, output, _first(row, _ID_KEYS), category=_first(row, _CATEGORY_KEYS))


def _own(row: dict[str, Any]) -> Instruction:
    """A record as lionkit exports it; its texts are not changed."""
    number = str(row["iteration"]).removesuffix(".0")
    if not re.fullmatch("[0-9]{1,4}|10000", number):
        raise ValueError(f"iteration is {_kind(row['iteration'])}, expected a whole number from 0 to 10,000")
    texts = {key: value for key, value in row.items() if key != "iteration"}
    if wrong := next((key for key, value in texts.items() if not isinstance(value, str)), None):
        raise ValueError(f"{wrong} is {_kind(row[wrong])}, expected text")
    if not row["instruction"].strip():
        raise ValueError("instruction is empty")
    return Instruction(**{key: _whole(key, text) for key, text in texts.items()}, iteration=int(number))


def _first(row: dict[str, Any], keys: tuple[str, ...], *, nullable: bool = True) -> str:
    """The text under the first of the keys that the row has and that is not null; empty where there is none."""
    held = sorted((k for k in keys if k in row), key=lambda k: row[k] is None)
    return "" if not held or (nullable and row[held[0]] is None) else _text(held[0], row[held[0]])


def _text(key: str, value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{key} is missing ({value}): fill the cell or remove the row")
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if not isinstance(value, str):
        raise ValueError(f"{key} is {_kind(value)}, expected text")
    return _whole(key, value.strip())


def _whole(key: str, text: str) -> str:
    """The text where it can be encoded; a cut emoji ("\\ud83d" in JSON) cannot, and no tokenizer or table takes it."""
    try:
        text.encode()  # three times as fast as looking for one
    except UnicodeEncodeError:
        raise ValueError(f"{key} holds half a character (a lone surrogate): mend or remove it") from None
    return text


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", type(None): "missing (null)"}
    return names.get(type(value), f"{value!r:.40}")
