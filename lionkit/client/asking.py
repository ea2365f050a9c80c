"""The state of one map while it asks: which calls are open, what came back, what it costs, and why it stops.

`live` and `batch` are the two ways to ask; both claim a call here before they send it, and settle it here after.
"""

import asyncio
import contextlib
import json
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field, replace
from typing import Any, cast
from urllib.parse import urlsplit

from lionkit.client.calls import OPEN, Call, Cause, Completion, Usage, estimate
from lionkit.client.key import Key
from lionkit.client.outcomes import Outcome
from lionkit.client.pacing import LONG, Pacer, clock, span
from lionkit.client.request import PARTS, body_of, parts_of
from lionkit.client.store import Store
from lionkit.config import ApiConfig, endpoint
from lionkit.errors import StageStopped
from lionkit.records import Status

LOCAL = ("127.0.0.1", "localhost", "::1", "answer-key.invalid")
"""Names of this machine and of the server in this process."""
PATIENCE = 10
"""Rate limits, and refused connections to a server that has answered before, that a call may meet, in multiples of
`max_attempts`: they do not count as failures of the row."""
FINAL = ("ok", "truncated", "filtered", "refused")
"""Kinds of outcomes that are replies, and stored."""
PILOT = 10
"""Replies after which the rest is expected to cost what these did on average."""


@dataclass
class Endpoint:
    """What all maps of a client share, each in its turn."""

    config: ApiConfig
    key: Key = field(default_factory=Key)
    taken: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """For each model that has answered, the parts of requests that it has answered."""
    refused: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """For each model, the parts of a request that it does not take."""
    tried: set[str] = field(default_factory=set)
    """Models that refused a request in every form, without a word about the reason."""
    answered_at: float = 0.0
    """When the endpoint last answered anything but a failure of its own, in seconds since the epoch."""

    def __post_init__(self) -> None:
        self.pacer = Pacer(self.config.requests_per_minute, self.config.tokens_per_minute)
        limits = {"api.budget_usd": self.config.budget_usd, "api.budget_tokens": self.config.budget_tokens}
        self.budgets = {name: limit for name, limit in limits.items() if limit is not None}
        """The budgets that are set, by the name of their setting."""

    def exceeded(self, usage: Usage) -> str:
        """The setting of the budget that so much in all exceeds; empty where it is within the budgets."""
        prices = [price for price in (self.config.price_per_million, *self.config.prices.values()) if price]
        dearest = max(map(usage.dollars, prices), default=0.0)
        used = {"api.budget_usd": dearest, "api.budget_tokens": usage.total_tokens}
        return next((name for name, limit in self.budgets.items() if used[name] > limit), "")


@dataclass
class Asking:
    """One map. The counters are read by the thread that shows the progress."""

    endpoint: Endpoint
    store: Store
    label: str
    calls: list[Call]
    batch: bool
    """Whether to ask through the Batch API."""
    done: dict[str, Completion] = field(default_factory=dict)
    failed: int = 0
    paid: Usage = Usage()
    stopped: StageStopped | None = None
    silent: list[float] = field(default_factory=list)
    """Since when the calls were failing that used up their attempts after the endpoint last answered any."""
    outage: str = ""
    """Why nothing more is asked, where the endpoint is down."""
    replied_at: float = 0.0
    """When the last reply arrived that is stored, in seconds since the epoch."""
    waits_until: float = 0.0
    """The end of the longest wait that was said, in seconds since the epoch."""
    halted: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.config = self.endpoint.config
        self.url = endpoint(self.config)
        self.local = urlsplit(self.url).hostname in LOCAL
        """Whether the server is on this machine."""
        for model, part in self.store.learned(self.url):
            self.endpoint.refused[model].add(part)
        self.seats = asyncio.Semaphore(self.config.concurrency)
        """One for each call in flight."""
        self.queue = deque(self.calls)
        """Calls that nobody works on at the moment."""
        self.expected = estimate([call.request for call in self.calls], self.config)
        """What the map will use in all."""
        self.bill = self.store.open_bill(self.label, self.expected, self.calls[0].model)
        """Its bill's number in the store."""

    @property
    def kept(self) -> int:
        """The number of replies that are stored."""
        return len(self.done) - self.failed

    def halt(self, problem: str, cause: Cause = "", setting: str = "") -> None:
        """Send nothing more, because of a problem that the map raises; calls in flight still arrive and are stored."""
        self.stopped = self.stopped or StageStopped(self.endpoint.key.hide(problem), cause, setting=setting)
        self.halted.set()

    def tell_wait(self, seconds: float, reason: str) -> None:
        """Say that there is a wait, and how long, where it is a long one and none as long was said."""
        until = time.time() + seconds
        if seconds > LONG and until > self.waits_until + LONG:
            self.waits_until = until
            self._say(f"{reason}: waiting {span(seconds)}, until {clock(seconds)}")

    def _say(self, text: str) -> None:
        """Print a line; a terminal that lacks a sign of it, or is gone, costs no reply."""
        with contextlib.suppress(OSError, ValueError):
            print(self.endpoint.key.hide(text), flush=True)

    async def rest(self, seconds: float) -> None:
        """Sleep, unless the map halts."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.halted.wait(), seconds)

    def body(self, call: Call) -> dict[str, Any]:
        return body_of(call.request, call.model, self.endpoint.refused[call.model] | call.without)

    def untaken(self, call: Call) -> list[str]:
        """The parts of a call that its model has not yet answered, in the order of `PARTS`."""
        unknown = parts_of(self.body(call)) - self.endpoint.taken[call.model]
        return [part for part in PARTS if part in unknown]

    def claim(self, call: Call, token: str | None = None) -> bool:
        """As `Store.claim`, with this map's budgets."""
        return self.store.claim(call, self.bill, token, self.endpoint.exceeded if self.endpoint.budgets else None)

    def settle(self, call: Call, outcome: Outcome, sent: dict[str, Any]) -> bool:
        """Enter an attempt's outcome; whether the call is to be sent again."""
        if outcome.replied or outcome.kind in (*FINAL, "failed", "adapt"):
            self.endpoint.answered_at = time.time()
        reply = self.keep(call.key, call.model, outcome, sent)
        if outcome.replied:
            self._learn(call, sent)
        if reply:
            self.done[call.key], self.replied_at = reply, time.time()
            self._expect()
            return False
        if outcome.kind == "adapt":
            return self._adapt(call, outcome)
        if outcome.kind == "stop":
            self.halt(outcome.error, outcome.cause, outcome.setting)
            return False
        return self._again(call, outcome)

    def _adapt(self, call: Call, outcome: Outcome) -> bool:
        """Send a refused call again without the part that is named or, where none is, without one after the other of
        those that the model has never answered, at last without them all. False, its row failed, where none is left."""
        call.refusal, call.failing_since = outcome.error, call.failing_since or time.time()
        limited = outcome.text == "max_completion_tokens" and self.endpoint.budgets  # a reply might cost anything
        if outcome.text and outcome.text not in call.without and not limited:
            call.without.add(outcome.text)
            return True
        if call.trials is None:
            parts = [] if limited or call.model in self.endpoint.tried else self.untaken(call)
            both = [set(parts) - {"unstreamed"}] if len(parts) > 2 else []
            call.trials = [call.without | trial for trial in [*({part} for part in parts), *both]]
        if call.trials:
            call.without = call.trials.pop(0)
            return True
        self.endpoint.tried.add(call.model)
        self.fail(call, outcome.error, "refused")
        return False

    def _learn(self, call: Call, sent: dict[str, Any]) -> None:
        """Note with what a model has answered, and what it had to be asked without, which is said once."""
        self.endpoint.taken[call.model] |= parts_of(sent)
        for part in sorted(call.without - self.endpoint.refused[call.model]):
            self.endpoint.refused[call.model].add(part)
            self.store.learn(self.url, call.model, part)
            without = f"{call.model} does not take {PARTS[part]}, and is asked without from here on"
            self._say(f"{without} ({call.refusal})")

    def keep(self, key: str, model: str, outcome: Outcome, sent: dict[str, Any]) -> Completion | None:
        """Settle a call in the store; its reply, if the outcome is one."""
        settings = json.dumps({name: value for name, value in sent.items() if name != "messages"})
        text, error = map(self.endpoint.key.hide, (outcome.text, outcome.error))
        final = outcome.kind in FINAL
        reply = (outcome.kind, text, error, model, settings) if final else ()
        paid = self.store.settle(key, outcome.paid, self.bill, reply)
        self.paid += paid
        return Completion(cast(Status, outcome.kind), text, paid, False, error, key, model) if final else None

    def fail(self, call: Call, error: str, cause: Cause) -> None:
        """End a row without a reply; it is not stored, so that the next map asks it again."""
        self.failed += 1
        error = self.endpoint.key.hide(error)
        self.done[call.key] = Completion("failed", "", Usage(), False, error, call.key, call.model, cause)

    def _again(self, call: Call, outcome: Outcome) -> bool:
        """After a failed attempt: whether the call is sent again. If not, its row, or the whole map, has failed."""
        url, known, most = self.url.partition("?")[0], bool(self.endpoint.taken[call.model]), self.config.max_attempts
        call.tries += 1
        call.limited += outcome.kind == "limited" or (outcome.kind == "unreachable" and known)
        call.failing_since = call.failing_since or time.time()
        error = f"{outcome.error} (given up after {call.tries} attempt{'s' * (call.tries != 1)})"
        if outcome.kind == "failed":
            self.fail(call, outcome.error, outcome.cause)
        elif call.tries - call.limited < most and call.limited < PATIENCE * most:
            return True
        elif self._may_be_the_row(call):
            self.fail(call, error, outcome.cause or "outage")
        elif not known and (outcome.kind == "unreachable" or not self.store.answered_by(call.model)):
            problem = f"{url} gives no reply: {error}: check base_url and the network"
            self.halt(problem, setting=outcome.setting or "api.max_attempts")
        else:
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.silent[0]))
            self.outage = f"{url} has answered nothing since {since}: {error}"
            self.halted.set()
        return False

    def _may_be_the_row(self, call: Call) -> bool:
        """Whether a call that used up its attempts may be to blame, and not the endpoint: something was answered
        meanwhile, or no second call has used up its own yet."""
        silent = [since for since in (*self.silent, call.failing_since) if since > self.endpoint.answered_at]
        self.silent = silent
        return not silent or (len(silent) == 1 and len(self.done) + 1 < len(self.calls))

    def reopen(self) -> None:
        """See that rows which nobody gave a reason for stay open where the map ended with several of them, or has
        answered nothing: only a later reply to another row shows that it is the row, and not the endpoint."""
        failed = [(call, self.done[call.key]) for call in self.calls if call.key in self.done]
        late = [own for call, own in failed if own.cause in OPEN and call.failing_since > self.replied_at]
        if len(late) > 1 or not self.kept:
            self.done |= {own.call_id: replace(own, cause=OPEN[own.cause]) for own in late}

    def _expect(self) -> None:
        """After the first replies, expect the others to cost what these did."""
        arrived, whole = len(self.done), len(self.calls)
        if arrived >= PILOT and self.expected.basis == "sizes":
            usage = Usage(*(round(n * whole / arrived) for n in (self.paid.prompt_tokens, self.paid.completion_tokens)))
            self.expected = replace(self.expected, usage=usage, basis="pilot")
            self.store.expect(self.bill, self.expected)
