"""The rows of a data file in whatever form it has, each with its place; what a row means is `readers`' part.

JSON or JSON Lines whatever the suffix, gzipped or not, CSV, TSV, Parquet, a folder written by Hugging Face `datasets`,
or a hub data set by its `owner/name` (needs a network). Every problem is a DataError that names the file and, in a text
file, the line; only a broken value in JSON Lines is handed on, so that a reader can name all of them.
"""

import csv
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lionkit import files
from lionkit.errors import DataError, first_line

Row = tuple[int, Any]
"""A row and its place: the line it starts on in a text file, its number from 1 in a table.

A row that is not readable is the ValueError that says why."""
_HUB_NAME = re.compile(r"(?!.*\.(jsonl?|ndjson|[ct]sv|parquet|gz|txt)$)[\w-][\w.-]*/[\w-][\w.-]*", re.I)


def is_hub_name(name: str) -> bool:
    """Whether it reads as a hub data set's `owner/name`, and not as a file's."""
    return bool(_HUB_NAME.fullmatch(name))


def read_rows(path: str | Path) -> Iterator[Row]:
    """All rows of whatever `path` is, in order."""
    if os.path.isdir(path) or (not os.path.exists(path) and is_hub_name(str(path))):
        return _dataset(path)
    raw = files.read_bytes(path)
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
    first, table = text.lstrip()[:1], {".csv", ".tsv"} & {suffix.lower() for suffix in Path(path).suffixes}
    if table and first not in ("[", "{"):
        return _csv(path, text, "\t" if ".tsv" in table else ",")
    if first not in ("[", "{", '"', ""):
        raise DataError(path, 1, "neither JSON nor JSON Lines, and not named .csv, .tsv or .parquet")
    return _json(path, text)


def _json(path: str | Path, text: str) -> Iterator[Row]:
    """Values one after another (JSON Lines), or the items of one array, each with the line it starts on."""
    decode, space, next_object = json.JSONDecoder().raw_decode, re.compile(r"\s*"), re.compile(r"\n\s*\{")
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
            deep = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            value = ValueError(f"not readable as JSON: {getattr(error, 'msg', deep)}")
            if array:
                raise DataError(path, line + text.count("\n", at, getattr(error, "pos", at)), str(value)) from None
            yield line, value
            end = found.start() if (found := next_object.search(text, at)) else len(text)
        else:
            yield line, value
        line += text.count("\n", at, end)
        at = skip(end)
    if array and (at == len(text) or skip(at, 1) < len(text)):
        raise DataError(path, line, "the list does not end where the file does: is the file whole?")


def _csv(path: str | Path, text: str, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)
    table = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        heading = next(table, [])
        line = table.line_num + 1
        for cells in table:
            if cells and len(cells) != len(heading):
                raise DataError(path, line, f"has not the {len(heading)} cells of the heading")
            if cells:
                yield line, dict(zip(heading, cells))
            line = table.line_num + 1
    except csv.Error as error:
        raise DataError(path, table.line_num, f"not readable as CSV: {error}") from None


def _parquet(path: str | Path, raw: bytes) -> Iterator[Row]:
    from pyarrow import ArrowException, parquet

    try:
        rows = parquet.read_table(io.BytesIO(raw)).to_pylist()
    except (ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(path, None, f"not readable as Parquet: {first_line(error)}") from None
    return enumerate(rows, start=1)


def _dataset(path: str | Path) -> Iterator[Row]:
    """Rows of a `datasets` folder or hub data set; of several splits, `train`, else the first."""
    import datasets

    here = os.path.isdir(path)
    try:
        loaded = datasets.load_from_disk(str(path)) if here else datasets.load_dataset(str(path))
    except Exception as error:  # the library raises its own, the hub's and the network's errors alike
        what = "not a folder that datasets wrote" if here else "no such file, nor a hub data set within reach"
        raise DataError(path, None, f"{what}: {first_line(error)}") from None
    if isinstance(loaded, dict):
        loaded = loaded.get("train") or next(iter(loaded.values()))
    return enumerate(loaded.to_list(), start=1)  # row by row takes three times as long
