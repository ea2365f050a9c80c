"""`python -m lionkit`: the whole method, or one part of it, without a browser.

For headless machines, several GPUs and `make run`. Every command prints one line instead of a traceback for
what the user can mend, and exits with 1.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from lionkit.errors import ConfigError, LionkitError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
Name = Annotated[str, typer.Option("--run", help="name of the run; default: demo offline, live with a key or URL")]
Preset = Annotated[str, typer.Option(help="settings of a new run: offline, smoke, single_gpu or paper")]


@contextmanager
def _lead() -> Iterator[None]:
    """Under `accelerate launch` the block is run by the first process alone; the others train along."""
    from lionkit.config import several_processes

    try:
        if several_processes():
            from lionkit import student

            with student.lead():
                yield
        else:
            yield
    except KeyboardInterrupt as interrupt:
        print(f"stopped: {interrupt}" if str(interrupt) else "stopped: run again to go on", file=sys.stderr)
        raise typer.Exit(130) from None


@app.command()
def run(name: Name = "", preset: Preset = "") -> None:
    """Run all iterations, going on from wherever the run stands."""
    from lionkit import loop
    from lionkit.run import open_run

    with _lead():
        opened = open_run(name, preset=preset)
        summary = loop.run_all(opened, loop.open_roles(opened))
        loop.write_summary(opened)
        print(table(summary))


@app.command()
def notebooks(name: Name = "") -> None:
    """Run the notebooks in order, write their executed copies and pages, and show the result."""
    from lionkit import loop, notebooks
    from lionkit.run import open_run, shown

    opened = open_run(name)
    os.environ["LIONKIT_RUN"] = opened.path.name
    paths = notebooks.find()
    for number, path in enumerate(paths, start=1):
        notebooks.execute(path, opened.path / "notebooks", title=f"notebook {number} of {len(paths)}: {path.stem}")
    summary = loop.write_summary(opened)
    print(f"\n{table(loop.summarise(opened))}\n")
    print(f"Results: {shown(summary)}. Open next: {shown(opened.path / 'notebooks' / (paths[0].stem + '.html'))},")
    print("or start JupyterLab on the notebooks with `make lab`.")


@app.command()
def status(name: Name = "") -> None:
    """Show which stages of a run are done, the iterations so far, and what the calls cost against what was expected."""
    from lionkit import loop
    from lionkit.client import Bill, ChatClient, total
    from lionkit.run import STAGES, open_run

    opened = open_run(name, new=False)
    for iteration in range(opened.config.iterations + 1):
        done = [stage for stage in STAGES if opened.done(iteration, stage)]
        print(f"iteration {iteration}: {', '.join(done) or 'nothing yet'}")
    print(table(loop.summarise(opened)))
    bills: dict[str, list[Bill]] = {}
    for bill in ChatClient(opened.config.api, opened.store, replay=True).bills() if opened.store.exists() else []:
        bills.setdefault(bill.label.partition(" (")[0], []).append(bill)
    for label, some in bills.items():
        print(Bill(label, total([b.expected for b in some]), total([b.actual for b in some])))


@app.command()
def plan(
    name: Name = "",
    device: Annotated[str, typer.Option(help="cpu, cuda or mps; default: what is here")] = "",
    gib: Annotated[
        float, typer.Option(min=0, max=1e6, help="memory to fit into, in GiB; default: this machine's")
    ] = 0.0,
) -> None:
    """Show what a run will take: calls and tokens by role, the student's memory, and what was measured so far."""
    from lionkit import plan
    from lionkit.run import open_run

    if device not in ("", "cpu", "cuda", "mps"):
        raise ConfigError(f"--device {device}: plans are for cpu, cuda or mps")
    opened = open_run(name, keep=False)
    if not opened.path.exists():
        used = os.environ.get("LIONKIT_PRESET") or "offline"
        print(f"There is no such run yet, and none is made: this is what one from preset {used} would take.")
    config, student = opened.config, opened.config.student
    print("\nCalls (a rough guide; stored replies are not asked again):")
    calls = plan.calls(config)
    calls.loc[len(calls)] = ["total", *(calls[name].sum(min_count=1) for name in calls.columns[1:])]
    print(calls.to_string(index=False, na_rep="-"))
    place = device or plan.here()
    room = int(gib * 2**30) or plan.room(place)
    print(f"\nMemory on {place} to train {student.model}, batch {student.batch_size}, length {student.max_length}:")
    print(plan.memory(student.model, config, device=place).to_string(index=False))
    largest = plan.largest_batch(student.model, config, room, device=place)
    most = "4096 or more" if largest == 4096 else largest or "none fits"
    print(f"Largest batch in {room / 2**30:.1f} GiB: {most}{' (a CPU takes it in pieces)' * (place == 'cpu')}")
    for stage, values in opened.stages.items():
        if measured := values.get("peak_memory"):
            held = f"{stage}: measured {measured / 2**30:.2f} GiB, with all else that the process held"
            planned = values.get("planned_memory")
            print(f"{held}; planned {planned / 2**30:.2f} GiB ({planned / measured - 1:+.0%})" if planned else held)


@app.command()
def train(name: Name = "", iteration: Annotated[int, typer.Option(min=1)] = 1) -> None:
    """Run only the imitation stage of one iteration, on the pools that are there; under `accelerate launch`, on all
    cards."""
    from lionkit import loop
    from lionkit.run import open_run, shown

    with _lead():
        opened = open_run(name)
        print(f"Adapter: {shown(loop.imitate(opened, loop.open_roles(opened), iteration))}")


@app.command()
def export(
    target: Path,
    name: Name = "",
    iteration: Annotated[int | None, typer.Option(min=0, help="0: before training; default: the last")] = None,
) -> None:
    """Write the hard, easy and undecided instructions of an iteration as Alpaca JSON files."""
    from dataclasses import replace

    from lionkit import loop, pools
    from lionkit.pools import export
    from lionkit.run import open_run

    opened = open_run(name, new=False)
    found = loop.read_discrimination(opened, opened.config.iterations if iteration is None else iteration)
    answers = {r.instruction_id: r.text for r in found.teacher if r.status == "ok"}
    for side, items in pools.split_by_gap(found.instructions, found.verdicts, opened.config.tau)._asdict().items():
        path = export([replace(i, output=answers.get(i.id, "")) for i in items], target / f"{side}.json")
        print(f"{path}: {len(items)} instructions")


@app.command()
def export_student(
    target: Path,
    name: Name = "",
    iteration: Annotated[int | None, typer.Option(min=1, help="default: the last")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float16 or bfloat16")] = "auto",
    gguf: Annotated[str, typer.Option(help="llama.cpp's folder; default: LLAMA_CPP, or its converter on PATH")] = "",
    base: Annotated[str, typer.Option(help="hub id to name as the base, where it is a folder here")] = "",
) -> None:
    """Write the student after an iteration: merged 16-bit weights, adapter, model card, GGUF."""
    from lionkit import config, loop, student
    from lionkit.run import open_run

    opened = open_run(name, new=False)
    settings, iteration = opened.config.student, iteration or opened.config.iterations
    told = {"iteration": iteration, "config": config.to_dict(opened.config), "run": opened.provenance,
            "iterations": loop.summarise(opened)["iterations"][: iteration + 1]}  # fmt: skip
    adapter = opened.require(iteration, "imitation") / "adapter"
    print(student.export_student(settings.model, adapter, target, gguf=gguf or None, provenance=told,
                                 dtype=dtype, template=settings.template, base=base))  # type: ignore[arg-type]  # fmt: skip


@app.command()
def recover(
    base: str,
    delta: str,
    target: Path,
    added_rows: Annotated[str, typer.Option(help="mean (Alpaca, Lion) or zero (Vicuna v0)")] = "mean",
) -> None:
    """Add published delta weights to their base (folders or hub ids) and write the model as safetensors."""
    from lionkit import student

    print(f"Model: {student.recover_delta(base, delta, target, added_rows=added_rows)}")  # type: ignore[arg-type]


def table(summary: dict[str, Any]) -> str:
    """The iterations as aligned text, the last screen of a run."""
    rows = [["iteration", "train pool", "cache pool", "hard", "easy", "undecided", "relative score", "exact match"]]
    for row in summary["iterations"]:
        name = f"{row['iteration']} (before training)" if row["iteration"] == 0 else str(row["iteration"])
        counts = [str(row[key]) for key in ("train_pool", "cache_pool", "hard", "easy", "undecided")]
        scores = ["-" if row[key] is None else f"{row[key]:.1%}" for key in ("relative_score", "exact_match")]
        rows.append([name, *counts, *scores])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:], f"Stages took {summary['seconds']:.0f} s in all."])


def main() -> None:
    """Entry point: LionkitErrors become one line on stderr and exit code 1."""
    try:
        app()
    except LionkitError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
