"""Changing a run's settings, and forking a run: a copy up to some stage that goes on with other settings.

Execution settings change freely. A method setting changes freely as long as no finished stage has read it with another
value. After that it can be tried in a fork, or taken by later stages alone (`from_here`): the finished ones keep, and
show, the value they were made with.
"""

import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Any

from lionkit import files
from lionkit.client import copy_store
from lionkit.errors import ConfigError
from lionkit.run import settings
from lionkit.run.folder import Run
from lionkit.run.provenance import run_path, shown, surroundings
from lionkit.run.remedies import may_differ, ways
from lionkit.run.stages import Place


def change(run: Run, *, from_here: bool = False, **changes: Any) -> Run:
    """The run with these settings changed and kept. ConfigError says both ways to change one that was read already.

    `api` and `student` take dictionaries. What is given and equal to what there is changes nothing.
    """
    flat = settings.located(changes)
    if fixed := [name for name in flat if name in settings.FIXED and flat[name] != settings.value(run.config, name)]:
        raise ConfigError(f"{fixed[0]} is said when a run begins: give another run name")
    wanted = settings.apply(run.config, flat)
    log = []
    for name in flat:
        was, now = settings.value(run.config, name), settings.value(wanted, name)
        readers = _readers(run, name, now, run.finished(), from_here)
        if was != now or readers:
            kept = [place.path for place in readers]
            log.append({"setting": name, "was": was, "now": now, "kept_by": kept, "at": time.strftime("%F %T")})
    if log:
        _log(run.path, [*run.changes, *log])
        settings.write_config(run.path / "config.toml", wanted)
    for entry in log:
        method = entry["setting"] in settings.METHOD
        what = "method: stages to come read it" if method else "execution: finished stages stay as they are"
        print(f"Changed: {entry['setting']} {entry['was']!r} → {entry['now']!r} ({what}).")
    return dataclasses.replace(run, config=wanted)


def _readers(run: Run, name: str, now: Any, finished: list[Place], from_here: bool) -> list[Place]:
    """Those of these stages that read a setting with another value and were not told to keep it; ConfigError where
    they cannot be told so now."""
    kept, own = run.kept_by(name), settings.value(run.config, name)
    read = [place for place in finished if name in settings.READS[place.stage] and place.path not in kept]
    was = {place: run.record(*place).get("settings", {}).get(name, own) for place in read}  # own: not recorded yet
    others = [place for place in read if was[place] != now]
    if others and not (from_here and may_differ(name)):
        told = ways(run.path, others[0], name, now)
        raise ConfigError(f"{name} = {was[others[0]]!r} was read by {others[0]}: {told}")
    return others


def _log(folder: Path, entries: list[dict[str, Any]]) -> None:
    if entries:
        files.write_text(folder / "changes.jsonl", "".join(json.dumps(entry) + "\n" for entry in entries))


def fork(run: Run, name: str, after: str, **changes: Any) -> Run:
    """A new run that keeps this one's finished stages up to `after`, with its paid replies and readers' marks, and goes
    on with `changes`.

    `after` is an iteration (`1`: all of it), a stage of one (`1:discrimination`), or `start` (no stage, replies alone).
    The two share no file, so that each outlives the other. Raises ConfigError where the
    name is taken, StageMissing where that point was not reached.
    """
    kept, path, flat = _until(run, after), run_path(name), settings.located(changes)
    if path.exists():
        raise ConfigError(f"there is a run of the name {name} already: give the fork another name")
    wanted = settings.apply(run.config, flat)
    for setting in flat:
        _readers(run, setting, settings.value(wanted, setting), kept, from_here=True)
    hidden = shutil.ignore_patterns(".*", "checkpoints")
    with files.whole_folder(path) as work:
        settings.write_config(work / "config.toml", run.config)
        paths = [place.path for place in kept]
        _log(work, [e | {"kept_by": [path for path in e["kept_by"] if path in paths]} for e in run.changes])
        for place in kept:
            shutil.copytree(run.folder(*place), work / place.path, copy_function=shutil.copyfile, ignore=hidden)
        for store in ("calls.sqlite", "student.sqlite"):
            if (run.path / store).is_file():
                copy_store(run.path / store, work / store)
        if (run.path / "marks.jsonl").is_file():
            shutil.copyfile(run.path / "marks.jsonl", work / "marks.jsonl")
        noted = {path: run.stages.get(path, {}) for path in paths}
        parent = {"run": run.name, "after": after, "changes": flat}
        told = {"seed": run.config.seed, **surroundings(), "parent": parent, "stages": noted}
        files.write_text(work / "provenance.json", json.dumps(told, indent=1))
        change(Run(work, run.config), from_here=True, **changes)
    forked = Run(path, settings.read_config(path / "config.toml"), f"a fork of {run.name} after {after}")
    print(f"{shown(path)} keeps {len(kept)} stages of {run.name} and its stored replies; nothing was asked or trained.")
    return forked


def _until(run: Run, after: str) -> list[Place]:
    """The finished stages up to a point of the run, that stage included."""
    if after == "start":
        return []
    number, _, stage = after.partition(":")
    stages = settings.READS
    if not number.isdecimal() or (stage and stage not in stages):
        raise ConfigError(f"after = {after!r}: give an iteration, ITERATION:STAGE ({', '.join(stages)}), or start")
    iteration = int(number)
    last = Place(iteration, stage or ("generation" if run.done(iteration, "generation") else "discrimination"))
    run.require(*last)
    finished = run.finished()
    return finished[: finished.index(last) + 1]
