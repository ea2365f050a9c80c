"""Discrimination at the paper's scale, by hand: `python tests/bench/discrimination.py`. Seconds of processor time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from lionkit import audit, plots, pools
from lionkit.records import Instruction, Judgement, Response, Verdict
from lionkit.scores import parse_scores

PAIRS, MEGABYTE = 70_000, 1_000_000
REPLIES = Path(__file__).parents[1] / "referee_replies.jsonl"


def timed(name: str, work: Callable[[], Any]) -> Any:
    started = time.process_time()
    result = work()
    print(f"{name:44s}{time.process_time() - started:8.3f} s")
    return result


def draw(table: Any) -> None:
    figures: list[Callable[..., Any]] = [
        plots.score_scatter, plots.gap_histogram, plots.seat_bias, plots.relative_by_category, plots.length_bias,
        plots.score_distribution, plots.tau_shift, lambda t: plots.agreement(t, t),
    ]  # fmt: skip
    for figure in figures:
        drawn = figure(table).figure
        drawn.canvas.draw()
        plt.close(drawn)


def main() -> None:
    scores = np.clip(np.rint(2 * np.random.default_rng(0).normal(7, 1.5, (PAIRS, 4))) / 2, 1, 10).tolist()
    verdicts = [Verdict(str(i), Judgement(a, b), Judgement(c, d)) for i, (a, b, c, d) in enumerate(scores)]
    items = [Instruction("q", id=str(i), category=f"c{i % 9}") for i in range(PAIRS)]
    answers = [[Response(str(i), "x" * (i % n)) for i in range(PAIRS)] for n in (97, 89)]
    started = time.process_time()
    timed(f"split {PAIRS:,} verdicts", lambda: pools.split_by_gap(items, verdicts, 1.0))
    table = timed("table", lambda: pools.pool_table(items, *answers, verdicts))
    timed("audit, agreement included", lambda: audit.audit(table, other=table))
    timed("eight figures", lambda: draw(table))
    print(f"{'together (promised: under 3 s)':44s}{time.process_time() - started:8.3f} s")
    replies = [json.loads(line)["reply"] for line in REPLIES.read_text("utf-8").splitlines()]
    timed(f"read {len(replies)} replies of the corpus", lambda: [parse_scores(reply) for reply in replies])
    for piece in ("回答1：8，", "1: 8\n", '{"', '{"a":[', 'x "answer 1: 8" '):
        reply = piece * (MEGABYTE // len(piece))
        timed(f"1 MB of {piece!r} (promised: under 0.2 s)", lambda reply=reply: parse_scores(reply))


if __name__ == "__main__":
    main()
