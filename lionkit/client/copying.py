"""A copy of a call store for another run: its replies without its account, which the first run paid."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def copy_store(source: Path, target: Path) -> None:
    """Copy a store that may be in use. What is being asked, or waits in a batch, stays with the source."""
    address = f"{source.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
        tables = {name for (name,) in new.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in {"claims", "pending", "owners", "batches", "bills"} & tables:
            new.execute(f"DELETE FROM {table}")
        for table in {"ledger", "account"} & tables:
            new.execute(f"UPDATE {table} SET prompt_tokens = 0, completion_tokens = 0, reasoning_tokens = 0")
        new.commit()
