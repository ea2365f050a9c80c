"""The call store's tables, as numbered steps: `PRAGMA user_version` is the number of the last step that was taken.

A new store takes all steps; an older one takes those it lacks, each in a transaction of its own. Stores made before
there were versions have number 0 and the tables of step 1. To change the tables, add a step; never edit one.
"""

from __future__ import annotations

import sqlite3

STEPS = {
    "replies, bills and the account": """
        CREATE TABLE IF NOT EXISTS calls (key TEXT PRIMARY KEY, status TEXT, text TEXT, error TEXT,
            prompt_tokens INTEGER, completion_tokens INTEGER, reasoning_tokens INTEGER, model TEXT, sent TEXT,
            stored_at REAL);
        CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT, prompt_tokens INTEGER,
            completion_tokens INTEGER);
        CREATE TABLE IF NOT EXISTS owners (owner TEXT PRIMARY KEY);
        CREATE TABLE IF NOT EXISTS batches (token TEXT PRIMARY KEY, owner TEXT, batch_id TEXT);
        CREATE TABLE IF NOT EXISTS bills (label TEXT, calls INTEGER, basis TEXT, expected_prompt INTEGER,
            expected_completion INTEGER, prompt_tokens INTEGER, completion_tokens INTEGER);
        CREATE TABLE IF NOT EXISTS ledger (id INTEGER PRIMARY KEY CHECK (id = 1), prompt_tokens INTEGER,
            completion_tokens INTEGER, reasoning_tokens INTEGER);
        INSERT OR IGNORE INTO ledger VALUES (1, 0, 0, 0)""",
    "one process asks: calls in flight are rows of one table": """
        ALTER TABLE ledger RENAME TO account;
        CREATE TABLE pending (key TEXT PRIMARY KEY, family TEXT, token TEXT, batch_id TEXT, bill INTEGER,
            prompt_tokens INTEGER, completion_tokens INTEGER);
        INSERT INTO pending SELECT key, NULL, token, batch_id, NULL, prompt_tokens, completion_tokens
            FROM claims LEFT JOIN batches ON token = claims.owner;
        DROP TABLE claims;
        DROP TABLE owners;
        DROP TABLE batches""",
    "whole replies serve other token limits": """
        ALTER TABLE calls ADD COLUMN family TEXT;
        ALTER TABLE calls ADD COLUMN max_tokens INTEGER;
        CREATE INDEX families ON calls (family)""",
    "bills are kept from the start of a map": "ALTER TABLE bills ADD COLUMN planned INTEGER",
}
"""By what they change. `calls.max_tokens` is 0 where there was no limit, `family` NULL in replies of older stores."""


def migrate(db: sqlite3.Connection) -> None:
    """Take the steps that the store lacks. Several processes may do so at once. Leaves a newer store as it is."""
    for number, statements in enumerate(STEPS.values(), start=1):
        if version(db) < number:
            db.execute("BEGIN IMMEDIATE")
            if version(db) < number:  # no other process was faster
                for statement in statements.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {number}")
            db.execute("COMMIT")


def version(db: sqlite3.Connection) -> int:
    """The number of the last step that this store has taken."""
    return db.execute("PRAGMA user_version").fetchone()[0]
