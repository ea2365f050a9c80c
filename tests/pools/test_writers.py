"""Exports: reading back gives equal records in every format, and nothing half-written is left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lionkit.errors import LionkitError
from lionkit.pools import export
from lionkit.pools.readers import read_instructions
from lionkit.records import Instruction

POOL = [
    Instruction("Name a fruit.", category="food"),
    Instruction("Sort.", "3, 1, 2", "1, 2, 3", id="own-id"),
    Instruction("  spaces kept \r\n", "N/A", "None", source="hard", parent="own-id", iteration=2),
    Instruction("写一首诗 😀 \u2028 <b>&amp;</b>", "a\n\nb", '"quoted"\t\\n', source="easy", parent="x", iteration=1),
]


@pytest.mark.parametrize("name", ["pool.json", "pool.jsonl", "pool.parquet", "pool"])
def test_reading_back_gives_equal_records(tmp_path: Path, name: str) -> None:
    assert read_instructions(export(POOL, tmp_path / "new" / name)) == POOL
    assert [p.name for p in (tmp_path / "new").iterdir()] == [name]


def test_half_a_surrogate_pair_is_written_where_it_can_be_and_named_where_not(tmp_path: Path) -> None:
    pool = [Instruction("half \ud83d", "a\0b", "\u202e")]
    for name in ("a.json", "a.jsonl"):
        export(pool, tmp_path / name)
        with pytest.raises(LionkitError, match="instruction holds half a character"):
            read_instructions(tmp_path / name)
    for name in ("b.parquet", "folder"):
        with pytest.raises(LionkitError, match="half a surrogate pair"):
            export(pool, tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.jsonl"]


def test_alpaca_json_is_a_list_with_alpacas_keys(tmp_path: Path) -> None:
    rows = json.loads(export(POOL, tmp_path / "a.json").read_text(encoding="utf-8"))
    assert len(rows) == 4
    assert rows[1]["instruction"] == "Sort."
    assert {"instruction", "input", "output", "source", "parent", "iteration"} <= set(rows[0])


def test_an_unknown_suffix_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(LionkitError, match=r"\.xlsx, choose one of \.json"):
        export(POOL, tmp_path / "pool.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "precious.txt").write_text("x")
    with pytest.raises(LionkitError, match="there already"):
        export(POOL, tmp_path / "pool")
    assert (tmp_path / "pool" / "precious.txt").read_text() == "x"


@pytest.mark.parametrize("name", ["pool.json", "pool.parquet"])
def test_what_cannot_be_written_is_said_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LionkitError, match="cannot write"):
        export(POOL, tmp_path / "file" / name)
