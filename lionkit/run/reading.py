"""What is in a run, as records: pools, answers, verdicts, adapters. Nothing is made, asked or compared."""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from lionkit.records import Candidate, Instruction, Judged, Response, Verdict, read_jsonl
from lionkit.run.folder import Run
from lionkit.run.stages import pools_before


class Pools(NamedTuple):
    """What an iteration starts from."""

    train: list[Instruction]
    cache: list[Instruction]


def train_pool(run: Run, iteration: int) -> list[Instruction]:
    """What the student is fine-tuned on in an iteration; StageMissing where it was not made yet."""
    return read_jsonl(run.require(*pools_before(iteration)) / "train.jsonl", Instruction)


def cache_pool(run: Run, iteration: int) -> list[Instruction]:
    """What the student is examined on in an iteration; StageMissing where it was not made yet."""
    return read_jsonl(run.require(*pools_before(iteration)) / "cache.jsonl", Instruction)


def last_cache_pool(run: Run) -> list[Instruction]:
    """Every instruction that was ever examined on, or will be next; none before the first pools."""
    made = [place for place in run.finished() if place.stage in ("pools", "generation")]
    return read_jsonl(run.folder(*made[-1]) / "cache.jsonl", Instruction) if made else []


def pools_for(run: Run, iteration: int) -> Pools:
    """The pools that an iteration starts from: the first ones, or what the generation before it left."""
    return Pools(train_pool(run, iteration), cache_pool(run, iteration))


def held_out(run: Run) -> list[Instruction]:
    """The instructions set apart for the score."""
    return read_jsonl(run.require(0, "pools") / "heldout.jsonl", Instruction)


def adapter_after(run: Run, iteration: int) -> Path | None:
    """The student's adapter after an iteration; None for iteration 0, the student as it came."""
    return None if iteration == 0 else run.require(iteration, "imitation") / "adapter"


def judged(folder: Path, items: list[Instruction]) -> Judged:
    """What a stage that compares teacher and student wrote about these instructions."""
    teacher, student = (read_jsonl(folder / f"{role}.jsonl", Response) for role in ("teacher", "student"))
    return Judged(items, teacher, student, read_jsonl(folder / "verdicts.jsonl", Verdict))


def read_discrimination(run: Run, iteration: int) -> Judged:
    """What the referee said of the cache pool; StageMissing where the stage was not run."""
    return judged(run.require(iteration, "discrimination"), cache_pool(run, iteration))


def read_evaluation(run: Run, iteration: int) -> Judged:
    """What the judge said of the held-out instructions; StageMissing where the stage was not run."""
    return judged(run.require(iteration, "evaluation"), held_out(run))


def read_candidates(run: Run, iteration: int) -> list[Candidate]:
    """What the generator proposed, the rejected ones too; StageMissing where the stage was not run."""
    return read_jsonl(run.require(iteration, "generation") / "candidates.jsonl", Candidate)


def sides(run: Run, iteration: int, tau: float | None = None) -> dict[str, int]:
    """The cache pool by label after an iteration: at `tau`, else at the one its generation used, else the run's."""
    found = run.result(iteration, "discrimination")
    if "gaps" not in found:  # made before they were recorded
        found = gaps(read_jsonl(run.folder(iteration, "discrimination") / "verdicts.jsonl", Verdict))
    used = run.record(iteration, "generation").get("settings", {}) if run.done(iteration, "generation") else {}
    tau = used.get("tau", run.config.tau) if tau is None else tau
    hard = sum(count for gap, count in found["gaps"] if gap >= tau)
    return {"hard": hard, "easy": sum(c for _, c in found["gaps"]) - hard, "undecided": found["undecided"]}


def gaps(verdicts: list[Verdict]) -> dict[str, Any]:
    """How often each gap was found, and how many pairs are undecided: what `sides` needs at any tau."""
    counted = Counter(v.gap for v in verdicts if v.scored)
    return {"undecided": len(verdicts) - counted.total(), "gaps": sorted(map(list, counted.items()))}
