"""Measurements of the explorers on 70,000 judged instructions. Run by hand, one at a time on a quiet machine:

    python tests/bench/explore.py

Under a minute, 1.5 GB. Each line is one doing of a reader's: the best and the median of several, and the limit that the
median is held to. What is timed is the kernel's part, from the message to the HTML that goes to the browser.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from lionkit import explore
from lionkit.explore.front import Explorer
from lionkit.records import Instruction, Judgement, Response, Verdict

SIZE = 70_000
Pool = tuple[list[Instruction], list[Response], list[Response], list[Verdict]]


def main() -> None:
    pool = records(SIZE)
    tau_explorer = opened("open the τ explorer", 1.0, 3, partial(explore.tau_explorer, pool[0], pool[3]))
    browser = opened("open the browser", 1.0, 3, partial(explore.pool_browser, *pool))
    taus = [step / 10 for step in range(-40, 41, 5)]
    acted("slider of the τ explorer", 0.05, tau_explorer, "tau", taus)
    acted("slider of the browser", 0.05, browser, "tau", taus)
    acted("search for one word", 0.1, browser, "search", [f"w{n}" for n in range(100, 109)])
    acted("search for two words", 0.1, browser, "search", [f"w{n} w{2 * n}" for n in range(100, 109)])
    acted("search for what is nowhere", 0.1, browser, "search", [f"nowhere{n}" for n in range(9)])
    browser.act("search", "")
    acted("page", 0.02, browser, "hard", ["+page"] * 20)
    acted("step", 0.02, browser, "hard", ["+1"] * 20)
    make_map: Callable[..., Explorer] | None = getattr(explore, "pool_map", None)
    if make_map:
        opened("open the map", 5.0, 3, partial(make_map, *pool))


def records(size: int) -> Pool:
    """Instructions of 14 words, answers of 40 and 35, replies of 30, of a vocabulary of 3,000; scores by halves."""
    rng = random.Random(0)
    vocabulary = [f"w{n}" for n in range(3000)]

    def text(words: int) -> str:
        return " ".join(rng.choices(vocabulary, k=words))

    def judgement() -> Judgement:
        return Judgement(rng.randint(2, 20) / 2, rng.randint(2, 20) / 2, text(30))

    items = [Instruction(text(14), id=f"i{n}", category=f"family {n % 16}", iteration=n % 3) for n in range(size)]
    teacher, student = ([Response(item.id, text(words)) for item in items] for words in (40, 35))
    return items, teacher, student, [Verdict(item.id, judgement(), judgement()) for item in items]


def opened(name: str, limit: float, times: int, make: Callable[[], Explorer]) -> Explorer:
    """Make an explorer and its page several times over; the last is returned."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        explorer = make()
        explorer.html()
        seconds.append(time.perf_counter() - start)
    report(name, seconds, limit)
    return explorer


def acted(name: str, limit: float, explorer: Explorer, on: str, values: Iterable[Any]) -> None:
    seconds = []
    for value in values:
        start = time.perf_counter()
        explorer.act(on, value)
        seconds.append(time.perf_counter() - start)
        assert not explorer.regions["message"], explorer.regions["message"]
    report(name, seconds, limit)


def report(name: str, seconds: list[float], limit: float) -> None:
    best, median = min(seconds) * 1e3, statistics.median(seconds) * 1e3
    kept = "" if median <= limit * 1e3 else "  BEYOND IT"
    print(f"{name:32} best {best:8,.1f} ms   median {median:8,.1f} ms   <= {limit * 1e3:,.0f} ms{kept}", flush=True)


if __name__ == "__main__":
    main()
