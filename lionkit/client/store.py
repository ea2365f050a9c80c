"""The call store: one SQLite file with every reply that was paid for, the account of what was spent, and the bills.

One map at a time asks, whichever process or thread it is in. A call in flight is a row of `pending`, written with its
upper bound before the call is sent, and settled with its reply in one transaction, so that a kill loses nothing that
had arrived. The next map whose turn it is enters the rows that a killed one left at their bound, since nobody knows
whether they were billed. A call of a batch keeps its row, with the batch's token, until the batch is collected. Holds
no API key; not meant for network file systems without locks.
"""

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from lionkit.client import schema
from lionkit.client.calls import Bill, Call, Completion, Estimate, Price, Usage, bound, serves
from lionkit.errors import LionkitError, StageStopped
from lionkit.files import disk_error
from lionkit.records import Status

COLUMNS = "key, status, text, error, model, prompt_tokens, completion_tokens, reasoning_tokens"
IN = "IN (SELECT value FROM json_each(?))"
_turns = defaultdict[str, threading.Lock](threading.Lock)
"""By the lock's file: what the thread of this process holds whose turn it is to ask."""


class Store:
    """`with Store(path) as store`; used by one thread at a time. `read_only` for replay and status."""

    def __init__(self, path: str | Path, *, read_only: bool = False) -> None:
        self.path = Path(path)
        with self._reported():
            self._db = self._read_only() if read_only else self._create()
        if schema.version(self._db) > len(schema.STEPS):
            raise LionkitError(f"call store {self.path}: made by a newer lionkit, so update lionkit to read it")

    def _create(self) -> sqlite3.Connection:
        """Open for writing; make the tables or bring them up to date where needed."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
        with contextlib.suppress(sqlite3.OperationalError):  # another process is setting it at this moment
            db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        schema.migrate(db)
        return db

    def _read_only(self) -> sqlite3.Connection:
        """Open for reading; an older store is brought up to date in memory, its file stays as it is."""
        if not self.path.exists():
            raise LionkitError(f"there is no call store at {self.path}: run live once, then replay")
        mode = "mode=ro" if os.access(self.path.parent, os.W_OK) else "immutable=1"
        db = sqlite3.connect(f"{self.path.absolute().as_uri()}?{mode}", uri=True, check_same_thread=False)
        if schema.version(db) < len(schema.STEPS):
            copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            with contextlib.closing(db):
                db.backup(copy)
            schema.migrate(db := copy)
        return db

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Be the one that asks, once the calls that a dead process left in flight are in the account. It is said in one
        line where another process has to be waited for. LionkitError where the lock's file cannot be made; that stays
        when the lock is free: removing it could give two processes a lock each."""
        lock = FileLock(f"{self.path.resolve()}.lock")
        with _turns[lock.lock_file]:
            try:
                held = lock.acquire(timeout=0)
            except Timeout:
                print(f"another process is asking with {self.path}: waiting until it has finished", flush=True)
                held = lock.acquire()
            except OSError as error:
                raise disk_error(error, lock.lock_file) from None
            with held:
                for (key,) in self._rows("SELECT key FROM pending WHERE token IS NULL"):
                    self.settle(key, None, None)
                yield

    def find(self, calls: Collection[Call]) -> dict[str, Completion]:
        """The stored replies by the calls' keys, as cached completions.

        Where the exact call is not there, one that differs in its token limit alone serves too: a reply that ended by
        itself, if it fits into the new limit; a truncated one, if the new limit is not higher.
        """
        keys, families = {key: call.key for call in calls for key in call.keys}, defaultdict[str, list[Call]](list)
        sql = f"SELECT {COLUMNS} FROM calls WHERE key {IN}"
        replies = [_completion(*row) for row in self._rows(sql, json.dumps(list(keys)))]
        found = {keys[reply.call_id]: reply for reply in replies}
        for call in calls:
            if call.key not in found:
                families[call.family].append(call)
        sql = f"SELECT {COLUMNS}, family, max_tokens FROM calls WHERE family {IN} ORDER BY status = 'truncated'"
        for *row, family, limit in self._rows(sql, json.dumps(list(families))):
            for call in families[family]:
                if serves(reply := _completion(*row), limit, call.request.max_tokens):
                    found.setdefault(call.key, reply)
        return found

    def claim(self, call: Call, bill: int, token: str | None, exceeded: Callable[[Usage], str] | None) -> bool:
        """Enter a call in flight, with the token of its batch, if any; False where the budget may allow it once calls
        of the same bill are settled.

        `exceeded` names the budget that so many tokens in all would exceed, if any; StageStopped where no call in
        flight can change that.
        """
        most = bound(call.request)
        with self._transaction():
            if exceeded:
                sql = "SELECT TOTAL(prompt_tokens), TOTAL(completion_tokens), TOTAL(bill = ?) FROM pending"
                ((asked, written, running),) = self._rows(sql, bill)
                if setting := exceeded(self.spent() + Usage(asked, written) + most):
                    if running:
                        return False
                    problem = "the budget is used up (a call counts at its longest until it is answered): raise it"
                    raise StageStopped(problem, setting=setting)
            values = (call.key, call.family, token, bill, most.prompt_tokens, most.completion_tokens)
            self._rows("INSERT INTO pending VALUES (?, ?, ?, NULL, ?, ?, ?)", *values)
        return True

    def settle(self, key: str, paid: Usage | None, bill: int | None, reply: Collection[str] = ()) -> Usage:
        """End a call in flight: enter what it cost (None: its upper bound) in the account and a bill (None: that of
        the map that sent it), and keep its reply (status, text, error, model, settings as sent), if there is one.

        Returns what it cost.
        """
        with self._transaction():
            columns = "family, bill, prompt_tokens, completion_tokens"
            sql = f"DELETE FROM pending WHERE key = ? RETURNING {columns}"
            ((family, own, *most),) = self._rows(sql, key)
            paid = paid or Usage(*most)
            if reply:
                status, text, error, model, sent = reply
                row = (key, status, text, error, *astuple(paid), model, sent, time.time(), family, most[1])
                self._rows(f"INSERT OR IGNORE INTO calls VALUES ({', '.join('?' * len(row))})", *row)
            *used, thoughts = astuple(paid)
            add = "prompt_tokens = prompt_tokens + ?, completion_tokens = completion_tokens + ?"
            self._rows(f"UPDATE account SET {add}, reasoning_tokens = reasoning_tokens + ?", *used, thoughts)
            calls = bool(reply) or sum(used) > 0
            self._rows(f"UPDATE bills SET {add}, calls = calls + ? WHERE rowid = ?", *used, calls, bill or own)
        return paid

    def note_batch(self, token: str, batch_id: str) -> None:
        """Note that the calls with this token were submitted, and as which batch."""
        self._rows("UPDATE pending SET batch_id = ? WHERE token = ?", batch_id, token)

    def batches(self, calls: Iterable[Call]) -> list[tuple[str, str | None]]:
        """(token, id) of the batches that hold any of the calls. No id: the process died, or the endpoint failed,
        while the batch was submitted."""
        sql = f"SELECT DISTINCT token, batch_id FROM pending WHERE key {IN} AND token IS NOT NULL"
        return self._rows(sql, json.dumps([call.key for call in calls]))

    def held(self, token: str) -> list[str]:
        """The keys of the calls that a batch holds."""
        return [key for (key,) in self._rows("SELECT key FROM pending WHERE token = ?", token)]

    def close_batch(self, token: str) -> None:
        """Free the calls that a collected batch did not bring: nobody pays for them."""
        self._rows("DELETE FROM pending WHERE token = ?", token)

    def learn(self, url: str, model: str, part: str) -> None:
        """Note a part of requests that a model of an endpoint does not take."""
        self._rows("INSERT OR IGNORE INTO learned VALUES (?, ?, ?)", url, model, part)

    def learned(self, url: str) -> list[tuple[str, str]]:
        """(model, part) for all that the endpoint's models are known not to take."""
        return self._rows("SELECT model, part FROM learned WHERE url = ?", url)

    def answered_by(self, model: str) -> bool:
        """Whether the store has a reply of this model."""
        return bool(self._rows("SELECT 1 FROM calls WHERE model = ? LIMIT 1", model))

    def spent(self) -> Usage:
        """Everything the run has paid for so far."""
        return Usage(*self._rows("SELECT prompt_tokens, completion_tokens, reasoning_tokens FROM account")[0])

    def open_bill(self, label: str, expected: Estimate, model: str = "") -> int:
        """Begin the bill of a map; its number. What its calls cost is added as they are settled."""
        row = (label, expected.basis, *astuple(expected.usage)[:2], expected.calls, model)
        return self._rows("INSERT INTO bills VALUES (?, 0, ?, ?, ?, 0, 0, ?, ?) RETURNING rowid", *row)[0][0]

    def expect(self, bill: int, expected: Estimate) -> None:
        """Replace what a map is expected to use."""
        values = (expected.basis, *astuple(expected.usage)[:2], bill)
        self._rows("UPDATE bills SET basis = ?, expected_prompt = ?, expected_completion = ? WHERE rowid = ?", *values)

    def bills(self, price_of: Callable[[str], Price]) -> dict[int, Bill]:
        """The bill of every `map` that asked something, at its model's price, by number, oldest first.

        For a map that stopped, what was expected is scaled to the calls that it made, so that it and the map that went
        on add up to what one undisturbed map was expected to use.
        """
        bills = {}
        for number, label, calls, basis, *tokens, planned, model in self._rows("SELECT rowid, * FROM bills"):
            price, made = price_of(model or ""), calls if planned is None else min(calls, planned)
            expected = Usage(*(round(n * made / planned) if planned else n for n in tokens[:2]))
            actual = Estimate(calls, Usage(*tokens[2:]), "actual", price)
            bills[number] = Bill(label, Estimate(made, expected, basis, price), actual)
        return bills

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        """The rows of one statement. Outside of a transaction, it is one by itself."""
        with self._reported():
            return self._db.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._reported(), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        """Complaints of SQLite and the system as one line each; what is stored stays whole."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            problem, remedy = str(error), "see that the folder can be written and the file is a call store"
            if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
                problem, remedy = "the disk is full", "free some space and run again; what was stored is whole"
            raise LionkitError(f"call store {self.path}: {problem}: {remedy}") from None


def copy_store(source: Path, target: Path) -> None:
    """Copy a store, which may be in use, for another run: its replies without its account, which the first run paid.
    What is being asked, or waits in a batch, stays with the source."""
    with Store(source, read_only=True) as store:
        store._rows("VACUUM INTO ?", str(target))
    with Store(target) as store:
        store._rows("DELETE FROM pending")
        store._rows("DELETE FROM bills")
        store._rows("UPDATE account SET prompt_tokens = 0, completion_tokens = 0, reasoning_tokens = 0")


def _completion(key: str, status: Status, text: str, error: str, model: str, *used: int) -> Completion:
    return Completion(status, text, Usage(*used), True, error, key, model)
