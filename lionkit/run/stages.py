"""The stages of a run: their order, what each is made from, and what the function that makes one is handed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lionkit.errors import StageOpen
from lionkit.records import Response, Verdict
from lionkit.run.settings import Handed

ADAPTER = "adapter/adapter_model.safetensors"
NOTEBOOKS = {
    "pools": "01_pools",
    "imitation": "02_imitation",
    "discrimination": "03_discrimination",
    "generation": "04_generation",
    "evaluation": "02_imitation",
}
"""The stages and the notebook that first runs each."""


class Place(NamedTuple):
    """A stage of a run."""

    iteration: int
    stage: str

    def __str__(self) -> str:
        return f"{self.stage} of iteration {self.iteration}"

    @property
    def path(self) -> str:
        return f"iteration-{self.iteration:02d}/{self.stage}"


def order(iterations: int) -> list[Place]:
    """Every stage of so many iterations, in the order in which they are made."""
    first = [Place(0, "pools"), Place(0, "evaluation"), Place(0, "discrimination")]
    later = ("imitation", "evaluation", "discrimination", "generation")
    return first + [Place(i, stage) for i in range(1, iterations + 1) for stage in later]


def pools_before(iteration: int) -> Place:
    """The stage that made the pools which an iteration starts from."""
    return Place(0, "pools") if iteration <= 1 else Place(iteration - 1, "generation")


def sources(place: Place) -> list[tuple[Place, str]]:
    """The files of earlier stages that a stage is made from."""
    iteration, stage = place
    cache = (pools_before(iteration), "cache.jsonl")
    adapter = [(Place(iteration, "imitation"), ADAPTER)] if iteration else []
    held_out = (Place(0, "pools"), "heldout.jsonl")
    if stage == "imitation":
        before = [(Place(iteration - 1, "imitation"), ADAPTER)] if iteration > 1 else []
        return [(pools_before(iteration), "train.jsonl"), *before]
    if stage == "generation":
        return [cache, (Place(iteration, "discrimination"), "verdicts.jsonl"), held_out]
    return {"pools": [], "evaluation": [held_out, *adapter], "discrimination": [cache, *adapter]}[stage]


@dataclass(frozen=True)
class Stage:
    """What the function that makes a stage is handed."""

    folder: Path
    place: Place
    settings: Handed
    """The settings that the stage declared, and the execution settings."""
    inputs: dict[str, str]
    """Digests of the files of earlier stages that it may use, by their paths in the run."""

    def whole(self, rows: Sequence[Response | Verdict], result: dict[str, Any]) -> dict[str, Any]:
        """The result, if no more rows than allowed lack an answer for the endpoint's reasons; else StageOpen."""
        missing, allowed = [row for row in rows if row.missing], self.settings.missing_share
        if not missing:
            return result
        told = f"{len(missing)} of {len(rows)} rows have no answer yet ({missing[0].reason})"
        if len(missing) > allowed * len(rows):
            ways = "run again to ask for these alone, or allow more of them to be missing"
            raise StageOpen(f"{self.place} stays open: {told}; {ways}", setting="missing_share", result=result)
        print(f"{self.place} goes on without them: {told}, and missing_share = {allowed:g} allows it.")
        return result | {"missing": len(missing)}
