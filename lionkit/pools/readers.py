"""Other people's instruction files, read into `Instruction` records.

Read are Alpaca files, self-instruct seed tasks and user-oriented instructions with or without responses, FastChat
questions, the reference implementation's files, and lionkit's own exports: as JSON or JSON Lines whatever the
suffix, gzipped or not, CSV, TSV, Parquet, a folder written by Hugging Face `datasets`, or a hub data set by its
`owner/name` (needs a network). The keys of a row decide what it is, not the file's name. Every problem is a
DataError that names the file and the line. Not covered: conversations (only the first turn is taken).
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lionkit.errors import DataError, first_line
from lionkit.records import Instruction

Row = tuple[int, Any]
"""A row and its place: the line it starts on in a text file, its number from 1 in a table."""

_INSTRUCTION_KEYS = ("instruction", "question", "prompt", "query", "turns", "text")
_OUTPUT_KEYS = ("output", "response", "completion", "answer", "assist1")
_CATEGORY_KEYS = ("category", "motivation_app")
_ID_KEYS = ("id", "question_id")
_NOT_INSTRUCTIONS = {
    "answer_id": "answers",
    "review_id": "reviews",
    "teacher_first": "verdicts",
    "seed_id": "candidates",
}
_NO_INPUT = {"", "n/a", "none", "null", "nan", "noinput", "no input", "<noinput>", "<no input>"}
_HUB_NAME = re.compile(r"(?!.*\.(jsonl?|ndjson|[ct]sv|parquet|gz|txt)$)[\w-][\w.-]*/[\w-][\w.-]*", re.I)
_OWN_KEYS = {f.name for f in dataclasses.fields(Instruction)}


def read_instructions(path: str | Path) -> list[Instruction]:
    """The instructions of a file, a `datasets` folder or a hub data set, in order; ids are unique.

    Texts lose the space around them. "N/A", "<noinput>" and their like are no input; an output "None" stays.
    Numbers become text. Rows without output and repeated rows are kept: `set_aside_unanswered` and
    `pools.deduplicate` count and part them. A repeated id gets a number behind it.
    """
    items: list[Instruction] = []
    numbers: dict[str, int] = {}  # the ids there are, and the last number put behind each
    for line, row in read_rows(path):
        for item in _instructions(path, line, row):
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


def _instructions(path: str | Path, line: int, row: Any) -> Iterator[Instruction]:
    """The instruction of one row, or one for each of its instances (self-instruct)."""
    if isinstance(row, str):
        row = {"instruction": row}
    if not isinstance(row, dict):
        raise DataError(path, line, f"expected an object with an instruction, found {_kind(row)}")
    if set(row) == _OWN_KEYS:
        yield _own(path, line, row)
        return
    kind = next((what for key, what in _NOT_INSTRUCTIONS.items() if key in row), None)
    key = next((k for k in _INSTRUCTION_KEYS if k in row), None)
    if kind or key is None:
        what = f"these are {kind}, not instructions" if kind else "no instruction"
        keys = "".join(c if c.isprintable() else "?" for c in ", ".join(map(str, row)))
        raise DataError(path, line, f"{what} (keys: {keys[:60] or 'none'}{'...' * (len(keys) > 60)})")
    value = row[key][0] if key == "turns" and isinstance(row[key], list) and row[key] else row[key]
    instruction = _text(path, line, key, value)
    if not instruction:
        raise DataError(path, line, f"{key} is empty")
    instances = row["instances"] if isinstance(row.get("instances"), list) and row["instances"] else [row]
    for instance in instances:
        if not isinstance(instance, dict):
            raise DataError(path, line, f"instances holds {_kind(instance)}, expected an object")
        given = _first(path, line, instance, ("input",))
        yield Instruction(
            instruction,
            "" if given.lower().rstrip(".") in _NO_INPUT else given,
            _first(path, line, instance, _OUTPUT_KEYS, nullable=False),
            id=_first(path, line, row, _ID_KEYS),
            category=_first(path, line, row, _CATEGORY_KEYS),
        )


def _own(path: str | Path, line: int, row: dict[str, Any]) -> Instruction:
    """A record as lionkit exports it, to the letter."""
    told = row["iteration"]
    number = int(told) if isinstance(told, str) and re.fullmatch("[0-9]{1,5}", told) else told
    if isinstance(number, bool) or not isinstance(number, int | float) or number % 1 or not 0 <= number <= 10_000:
        raise DataError(path, line, f"iteration is {_kind(told)}, expected a whole number from 0 to 10,000")
    values = {**row, "iteration": int(number)}
    if wrong := next((k for k, v in values.items() if k != "iteration" and not isinstance(v, str)), None):
        raise DataError(path, line, f"{wrong} is {_kind(values[wrong])}, expected text")
    if not row["instruction"].strip():
        raise DataError(path, line, "instruction is empty")
    for key, value in values.items():
        _whole(path, line, key, str(value))
    return Instruction(**values)


def _first(path: str | Path, line: int, row: dict[str, Any], keys: tuple[str, ...], *, nullable: bool = True) -> str:
    """The text under the first of the keys that the row has and that is not null; empty where there is none."""
    held = sorted((k for k in keys if k in row), key=lambda k: row[k] is None)
    return "" if not held or (nullable and row[held[0]] is None) else _text(path, line, held[0], row[held[0]])


def _text(path: str | Path, line: int, key: str, value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(path, line, f"{key} is missing ({value}): fill the cell or remove the row")
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if not isinstance(value, str):
        raise DataError(path, line, f"{key} is {_kind(value)}, expected text")
    return _whole(path, line, key, value.strip())


def _whole(path: str | Path, line: int, key: str, text: str) -> str:
    """The text, which tokenizers, tables and notebooks can hold: a cut emoji ("\\ud83d" in JSON) is none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(path, line, f"{key} holds half a character (a lone surrogate): mend or remove it") from None
    return text


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", type(None): "missing (null)"}
    return names.get(type(value), f"{value!r:.40}")


def is_hub_name(name: str) -> bool:
    """Whether it reads as a hub data set's `owner/name`, and not as a file's."""
    return bool(_HUB_NAME.fullmatch(name))


def read_rows(path: str | Path) -> Iterator[Row]:
    """All rows of whatever `path` is, in order."""
    place = Path(path)
    try:
        if place.is_dir() or (not place.exists() and is_hub_name(str(path))):
            return _dataset(path)
        raw = place.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise DataError(path, None, f"cannot be read: {getattr(error, 'strerror', error)}") from None
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(path, None, f"not a whole gzip file: {error}") from None
    if raw[:4] == b"PAR1":
        return _parquet(path, raw)
    try:
        text = raw.decode(json.detect_encoding(raw), "surrogatepass").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(path, line, "not UTF-8 text: save the file with UTF-8 encoding") from None
    first, table = text.lstrip()[:1], {".csv", ".tsv"} & {suffix.lower() for suffix in place.suffixes}
    if table and first not in ("[", "{"):
        return _csv(path, text, "\t" if ".tsv" in table else ",")
    if first not in ("[", "{", '"', ""):
        raise DataError(path, 1, "neither JSON nor JSON Lines, and not named .csv, .tsv or .parquet")
    return _json(path, text)


def _json(path: str | Path, text: str) -> Iterator[Row]:
    """Values one after another (JSON Lines), or the items of one array, each with the line it starts on."""
    decode, space = json.JSONDecoder().raw_decode, re.compile(r"\s*")
    array, start, line = text.lstrip()[:1] == "[", 0, 1

    def skip(at: int, characters: int = 0) -> int:
        nonlocal line
        end = space.match(text, at + characters).end()  # type: ignore[union-attr]
        line += text.count("\n", at, end)
        return end

    at = start = skip(skip(0), 1) if array else skip(0)
    while at < len(text) and not (array and text[at] == "]"):
        if array and at > start:
            if text[at] != ",":
                raise DataError(path, line, f"expected a comma or the end of the list, found {text[at : at + 20]!r}")
            at = skip(at, 1)
        try:
            value, end = decode(text, at)
        except (ValueError, RecursionError) as error:  # ValueError alone: a whole number of over 4,300 digits
            line += text.count("\n", at, getattr(error, "pos", at))
            deep = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise DataError(path, line, f"not readable as JSON: {getattr(error, 'msg', deep)}") from None
        yield line, value
        line += text.count("\n", at, end)
        at = skip(end)
    if array and (at == len(text) or skip(at, 1) < len(text)):
        raise DataError(path, line, "the list does not end where the file does: is the file whole?")


def _csv(path: str | Path, text: str, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        table.fieldnames  # noqa: B018  reads the heading, so that the first row's line is known
        line = table.line_num + 1
        for row in table:
            if None in row or None in row.values():
                raise DataError(path, line, f"has not the {len(table.fieldnames or ())} cells of the heading")
            yield line, row
            line = table.line_num + 1
    except csv.Error as error:
        raise DataError(path, table.line_num, f"not readable as CSV: {error}") from None


def _parquet(path: str | Path, raw: bytes) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(io.BytesIO(raw)).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(path, None, f"not readable as Parquet: {first_line(error)}") from None
    return enumerate(rows, start=1)


def _dataset(path: str | Path) -> Iterator[Row]:
    """Rows of a `datasets` folder or hub data set; of several splits, `train`, else the first."""
    try:
        import datasets
    except ImportError:
        raise DataError(path, None, "needs the package datasets: pip install datasets") from None
    here = Path(path).is_dir()
    try:
        loaded = datasets.load_from_disk(str(path)) if here else datasets.load_dataset(str(path))
    except Exception as error:  # the library raises its own, the hub's and the network's errors alike
        what = "not a folder that datasets wrote" if here else "no such file, nor a hub data set within reach"
        raise DataError(path, None, f"{what}: {first_line(error)}") from None
    if isinstance(loaded, dict):
        loaded = loaded.get("train") or next(iter(loaded.values()))
    return enumerate(loaded.to_list(), start=1)  # row by row takes three times as long
