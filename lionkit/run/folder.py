"""A run's folder: which stages are done, what each was made from, and how a stage is made.

    runs/<name>/config.toml       settings
                changes.jsonl     settings that were changed later, and the stages that keep the earlier value
                marks.jsonl       what readers said of instructions (written by `marks`)
                calls.sqlite      every paid reply (written by `client`)
                provenance.json   versions, seed, device, and what each stage took and used
                iteration-NN/<stage>/...  artefacts and a done.json

`Run.make` makes a stage once. Its done.json holds the settings that it read, the digests of the files of earlier
stages that it used, and the digests of the files that it wrote. A stage that was cut short has no done.json and is
made again: its calls are in the store, its training in checkpoints. Only making compares; reading does not.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lionkit import files
from lionkit.config import OPENAI_URL, SANDBOX_URL, Config
from lionkit.errors import LionkitError, StageChanged, StageMissing, StageStopped
from lionkit.run.provenance import digest, shown, surroundings
from lionkit.run.remedies import anew, completed, ways
from lionkit.run.settings import READS, handed, value
from lionkit.run.stages import NOTEBOOKS, Place, Stage, order, sources


@dataclass(frozen=True)
class Run:
    """One run: its folder, its settings, and why it has the mode it has."""

    path: Path
    config: Config
    reason: str = ""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def store(self) -> Path:
        """Where `client` keeps this run's calls."""
        return self.path / "calls.sqlite"

    @property
    def banner(self) -> str:
        """What the first cell says aloud: mode, reason, who plays which role, where it is kept, what was changed."""
        api, student = self.config.api, self.config.student
        known = api.base_url == SANDBOX_URL
        url = "api.openai.com" if api.base_url in (None, OPENAI_URL) else api.base_url
        teacher = "the answer key (rules, not a language model)" if known else f"{api.model} at {url}"
        where = f", answering from {self.config.student_url}" if self.config.student_url else ""
        lines = [
            f"{self.config.mode} mode: {self.reason}.",
            f"Teacher, referee and generator: {teacher}.",
            f"Student: {student.model} ({student.quantize}){where}. Run folder: {shown(self.path)}.",
        ]
        kept = "{setting} was {was!r} for {stages}; later stages take {now!r}."
        for change in self.changes:
            if change["kept_by"]:
                now = {"now": value(self.config, change["setting"])}  # which may have changed once more
                lines.append(kept.format(stages=", ".join(change["kept_by"]), **change | now))
        return "\n".join(lines)

    @property
    def changes(self) -> list[dict[str, Any]]:
        """The settings that were changed after the run began: setting, was, now, kept_by (stages), at (time)."""
        log = self.path / "changes.jsonl"
        return [json.loads(line) for line in files.read_text(log).splitlines()] if log.is_file() else []

    def folder(self, iteration: int, stage: str) -> Path:
        return self.path / Place(iteration, stage).path

    def done(self, iteration: int, stage: str) -> bool:
        return (self.folder(iteration, stage) / "done.json").is_file()

    def finished(self) -> list[Place]:
        """The stages that are done, in the order in which they are made."""
        last = max((int(p.name[-2:]) for p in self.path.glob("iteration-[0-9][0-9]")), default=0)
        return [place for place in order(last) if self.done(*place)]

    def iterations(self, stage: str) -> list[int]:
        """The iterations in which a stage is done, in order."""
        return [place.iteration for place in self.finished() if place.stage == stage]

    def require(self, iteration: int, stage: str) -> Path:
        """Folder of a finished stage; StageMissing says what to run first."""
        if not self.done(iteration, stage):
            problem = f"{Place(iteration, stage)} is not done in {shown(self.path)}"
            raise StageMissing(problem + self._remedy(iteration, stage))
        return self.folder(iteration, stage)

    def _remedy(self, iteration: int, stage: str) -> str:
        """What makes a missing stage, if anything does."""
        if Place(iteration, stage) not in order(iteration):
            stages = [", ".join(place.stage for place in order(1) if place.iteration == i) for i in (0, 1)]
            return f" and never is: iteration 0 has {stages[0]}; later ones have {stages[1]}"
        command, needed = f"`python -m lionkit run --run {self.name}`", iteration + (stage == "generation")
        if needed > self.config.iterations:  # the last iteration generates nothing
            more = f"`python -m lionkit set --run {self.name} iterations={needed}`, then {command}"
            return f", which has iterations 0 to {self.config.iterations}: for more of them {more}"
        later = iteration > 1 or (iteration == 0 and stage == "discrimination")
        notebook = "05_adversarial_loop" if later else NOTEBOOKS[stage]
        return f": run notebook {notebook} first, or {command} for all of it"

    def record(self, iteration: int, stage: str) -> dict[str, Any]:
        """What done.json says of a finished stage: settings, inputs, files, result."""
        return _read_json(self.require(iteration, stage) / "done.json", "inputs", "files", "result")

    def result(self, iteration: int, stage: str) -> dict[str, Any]:
        """The counts that a finished stage reported."""
        return self.record(iteration, stage)["result"]

    def make(self, iteration: int, stage: str, work: Callable[[Stage], dict[str, Any]]) -> Path:
        """Folder of the stage, made by `work(stage) -> counts` unless it is there already.

        Raises StageChanged where a finished stage was made from other settings or files, or a file that it would be
        made from was altered; StageStopped where another process is at it; StageOpen where rows are missing.
        """
        place, folder = Place(iteration, stage), self.folder(iteration, stage)
        if self.done(iteration, stage):
            self._compare(place)
            return folder
        started = time.monotonic()
        with completed(self.path, self.config), _alone(folder):
            if self.done(iteration, stage):  # by another process, since the look above
                return self.make(iteration, stage, work)
            inputs = {f"{at.path}/{file}": self._unaltered(at, file) for at, file in sources(place)}
            result = work(Stage(folder, place, handed(self.config, stage), inputs))
            read = {name: value(self.config, name) for name in sorted(READS[stage])}
            inside = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
            # What begins with a dot is a writer's that was killed halfway.
            written = {str(path): digest(folder / path) for path in inside if "/." not in f"/{path}"}
            done = {"stage": stage, "iteration": iteration, "settings": read, "inputs": inputs, "files": written}
            plain = {name: given for name, given in result.items() if not isinstance(given, list)}
            self.note(iteration, stage, seconds=round(time.monotonic() - started, 1), **plain)
            files.write_text(folder / "done.json", json.dumps(done | {"result": result}, indent=1))
            for kept in folder.glob(".student-*"):  # answers that were kept in case the stage was cut short
                kept.unlink()
        return folder

    def _unaltered(self, place: Place, file: str) -> str:
        """The digest of a finished stage's file, which must be as the stage left it."""
        path, recorded = self.require(*place) / file, self.record(*place)["files"].get(file)
        if not path.is_file() or digest(path) != recorded:
            problem = f"{shown(path)} is missing or was altered after its stage finished: put it back; or"
            raise StageChanged(f"{problem}, {anew(self.path, place)}")
        return recorded

    def _compare(self, place: Place) -> None:
        """StageChanged where a finished stage was made from other settings or files than those there are now."""
        if self.config.mode == "replay":
            return
        done = self.record(*place)
        if "settings" not in done:  # made before settings were recorded: there is nothing to compare
            return
        for name, was in done["settings"].items():
            now = value(self.config, name)
            if was != now and place.path not in self.kept_by(name):
                problem = f"{place} was made with {name} = {was!r}, and the settings now say {now!r}"
                raise StageChanged(f"{problem}: {ways(self.path, place, name, now)}")
        for at, file in sources(place):
            if done["inputs"].get(f"{at.path}/{file}") != self.record(*at)["files"].get(file):
                problem = f"{place} was made from another {at.path}/{file} than is there now"
                raise StageChanged(f"{problem}: {anew(self.path, place)}")

    def kept_by(self, name: str) -> set[str]:
        """The finished stages that keep an earlier value of a setting which was changed from there on."""
        return {path for entry in self.changes if entry["setting"] == name for path in entry["kept_by"]}

    def note(self, iteration: int, stage: str, **values: Any) -> None:
        """Add to what provenance.json says of a stage: what no two runs have in common goes there only."""
        with FileLock(self.path / ".provenance.lock"):
            provenance = self.provenance or {"seed": self.config.seed, **surroundings(), "stages": {}}
            provenance["stages"].setdefault(Place(iteration, stage).path, {}).update(values)
            files.write_text(self.path / "provenance.json", json.dumps(provenance, indent=1))

    @property
    def provenance(self) -> dict[str, Any]:
        """What is in provenance.json; empty before any stage."""
        path = self.path / "provenance.json"
        return _read_json(path, "stages") if path.is_file() else {}

    @property
    def stages(self) -> dict[str, Any]:
        """What provenance.json says of each stage so far."""
        return self.provenance.get("stages", {})

    @property
    def seconds(self) -> float:
        """Time the stages took in all, whenever that was."""
        return round(sum(stage.get("seconds", 0) for stage in self.stages.values()), 1)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a stage's folder, and says in one line what the system refuses in the block.

    The system frees a killed process's lock.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0):
            yield
    except Timeout:
        remedy = "let it finish, or stop it"
        raise StageStopped(f"{shown(folder)} is being made by another notebook or process: {remedy}") from None
    except OSError as error:
        raise files.disk_error(error, error.filename or folder) from None


def _read_json(path: Path, *parts: str) -> dict[str, Any]:
    """A JSON object with these parts, each an object too."""
    with suppress(ValueError, RecursionError, TypeError, KeyError):  # reported below, with whatever else is wrong
        values = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(values[part], dict) for part in parts):
            return values
    stage = path.name == "done.json"
    remedy = "that stage is then made again, from stored replies" if stage else "times and versions are noted afresh"
    raise LionkitError(f"{shown(path)} is not readable: rename it, and run again; {remedy}")
