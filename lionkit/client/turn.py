"""Whose turn it is to ask: one process at a time holds a file lock beside the call store, and its threads share it."""

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from lionkit.files import disk_error

_guards = defaultdict[Path, threading.Lock](threading.Lock)
"""For each store, what a thread holds while it takes or releases the lock: FileLock does not count its holders thread
by thread."""


@contextlib.contextmanager
def turn(store: Path, settle: Callable[[], None]) -> Iterator[None]:
    """Hold the store's lock; while another process has it, wait, and say so in one line.

    `settle` is called by the first thread of this process to get the lock, before any other gets it. The lock file
    stays when the lock is free: removing it could give two processes a lock each. LionkitError if it cannot be made.
    """
    guard = _guards[store.resolve()]
    lock = FileLock(f"{store.resolve()}.lock", thread_local=False, is_singleton=True)

    def release() -> None:
        with guard:
            lock.release()

    with contextlib.ExitStack() as stack:
        with guard:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                print(f"another process is asking with {store}: waiting until it has finished", flush=True)
                lock.acquire()
            except OSError as error:
                raise disk_error(error, lock.lock_file) from None
            stack.callback(release)
            if lock.lock_counter == 1:
                settle()
        yield
