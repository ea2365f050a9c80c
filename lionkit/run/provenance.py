"""Where a run's numbers come from: digests of what went in, and the machine they were made on."""

import hashlib
import json
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from lionkit import __version__
from lionkit.errors import ConfigError

PROJECT = Path(__file__).resolve().parents[2]
_PACKAGES = ("torch", "transformers", "bitsandbytes", "peft", "accelerate", "openai", "pandas", "rapidfuzz")


def runs_root() -> Path:
    """Folder of all runs: LIONKIT_RUNS, else `runs/` of the repository; where lionkit is installed without one, `runs/`
    in the folder that Python was started in, which is a lone notebook's own."""
    named = os.environ.get("LIONKIT_RUNS")
    if named:
        return Path(named).expanduser()
    return (PROJECT if (PROJECT / "notebooks/00_start_here.ipynb").is_file() else Path.cwd()) / "runs"


def run_path(name: str) -> Path:
    """The folder of a run by its name. ConfigError on what is no name."""
    if not re.fullmatch(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,99}", name):
        raise ConfigError(f"run name {name[:100]!r}: use letters, digits, '-', '_' and '.', at most 100 of them")
    return runs_root() / name


def shown(path: Path) -> str:
    """A path as it is printed: relative to the project where it lies in it, so that outputs are the same everywhere."""
    for base in (PROJECT, runs_root().parent):
        if path.is_relative_to(base):
            return str(path.relative_to(base))
    return str(path)


def digest(value: Any) -> str:
    """A short digest of plain values, or (for a Path) of a file's bytes."""
    if isinstance(value, Path):
        with open(value, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2s(digest_size=16)).hexdigest()
    text = json.dumps(value, sort_keys=True)
    return hashlib.blake2s(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def surroundings() -> dict[str, Any]:
    """Versions, processor and git revision."""
    versions = {"lionkit": __version__} | {package: metadata.version(package) for package in _PACKAGES}
    try:
        git = ["git", "-C", str(PROJECT), "rev-parse", "HEAD"]
        revision = subprocess.run(git, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        revision = ""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    return {"python": platform.python_version(), "machine": machine, "revision": revision, "versions": versions}
