"""What readers say of a run's instructions: hard, easy or to be dropped, tags and notes, with who and when.

All marks stand in `marks.jsonl` in the run's folder, the latest of an instruction counts, and none is ever lost. The
next generation honours them where the setting `use_marks` says so. A tag is a saved selection: a list to export, or to
begin another run from.
"""

import getpass
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from pydantic.dataclasses import dataclass

from lionkit.errors import LionkitError
from lionkit.files import disk_error
from lionkit.pools import Split
from lionkit.records import STRICT, Instruction, read_jsonl, write_jsonl
from lionkit.run.folder import Run
from lionkit.run.reading import last_cache_pool


@dataclass(frozen=True, config=STRICT)
class Mark:
    """What somebody said of one instruction."""

    instruction_id: str
    label: Literal["", "hard", "easy", "drop"] = ""
    """In place of what the gap says; `drop`: nothing is made of it."""
    tags: str = ""
    """Words with spaces between."""
    note: str = ""
    by: str = ""
    at: str = ""
    """UTC, as 2026-11-29T12:00:00Z."""

    @property
    def said(self) -> bool:
        """Whether it says anything: an empty mark takes an earlier one back."""
        return bool(self.label or self.tags or self.note)


def read(run: Run) -> dict[str, Mark]:
    """The latest mark of each instruction that has one."""
    return _latest(_all(run))


def snapshot(run: Run, folder: Path) -> dict[str, Mark]:
    """The marks as they were when a stage was begun, kept in its folder: cut short, it goes on with the same ones, and
    asks for nothing twice."""
    kept = folder / "marks.jsonl"
    if not kept.is_file():
        write_jsonl(kept, read(run).values())
    return _latest(read_jsonl(kept, Mark))


def _all(run: Run) -> list[Mark]:
    path = run.path / "marks.jsonl"
    return read_jsonl(path, Mark) if path.is_file() else []


def _latest(marks: Iterable[Mark]) -> dict[str, Mark]:
    latest = {mark.instruction_id: mark for mark in marks}
    return {id: mark for id, mark in latest.items() if mark.said}


def add(run: Run, ids: Iterable[str], *, label: str | None = None, tags: str | None = None, note: str | None = None,
        add_tag: str = "") -> None:  # fmt: skip
    """Mark instructions of the cache pool by their ids (one may stand alone); what is None stays as it was. Raises
    LionkitError for a label that there is not, an id that is of no instruction, and what is no text."""
    if label not in (None, "", "hard", "easy", "drop"):
        raise LionkitError(f"a mark's label is hard, easy, drop or empty, not {label!r}")
    for name, text in {"tags": tags, "note": note, "add_tag": add_tag}.items():
        if not isinstance(text, str | None):
            raise LionkitError(f"a mark's {name} is a text, not {text!r:.80}")
    ids = [ids] if isinstance(ids, str) else [*map(str, ids)]
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    said = {"label": label, "tags": tags, "note": note, "by": _user(), "at": at}
    given: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    path = run.path / "marks.jsonl"
    try:
        with FileLock(run.path / ".marks.lock"):
            before = _all(run)
            known = {mark.instruction_id for mark in before}
            known |= set() if known.issuperset(ids) else {item.id for item in last_cache_pool(run)}
            if unknown := [id for id in ids if id not in known]:
                problem = f"{run.name} has no instruction {unknown[0]!r:.80} ({len(unknown)} of {len(ids)} ids)"
                raise LionkitError(f"{problem}: give ids of its cache pool, as explorers and exports show them")
            now = _latest(before)
            new = [replace(now.get(id, Mark(id)), **given) for id in ids]
            write_jsonl(path, [*before, *(_with_tag(mark, add_tag) for mark in new)])
    except OSError as error:
        raise disk_error(error, path) from None


def _with_tag(mark: Mark, tag: str) -> Mark:
    own = mark.tags.split()
    return replace(mark, tags=" ".join([*own, *(word for word in tag.split() if word not in own)]))


def _user() -> str:
    try:
        return os.environ.get("LIONKIT_USER", "") or getpass.getuser()
    except (OSError, KeyError):  # a container without a user of this number
        return "unknown"


def tagged(split: Split, marked: Mapping[str, Mark], tag: str) -> dict[str, list[Instruction]]:
    """All of a split that carries the tag, under the tag as a file's name that stays in its folder. LionkitError where
    nothing does, with the tags that there are."""
    words = {id: mark.tags.split() for id, mark in marked.items()}
    found = [item for side in split for item in side if tag in words.get(item.id, ())]
    if not found and (dropped := sum(tag in own for own in words.values())):
        raise LionkitError(f"all {dropped} instructions with the tag {tag!r} are marked drop, or not of this iteration")
    if not found:
        known = ", ".join(sorted({word for own in words.values() for word in own})) or "none yet"
        raise LionkitError(f"no instruction carries the tag {tag!r}: tags are {known}")
    return {re.sub(r"[^\w-]", "_", tag)[:50]: found}


def labelled(items: Iterable[Instruction], marked: Mapping[str, Mark]) -> int:
    """How many of these instructions a mark makes hard or easy, or drops."""
    return sum(bool(marked[item.id].label) for item in items if item.id in marked)


def honoured(split: Split, marked: Mapping[str, Mark]) -> Split:
    """The split as the marks say: moved to the side they name, and left out where they say `drop`. What was together
    stays in its order."""
    sides: dict[str, list[Instruction]] = {name: [] for name in split._fields}
    for name, items in split._asdict().items():
        for item in items:
            said = marked[item.id].label if item.id in marked else ""
            if said != "drop":
                sides[said or name].append(item)
    return Split(**sides)
