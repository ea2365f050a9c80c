"""The call store: one SQLite file that holds every reply that was paid for, and the account of what was spent.

Write-ahead logging, one transaction a reply, so a killed process loses nothing that was committed. A call is
claimed before it is sent: a second kernel on the same run leaves it alone, and its upper bound counts against the
budget until it is settled. Claims of a dead kernel (its lock file is free) are settled at that bound, since
nobody knows whether they were billed. Holds no API key; not meant for network file systems without locks.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lionkit.client.calls import Completion, Usage
from lionkit.errors import LionkitError

SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS calls (key TEXT PRIMARY KEY, status TEXT, text TEXT, error TEXT, prompt_tokens INTEGER,
    completion_tokens INTEGER, reasoning_tokens INTEGER, model TEXT, sent TEXT, stored_at REAL);
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT, prompt_tokens INTEGER, completion_tokens INTEGER);
CREATE TABLE IF NOT EXISTS owners (owner TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS batches (token TEXT PRIMARY KEY, owner TEXT, batch_id TEXT);
CREATE TABLE IF NOT EXISTS bills (label TEXT, calls INTEGER, basis TEXT, expected_prompt INTEGER,
    expected_completion INTEGER, prompt_tokens INTEGER, completion_tokens INTEGER);
CREATE TABLE IF NOT EXISTS ledger (id INTEGER PRIMARY KEY CHECK (id = 1), prompt_tokens INTEGER,
    completion_tokens INTEGER, reasoning_tokens INTEGER);
INSERT OR IGNORE INTO ledger VALUES (1, 0, 0, 0);
"""
COLUMNS = "key, status, text, error, prompt_tokens, completion_tokens, reasoning_tokens, model"


class Store:
    """`with Store(path) as store`; used by one thread at a time. `read_only` for replay."""

    def __init__(self, path: str | Path, *, read_only: bool = False) -> None:
        self.path, self.owner = Path(path), ""
        self._lock: FileLock | None = None
        with self._reported():
            if read_only:
                if not self.path.exists():
                    raise LionkitError(f"there is no call store at {path}: run live once, then replay")
                mode = "mode=ro" if os.access(self.path.parent, os.W_OK) else "immutable=1"
                self._db = sqlite3.connect(f"{self.path.absolute().as_uri()}?{mode}", uri=True, check_same_thread=False)
            else:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._db = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
                self._create()

    def _create(self) -> None:
        """Make the tables where they are missing. SQLite does not wait by itself while another kernel turns WAL on."""
        for patience in range(600):
            try:
                self._db.executescript(SCHEMA)
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or patience == 599:
                    raise
                time.sleep(0.05)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(LionkitError), self._reported():
            if self._lock is not None:
                self._bury(self.owner)
        if self._lock is not None:
            self._lock.release()
            Path(self._lock.lock_file).unlink(missing_ok=True)
        self._db.close()

    def find(self, keys: Iterable[str]) -> dict[str, Completion]:
        """The stored replies among `keys`, as cached completions."""
        sql = f"SELECT {COLUMNS} FROM calls WHERE key IN (SELECT value FROM json_each(?))"
        with self._reported():
            return {row[0]: _completion(row) for row in self._db.execute(sql, (json.dumps(list(keys)),))}

    def join(self) -> None:
        """Show the other kernels that this one is alive, and settle what dead ones left."""
        self.owner = uuid.uuid4().hex[:12]
        with self._reported():
            self._lock = self._lock_of(self.owner)
            self._lock.acquire()
        with self._transaction():
            self._db.execute("INSERT INTO owners VALUES (?)", (self.owner,))
        self.sweep()

    def sweep(self) -> None:
        """Settle the claims of kernels that are gone."""
        with self._reported():
            owners = [o for (o,) in self._db.execute("SELECT owner FROM owners WHERE owner != ?", (self.owner,))]
        for owner in owners:
            lock = self._lock_of(owner)
            with contextlib.suppress(Timeout):
                with lock.acquire(timeout=0):
                    self._bury(owner)
                Path(lock.lock_file).unlink(missing_ok=True)  # once released: Windows removes no open file

    def claim(self, key: str, most: Usage, fits: Callable[[Usage], bool] | None, owner: str = "") -> Completion | str:
        """The reply if it is there by now, else `claimed`, `taken` (another kernel is asking), `batched` (in a batch),
        `wait` (the budget may allow it once what running maps have asked is settled) or `over` (it will not).
        No `fits`: no budget.
        """
        with self._transaction():
            if row := self._db.execute(f"SELECT {COLUMNS} FROM calls WHERE key = ?", (key,)).fetchone():
                return _completion(row)
            sql = "SELECT owner IN (SELECT token FROM batches) FROM claims WHERE key = ?"
            if row := self._db.execute(sql, (key,)).fetchone():
                return "batched" if row[0] else "taken"
            if fits is not None:
                alive = "SELECT owner FROM owners UNION SELECT token FROM batches JOIN owners USING (owner)"
                sql = f"SELECT TOTAL(prompt_tokens), TOTAL(completion_tokens), TOTAL(owner IN ({alive})) FROM claims"
                asked, written, running = self._db.execute(sql).fetchone()
                if not fits(self.spent() + Usage(int(asked), int(written)) + most):
                    return "wait" if running else "over"
            row = (key, owner or self.owner, most.prompt_tokens, most.completion_tokens)
            self._db.execute("INSERT INTO claims VALUES (?, ?, ?, ?)", row)
        return "claimed"

    def put(self, reply: Completion, sent: str, owner: str = "") -> None:
        """Keep a reply with the settings it was sent with, settle its claim, and enter its tokens in the ledger."""
        u = reply.usage
        row: tuple[Any, ...] = (reply.call_id, reply.status, reply.text, reply.error)
        row += (u.prompt_tokens, u.completion_tokens, u.reasoning_tokens, reply.model, sent, time.time())
        with self._transaction():
            self._db.execute(f"INSERT OR IGNORE INTO calls VALUES ({', '.join('?' * len(row))})", row)
            self._settle(reply.call_id, u, owner or self.owner)

    def release(self, key: str, paid: Usage, owner: str = "") -> None:
        """Give a claim up without a reply; `paid` is what the attempt cost all the same."""
        with self._transaction():
            self._settle(key, paid, owner or self.owner)

    def open_batch(self, token: str, batch_id: str | None = None) -> None:
        """Note that a batch is about to be submitted, then (with its id) that it was. Its token owns its claims."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO batches VALUES (?, ?, ?)", (token, self.owner, batch_id))

    def batches(self, keys: Iterable[str]) -> list[tuple[str, str | None]]:
        """(token, id) of the batches that hold any of the calls; no id: its kernel died while submitting it."""
        ours = "token IN (SELECT owner FROM claims WHERE key IN (SELECT value FROM json_each(?)))"
        settled = "(batch_id IS NOT NULL OR owner NOT IN (SELECT owner FROM owners))"
        sql = f"SELECT token, batch_id FROM batches WHERE {ours} AND {settled}"
        with self._reported():
            return self._db.execute(sql, (json.dumps(list(keys)),)).fetchall()

    def claims(self, owner: str) -> dict[str, Usage]:
        """The calls that an owner holds, and what each may use at most."""
        sql = "SELECT key, prompt_tokens, completion_tokens FROM claims WHERE owner = ?"
        with self._reported():
            return {key: Usage(asked, written) for key, asked, written in self._db.execute(sql, (owner,))}

    def close_batch(self, token: str) -> None:
        """Everything it brought is stored: free the calls that it did not bring."""
        with self._transaction():
            self._db.execute("DELETE FROM claims WHERE owner = ?", (token,))
            self._db.execute("DELETE FROM batches WHERE token = ?", (token,))

    def spent(self) -> Usage:
        """Everything the run has paid for so far."""
        with self._reported():
            row = self._db.execute("SELECT prompt_tokens, completion_tokens, reasoning_tokens FROM ledger").fetchone()
        return Usage(*row)

    def add_bill(self, label: str, calls: int, basis: str, expected: Usage, used: Usage) -> None:
        """Note what one `map` was expected to use and what it used."""
        row = (expected.prompt_tokens, expected.completion_tokens, used.prompt_tokens, used.completion_tokens)
        with self._transaction():
            self._db.execute("INSERT INTO bills VALUES (?, ?, ?, ?, ?, ?, ?)", (label, calls, basis, *row))

    def bills(self) -> list[tuple[str, int, str, Usage, Usage]]:
        """(label, calls, basis, expected, used) of every `map` that asked something, oldest first."""
        with self._reported():
            rows = self._db.execute("SELECT * FROM bills ORDER BY rowid").fetchall()
        return [(*row[:3], Usage(*row[3:5]), Usage(*row[5:7])) for row in rows]

    def _settle(self, key: str, paid: Usage, owner: str) -> None:
        """Once a claim: two kernels that collect the same batch pay for it once."""
        if self._db.execute("DELETE FROM claims WHERE key = ? AND owner = ?", (key, owner)).rowcount:
            sql = "UPDATE ledger SET prompt_tokens = prompt_tokens + ?, completion_tokens = completion_tokens + ?,"
            values = (paid.prompt_tokens, paid.completion_tokens, paid.reasoning_tokens)
            self._db.execute(f"{sql} reasoning_tokens = reasoning_tokens + ?", values)

    def _bury(self, owner: str) -> None:
        with self._transaction():
            for key, most in self.claims(owner).items():
                self._settle(key, most, owner)
            unused = "owner = ? AND batch_id IS NULL AND token NOT IN (SELECT owner FROM claims)"
            self._db.execute(f"DELETE FROM batches WHERE {unused}", (owner,))
            self._db.execute("DELETE FROM owners WHERE owner = ?", (owner,))

    def _lock_of(self, owner: str) -> FileLock:
        return FileLock(self.path.with_name(f"{self.path.name}.{owner}.lock"), thread_local=False)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._reported():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        """SQLite's and the system's complaints as one line each; what is stored stays whole."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            problem, remedy = str(error), "see that the folder can be written and the file is a call store"
            refused = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
            if refused or getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
                problem, remedy = "the disk is full", "free some space and run again; what was stored is whole"
            raise LionkitError(f"call store {self.path}: {problem}: {remedy}") from None


def _completion(row: tuple) -> Completion:
    key, status, text, error, asked, written, reasoned, model = row
    return Completion(status, text, Usage(asked, written, reasoned), True, error, key, model)
