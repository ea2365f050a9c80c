"""`ChatClient.map`: requests in, completions out, in order; each paid once, whatever happens in between.

Stored replies are read in one go. The rest is asked from a thread with an event loop of its own, so that it works
in a notebook cell, a script, and several threads alike. A reply is in the store before it is handed on.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import getpass
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lionkit.client.calls import (
    Bill,
    Call,
    ChatRequest,
    Completion,
    Usage,
    call_key,
    estimate,
    priced,
)
from lionkit.client.live import Stage, run
from lionkit.client.pacing import Pacer
from lionkit.client.store import Store
from lionkit.client.wire import connect
from lionkit.config import OPENAI_URL, ApiConfig, endpoint
from lionkit.errors import ConfigError, LionkitError, StageStopped
from lionkit.progress import Progress

LOCAL = ("127.0.0.1", "localhost", "::1", "answer-key.invalid")
SHORTEST_KEY = 16
"""Characters; anything shorter ("EMPTY", "ollama") is no secret and may well be a word of a reply."""
PILOT = 10
"""Replies after which what is left is expected to cost what they did on average."""
DRAIN = 10.0
"""Seconds that calls in flight get to arrive after an interrupt; a second interrupt cuts them off."""


class ChatClient:
    """Calls to one endpoint, with one store. `app` is a server in this process (ASGI) to reach instead of the network;
    `replay` answers from the store only. Without `ambient`, the OPENAI_* variables that the SDK makes headers of stay
    here. Use it from any number of threads, cells and event loops.
    """

    def __init__(
        self, config: ApiConfig, store: str | Path, *, app: Any = None, replay: bool = False, ambient: bool = True
    ) -> None:
        self.config, self.store, self.app, self.replay = config, Path(store), app, replay
        self.ambient = ambient
        self._pacer = Pacer(config.requests_per_minute, config.tokens_per_minute)
        self._seats = threading.Semaphore(config.concurrency)
        self._habits: dict[str, dict[str, str | None]] = {}
        self._key = _Key()

    def map(
        self, requests: Sequence[ChatRequest], *, progress: bool | str = True, batch: bool | None = None
    ) -> list[Completion]:
        """One completion a request, in order; equal requests share one call. `progress` may be the bar's label;
        `batch` overrides the configuration's, for rounds that should not wait for hours.

        A row's own problem is its status. Raises StageStopped for what no other row could escape (key, quota, model,
        URL, budget, disk) and for a call that a replay does not have; what had arrived is stored.
        """
        asked = self._calls(requests)
        calls = {call.key: call for call in asked}
        with Store(self.store, read_only=self.replay) as store:
            done = store.find(calls)
            missing = [call for key, call in calls.items() if key not in done]
            if missing and self.replay:
                problem = f"{len(missing)} of {len(calls)} calls are not in {self.store}"
                raise StageStopped(f"{problem}: replay asks nobody, so run live with the settings of the recorded run")
            if missing:
                done |= self._ask(missing, store, progress, self.config.batch if batch is None else batch)
        return [done[call.key] for call in asked]

    def stored(self, requests: Sequence[ChatRequest]) -> bool:
        """Whether the store has the replies to all of them."""
        keys = {call.key for call in self._calls(requests)}
        with Store(self.store, read_only=self.replay) as store:
            return len(store.find(keys)) == len(keys)

    def _calls(self, requests: Sequence[ChatRequest]) -> list[Call]:
        url, own = endpoint(self.config), self.config.model
        return [Call(call_key(r, url, r.model or own), r, r.model or own) for r in requests]

    def spent(self) -> Usage:
        """All the tokens this store's run has paid for, lost attempts included."""
        with Store(self.store, read_only=self.replay) as store:
            return store.spent()

    def bills(self) -> list[Bill]:
        """Expected and actual use of every `map` on this store that asked something, oldest first."""
        with Store(self.store, read_only=self.replay) as store:
            return [
                Bill(label, priced(calls, guess, self.config, basis), priced(calls, used, self.config, "actual"))
                for label, calls, basis, guess, used in store.bills()
            ]

    def _ask(self, calls: list[Call], store: Store, progress: bool | str, batch: bool) -> dict[str, Completion]:
        config, key = self.config, self._key
        if (config.budget_usd or config.budget_tokens) and any(call.request.max_tokens is None for call in calls):
            raise ConfigError("a budget needs max_tokens in every request: without it, a reply can cost anything")
        key.find(config, offline=self.app is not None)
        store.join()
        expected = estimate([call.request for call in calls], config)
        local = self.app is not None or urlsplit(endpoint(config)).hostname in LOCAL
        shared = (self._pacer, self._seats, self._habits, key.hide)
        stage = Stage(config, store, *shared, local, batch, deque(calls), expected)
        label = progress if isinstance(progress, str) else "calls"
        aloud = progress is not False and self.app is None  # servers in this process cost nothing
        if aloud:
            batched = "; as a batch, up to a day: stop and run again whenever you like" if batch else ""
            print(f"{label}: about to make {expected}{batched}")
        try:
            with (
                Progress(len(calls), label, "replies", shown=progress is not False) as bar,
                concurrent.futures.ThreadPoolExecutor(1, "lionkit-client") as thread,
            ):
                future = thread.submit(
                    lambda: asyncio.run(run(stage, connect(config, key.value, self.app, self.ambient)))
                )
                try:
                    self._watch(future, stage, bar)
                except KeyboardInterrupt:
                    _drain(future, stage)
                    self._watch(future, stage, bar)
                    kept = f"{len(stage.done) - stage.failed} of {len(calls)} replies are stored in {store.path}"
                    raise KeyboardInterrupt(f"interrupted; {kept}: run again to go on") from None
            future.result()
        finally:
            bill = Bill(label, stage.expected, priced(len(stage.done) - stage.failed, stage.paid, config, "actual"))
            with contextlib.suppress(LionkitError):  # a store that cannot be written is the stage's problem already
                store.add_bill(label, bill.actual.calls, bill.expected.basis, bill.expected.usage, stage.paid)
        if aloud:
            print(bill)
        if stage.problem:
            if stage.cause == "key":
                key.value = ""  # one that was typed is asked for again
            kept = f"{len(stage.done) - stage.failed} of {len(calls)} replies are stored, run again to go on"
            raise StageStopped(f"{stage.problem}; {kept}", stage.cause)
        return stage.done

    def _watch(self, future: concurrent.futures.Future[None], stage: Stage, bar: Progress) -> None:
        config, price, started = self.config, self.config.price_per_million, time.monotonic()
        running = True
        while running:
            running = bool(concurrent.futures.wait([future], 0.1).not_done)
            arrived, paid = len(stage.done), stage.paid
            if arrived >= PILOT and stage.expected.basis == "sizes":
                asked, written = (round(n * bar.total / arrived) for n in (paid.prompt_tokens, paid.completion_tokens))
                stage.expected = priced(bar.total, Usage(asked, written), config, "pilot")
            cost = f"{_money(paid, price)} of about {_money(stage.expected.usage, price)}"
            rate = arrived / (time.monotonic() - started)
            bar.update(arrived - bar.done, rate=f"{rate:.1f}/s", cost=cost, failed=stage.failed)


def _money(usage: Usage, price: tuple[float, float] | None) -> str:
    return f"${usage.dollars(price):.4f}" if price else f"{usage.total_tokens:,} tokens"


def _drain(future: concurrent.futures.Future[None], stage: Stage) -> None:
    """Let calls in flight arrive, for a while; then cut them off."""
    with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile: everything has arrived
        try:
            if stage.loop is None:
                stage.halt("interrupted")
            else:
                stage.loop.call_soon_threadsafe(stage.halt, "interrupted")
            concurrent.futures.wait([future], DRAIN)
        finally:
            if stage.loop and stage.task and not future.done():
                stage.loop.call_soon_threadsafe(stage.task.cancel)


class _Key:
    """The API key: in memory only, and shown to nobody."""

    def __init__(self) -> None:
        self.value = ""

    def __repr__(self) -> str:
        return "<API key>"

    def hide(self, text: str) -> str:
        """The text without the key, and without lone surrogates (they are no text, and SQLite refuses them)."""
        text = text.encode("utf-8", "replace").decode()
        return text.replace(self.value, "[key]") if len(self.value) >= SHORTEST_KEY else text

    def find(self, config: ApiConfig, *, offline: bool) -> None:
        """From the environment; else typed in, in an interactive session. A server of one's own may do without."""
        name = config.api_key_env
        self.value = ("" if offline else os.environ.get(name, "").strip()) or self.value
        if not self.value and (offline or endpoint(config) != OPENAI_URL):
            self.value = "none-needed"
        if not self.value and (hasattr(sys, "ps1") or (sys.stdin is not None and sys.stdin.isatty())):
            try:
                self.value = getpass.getpass(f"{name} (not shown, kept in memory only): ").strip()
            except (EOFError, NotImplementedError):
                pass
        if not self.value:
            raise LionkitError(f"no API key: put it in the environment variable {name}, or set base_url to a server")
        if not (self.value.isascii() and self.value.isprintable() and " " not in self.value):
            self.value = ""
            raise LionkitError(f"the API key in {name} holds spaces or characters no key has: copy it again")
