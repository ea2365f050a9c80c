"""Whose turn it is to ask: one process at a time holds a file lock beside the call store, and its threads share it."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from lionkit.files import disk_error

POLL = 0.1
"""Seconds between looks at a lock that another process holds."""
_guard = threading.Lock()
"""Held while a thread takes or releases a lock: FileLock does not count its holders thread by thread."""


@contextlib.contextmanager
def turn(store: Path, settle: Callable[[], None]) -> Iterator[None]:
    """Hold the store's lock; while another process has it, wait, and say so in one line.

    `settle` is called by the first thread of this process to get the lock, before any other gets it. The lock file
    stays when the lock is free: removing it could give two processes a lock each. LionkitError if it cannot be made.
    """
    lock = FileLock(f"{store.resolve()}.lock", thread_local=False, is_singleton=True)
    said = False
    while not _take(lock, settle):
        if not said:
            print(f"another process is asking with {store}: waiting until it has finished", flush=True)
        said = True
        time.sleep(POLL)
    try:
        yield
    finally:
        with _guard:
            lock.release()


def _take(lock: FileLock, settle: Callable[[], None]) -> bool:
    with _guard, contextlib.ExitStack() as undo:
        try:
            undo.enter_context(lock.acquire(timeout=0))
        except Timeout:
            return False
        except OSError as error:
            raise disk_error(error, lock.lock_file) from None
        if lock.lock_counter == 1:
            settle()
        undo.pop_all()
        return True
