"""Does it pay? The paper's choice of instructions beside controls of the same size, as forks of one first iteration.

For each seed a run is made up to its first discrimination and forked once an arm. All arms train on equally many rows
in equally many steps; they differ in where the rows come from, and with that in calls to the generator and teacher.
Scores are on the seed's held-out instructions, one after the other the same for every arm.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from lionkit import evaluate, loop
from lionkit.config import Config
from lionkit.errors import ConfigError, DataError
from lionkit.files import read_text, write_text
from lionkit.run import Run, change, fork, open_run, saved
from lionkit.run.provenance import surroundings
from lionkit.run.reading import read_evaluation
from lionkit.run.settings import value

RECORDED = Path(__file__).with_name("arms.json")
"""The result that notebook 08 and the README show."""
PAPER, RANDOM, FRONTIER = "paper", "random", "frontier"
PAIRED = ["student", "teacher", "student_base", "teacher_base"]
SHOWN = ["preset", "train_size", "heldout_size", "hard_size", "easy_size", "tau"]
SHOWN += [f"student.{name}" for name in "model quantize rank alpha learning_rate epochs step_rows".split()]
"""The settings that are recorded with a result."""
ROWS = ["seed", "arm", "iteration", "number", "category", "student", "teacher", "exact"]


def designs(config: Config) -> dict[str, dict[str, Any]]:
    """The settings of each arm, by its name."""
    rows = config.hard_size + config.easy_size
    paper = {"hard_size": rows // 2, "easy_size": rows - rows // 2}
    return {
        PAPER: paper,
        "hard only": {"hard_size": rows, "easy_size": 0},
        "easy only": {"hard_size": 0, "easy_size": rows},
        RANDOM: {"seeds_by": "random", **paper},
        "no new": {"seeds_by": "none"},
        "replay": {"replay_share": 0.5} | {name: round(size / 2) for name, size in paper.items()},
        FRONTIER: {"seeds_by": "frontier", **paper},
    }


def run_arms(
    name: str,
    seeds: Sequence[int],
    *,
    iterations: int = 2,
    only: Sequence[str] = (),
    preset: str = "",
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> list[Run]:
    """Run every arm (or `only` some) for every seed, from wherever they stand; a finished one costs nothing.

    The runs are called `NAME-SEED` and `NAME-SEED-ARM`. `changes` are settings of all of them. ConfigError for an arm
    that is none.
    """
    made = []
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds {[*seeds]}: give one or more different ones, as in `arms --seeds 0 1 2`")
    if taken := changes.keys() & {"seed", "iterations", "preset", "mode"}:
        raise ConfigError(f"{sorted(taken)[0]} is no setting of all arms: it has an option of its own")
    for seed in seeds:
        first = open_run(f"{name}-{seed}", preset=preset, seed=seed, iterations=1, **changes)
        known = designs(first.config)
        if wrong := set(only) - known.keys():
            raise ConfigError(f"there is no arm {sorted(wrong)[0]!r}: known are {', '.join(known)}")
        loop.iterate(first, loop.open_roles(first), 1)
        for arm in only or known:
            own = _name(name, seed, arm)
            told = {**changes, "iterations": iterations, **known[arm]}
            there = (first.path.parent / own / "config.toml").is_file()
            run = change(saved(own), **told) if there else fork(first, own, "1:discrimination", **told)
            roles = loop.open_roles(run)
            for iteration in range(2, iterations + 1):
                loop.iterate(run, roles, iteration, discriminating=iteration < iterations)
            made.append(run)
    return made


def _name(name: str, seed: int, arm: str) -> str:
    return f"{name}-{seed}-{arm.replace(' ', '-')}"


def record(name: str, seeds: Sequence[int], path: Path, told: str = "") -> pd.DataFrame:
    """Write what the arms of these seeds scored to a JSON file, with how it was made; returns it as `read` does."""
    results: dict[str, Any] = {"made by": told, **surroundings(), "seconds": 0.0, "categories": {}, "scores": []}
    for seed in seeds:
        first = saved(f"{name}-{seed}")
        results["categories"][str(seed)] = [item.category for item in read_evaluation(first, 1).instructions]
        results["settings"] = {setting: value(first.config, setting) for setting in SHOWN}
        results["seconds"] += first.seconds
        for arm in designs(first.config):
            run = saved(_name(name, seed, arm))
            forked = [stage["seconds"] for place, stage in run.stages.items() if place not in first.stages]
            results["seconds"] += sum(forked)
            for iteration in range(1, run.config.iterations + 1):
                found = read_evaluation(run, iteration)
                exact = [int(evaluate.exact_match([t], [s]) == 1) for t, s in zip(found.teacher, found.student)]
                row = {"seed": seed, "arm": arm, "iteration": iteration, "exact": exact}
                row |= {role: [getattr(v, f"{role}_score") for v in found.verdicts] for role in ("student", "teacher")}
                results["scores"].append(row)
    results["seconds"] = round(results["seconds"])
    write_text(path, json.dumps(results) + "\n")
    return read(path)


def read(path: str | Path) -> pd.DataFrame:
    """A recorded result as one row a score: seed, arm, iteration, number and category of the instruction, both scores
    (1 to 10, NaN where unscored), and whether the answer was the teacher's (exact). DataError on another file."""
    try:
        found = json.loads(read_text(path))
        parts = [pd.DataFrame(row | {"category": found["categories"][str(row["seed"])]}) for row in found["scores"]]
        return pd.concat([part.assign(number=range(len(part))) for part in parts], ignore_index=True)[ROWS]
    except (ValueError, KeyError, TypeError):
        raise DataError(path, None, "not a result that `lionkit arms` recorded") from None


def table(scores: pd.DataFrame, base: str = RANDOM, tau: float = 1.0) -> pd.DataFrame:
    """One row an arm and iteration, means over the seeds.

    relative_score and exact_match (shares of 1); difference to the arm `base` in relative score, with low and high
    (95 %, seeds and instructions redrawn); instructions on which the arm scored above, as and below the base (win, tie,
    lose); and of those held out, how many became easy since iteration 1 and how many were lost (a seed).
    """
    rows, seeds = [], scores["seed"].nunique()
    for (arm, iteration), own in scores.groupby(["arm", "iteration"], sort=False):
        pairs = _beside(scores, (arm, iteration), (base, iteration))
        ahead = pairs["student"] - pairs["student_base"]
        then = _beside(scores, (arm, iteration), (arm, 1))
        was, now = ((then[f"teacher{end}"] - then[f"student{end}"]).round(6) < tau for end in ("_base", ""))
        found = difference(scores, arm, base, iteration)
        by_seed = own.groupby("seed")[["student", "teacher"]].sum()
        rows.append(
            {
                "arm": arm,
                "iteration": iteration,
                "relative_score": (by_seed["student"] / by_seed["teacher"]).mean(),
                "exact_match": own["exact"].mean(),
                **{name: getattr(found, name) for name in ("difference", "low", "high")},
                **{"win": (ahead > 0).sum(), "tie": (ahead == 0).sum(), "lose": (ahead < 0).sum()},
                **{"became_easy": (~was & now).sum() / seeds, "lost": (was & ~now).sum() / seeds},
            }
        )
    return pd.DataFrame(rows)


def difference(scores: pd.DataFrame, arm: str, base: str, iteration: int) -> evaluate.PairedDifference:
    """The arm's relative score less the base's after an iteration, over all seeds (`evaluate.over_seeds`)."""
    pairs = _beside(scores, (arm, iteration), (base, iteration))
    return evaluate.over_seeds([np.array(group[PAIRED], float) for _, group in pairs.groupby("seed")])


def by_category(scores: pd.DataFrame, iteration: int) -> pd.DataFrame:
    """Exact matches (share of 1) after an iteration: a row a category, a column an arm."""
    some = scores[scores["iteration"] == iteration]
    return some.pivot_table(index="category", columns="arm", values="exact", sort=False)


def _beside(scores: pd.DataFrame, own: tuple[str, int], base: tuple[str, int]) -> pd.DataFrame:
    """Rows of an arm after an iteration beside those of another arm or iteration (_base), where both were scored."""
    one, two = (scores[(scores["arm"] == arm) & (scores["iteration"] == after)] for arm, after in (own, base))
    return one.merge(two, on=["seed", "number"], suffixes=("", "_base")).dropna(subset=PAIRED)
