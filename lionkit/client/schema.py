"""The versions of the call store's tables: `schema.sql` has the steps from each to the next."""

import re
import sqlite3
from pathlib import Path

STEPS = re.split("(?m)^(?=-- step)", Path(__file__).with_name("schema.sql").read_text("utf-8"))[1:]


def migrate(db: sqlite3.Connection) -> None:
    """Take the steps that the store lacks, all or none. Leaves a newer store as it is."""
    if version(db) < len(STEPS):
        db.execute("BEGIN IMMEDIATE")  # from here on, no other process can take them
        for statement in "".join(STEPS[version(db) :]).split(";"):
            db.execute(statement)
        db.execute("COMMIT")


def version(db: sqlite3.Connection) -> int:
    """The number of the last step that this store has taken."""
    return db.execute("PRAGMA user_version").fetchone()[0]
