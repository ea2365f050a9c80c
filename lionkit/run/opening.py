"""Opening a run: a new one takes a preset, an old one keeps its settings, and what changes is said aloud."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lionkit.config import OPENAI_URL, SANDBOX_URL, ApiConfig, Config, endpoint
from lionkit.errors import ConfigError
from lionkit.run import settings
from lionkit.run.branch import change
from lionkit.run.folder import Run
from lionkit.run.provenance import run_path, runs_root, shown


def open_run(
    name: str = "",
    *,
    preset: str = "",
    new: bool = True,
    keep: bool = True,
    from_here: bool = False,
    **changes: Any,
) -> Run:
    """Open a run by name, or start one, and print what mode it is in and what was changed.

    A new run takes `preset` (LIONKIT_PRESET, else `offline`, or `live` in live mode) with `changes` to its fields;
    `api` and `student` take dictionaries. The mode is the environment's (`settings.choose_mode`) unless `mode=` is
    given. Of an existing run only what is given is changed, as `branch.change` allows it: execution settings at any
    time, method settings that no finished stage has read, and others `from_here` on. Default names: `demo`, in live
    mode `live`. With `new=False` only an existing one is opened; with `keep=False` a new one is looked at, not begun.
    """
    mode, reason = settings.choose_mode() if "mode" not in changes else (changes.pop("mode"), "asked for")
    path = run_path(name or os.environ.get("LIONKIT_RUN", "") or ("live" if mode == "live" else "demo"))
    if (path / "config.toml").is_file():
        run = _existing(path, mode, reason, preset, from_here, changes)
    elif mode == "replay":
        raise ConfigError(f"there is no run to replay at {shown(path)}: set LIONKIT_RUN to the name of a finished one")
    elif not new:
        run = saved(path.name)
    else:
        named = preset or os.environ.get("LIONKIT_PRESET", "") or ("live" if mode == "live" else "offline")
        run = Run(path, _begin(mode, named, changes), reason)
        if keep:
            settings.write_config(path / "config.toml", run.config)
    print(run.banner)
    return run


def saved(name: str) -> Run:
    """A run that is there, to be read: nothing is said or changed. ConfigError where there is none."""
    path = run_path(name)
    if not (path / "config.toml").is_file():
        known = ", ".join(sorted(folder.parent.name for folder in runs_root().glob("*/config.toml"))) or "none yet"
        raise ConfigError(f"there is no run of the name {name} in {shown(runs_root())}: known are {known}")
    return Run(path, settings.read_config(path / "config.toml"), "read")


def _existing(path: Path, mode: str, reason: str, preset: str, from_here: bool, changes: Mapping[str, Any]) -> Run:
    kept = settings.read_config(path / "config.toml")
    if kept.api.base_url is None:  # begun when a missing address meant OpenAI's, or the environment's
        kept = settings.apply(kept, {"api.base_url": OPENAI_URL})
    if preset and kept.preset and preset != kept.preset:
        problem = f"{shown(path)} was begun with preset {kept.preset}, not {preset}"
        raise ConfigError(f"{problem}: leave the preset out, or give another run name")
    if mode == "replay":
        return Run(path, dataclasses.replace(kept, mode="replay"), reason)
    if mode != kept.mode:
        reason = f"this run was started so; for {mode} mode ({reason}) open a run of another name"
    elif mode == "live":
        reason += _unheard(kept.api)
    return change(Run(path, kept, reason), from_here=from_here, **changes)


def _unheard(api: ApiConfig) -> str:
    """What the environment names and a run, started with something else, does not use; empty where there is nothing."""
    said = []
    for name, kept in (("OPENAI_BASE_URL", api.base_url), ("LIONKIT_MODEL", api.model)):
        told = os.environ.get(name, "").strip().rstrip("/")
        if told and kept and told != kept.strip().rstrip("/"):
            said.append(f"{kept} ({name} is {told.partition('?')[0]})")  # others may put a key into the query
    return f"; it keeps {' and '.join(said)}, for others open a run of another name" if said else ""


def _begin(mode: str, preset: str, changes: Mapping[str, Any]) -> Config:
    """The settings of a new run. Address and model are fixed now, whatever the environment says later."""
    config = settings.preset(preset)
    live: dict[str, Any] = {}
    if mode == "live":
        own = ApiConfig().model if config.api.model == "answer-key" else config.api.model
        live = {"api.base_url": endpoint(ApiConfig()), "api.model": os.environ.get("LIONKIT_MODEL", "") or own}
    given = {name: new for name, new in settings.located(changes).items() if (name, new) != ("api.base_url", None)}
    config = settings.apply(config, {"mode": mode, **live, **given})
    if mode == "offline" and config.api.base_url != SANDBOX_URL:
        asked = f"{config.api.model} at {config.api.base_url or OPENAI_URL}"
        remedy = "set OPENAI_API_KEY or OPENAI_BASE_URL, or LIONKIT_MODE=live to plan first"
        raise ConfigError(f"these settings ask {asked}, not offline: {remedy}")
    return config
