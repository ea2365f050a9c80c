"""The method on one page: imitation, discrimination, generation, and the held-out score, one stage a function.

Every function takes the run and the roles, makes its stage once (`Run.make`) and returns records. A stage is handed the
settings that it declares in `run.settings.READS`. Iteration 0 is the student before any training. Paper sections 3.1
to 3.3; what a role does is in `teacher`, `referee`, `generator` and `student`.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lionkit import evaluate, files, generator, pools, records, referee, teacher
from lionkit.config import SANDBOX_URL
from lionkit.errors import StageOpen, StageStopped
from lionkit.records import Candidate, Instruction, Judged, Response
from lionkit.roles import Roles, open_roles
from lionkit.run import Run, Stage, digest, marks, reading, shown
from lionkit.run.compare import as_text, summarise, write_summary
from lionkit.run.reading import Pools, adapter_after, held_out, pools_for, read_discrimination, sides
from lionkit.run.remedies import completed

__all__ = ["Roles", "as_text", "open_roles", "summarise", "write_summary"]


def prepare(run: Run) -> Pools:
    """The first pools: seeds from the configured file or from the sandbox's families, some held out."""
    _first_pools(run)
    file = Path(run.config.seed_file)
    if file.is_file() and run.result(0, "pools").get("seed_file", digest(file)) != digest(file):
        print(f"{file} was changed since these pools were made; for pools from it now, begin another run.")
    return pools_for(run, 1)


def _first_pools(run: Run) -> None:
    def make(stage: Stage) -> dict[str, Any]:
        settings = stage.settings
        if settings.seed_file:
            found = pools.read_instructions(settings.seed_file)
        else:
            from lionkit.sandbox.families import seeds

            found = seeds(settings.train_size + settings.heldout_size, settings.seed)
        unique, duplicates = pools.deduplicate(found)
        rest, apart = pools.hold_out(unique, settings.heldout_size, settings.seed)
        train = pools.hold_out(rest, settings.train_size, settings.seed)[1] if len(rest) > settings.train_size else rest
        if len(train) < settings.train_size:
            held = f"{len(unique)} seeds: {len(apart)} held out"
            print(f"{held}, so {len(train)} to train on, not {settings.train_size}.")
        for name, items in (("train", train), ("cache", train), ("heldout", apart)):
            records.write_jsonl(stage.folder / f"{name}.jsonl", items)
        counts = {"read": len(found), "duplicates": duplicates, "train": len(train), "heldout": len(apart)}
        seed_file = Path(settings.seed_file)
        return counts | ({"seed_file": digest(seed_file)} if seed_file.is_file() else {})

    run.make(0, "pools", make)


def imitate(run: Run, roles: Roles, iteration: int, *, watch: Any = None) -> Path:
    """Fine-tune the student on the teacher's answers to the train pool (section 3.1). Returns the adapter's folder.

    `watch(losses, validation)` is called every few seconds of training, such as `plots.live_loss()`.
    """

    def make(stage: Stage) -> dict[str, Any]:
        roles.check(run.config.student)
        settings, items = stage.settings, reading.train_pool(run, iteration)
        responses = _ask_teacher(stage, roles, items, f"teacher, train pool {iteration}")
        counts = stage.whole(responses, {"answers": len(responses)})
        answers = _usable(stage, responses)
        usable = [item for item in items if item.id in answers]
        size = math.ceil((settings.student.validation_share or 0) * (len(usable) - 1))
        apart = pools.hold_out(usable, size, settings.seed + iteration)
        pairs, validation = ([(i.text, answers[i.id]) for i in some] for some in apart)
        report, planned = roles.train(stage, adapter_after(run, iteration - 1), pairs, validation, watch)
        run.note(iteration, "imitation", peak_memory=report.peak_memory, planned_memory=planned)
        files.write_text(stage.folder / "losses.json", json.dumps(report.losses))
        return {**counts, "usable": len(usable), **report.counts()}

    _first_pools(run)
    return run.make(iteration, "imitation", make) / "adapter"


def discriminate(run: Run, roles: Roles, iteration: int) -> Judged:
    """Let the referee compare teacher and student on the whole cache pool, in both orders (section 3.2).

    Where the endpoint failed on some, the stage stays open: that is printed, and what there is returned."""
    now: list[Judged] = []

    def make(stage: Stage) -> dict[str, Any]:
        now.append(_compare(run, stage, roles, reading.cache_pool(run, iteration), stage.settings.referee_model))
        return stage.whole(now[0].verdicts, reading.gaps(now[0].verdicts))

    _make_or_say(run, iteration, "discrimination", make)
    return now[0] if now else read_discrimination(run, iteration)


def generate(run: Run, roles: Roles, iteration: int) -> tuple[Pools, list[Candidate]]:
    """New hard and easy instructions, 1:1, replace the train pool and are added to the cache pool (section 3.3)."""

    def make(stage: Stage) -> dict[str, Any]:
        found, settings = read_discrimination(run, iteration), stage.settings
        marked = marks.snapshot(run, stage.folder) if settings.use_marks else {}
        split = marks.honoured(pools.split_by_gap(found.instructions, found.verdicts, settings.tau), marked)
        chosen = generator.seeds.choose(split, found.verdicts, settings.seeds_by, settings.seed)
        anew = settings.seeds_by != "none"
        how: dict[str, Any] = {name: getattr(settings, name) if anew else 0 for name in ("hard_size", "easy_size")}
        how |= _limits(settings, "generator") | {"model": settings.generator_model or None}
        how |= {"draw": settings.generator_draw, "short": settings.short_generation, "avoid": held_out(run)}
        how |= {"novelty": settings.novelty, "seed": settings.seed, "iteration": iteration}
        try:
            made = generator.generate(roles.client, chosen, found.instructions, **how)
        except generator.GenerationStopped as stopped:
            records.write_jsonl(stage.folder / "candidates.jsonl", stopped.result.candidates)
            raise
        cache = pools.grow(found.instructions, made.instructions)
        share = settings.replay_share / (1 - settings.replay_share)
        count = round(len(made.instructions) * share) if anew else settings.hard_size + settings.easy_size
        old = generator.seeds.replayed([item for side in split for item in side], count, iteration, settings.seed)
        for name, items in (("candidates", made.candidates), ("train", [*made.instructions, *old]), ("cache", cache)):
            records.write_jsonl(stage.folder / f"{name}.jsonl", items)
        counts = {"candidates": len(made.candidates), "new_hard": 0, "new_easy": 0}
        counts |= Counter(f"new_{item.source}" for item in made.instructions)
        counts |= {"marked": marks.labelled(found.instructions, marked)} if settings.use_marks else {}
        return counts | ({"replayed": len(old)} if old else {})

    run.make(iteration, "generation", make)
    return pools_for(run, iteration + 1), reading.read_candidates(run, iteration)


def score(run: Run, roles: Roles, iteration: int) -> dict[str, Any]:
    """The held-out score after an iteration: relative score under the judge, and exact matches (section 4).

    Where the endpoint failed on some, the stage stays open: that is printed, and the others' score returned."""

    def make(stage: Stage) -> dict[str, Any]:
        found = _compare(run, stage, roles, held_out(run), stage.settings.judge_model)
        total, exact = evaluate.relative_score(found.verdicts), evaluate.exact_match(found.teacher, found.student)
        relative = total.score if total.scored else None  # JSON has no NaN
        counts = {"relative_score": relative, "scored": total.scored, "unscored": total.unscored}
        return stage.whole(found.verdicts, counts | {"exact_match": None if math.isnan(exact) else exact})

    return _make_or_say(run, iteration, "evaluation", make)


def _make_or_say(run: Run, iteration: int, stage: str, make: Any) -> dict[str, Any]:
    """The result of a stage, made on the pools that are there; where it stays open, that is printed."""
    _first_pools(run)
    try:
        run.make(iteration, stage, make)
    except StageOpen as left:
        print(left)
        return left.result
    return run.result(iteration, stage)


def _compare(run: Run, stage: Stage, roles: Roles, items: list[Instruction], model: str) -> Judged:
    """Both answer, the referee judges; the three files are written as soon as each is whole."""
    roles.check(run.config.student)
    settings, iteration = stage.settings, stage.place.iteration
    by_teacher = _ask_teacher(stage, roles, items, "teacher")
    by_student = roles.answers(stage, items, adapter_after(run, iteration))
    records.write_jsonl(stage.folder / "student.jsonl", by_student)
    how = _limits(settings, "referee") | {"model": model or None, "structured": structured(settings)}
    verdicts = referee.judge(roles.client, items, by_teacher, by_student, iteration=iteration, **how)
    records.write_jsonl(stage.folder / "verdicts.jsonl", verdicts)
    return Judged(items, by_teacher, by_student, verdicts)


def _ask_teacher(stage: Stage, roles: Roles, items: Sequence[Instruction], label: str) -> list[Response]:
    responses = teacher.respond(roles.client, items, label=label, **_limits(stage.settings, "teacher"))
    records.write_jsonl(stage.folder / "teacher.jsonl", responses)
    return responses


def _limits(settings: Any, role: str) -> dict[str, Any]:
    """The temperature and the longest reply that are set for a role of the endpoint."""
    return {name: getattr(settings, f"{role}_{name}") for name in ("temperature", "max_tokens")}


def _usable(stage: Stage, responses: Sequence[Response]) -> dict[str, str]:
    """The answers that can be trained on, by instruction. StageStopped where there are none, or too many of no use."""
    answers, settings = {r.instruction_id: r.text for r in responses if r.status == "ok"}, stage.settings
    useless, kept = teacher.useless(responses), f"all are in {shown(stage.folder / 'teacher.jsonl')}"
    if not answers:
        reason = responses[0].reason or responses[0].status
        problem = f"none of the teacher's {len(responses)} answers can be trained on"
        raise StageStopped(f"{problem}, the first because: {reason}; {kept}")
    if settings.student.validation_share and len(answers) < 2:
        problem = "one answer cannot be trained on and kept for validation"
        raise StageStopped(problem, setting="student.validation_share")
    others = Counter(r.reason for r in responses if r.status != "ok").most_common(1)
    if others:
        print(f"{len(answers)} of {len(responses)} answers can be trained on; most others: {others[0][0]}.")
    if useless.share > settings.useless_share:
        problem = f"of {useless.answers} answers {useless.declining} decline and {useless.repeated} repeat one text"
        remedy = "use another teacher, or allow more"
        raise StageStopped(f"{problem}: nothing was trained; {kept}; {remedy}", setting="useless_share")
    if useless.share:
        print(f"{useless.declining} answers decline and {useless.repeated} repeat one text; they are trained on.")
    return answers


def structured(settings: Any) -> bool:
    """Whether the referee is asked for JSON: as the setting says, by default of all but the answer key."""
    return settings.structured == "on" or (settings.structured == "auto" and settings.api.base_url != SANDBOX_URL)


def _require_decided(run: Run, iteration: int) -> None:
    """Stop where no pair could be scored: training on would only show that again."""
    if (counts := sides(run, iteration))["undecided"] and not counts["hard"] + counts["easy"]:
        reasons = Counter(verdict.reason for verdict in read_discrimination(run, iteration).verdicts)
        problem = f"none of the {counts['undecided']} pairs of iteration {iteration} could be scored"
        most = reasons.most_common(1)[0][0]
        raise StageStopped(f"{problem}, most because of: {most}; choose another referee", setting="referee_model")


def iterate(run: Run, roles: Roles, iteration: int, *, discriminating: bool = True) -> None:
    """One iteration, from the generation of its pools to its discrimination. StageOpen at the first left open."""
    if iteration > 1:
        generate(run, roles, iteration - 1)
    if iteration:
        imitate(run, roles, iteration)
    for stage, make in (("evaluation", score), ("discrimination", discriminate))[: 1 + discriminating]:
        make(run, roles, iteration)
        if not run.done(iteration, stage):
            raise StageOpen(f"{stage} of iteration {iteration} stays open: run again to go on")


def run_all(run: Run, roles: Roles) -> dict[str, Any]:
    """The whole method, from wherever the run stands; returns the summary. StageOpen at the first stage left open.
    The last iteration generates nothing: its instructions would be for an iteration that does not come."""
    with completed(run.path, run.config):
        for iteration in range(run.config.iterations + 1):
            iterate(run, roles, iteration)
            _require_decided(run, iteration)
    return summarise(run)
