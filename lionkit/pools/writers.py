"""Pools written for other programs: Alpaca JSON, JSON Lines, Parquet, or a Hugging Face `datasets` folder.

Each row has every field of `Instruction`, provenance included, so that `pools.read_instructions` gives equal
records back. Trainers that want Alpaca's three keys find them and may ignore the rest.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from lionkit.errors import ConfigError, LionkitError
from lionkit.files import whole_folder, write_bytes, write_text
from lionkit.records import Instruction, write_jsonl


def export(instructions: Sequence[Instruction], path: str | Path) -> Path:
    """Write the instructions as the path's suffix says, whole or not at all; returns the path.

    `.json` is a list of objects (Alpaca), `.jsonl` an object a line, `.parquet` a table, no suffix a `datasets`
    folder. Existing files are replaced; a folder only where it is empty or missing.
    """
    path = Path(path)
    rows = [asdict(item) for item in instructions]
    try:
        if path.suffix == ".json":
            write_text(path, "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n")
        elif path.suffix == ".jsonl":
            write_jsonl(path, instructions)
        elif path.suffix == ".parquet":
            write_bytes(path, pd.DataFrame(rows, dtype=object).to_parquet(index=False))
        elif not path.suffix:
            import datasets

            with whole_folder(path) as temporary:
                datasets.Dataset.from_list(rows).save_to_disk(str(temporary))
        else:
            known = ".json, .jsonl, .parquet, a folder name without suffix"
            raise ConfigError(f"{path}: cannot export as {path.suffix}, choose one of {known}")
    except UnicodeEncodeError:
        raise LionkitError(f"{path}: a text holds half a surrogate pair, which only JSON can hold") from None
    return path
