"""The rows of a data file in whatever form it has, each with its place; what a row means is `readers`' part.

JSON or JSON Lines whatever the suffix, CSV with any delimiter, Parquet, each compressed or not; a folder written by
Hugging Face `datasets`, or a hub data set by its `owner/name` (needs a network). Files of other kinds are refused by
name, with what to do. Every problem is a DataError that names the file and, in a text
file, the line; only a broken value in JSON Lines is handed on, so that a reader can name all of them.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import re
import zipfile
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lionkit import files
from lionkit.errors import DataError, first_line
from lionkit.pools.layouts import TABLE

Row = tuple[int, Any]
"""A row and its place: the line it starts on in a text file, its number from 1 in a table.

A row that is not readable is the ValueError that says why."""


def is_hub_name(name: str) -> bool:
    """Whether it reads as a hub data set's `owner/name`, and not as a file's."""
    return bool(re.fullmatch(r"(?!.*\.(jsonl?|ndjson|[ct]sv|parquet|gz|txt)$)[\w-][\w.-]*/[\w-][\w.-]*", name, re.I))


_PACKED = {b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zXZ": lzma.decompress}
"""By what a compressed file begins with, how it is unpacked; files that are refused are in `layouts.toml`."""


def read_rows(path: str | Path, split: str = "") -> Iterator[Row]:
    """All rows of whatever `path` is, in order; `split` is a data set's."""
    if os.path.isdir(path) or (not os.path.exists(path) and is_hub_name(str(path))):
        return _dataset(path, split)
    name, raw = _unpacked(path, path, files.read_bytes(path))
    if raw[:4] == b"PAR1":
        return _parquet(path, raw)
    if kind := next((kind for start, kind in TABLE["files"].items() if raw.startswith(start.encode("latin1"))), None):
        raise DataError(path, None, f"this is {kind}")
    try:
        text = raw.decode(json.detect_encoding(raw), "surrogatepass").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(path, line, "not UTF-8 text: save the file with UTF-8 encoding") from None
    first, table = text.lstrip()[:1], {".csv", ".tsv"} & {suffix.lower() for suffix in Path(name).suffixes}
    if table and first not in ("[", "{"):
        return _csv(path, text)
    if first not in ("[", "{", '"', ""):
        raise DataError(path, 1, "neither JSON nor JSON Lines, and not named .csv, .tsv or .parquet")
    return _json(path, text)


def _unpacked(path: str | Path, name: str | Path, raw: bytes) -> tuple[str | Path, bytes]:
    """The name and the bytes of the file itself; of an archive, of the only file in it."""
    try:
        for start, unpack in _PACKED.items():
            if raw.startswith(start):
                return _unpacked(path, name, unpack(raw))
        if not raw.startswith(b"PK\3\4"):
            return name, raw
        archive = zipfile.ZipFile(io.BytesIO(raw))
        inside = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
        if len(inside) == 1:
            return _unpacked(path, inside[0], archive.read(inside[0]))
    except (OSError, EOFError, RuntimeError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise DataError(path, None, f"not a whole gzip, bz2, xz or zip file: {first_line(error)}") from None
    sheet = "a spreadsheet or a document: save it as CSV (UTF-8)"
    many = f"an archive of {len(inside)} files: unpack it and give one of them"
    raise DataError(path, None, f"this is {sheet if {'[Content_Types].xml', 'content.xml'} & {*inside} else many}")


def _json(path: str | Path, text: str) -> Iterator[Row]:
    """Values one after another (JSON Lines), or the items of one array, each with the line it starts on."""
    decode, space, next_object = json.JSONDecoder().raw_decode, re.compile(r"\s*"), re.compile(r"\n\s*\{")
    array, breaks = text.lstrip()[:1] == "[", [found.start() for found in re.finditer("\n", text)]

    def line(at: int) -> int:
        return bisect_left(breaks, at) + 1

    def skip(at: int) -> int:
        return space.match(text, at).end()  # type: ignore[union-attr]

    at = start = skip(skip(0) + array)
    while at < len(text) and not (array and text[at] == "]"):
        if array and at > start:
            if text[at] != ",":
                there = text[at : at + 20]
                raise DataError(path, line(at), f"expected a comma or the end of the list, found {there!r}")
            at = skip(at + 1)
        try:
            value, end = decode(text, at)
        except (ValueError, RecursionError) as error:  # ValueError alone: a whole number of over 4,300 digits
            deep = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            value = ValueError(f"not readable as JSON: {getattr(error, 'msg', deep)}")
            if array:
                raise DataError(path, line(getattr(error, "pos", at)), str(value)) from None
            end = found.start() if (found := next_object.search(text, at)) else len(text)
        yield line(at), value
        at = skip(end)
    if array and (at == len(text) or skip(at + 1) < len(text)):
        raise DataError(path, line(skip(at + 1)), "the list does not end where the file does: is the file whole?")


def _csv(path: str | Path, text: str) -> Iterator[Row]:
    """Rows of a table whose delimiter is the one that its heading has most of; empty rows are passed over."""
    csv.field_size_limit(2**31 - 1)
    said = re.match("sep=(.)\r?\n", text)  # for Excel
    names = re.sub('"[^"]*"', "", re.split("[\r\n]", text, maxsplit=1)[0])
    delimiter = said[1] if said else max(",;\t|", key=names.count)
    table = csv.reader(io.StringIO(text[said.end() if said else 0 :], newline=""), delimiter=delimiter, strict=True)
    try:
        heading = [name.strip() for name in next(table, [])]
        if twice := [name for name in heading if name and heading.count(name) > 1]:
            raise DataError(path, 1, f"two columns are called {twice[0]!r}: rename one")
        line = table.line_num + 1
        for cells in table:
            if any(cells):
                if len(cells) != len(heading):
                    raise DataError(path, line, f"has not the {len(heading)} cells of the heading")
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


def _dataset(path: str | Path, split: str) -> Iterator[Row]:
    """Rows of a `datasets` folder or hub data set; of several splits, the one asked for, `train`, else the first."""
    import datasets

    here = os.path.isdir(path)
    try:
        loaded = datasets.load_from_disk(str(path)) if here else datasets.load_dataset(str(path))
    except Exception as error:  # the library raises its own, the hub's and the network's errors alike
        what = "not a folder that datasets wrote" if here else "no such file, nor a hub data set within reach"
        if "Config name is missing" in str(error):
            what = "a data set of several parts: load one with datasets, and give the folder that save_to_disk wrote"
        raise DataError(path, None, f"{what}: {first_line(error)}") from None
    if isinstance(loaded, dict):
        if split and split not in loaded:
            raise DataError(path, None, f"there is no split {split!r}, only {', '.join(loaded)}")
        chosen = split or ("train" if "train" in loaded else next(iter(loaded)))
        if len(loaded) > 1 and not split:
            print(f"{path}: the split {chosen} is read, of {', '.join(loaded)}: read_instructions(path, split=...)")
        loaded = loaded[chosen]
    return enumerate(loaded.to_list(), start=1)  # row by row takes three times as long
