"""Who plays: the endpoint in its three roles, and the student, in this process or behind an address of its own."""

import gc
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from lionkit import plan
from lionkit.client import ChatClient
from lionkit.config import SANDBOX_URL
from lionkit.errors import StudentError
from lionkit.records import Instruction, Response
from lionkit.run import Run, Stage, digest
from lionkit.run.stages import ADAPTER, Place

TRAINING = (
    "rank alpha dropout learning_rate epochs max_length patience device_rows gradient_checkpointing shard pack".split()
)


@dataclass
class Roles:
    """One client for the teacher's three roles, and a student (anything with load, train, respond).

    Where the student is `served`, its answers come from there.
    """

    client: ChatClient
    student: Any
    served: ChatClient | None = None
    _loaded: tuple[Path | None, Any] | None = None
    _checked: list[Any] = field(default_factory=list)

    def load(self, settings: Any, adapter: Path | None) -> Any:
        """The student with this adapter. The last one is kept."""
        if self._loaded is None or self._loaded[0] != adapter:
            self._loaded = None  # frees the old weights before the new ones are loaded
            own = settings.student
            options = {"quantize": own.quantize, "template": own.template}
            self._loaded = (adapter, self.student.load(own.model, adapter=adapter, **options))
        return self._loaded[1]

    def check(self, own: Any) -> None:
        """StudentError where the student of these settings cannot be one; called before anybody is paid."""
        if isinstance(self.student, OwnStudent) and own not in self._checked:
            self.student.check(own)
            self._checked.append(own)

    def train(self, stage: Stage, before: Path | None, pairs: Any, validation: Any, watch: Any) -> tuple[Any, Any]:
        """Train the student that has the adapter `before`; its report, and the bytes that were planned for it."""
        settings, out = stage.settings, stage.folder / "adapter"
        self._loaded = None  # before memory is planned
        seed = settings.seed + stage.place.iteration
        planned = _announce(settings.student, seed, pairs) if isinstance(self.student, OwnStudent) else None
        student = self.load(settings, before)
        self._loaded = None  # training changes it in place: cut short, it is neither the old one nor the new
        options = {name: getattr(settings.student, name) for name in TRAINING}
        options |= {"batch_size": settings.student.step_rows, "seed": seed}
        if stage.place.iteration > 1 and settings.student.later_rate:
            options["learning_rate"] = settings.student.later_rate
        report = self.student.train(student, pairs, out=out, validation=validation, watch=watch, **options)
        self._loaded = (out, student)
        return report, planned

    def answers(self, stage: Stage, items: Sequence[Instruction], adapter: Path | None) -> list[Response]:
        """The student's answers, in order. Those of a stage that was cut short are kept, and not asked for again."""
        settings, own, iteration = stage.settings, stage.settings.student, stage.place.iteration
        weights = stage.inputs.get(f"{Place(iteration, 'imitation').path}/{ADAPTER}", "none")
        if self.served:
            from lionkit.student import served

            name = settings.student_name.replace("{}", f"{iteration:02d}")
            limits = {"max_tokens": own.max_new_tokens, "temperature": own.temperature}
            return served.respond(self.served, items, model=name, weights=digest([own.model, weights]), **limits)
        made = [own.model, own.quantize, own.template, own.max_new_tokens, own.temperature, settings.seed]
        kept = stage.folder / f".student-{digest([made, weights, [i.text for i in items]])}.jsonl"
        found = _kept(kept)
        left, limit = [n for n in range(len(items)) if n not in found], own.max_new_tokens

        def keep(place: int, answer: Any) -> None:
            with open(kept, "ab") as file:
                file.write(b"\n" + json.dumps([left[place], answer.text, answer.cut]).encode())

        if left:
            how = {"temperature": own.temperature, "batch_size": own.response_batch, "seed": settings.seed}
            how |= {"max_new_tokens": limit, "keep": keep}
            answers = self.student.respond(self.load(settings, adapter), [items[n].text for n in left], **how)
            found |= {n: (answer.text, answer.cut) for n, answer in zip(left, answers, strict=True)}
        reasons = {True: f"cut at {limit} tokens", False: ""}  # still judged: running on is the student's own mistake
        rows = [(item.id, *found[n]) for n, item in enumerate(items)]
        return [Response(id, text, "ok", reasons[cut], own.model) for id, text, cut in rows]


def _kept(path: Path) -> dict[int, tuple[str, bool]]:
    """The answers of a stage that was cut short, by row: a file that each is added to as soon as it is there."""
    found: dict[int, tuple[str, bool]] = {}
    for line in path.read_bytes().split(b"\n") if path.is_file() else []:
        with suppress(ValueError):  # cut short by a kill
            row, text, cut = json.loads(line)
            found[row] = (text, cut)
    return found


class OwnStudent:
    """The `student` package, imported at its first use: torch takes seconds that a finished stage need not wait for."""

    def __getattr__(self, name: str) -> Any:
        from lionkit import student

        return getattr(student, name)


def open_roles(run: Run) -> Roles:
    """The roles that a run's settings name. Loads nothing yet."""
    server, config = None, run.config
    if config.api.base_url == SANDBOX_URL:
        from lionkit.sandbox import answer_key, app

        server = app.create_app(partial(answer_key.reply, bias=config.referee_bias))
    replay = config.mode == "replay"
    client = ChatClient(config.api, run.store, app=server, replay=replay)
    if not config.student_url:
        return Roles(client, OwnStudent())
    from lionkit.student import served

    return Roles(client, OwnStudent(), served.connect(config, run.path / "student.sqlite", replay=replay))


def _announce(own: Any, seed: int, pairs: Any) -> int | None:
    """Print what memory training on pairs will take, before a weight is loaded; returns it as a report's peak counts
    it."""
    place, settings = plan.here(), SimpleNamespace(student=own, seed=seed)
    room = plan.room(place)
    gc.collect()
    with suppress(AttributeError):
        psutil.heap_trim()
    held = psutil.Process().memory_info().rss
    try:
        table = plan.memory(own.model, settings, device=place, pairs=pairs, held=held)
        parts = table.set_index("part")["bytes"]
    except StudentError as error:  # what cannot be planned may train all the same
        print(error)
        return None
    total = int(parts["total"])
    print(f"Training takes about {total / 2**30:.1f} GiB of the {room / 2**30:.1f} GiB here ({place}).")
    if total > room:
        most = plan.largest_batch(own.model, settings, room, device=place)
        print(f"That is too much: student.device_rows {most}" if most else "No row fits: lower student.max_length")
    return total - int(parts.get("CUDA context", 0))
