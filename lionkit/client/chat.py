"""`ChatClient.map`: requests in, completions out, in order; each is paid once, across kills and restarts too.

Stored replies are read in one go. The rest is asked in a thread with an event loop of its own, so that it works in a
notebook cell, a script, and several threads alike. A reply is in the store before it is returned.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from lionkit.client.asking import Asking, Endpoint
from lionkit.client.calls import Bill, Call, ChatRequest, Completion, Price, Usage
from lionkit.client.live import run
from lionkit.client.pacing import span
from lionkit.client.store import Store
from lionkit.client.wire import connect
from lionkit.config import ApiConfig, endpoint
from lionkit.errors import ConfigError, StageStopped
from lionkit.progress import Progress

DRAIN = 10.0
"""Seconds that calls in flight get to arrive after an interrupt; a second interrupt cuts them off."""


class ChatClient:
    """Calls to one endpoint, with one store. `app` is a server in this process (ASGI) that is asked instead of the
    network; `replay` answers from the store only. Without `ambient`, the SDK sends no headers from OPENAI_* variables.
    May be used by several threads, cells and event loops at once: of the maps on one store, one asks at a time.
    """

    def __init__(
        self, config: ApiConfig, store: str | Path, *, app: Any = None, replay: bool = False, ambient: bool = True
    ) -> None:
        self.config, self.store, self.app, self.replay = config, Path(store), app, replay
        self.ambient = ambient
        self._endpoint = Endpoint(config)

    def map(
        self, requests: Sequence[ChatRequest], *, progress: bool | str = True, batch: bool | None = None
    ) -> list[Completion]:
        """One completion a request, in order; equal requests share one call. `progress` may be the bar's label;
        `batch` overrides the configuration's, for rounds that should not wait for hours.

        A row's own problem is its status. Where an endpoint that has answered before goes down, the open rows end
        as `failed` with the cause "outage"; failed rows are not stored, so that the next map asks them again. Raises
        StageStopped for what no other row could escape (key, quota, model, URL, budget, disk) and for a call that a
        replay does not have; what had arrived is stored.
        """
        asked = self._calls(requests)
        calls = {call.key: call for call in asked}
        with Store(self.store, read_only=self.replay) as store:
            done = store.find(calls.values())
            missing = [call for key, call in calls.items() if key not in done]
            if missing and self.replay:
                problem = f"{len(missing)} of {len(calls)} calls are not in {self.store}"
                raise StageStopped(f"{problem}: replay asks nobody, so run live with the settings of the recorded run")
            if missing:
                self._check(missing)
                with store.asking():
                    done |= store.find(missing)  # another map may have asked them meanwhile
                    if missing := [call for call in missing if call.key not in done]:
                        done |= self._ask(missing, store, progress, self.config.batch if batch is None else batch)
        return [done[call.key] for call in asked]

    def stored(self, requests: Sequence[ChatRequest]) -> bool:
        """Whether the store has replies that answer all of them."""
        calls = {call.key: call for call in self._calls(requests)}
        with Store(self.store, read_only=self.replay) as store:
            return len(store.find(calls.values())) == len(calls)

    def spent(self) -> Usage:
        """All the tokens this store's run has paid for, lost attempts included."""
        with Store(self.store, read_only=self.replay) as store:
            return store.spent()

    def bills(self) -> list[Bill]:
        """Expected and actual use of every `map` on this store that asked something, oldest first."""
        with Store(self.store, read_only=self.replay) as store:
            return list(store.bills(self.config.price).values())

    def _calls(self, requests: Sequence[ChatRequest]) -> list[Call]:
        url, own = endpoint(self.config), self.config.model
        return [Call(request, url, request.model or own) for request in requests]

    def _check(self, calls: list[Call]) -> None:
        """See that calls may be asked: their lengths under a budget, the key."""
        if self._endpoint.budgets and any(call.request.max_tokens is None for call in calls):
            problem = "a budget needs max_tokens in every request: without it, a reply can cost anything"
            raise ConfigError(problem, setting=next(iter(self._endpoint.budgets)))
        self._endpoint.key.find(self.config, offline=self.app is not None)

    def _ask(self, calls: list[Call], store: Store, progress: bool | str, batch: bool) -> dict[str, Completion]:
        label = progress if isinstance(progress, str) else "calls"
        aloud = progress is not False and self.app is None  # servers in this process cost nothing
        asking = Asking(self._endpoint, store, label, calls, batch)
        if aloud:
            batched = "; as a batch, up to a day: stop and run again whenever you like" if batch else ""
            print(f"{label}: about to make {asking.expected}{batched}")
        with Progress(len(calls), label, "replies", shown=progress is not False) as bar:
            self._work(asking, bar)
        if aloud:
            print(store.bills(self.config.price)[asking.bill])
        if stopped := asking.stopped:
            if stopped.cause == "key":
                self._endpoint.key.value = ""  # one that was typed is asked for again
            problem = f"{stopped}; {asking.kept} of {len(calls)} replies are stored, run again to go on"
            raise StageStopped(problem, stopped.cause, setting=stopped.setting)
        return asking.done

    def _work(self, asking: Asking, bar: Progress) -> None:
        """Ask in a thread; an interrupt lets calls in flight arrive for a while, then cuts them off."""
        loop = asyncio.new_event_loop()

        def work() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                sdk = connect(self.config, self._endpoint.key.value, self.app, self.ambient)
                runner.run(run(asking, sdk))

        with ThreadPoolExecutor(1, "lionkit-client") as thread:
            future = thread.submit(work)
            try:
                _watch(future, asking, bar)
            except KeyboardInterrupt:
                with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile: everything has arrived
                    loop.call_soon_threadsafe(asking.halt, "interrupted")
                try:
                    wait([future], DRAIN)
                finally:
                    for task in asyncio.all_tasks(loop):
                        loop.call_soon_threadsafe(task.cancel)
                _watch(future, asking, bar)
                kept = f"{asking.kept} of {len(asking.calls)} replies are stored in {self.store}"
                raise KeyboardInterrupt(f"interrupted; {kept}: run again to go on") from None
        future.result()


def _watch(future: Future[None], asking: Asking, bar: Progress) -> None:
    """Show the progress until the map has ended."""
    price, started, running = asking.expected.price, time.monotonic(), True
    while running:
        running = bool(wait([future], 0.1).not_done)
        arrived = len(asking.done)
        cost = f"{_money(asking.paid, price)} of about {_money(asking.expected.usage, price)}"
        seconds, left = max(time.monotonic() - started, 1e-3), asking.waits_until - time.time()
        rate = f"waits {span(left)}" if left > 1 else f"{arrived / seconds:.1f}/s"
        bar.update(arrived - bar.done, rate=rate, cost=cost, failed=asking.failed)


def _money(usage: Usage, price: Price) -> str:
    return f"${usage.dollars(price):.4f}" if price else f"{usage.total_tokens:,} tokens"
