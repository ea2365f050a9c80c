"""How long it takes to open a finished stage at the paper's scale: `python tests/bench/run.py`.

Limit: 70,000 instructions in under a second (both answers and two referee replies to each, as records in memory), and
a check of a finished stage without reading a pool in under 10 ms. Prints the best and the worst of seven.
"""

from __future__ import annotations

import os
import tempfile
import time
from types import SimpleNamespace
from typing import Any

from lionkit import loop, records
from lionkit.records import Instruction, Judgement, Response, Verdict
from lionkit.run import Stage, open_run, reading

COUNT = 70_000


def main() -> None:
    os.environ["LIONKIT_RUNS"] = tempfile.mkdtemp()
    run = open_run("large", preset="smoke")
    items = [Instruction(f"Say something about number {n}, and go on for a while.", "an input") for n in range(COUNT)]
    answers = [Response(item.id, "An answer of some thirty words. " * 6, call_id="x" * 32) for item in items]
    judged = Judgement(8.0, 6.0, "What the referee said of both. " * 8, call_id="y" * 32)
    verdicts = [Verdict(item.id, judged, judged) for item in items]

    def first_pools(stage: Stage) -> dict[str, Any]:
        for name in ("train", "cache", "heldout"):
            records.write_jsonl(stage.folder / f"{name}.jsonl", items)
        return {"train": COUNT}

    def discrimination(stage: Stage) -> dict[str, Any]:
        for name, rows in (("teacher", answers), ("student", answers), ("verdicts", verdicts)):
            records.write_jsonl(stage.folder / f"{name}.jsonl", rows)
        return reading.gaps(verdicts)

    run.make(0, "pools", first_pools)
    run.make(0, "discrimination", discrimination)
    roles: Any = SimpleNamespace()
    for what, limit, act in (
        ("opened, with all its records", 1.0, lambda: loop.discriminate(run, roles, 0)),
        ("checked", 0.01, lambda: run.make(0, "discrimination", discrimination)),
        ("counted at tau", 0.01, lambda: loop.sides(run, 0)),
    ):
        seconds = []
        for _ in range(7):
            started = time.perf_counter()
            act()
            seconds.append(time.perf_counter() - started)
        verdict = "met" if min(seconds) < limit else "NOT MET"
        print(f"a stage of {COUNT:,} {what}: {min(seconds):.4f} to {max(seconds):.4f} s (limit {limit:g} s): {verdict}")


if __name__ == "__main__":
    main()
