"""Which settings matter to which stage, the presets, and the file that keeps a run's settings.

*Method* settings are what a result depends on: each stage is listed in `READS` with those it reads, and is handed no
others. *Execution* settings are all the rest: how the work is carried out (pace, prices, rows on the device, ...).
They may change whenever a run is opened. Section numbers refer to arXiv 2305.12870.
"""

import dataclasses
import difflib
import json
import os
import shlex
import tomllib
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import tomli_w

from lionkit.config import ApiConfig, Config, Mode, StudentConfig, to_dict
from lionkit.errors import ConfigError, DataError
from lionkit.files import read_text, write_text
from lionkit.pools.rows import is_hub_name

_TEACHER = ("api.base_url", "api.model", "teacher_temperature", "teacher_max_tokens")
_STUDENT = ("seed", "student.model", "student.quantize", "student.template")
_TRAINING = "rank alpha dropout learning_rate later_rate epochs step_rows max_length validation_share patience".split()
_ANSWERS = ("student.max_new_tokens", "student.temperature", "student_url", "student_name")
_REFEREE = ("referee_temperature", "referee_max_tokens", "referee_bias", "structured")
_GENERATOR = tuple(f"generator_{name}" for name in ("model", "temperature", "max_tokens", "draw"))
_NEW = ("tau", "novelty", "hard_size", "easy_size", "seeds_by", "replay_share", "use_marks")
READS: dict[str, tuple[str, ...]] = {
    "pools": ("seed", "seed_file", "train_size", "heldout_size"),
    "imitation": (*_TEACHER, *_STUDENT, *(f"student.{name}" for name in _TRAINING)),
    "evaluation": (*_TEACHER, *_STUDENT, *_ANSWERS, *_REFEREE, "judge_model"),
    "discrimination": (*_TEACHER, *_STUDENT, *_ANSWERS, *_REFEREE, "referee_model"),
    "generation": ("seed", "api.base_url", "api.model", *_GENERATOR, *_NEW),
}
"""The method settings that each stage reads, by their full names."""
METHOD = frozenset(name for names in READS.values() for name in names)
FIXED = ("mode", "preset")
"""Said when a run begins, and never changed."""
PARTS = {"api": ApiConfig, "student": StudentConfig}
KINDS = {field.name: field.type for field in dataclasses.fields(Config) if field.name not in PARTS}
KINDS |= {f"{part}.{field.name}": field.type for part, kind in PARTS.items() for field in dataclasses.fields(kind)}
NAMES = list(KINDS)
"""Every setting by its full name."""


def value(config: Config, name: str) -> Any:
    """The value of a setting by its full name, `api.concurrency` for example."""
    return attrgetter(name)(config)


class Handed(SimpleNamespace):
    """The settings that a stage was handed; asking for another one is a mistake in the stage."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the setting {name} was not handed to this stage: list it in run.settings.READS")


def handed(config: Config, stage: str) -> Handed:
    """The method settings that the stage declares, and all execution settings, in the shape of `Config`."""
    parts: dict[str, dict[str, Any]] = {"": {}, **{part: {} for part in PARTS}}
    for name in NAMES:
        if name in READS[stage] or name not in METHOD:
            part, _, own = name.rpartition(".")
            parts[part][own] = value(config, name)
    return Handed(**parts.pop(""), **{part: Handed(**own) for part, own in parts.items()})


def flatten(changes: Mapping[str, Any]) -> dict[str, Any]:
    """`{"api": {"concurrency": 8}, "tau": 2}` as `{"api.concurrency": 8, "tau": 2}`; ConfigError on unknown names."""
    flat: dict[str, Any] = {}
    for name, given in changes.items():
        if name in PARTS:
            if not isinstance(given, Mapping):
                example = f'{name}={{"{dataclasses.fields(PARTS[name])[1].name}": ...}}'
                raise ConfigError(f"{name} = {given!r:.80}: give a dictionary of settings, {example}")
            flat |= {f"{name}.{inner}": inner_value for inner, inner_value in given.items()}
        else:
            flat[name] = given
    for name in flat:
        if name not in NAMES:
            near = [n for n in NAMES if n.endswith(f".{name}")] or difflib.get_close_matches(name, NAMES, 1, 0.8)
            known = ", ".join(n for n in NAMES if n.startswith(name.rpartition(".")[0]))
            remedy = f"did you mean {near[0]}?" if near else f"known are {known}"
            raise ConfigError(f"{name} is not a setting: {remedy}")
    return {name: _plain(name, given) for name, given in flat.items()}


def _plain(name: str, given: Any) -> Any:
    """A value as it is kept: a path as text, an address without a slash at its end."""
    if isinstance(given, os.PathLike):
        given = os.fspath(given)
    if name in ("api.base_url", "student_url") and isinstance(given, str):
        given = given.strip().rstrip("/")
    return given


def apply(config: Config, changes: Mapping[str, Any]) -> Config:
    """The configuration with these settings (full names) changed. ConfigError on a value that cannot be."""
    new: dict[str, Any] = {name: given for name, given in changes.items() if "." not in name}
    for part in PARTS:
        own = {name.partition(".")[2]: given for name, given in changes.items() if name.startswith(f"{part}.")}
        try:
            new[part] = dataclasses.replace(getattr(config, part), **own)
        except ConfigError as error:
            raise ConfigError(f"{part}.{error}") from None
    return dataclasses.replace(config, **new)


def parse(arguments: list[str]) -> dict[str, Any]:
    """`["tau=2", "api.model=4.1"]` as `{"tau": 2, "api.model": "4.1"}`: values as TOML writes them, else as text.

    `none` is no value at all, but of a setting that has it among its words (`seeds_by=none`)."""
    found: dict[str, Any] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals:
            raise ConfigError(f"{argument!r}: give a setting and its value as name=value, and the run as --run NAME")
        name = name.strip()
        try:
            found[name] = tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            found[name] = None if text == "none" and text not in get_args(KINDS.get(name)) else text
        if name in NAMES and isinstance(value(Config(), name), str) and type(found[name]) not in (str, type(None)):
            found[name] = text.strip()  # a model called 4.1
    return found


def written(name: str, given: Any) -> str:
    """A setting as `parse` reads it back, quoted for a shell."""
    text = f"{name}={'none' if given is None else given}"
    return shlex.quote(text if parse([text]) == {name: given} else f"{name}={json.dumps(given, ensure_ascii=False)}")


PRESETS: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("presets.toml").read_text(encoding="utf-8"))
"""What each preset sets (`presets.toml`); all else is as in `Config`."""


def located(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes as `flatten` has them, with the whole path of a seed file, so that it is found from anywhere.
    ConfigError where there is no such file."""
    name = changes.get("seed_file")
    if not name or not isinstance(name, str | os.PathLike):  # anything else is refused when it is applied
        return flatten(changes)
    path = Path(name := os.fspath(name)).expanduser()
    if not path.exists() and not is_hub_name(name):
        raise ConfigError(f"seed_file: there is no {path}: give a file, or a hub data set as owner/name")
    return flatten({**changes, "seed_file": str(path.resolve()) if path.exists() else name})


def preset(name: str) -> Config:
    """A preset by name; ConfigError names the known ones."""
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r} is unknown: choose one of {', '.join(PRESETS)}")
    return apply(Config(preset=name), flatten(PRESETS[name]))


def choose_mode(environ: Mapping[str, str] = os.environ) -> tuple[Mode, str]:
    """The mode to run in and the reason in words: LIONKIT_MODE, else a key or URL means live, else offline."""
    asked = environ.get("LIONKIT_MODE", "").strip()
    if asked:
        if asked not in get_args(Mode):
            raise ConfigError(f"LIONKIT_MODE={asked}: unknown mode, choose offline, live or replay")
        return asked, "LIONKIT_MODE says so"  # type: ignore[return-value]
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        if environ.get(name, "").strip():
            return "live", f"{name} is set"
    return "offline", "no OPENAI_API_KEY and no OPENAI_BASE_URL in the environment"


def write_config(path: str | Path, config: Config) -> None:
    """Write the configuration as TOML, atomically."""
    write_text(path, tomli_w.dumps(to_dict(config)))


def read_config(path: str | Path) -> Config:
    """Read what `write_config` wrote, or a hand-written file; unknown names and bad values are named."""
    text = read_text(path)
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError alone: a whole number of over 4,300 digits
        said = "nested too deeply" if isinstance(error, RecursionError) else error
        raise DataError(path, None, f"not readable as TOML: {said}") from None
    try:
        return apply(Config(), flatten(_renamed(values)))
    except ConfigError as error:
        raise DataError(path, None, str(error)) from None


def _renamed(values: dict[str, Any]) -> dict[str, Any]:
    """Settings of runs that were begun before rows of a step and rows on the device were told apart."""
    student = values.get("student")
    if not isinstance(student, dict) or not {"batch_size", "accumulation"} & student.keys():
        return values
    rows, times = student.pop("batch_size", 8), student.pop("accumulation", 1)
    return values | {"student": student | {"step_rows": rows * times, "device_rows": rows}}
