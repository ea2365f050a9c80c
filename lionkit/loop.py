"""The method's loop: imitation, discrimination, generation, and the held-out score, one stage a function.

Every function takes the run and the roles, does its stage once (`Run.stage`) and returns records. Iteration 0
is the student before any training: it is only evaluated. Paper sections 3.1 to 3.3; what a role does and how
it is prompted is in `teacher`, `referee`, `generator` and `student`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lionkit import evaluate, files, generator, plan, pools, records, referee, teacher
from lionkit.client import ChatClient
from lionkit.config import SANDBOX_URL, Config, to_dict
from lionkit.errors import StageStopped, StudentError
from lionkit.records import Candidate, Instruction, Judged, Response, Verdict
from lionkit.run import Run, digest, shown


@dataclass
class Roles:
    """Who plays: one client for the teacher's three roles, and a student (anything with load, train, respond).

    Where the student is `served`, its answers come from there.
    """

    client: ChatClient
    student: Any
    served: ChatClient | None = None
    _loaded: tuple[Path | None, Any] | None = None

    def load(self, config: Config, adapter: Path | None, *, fresh: bool = False) -> Any:
        """The student with this adapter. The last one is kept, but not a `fresh` one: training changes it in place."""
        if fresh or self._loaded is None or self._loaded[0] != adapter:
            self._loaded = None  # frees the old weights before the new ones are loaded
            options = {"quantize": config.student.quantize, "template": config.student.template, "seed": config.seed}
            student = self.student.load(config.student.model, adapter=adapter, **options)
            if fresh:
                return student
            self._loaded = (adapter, student)
        return self._loaded[1]

    def trained(self, student: Any, adapter: Path) -> None:
        """Keep a student that was trained to this adapter."""
        self._loaded = (adapter, student)


class _OwnStudent:
    """The `student` package, imported at its first use: torch takes seconds that a finished stage need not wait for."""

    def __getattr__(self, name: str) -> Any:
        from lionkit import student

        return getattr(student, name)


def open_roles(run: Run) -> Roles:
    """The roles that a run's settings name. Loads nothing yet."""
    app = None
    if run.config.api.base_url == SANDBOX_URL:
        from lionkit.sandbox import answer_key
        from lionkit.sandbox import app as sandbox_app

        app = sandbox_app.create_app(partial(answer_key.reply, bias=run.config.referee_bias))
    replay = run.config.mode == "replay"
    client = ChatClient(run.config.api, run.store, app=app, replay=replay)
    if not run.config.student_url:
        return Roles(client, _OwnStudent())
    from lionkit.student import served

    server = served.connect(run.config, run.path / "student.sqlite", replay=replay)
    return Roles(client, _OwnStudent(), server)


class Pools(NamedTuple):
    """What an iteration starts from."""

    train: list[Instruction]
    cache: list[Instruction]


def prepare(run: Run) -> Pools:
    """The first pools: seeds from the configured file or from the sandbox's families, some held out."""
    config = run.config
    total = config.train_size + config.heldout_size

    def make(folder: Path) -> dict[str, Any]:
        if config.seed_file:
            found = pools.read_instructions(config.seed_file)
        else:
            from lionkit.sandbox.families import seeds

            found = seeds(total, config.seed)
        unique, duplicates = pools.deduplicate(found)
        rest, held_out = pools.hold_out(unique, config.heldout_size, config.seed)
        train = pools.hold_out(rest, config.train_size, config.seed)[1] if len(rest) > config.train_size else rest
        for name, items in (("train", train), ("cache", train), ("heldout", held_out)):
            records.write_jsonl(folder / f"{name}.jsonl", items)
        return {"read": len(found), "duplicates": duplicates, "train": len(train), "heldout": len(held_out)}

    seed_file = Path(config.seed_file)
    inputs = {"seed_file": seed_file if seed_file.is_file() else config.seed_file or "families",
              "sizes": [config.train_size, config.heldout_size, config.seed]}  # fmt: skip
    return _read_pools(run.stage(0, "pools", inputs, make))


def pools_for(run: Run, iteration: int) -> Pools:
    """The pools that an iteration starts from: the first ones, or what the generation before it left."""
    return prepare(run) if iteration == 1 else _read_pools(run.require(iteration - 1, "generation"))


def _read_pools(folder: Path) -> Pools:
    return Pools(*(records.read_jsonl(folder / f"{name}.jsonl", Instruction) for name in ("train", "cache")))


def held_out(run: Run) -> list[Instruction]:
    """The instructions set apart for the score."""
    prepare(run)
    return records.read_jsonl(run.folder(0, "pools") / "heldout.jsonl", Instruction)


def adapter_after(run: Run, iteration: int) -> Path | None:
    """The student's adapter after an iteration; None for iteration 0, the student as it came."""
    return None if iteration == 0 else run.require(iteration, "imitation") / "adapter"


def imitate(run: Run, roles: Roles, iteration: int, *, watch: Any = None) -> Path:
    """Fine-tune the student on the teacher's answers to the train pool (section 3.1). Returns the adapter's folder.

    `watch(losses, validation)` is called every few seconds of training, such as `plots.live_loss()`.
    """
    config, train_pool = run.config, pools_for(run, iteration).train
    before = adapter_after(run, iteration - 1)

    def make(folder: Path) -> dict[str, Any]:
        responses = _ask_teacher(run, roles, train_pool, f"teacher, train pool {iteration}")
        records.write_jsonl(folder / "teacher.jsonl", responses)
        answers = {r.instruction_id: r.text for r in responses if r.status == "ok"}
        usable = [i for i in train_pool if i.id in answers]
        if not usable:
            raise StageStopped(
                f"none of the teacher's {len(responses)} answers can be trained on, the first because: "
                f"{responses[0].reason or responses[0].status}; all are in {shown(folder / 'teacher.jsonl')}"
            )
        if config.student.validation_share and len(usable) < 2:
            raise StageStopped("one answer cannot be trained on and kept for validation: leave validation_share out")
        planned = _announce(config) if isinstance(roles.student, _OwnStudent) else None
        student = roles.load(config, before, fresh=True)
        options = {name: getattr(config.student, name) for name in (
            "rank", "alpha", "dropout", "learning_rate", "epochs", "batch_size", "accumulation", "max_length",
            "gradient_checkpointing", "patience")}  # fmt: skip
        seed = config.seed + iteration
        apart = pools.hold_out(usable, math.ceil((config.student.validation_share or 0) * (len(usable) - 1)), seed)
        pairs, validation = ([(i.text, answers[i.id]) for i in items] for items in apart)
        report = roles.student.train(
            student, pairs, out=folder / "adapter", seed=seed, watch=watch, validation=validation, **options
        )
        roles.trained(student, folder / "adapter")
        run.note(iteration, "imitation", peak_memory=report.peak_memory, planned_memory=planned)
        files.write_text(folder / "losses.json", json.dumps(report.losses))
        return {"answers": len(responses), "usable": len(usable), **report.counts()}

    inputs = {"train_pool": train_pool, "student": to_dict(config.student), "teacher": _teacher_key(config),
              "seed": config.seed, "adapter": _adapter_digest(before)}  # fmt: skip
    return run.stage(iteration, "imitation", inputs, make) / "adapter"


def _announce(config: Config) -> int | None:
    """Print what memory the training will take, before a weight is loaded; returns it as a report's peak counts it."""
    place = plan.here()
    room = plan.room(place)
    try:
        parts = plan.memory(config.student.model, config, device=place).set_index("part")["bytes"]
    except StudentError as error:  # what cannot be planned may train all the same
        print(error)
        return None
    total = int(parts["total"])
    print(f"Training takes about {total / 2**30:.1f} GiB of the {room / 2**30:.1f} GiB here ({place}).")
    if total > room:
        most = plan.largest_batch(config.student.model, config, room, device=place)
        print(f"That is too much: student.batch_size {most}" if most else "No batch fits: lower student.max_length")
    return total - int(parts.get("CUDA context", 0))


def discriminate(run: Run, roles: Roles, iteration: int) -> Judged:
    """Let the referee compare teacher and student on the whole cache pool, in both orders (section 3.2)."""
    config, cache = run.config, pools_for(run, max(iteration, 1)).cache
    adapter = adapter_after(run, iteration)

    def make(folder: Path) -> dict[str, Any]:
        *_, verdicts = _compare(run, roles, cache, adapter, iteration, folder, model=config.referee_model)
        return _counts(cache, verdicts, config.tau)

    inputs = {"cache_pool": cache, "referee": _referee_key(config, config.referee_model),
              "adapter": _adapter_digest(adapter), "teacher": _teacher_key(config)}  # fmt: skip
    return read_discrimination(run, iteration, run.stage(iteration, "discrimination", inputs, make))


def read_discrimination(run: Run, iteration: int, folder: Path | None = None) -> Judged:
    """What `discriminate` found, about every instruction of the cache pool; StageMissing where it was not run."""
    folder = folder or run.require(iteration, "discrimination")
    return Judged(
        pools_for(run, max(iteration, 1)).cache,
        records.read_jsonl(folder / "teacher.jsonl", Response),
        records.read_jsonl(folder / "student.jsonl", Response),
        records.read_jsonl(folder / "verdicts.jsonl", Verdict),
    )


def generate(run: Run, roles: Roles, iteration: int) -> tuple[Pools, list[Candidate]]:
    """New hard and easy instructions, 1:1, replace the train pool and are added to the cache pool (section 3.3)."""
    config = run.config
    found = read_discrimination(run, iteration)

    def make(folder: Path) -> dict[str, Any]:
        split = pools.split_by_gap(found.instructions, found.verdicts, config.tau)
        try:
            made = generator.generate(
                roles.client, split, found.instructions, hard_size=config.hard_size, easy_size=config.easy_size,
                novelty=config.novelty, seed=config.seed, iteration=iteration, model=config.generator_model or None,
                temperature=config.generator_temperature, max_tokens=config.generator_max_tokens, avoid=held_out(run),
            )  # fmt: skip
        except generator.GenerationStopped as stopped:
            records.write_jsonl(folder / "candidates.jsonl", stopped.generation.candidates)
            raise
        records.write_jsonl(folder / "candidates.jsonl", made.candidates)
        records.write_jsonl(folder / "train.jsonl", made.instructions)
        records.write_jsonl(folder / "cache.jsonl", pools.grow(found.instructions, made.instructions))
        kinds = [item.source for item in made.instructions]
        return {"candidates": len(made.candidates), "new_hard": kinds.count("hard"), "new_easy": kinds.count("easy")}

    asked = [config.generator_model or config.api.model, config.generator_temperature, config.generator_max_tokens]
    inputs = {"verdicts": found.verdicts, "cache_pool": found.instructions, "tau": config.tau, "generator": asked,
              "novelty": config.novelty, "sizes": [config.hard_size, config.easy_size, config.seed]}  # fmt: skip
    folder = run.stage(iteration, "generation", inputs, make)
    return _read_pools(folder), records.read_jsonl(folder / "candidates.jsonl", Candidate)


def score(run: Run, roles: Roles, iteration: int) -> dict[str, Any]:
    """The held-out score after an iteration: relative score under the judge, and exact matches (section 4)."""
    config, items = run.config, held_out(run)
    adapter = adapter_after(run, iteration)

    def make(folder: Path) -> dict[str, Any]:
        *answers, verdicts = _compare(run, roles, items, adapter, iteration, folder, model=config.judge_model)
        total = evaluate.relative_score(verdicts)
        relative = total.score if total.scored else None  # JSON has no NaN
        exact = evaluate.exact_match(*answers)
        return {"relative_score": relative, "scored": total.scored, "unscored": total.unscored,
                "exact_match": None if exact != exact else exact}  # fmt: skip

    inputs = {"heldout": items, "judge": _referee_key(config, config.judge_model), "adapter": _adapter_digest(adapter),
              "teacher": _teacher_key(config)}  # fmt: skip
    run.stage(iteration, "evaluation", inputs, make)
    return run.result(iteration, "evaluation")


def _compare(
    run: Run,
    roles: Roles,
    items: Sequence[Instruction],
    adapter: Path | None,
    iteration: int,
    folder: Path,
    *,
    model: str,
) -> tuple[list[Response], list[Response], list[Verdict]]:
    """Both answer, the referee judges; the three files are written as soon as each is whole."""
    config = run.config
    by_teacher = _ask_teacher(run, roles, items, "teacher")
    records.write_jsonl(folder / "teacher.jsonl", by_teacher)
    by_student = _ask_student(config, roles, items, adapter, iteration)
    records.write_jsonl(folder / "student.jsonl", by_student)
    verdicts = referee.judge(
        roles.client, items, by_teacher, by_student, iteration=iteration, model=model or None,
        temperature=config.referee_temperature, max_tokens=config.referee_max_tokens, structured=_structured(config),
    )  # fmt: skip
    records.write_jsonl(folder / "verdicts.jsonl", verdicts)
    return by_teacher, by_student, verdicts


def _ask_teacher(run: Run, roles: Roles, items: Sequence[Instruction], label: str) -> list[Response]:
    config = run.config
    return teacher.respond(roles.client, items, temperature=config.teacher_temperature,
                           max_tokens=config.teacher_max_tokens, label=label)  # fmt: skip


def _ask_student(
    config: Config, roles: Roles, items: Sequence[Instruction], adapter: Path | None, iteration: int
) -> list[Response]:
    limit, temperature = config.student.max_new_tokens, config.student.temperature
    if roles.served:
        from lionkit.student import served

        return served.respond(
            roles.served, items, model=config.student_name.replace("{}", f"{iteration:02d}"), temperature=temperature,
            weights=digest([config.student.model, _adapter_digest(adapter)]), max_tokens=limit,
        )  # fmt: skip
    answers = roles.student.respond(
        roles.load(config, adapter), [i.text for i in items], max_new_tokens=limit, temperature=temperature,
        batch_size=config.student.response_batch, seed=config.seed,
    )  # fmt: skip
    note = f"cut at {limit} tokens"  # still judged: running on is the student's own mistake
    return [Response(i.id, a.text, reason=note if a.cut else "", model=config.student.model)
            for i, a in zip(items, answers, strict=True)]  # fmt: skip


def _counts(items: Sequence[Instruction], verdicts: Sequence[Verdict], tau: float) -> dict[str, int]:
    split = pools.split_by_gap(items, verdicts, tau)
    return {"hard": len(split.hard), "easy": len(split.easy), "undecided": len(split.undecided)}


def _teacher_key(config: Config) -> list[Any]:
    return [config.api.base_url, config.api.model, config.teacher_temperature, config.teacher_max_tokens]


def _referee_key(config: Config, model: str) -> list[Any]:
    return [config.api.base_url, model or config.api.model, config.referee_temperature, config.referee_max_tokens,
            config.referee_bias, *(["structured"] if _structured(config) else [])]  # fmt: skip


def _structured(config: Config) -> bool:
    return config.structured == "on" or (config.structured == "auto" and config.api.base_url != SANDBOX_URL)


def _adapter_digest(adapter: Path | None) -> Any:
    return adapter / "adapter_model.safetensors" if adapter else "none"


def run_all(run: Run, roles: Roles) -> dict[str, Any]:
    """The whole method, from wherever the run stands; returns the summary."""
    score(run, roles, 0)
    discriminate(run, roles, 0)
    for iteration in range(1, run.config.iterations + 1):
        imitate(run, roles, iteration)
        score(run, roles, iteration)
        discriminate(run, roles, iteration)
        generate(run, roles, iteration)
    return summarise(run)


def summarise(run: Run) -> dict[str, Any]:
    """A row an iteration, as far as the run has come; 0 is before training, scores are on held-out instructions."""
    rows = []
    for iteration in range(run.config.iterations + 1):
        if not (run.done(iteration, "evaluation") and run.done(iteration, "discrimination")):
            break
        scored, counts = run.result(iteration, "evaluation"), run.result(iteration, "discrimination")
        train_pool = len(pools_for(run, iteration).train) if iteration else 0
        rows.append({"iteration": iteration, "train_pool": train_pool, "cache_pool": sum(counts.values()), **counts,
                     "relative_score": scored["relative_score"], "exact_match": scored["exact_match"]})  # fmt: skip
    return {"iterations": rows, "seconds": run.seconds}


def write_summary(run: Run) -> Path:
    """Write `summary.json` into the run's folder."""
    files.write_text(run.path / "summary.json", json.dumps(summarise(run), indent=1) + "\n")
    return run.path / "summary.json"
