"""What a run will take, before anything is loaded or paid: calls and tokens by role, memory of the student.

Calls are counted from the settings; tokens assume replies at `REPLY` tokens, so a pilot of a few calls is better. The
arithmetic of memory is in `student.memory`.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

from lionkit import pools
from lionkit.config import Config
from lionkit.pools.rows import is_hub_name

REPLY = {"teacher": 200, "referee": 150, "generator": 80}
"""Tokens of a typical reply."""
PROMPT = {"teacher": 40, "referee": 700, "generator": 180}
"""Tokens of a typical prompt, answers included."""


def calls(config: Config, done: Callable[[int, str], bool] = lambda iteration, stage: False) -> pd.DataFrame:
    """One row a role: calls, prompt_tokens, reply_tokens to come, dollars (NaN without a price).

    `done(iteration, stage)` says which stages are finished already. The teacher answers each instruction once,
    whichever pools it is in; the referee sees each pair in both orders. Calls that are asked again come on top; three
    candidates are taken for one that is accepted. Each instruction counts with the first stage that asks about it.
    """
    new = 0 if config.seeds_by == "none" else config.hard_size + config.easy_size
    counts = {"teacher": 0, "referee": 0, "generator": 0}
    for iteration in range(config.iterations + 1):
        fresh = config.train_size if iteration == 0 else new if iteration > 1 else 0
        if not done(iteration, "evaluation"):
            counts["referee"] += 2 * config.heldout_size
            counts["teacher"] += config.heldout_size if iteration == 0 else 0
        if not done(iteration, "discrimination"):
            counts["referee"] += 2 * (config.train_size + new * max(iteration - 1, 0))
            counts["teacher"] += 0 if done(max(iteration, 1), "imitation") else fresh
        if 1 <= iteration < config.iterations and not done(iteration, "generation"):
            counts["generator"] += 3 * new
    table = pd.DataFrame({"role": counts.keys(), "calls": counts.values()})
    table["prompt_tokens"], table["reply_tokens"] = (table["calls"] * table["role"].map(t) for t in (PROMPT, REPLY))
    models = [getattr(config, f"{role}_model", "") or config.api.model for role in counts]
    price = np.array([config.api.price(model) or (np.nan, np.nan) for model in models])
    tokens = table[["prompt_tokens", "reply_tokens"]].to_numpy()
    return table.assign(dollars=(tokens * price).sum(axis=1) / 1e6)


def report(run: Any, place: str, memory_bytes: int = 0) -> None:
    """Print what a run will take: its calls, its memory on `cpu`, `cuda` or `mps`, and what was measured so far."""
    memory_bytes = memory_bytes or room(place)
    config, student = run.config, run.config.student
    print("\nCalls to come (a rough guide; stored replies are not asked again):")
    table = calls(_sized(run), run.done)
    table.loc[len(table)] = ["total", *(table[name].sum(min_count=1) for name in table.columns[1:])]
    print(table.to_string(index=False, na_rep="-"))
    sizes = f"{student.device_rows} rows at once, length {student.max_length}"
    print(f"\nMemory on {place} to train {student.model}, {sizes}:")
    print(memory(student.model, config, device=place).to_string(index=False))
    largest = largest_batch(student.model, config, memory_bytes, device=place)
    most = "4096 or more" if largest == 4096 else largest or "none fits"
    pieces = " (a CPU takes them in pieces)" if place == "cpu" else ""
    print(f"Most rows at once in {memory_bytes / 2**30:.1f} GiB: {most}{pieces}")
    for stage, values in run.stages.items():
        if measured := values.get("peak_memory"):
            held = f"{stage}: measured {measured / 2**30:.2f} GiB, with all else that the process held"
            planned = values.get("planned_memory")
            print(f"{held}; planned {planned / 2**30:.2f} GiB ({planned / measured - 1:+.0%})" if planned else held)


def _sized(run: Any) -> Any:
    """The run's settings with the sizes that its pools have, or will have with as many seeds as there are."""
    config = run.config
    if run.done(0, "pools"):
        return replace(config, train_size=run.result(0, "pools")["train"])
    if not config.seed_file or is_hub_name(config.seed_file):
        return config
    seeds = len(pools.deduplicate(pools.read_instructions(config.seed_file))[0])
    left = max(seeds - config.heldout_size, 1)
    if left < config.train_size:
        print(f"{seeds} seeds: {config.heldout_size} held out, so {left} to train on, not {config.train_size}.")
    return replace(config, train_size=min(config.train_size, left))


def memory(
    model: Any, config: Any, *, device: str | None = None, pairs: Sequence[tuple[str, str]] = (), held: int = 0
) -> pd.DataFrame:
    """Bytes to train a student on these (instruction, response) pairs, or else on rows of `max_length`: one row a part
    and their total.

    `model`: name, hub id, folder, or (without pairs) a transformers configuration; `device`: `cpu` (the process),
    `cuda` (the card) or `mps` (the process and its share of the same memory; never measured), None is what is there;
    `held`: bytes that this process has already. Raises StudentError where the configuration cannot be had or is no
    causal language model's.
    """
    from lionkit.student.memory import parts

    found = parts(model, config, device or here(), pairs, held)
    table = pd.DataFrame({"part": list(found), "bytes": list(found.values())})
    table.loc[len(table)] = ["total", sum(found.values())]
    return table.assign(GiB=(table["bytes"] / 2**30).round(2))


def largest_batch(model: Any, config: Any, memory_bytes: int, *, device: str | None = None) -> int:
    """The most rows of `max_length` a device step can have within `memory_bytes` (no more than 4096); 0: none."""
    from lionkit.student.memory import largest_batch as largest

    return largest(model, config, memory_bytes, device or here())


def here() -> str:
    """The kind of device that this machine would train on."""
    from lionkit.student.model import choose_device

    return choose_device("auto").type


def room(device: str) -> int:
    """Bytes of memory in all: the card's, else this process's part of the machine's, or of what a container has."""
    import torch

    if device == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory
    return min([psutil.virtual_memory().total, *_limits(Path("/"))]) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def _limits(root: Path) -> list[int]:
    """What the control groups of this process (version 1 or 2) and those above them allow it, in bytes."""
    found = []
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, kind, path = line.split(":", 2)
            if kind in ("", "memory"):
                top = root / "sys/fs/cgroup" / kind
                own = top / path.lstrip("/")
                for folder in (own, *(above for above in own.parents if above.is_relative_to(top))):
                    with suppress(OSError, ValueError):  # "max" is no limit
                        name = "memory.limit_in_bytes" if kind else "memory.max"
                        found.append(int((folder / name).read_text()))
    return found
