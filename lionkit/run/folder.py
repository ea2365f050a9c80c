"""A run directory: which settings a run has, which stages are done, and what they were made from.

    runs/<name>/config.toml       settings
                calls.sqlite      every paid reply (written by `client`)
                provenance.json   versions, seed, device, and what each stage took and used
                iteration-NN/<stage>/...  artefacts and a done.json

A stage is a function that fills its folder. `Run.stage` runs it once: done.json holds digests of what went in
and of the files that came out, so that a second call reuses them, a changed input says so, and a folder left
half-filled by a kill is simply filled again (its calls are in the store, its training in checkpoints).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lionkit import config as settings
from lionkit import files, records
from lionkit.config import Config
from lionkit.errors import ConfigError, LionkitError, StageChanged, StageMissing, StageStopped
from lionkit.pools.readers import is_hub_name

PROJECT = Path(__file__).resolve().parents[2]
STAGES = {
    "pools": "01_pools",
    "imitation": "02_imitation",
    "discrimination": "03_discrimination",
    "generation": "04_generation",
    "evaluation": "02_imitation",
}
"""The stages and the notebook that first runs each."""
_PACKAGES = ("lionkit", "torch", "transformers", "bitsandbytes", "peft", "accelerate", "openai", "pandas", "rapidfuzz")


def runs_root() -> Path:
    """Folder of all runs: LIONKIT_RUNS, else `runs/` beside the notebooks, else `runs/` where Python was started."""
    named = os.environ.get("LIONKIT_RUNS")
    if named:
        return Path(named).expanduser()
    return (PROJECT if (PROJECT / "notebooks").is_dir() else Path.cwd()) / "runs"


@dataclass(frozen=True)
class Run:
    """One run: its folder, its settings, and why it has the mode it has."""

    path: Path
    config: Config
    reason: str = ""

    @property
    def store(self) -> Path:
        """Where `client` keeps this run's calls."""
        return self.path / "calls.sqlite"

    @property
    def banner(self) -> str:
        """What the first cell says aloud: mode, reason, who plays which role, where it is kept."""
        api, student = self.config.api, self.config.student
        known = api.base_url == settings.SANDBOX_URL
        teacher = "the answer key (rules, not a language model)" if known else _asked(api)
        where = f", answering from {self.config.student_url}" if self.config.student_url else ""
        lines = [f"{self.config.mode} mode: {self.reason}.", f"Teacher, referee and generator: {teacher}.",
                 f"Student: {student.model} ({student.quantize}){where}. Run folder: {shown(self.path)}."]  # fmt: skip
        return "\n".join(lines)

    def folder(self, iteration: int, stage: str) -> Path:
        return self.path / f"iteration-{iteration:02d}" / stage

    def done(self, iteration: int, stage: str) -> bool:
        return (self.folder(iteration, stage) / "done.json").is_file()

    def require(self, iteration: int, stage: str) -> Path:
        """Folder of a finished stage; StageMissing says what to run first."""
        if not self.done(iteration, stage):
            later = iteration > 1 or (iteration == 0 and stage == "discrimination")
            notebook = "05_adversarial_loop" if later else STAGES[stage]
            raise StageMissing(
                f"{stage} of iteration {iteration} is not done in {shown(self.path)}: run notebook "
                f"{notebook} first, or `python -m lionkit run` for all of it"
            )
        return self.folder(iteration, stage)

    def result(self, iteration: int, stage: str) -> dict[str, Any]:
        """The counts that a finished stage reported."""
        return _read_json(self.require(iteration, stage) / "done.json", "result")["result"]

    def stage(
        self, iteration: int, name: str, inputs: Mapping[str, Any], make: Callable[[Path], dict[str, Any]]
    ) -> Path:
        """Folder of the stage, made by `make(folder) -> counts` unless it is there already.

        `inputs` are records, settings or paths that the outcome depends on. Raises StageChanged where the stage
        was finished from other inputs, or its files were altered since; StageStopped where another process is at it.
        """
        folder = self.folder(iteration, name)
        digests = {key: digest(value) for key, value in inputs.items()}
        if self.done(iteration, name):
            self._check(folder, digests)
            return folder
        started = time.monotonic()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(folder):
                if self.done(iteration, name):  # by another process, since the look above
                    return self.stage(iteration, name, inputs, make)
                result = make(folder)
                made = {str(f.relative_to(folder)): digest(f) for f in _artefacts(folder)}
                done = {"stage": name, "iteration": iteration, "inputs": digests, "files": made, "result": result}
                self.note(iteration, name, seconds=round(time.monotonic() - started, 1), **result)
                files.write_text(folder / "done.json", json.dumps(done, indent=1))
        except OSError as error:
            raise files.disk_error(error, error.filename or folder) from None
        return folder

    def _check(self, folder: Path, digests: dict[str, str]) -> None:
        done = _read_json(folder / "done.json", "inputs", "files")
        changed = [key for key in digests if done["inputs"].get(key) != digests[key]]
        if changed:
            raise StageChanged(
                f"{shown(folder)} was made from other inputs ({', '.join(changed)} changed): give the run another "
                "name, or delete that folder and the later ones to make them anew (stored replies are reused)"
            )
        for name, value in done["files"].items():
            if not (folder / name).is_file() or digest(folder / name) != value:
                raise StageChanged(f"{shown(folder / name)} is missing or was altered after the stage finished: "
                                   f"delete {shown(folder)} to make it anew (stored replies are reused)")  # fmt: skip

    def note(self, iteration: int, stage: str, **values: Any) -> None:
        """Add to what provenance.json says of a stage: what no two runs have in common goes there only."""
        with FileLock(self.path / ".provenance.lock"):
            provenance = self.provenance
            provenance["stages"].setdefault(f"iteration-{iteration:02d}/{stage}", {}).update(values)
            files.write_text(self.path / "provenance.json", json.dumps(provenance, indent=1))

    @property
    def provenance(self) -> dict[str, Any]:
        """What is in provenance.json; before any stage, what would begin it."""
        return self._noted() or {"seed": self.config.seed, **surroundings(), "stages": {}}

    @property
    def stages(self) -> dict[str, Any]:
        """What provenance.json says of each stage so far."""
        return self._noted().get("stages", {})

    def _noted(self) -> dict[str, Any]:
        path = self.path / "provenance.json"
        return _read_json(path, "stages") if path.is_file() else {}

    @property
    def seconds(self) -> float:
        """Time the stages took in all, whenever that was."""
        return round(sum(stage.get("seconds", 0) for stage in self.stages.values()), 1)


def _artefacts(folder: Path) -> list[Path]:
    """A stage's files, in order. What begins with a dot is a writer's that was killed halfway."""
    inside = {path: path.relative_to(folder).parts for path in sorted(folder.rglob("*")) if path.is_file()}
    return [path for path, parts in inside.items() if not any(part.startswith(".") for part in parts)]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a stage's folder; the system frees a killed process's lock."""
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StageStopped(
            f"{shown(folder)} is being made by another notebook or process: let it finish, or stop it"
        ) from None
    try:
        yield
    finally:
        lock.release()


def open_run(name: str = "", *, preset: str = "", new: bool = True, keep: bool = True, **changes: Any) -> Run:
    """Open a run by name, or start one, and print what mode it is in.

    A new run takes `preset` (LIONKIT_PRESET, else `offline`) with `changes` to its fields; `api` and `student` take
    dictionaries. The mode is the environment's (`config.choose_mode`) unless `mode=` is given. An existing run keeps
    its settings: asking for different ones is an error that names them. Default names: `demo`, in live mode `live`.
    With `new=False` only an existing one is opened; with `keep=False` a new one is looked at and not begun.
    """
    mode, reason = settings.choose_mode() if "mode" not in changes else (changes.pop("mode"), "asked for")
    name = name or os.environ.get("LIONKIT_RUN", "") or ("live" if mode == "live" else "demo")
    if not re.fullmatch(r"\w[\w.-]{0,99}", name):
        raise ConfigError(f"run name {name[:100]!r}: use letters, digits, '-', '_' and '.', at most 100 of them")
    path = runs_root() / name
    wanted = _new_config(mode, preset or os.environ.get("LIONKIT_PRESET", "") or "offline", changes)
    if (path / "config.toml").is_file():
        kept = settings.read_config(path / "config.toml")
        if mode == "replay":
            kept = dataclasses.replace(kept, mode="replay")
        elif changes or preset:
            _refuse_changes(kept, dataclasses.replace(wanted, mode=kept.mode), path)
        elif mode != kept.mode:
            reason = f"this run was started so; for {mode} mode ({reason}) open a run of another name"
        elif mode == "live":
            reason += _unheard(kept.api)
        run = Run(path, kept, reason)
    elif mode == "replay":
        raise ConfigError(f"there is no run to replay at {shown(path)}: set LIONKIT_RUN to the name of a finished one")
    elif not new:
        known = ", ".join(sorted(folder.parent.name for folder in runs_root().glob("*/config.toml"))) or "none yet"
        raise ConfigError(f"there is no run of the name {name} in {shown(runs_root())}: known are {known}")
    elif mode == "offline" and wanted.api.base_url != settings.SANDBOX_URL:
        raise ConfigError(
            f"these settings ask {_asked(wanted.api)}, not offline: "
            "set OPENAI_API_KEY or OPENAI_BASE_URL, or LIONKIT_MODE=live to plan first"
        )
    else:
        run = Run(path, wanted, reason)
        if keep:
            settings.write_config(path / "config.toml", wanted)
    print(run.banner)
    return run


def _unheard(api: settings.ApiConfig) -> str:
    """What the environment names and a run, started with something else, does not use; empty where there is nothing."""
    said = []
    for name, kept in (("OPENAI_BASE_URL", api.base_url), ("LIONKIT_MODEL", api.model)):
        told = os.environ.get(name, "").strip().rstrip("/")
        if told and kept and told != kept.strip().rstrip("/"):
            said.append(f"{kept} ({name} is {told.partition('?')[0]})")  # others may put a key into the query
    return f"; it keeps {' and '.join(said)}, for others open a run of another name" if said else ""


def _new_config(mode: str, preset: str, changes: Mapping[str, Any]) -> Config:
    config = settings.preset(preset)
    nested = {"api": dict(changes.get("api", {})), "student": dict(changes.get("student", {}))}
    if mode == "live":
        live = {"base_url": os.environ.get("OPENAI_BASE_URL") or None, "model": os.environ.get("LIONKIT_MODEL", "")}
        nested["api"] = {**{k: v for k, v in live.items() if v or k == "base_url"}, **nested["api"]}
        if "model" not in nested["api"] and config.api.model == "answer-key":
            nested["api"]["model"] = settings.ApiConfig().model
    rest = {k: v for k, v in changes.items() if k not in nested}
    if "seed_file" in rest:
        rest["seed_file"] = _seed_file(rest["seed_file"])
    for part, default in (("api", config.api), ("student", config.student)):
        if unknown := sorted(set(nested[part]) - set(vars(default))):
            raise ConfigError(f"{part} has no setting {unknown[0]}: known are {', '.join(vars(default))}")
    try:
        api = dataclasses.replace(config.api, **nested["api"])
        student = dataclasses.replace(config.student, **nested["student"])
        return dataclasses.replace(config, **{**rest, "mode": mode, "api": api, "student": student})
    except TypeError as error:
        raise ConfigError(f"unknown setting: {error}") from None


def _asked(api: settings.ApiConfig) -> str:
    url = settings.endpoint(api)
    return f"{api.model} at {'api.openai.com' if url == settings.OPENAI_URL else url}"


def _seed_file(name: str) -> str:
    """The whole path of a file that is there, so that it is found from anywhere; a hub data set's name as it is."""
    path = Path(name).expanduser()
    if path.exists():
        return str(path.resolve())
    if name and not is_hub_name(name):
        raise ConfigError(f"seed_file: there is no {path}: give a file, or a hub data set as owner/name")
    return name


def _refuse_changes(kept: Config, wanted: Config, path: Path) -> None:
    pairs = (("", kept, wanted), ("api.", kept.api, wanted.api), ("student.", kept.student, wanted.student))
    changed = [
        f"{part}{name}: {old} → {getattr(new, name)}"
        for part, before, new in pairs
        for name, old in vars(before).items()
        if name not in ("api", "student") and old != getattr(new, name)
    ]
    if changed:
        raise ConfigError(f"{shown(path)} has other settings ({'; '.join(changed)}): choose another run name")


def digest(value: Any) -> str:
    """A short digest of records, settings, or (for a Path) a file's bytes."""
    if isinstance(value, Path):
        with open(value, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2s(digest_size=16)).hexdigest()
    text = json.dumps(value, default=_plain, sort_keys=True)
    return hashlib.blake2s(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return records.to_dict(value)
    if isinstance(value, Path):
        return digest(value)
    raise TypeError(f"cannot take a digest of {type(value).__name__}")


def shown(path: Path) -> str:
    """A path as it is printed: relative to the project where it lies in it, so that outputs are the same everywhere."""
    for base in (PROJECT, runs_root().parent):
        if path.is_relative_to(base):
            return str(path.relative_to(base))
    return str(path)


def surroundings() -> dict[str, Any]:
    """Versions, processor and git revision: what is needed to know where a run's numbers come from."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    try:
        git = ["git", "-C", str(PROJECT), "rev-parse", "HEAD"]
        revision = subprocess.run(git, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        revision = ""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    return {"python": platform.python_version(), "machine": machine, "revision": revision, "versions": versions}


def _read_json(path: Path, *parts: str) -> dict[str, Any]:
    """A JSON object with these parts, each an object too."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(values[part], dict) for part in parts):
            return values
    except (ValueError, RecursionError, TypeError, KeyError):
        pass  # reported below, with whatever else is wrong with it
    whole = path.name == "done.json"
    remedy = (
        "that stage is then made anew" if whole else "times and versions are then noted afresh, nothing else is lost"
    )
    raise LionkitError(f"{shown(path)} is not readable: delete {shown(path.parent if whole else path)}; {remedy}")
