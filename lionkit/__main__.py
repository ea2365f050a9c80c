"""`python -m lionkit`: the whole method, or one part of it, without a browser.

For headless machines, several GPUs and `make run`. Every command prints one line instead of a traceback for
what the user can mend, and exits with 1.
"""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from lionkit import config, loop, pools
from lionkit import plan as planning
from lionkit.client import Bill, ChatClient, total
from lionkit.errors import ConfigError, LionkitError
from lionkit.roles import OwnStudent
from lionkit.run import branch, marks, open_run, saved, shown
from lionkit.run.compare import compare as compare_runs
from lionkit.run.compare import draw, drawable
from lionkit.run.remedies import begin_from
from lionkit.run.settings import parse

student = OwnStudent()
app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
Name = Annotated[str, typer.Option("--run", help="name of the run; default: demo offline, live with a key or URL")]
Changes = Annotated[list[str] | None, typer.Argument(help="name=value ...")]
Preset = Annotated[str, typer.Option(help="settings of a new run: offline, smoke, live, single_gpu or paper")]
New = Annotated[bool, typer.Option("--new", help="begin a run of this name")]
FromHere = Annotated[bool, typer.Option(help="later stages take it; finished ones keep what they were made with")]
After = Annotated[str, typer.Option(help="ITERATION, ITERATION:STAGE, or start; default: the last iteration there is")]
Last = Annotated[int | None, typer.Option(min=0, help="0: before training; default: the last there is")]
LastTrained = Annotated[int | None, typer.Option(min=1, help="default: the last there is")]


@contextmanager
def _lead() -> Iterator[None]:
    """Under `accelerate launch` the block is run by the first process alone; the others work along."""
    try:
        with student.lead() if config.several_processes() else nullcontext():
            yield
    except KeyboardInterrupt as interrupt:
        print(f"stopped: {interrupt}" if str(interrupt) else "stopped: run again to go on", file=sys.stderr)
        raise typer.Exit(130) from None


@app.command()
def run(name: Name = "", preset: Preset = "", new: New = False) -> None:
    """Run all iterations, going on from wherever the run stands. A named run that is not there needs --new."""
    with _lead():
        opened = open_run(name, preset=preset, new=new or not name or bool(preset))
        try:
            loop.run_all(opened, loop.open_roles(opened))
        finally:  # what is done is shown, whatever stopped the rest
            if opened.finished():
                loop.write_summary(opened)
                print(loop.as_text(loop.summarise(opened)))


@app.command("set")
def change(settings: Changes = None, name: Name = "", from_here: FromHere = False) -> None:
    """Change settings of a run: name=value ..., as in `set --run live api.concurrency=8`."""
    open_run(name, new=False, from_here=from_here, **parse(settings or []))


@app.command()
def fork(old: str, new: str, settings: Changes = None, after: After = "") -> None:
    """Begin a run that keeps another's stages up to a point, with its replies, and goes on with other settings."""
    parent = saved(old)
    forked = branch.fork(parent, new, after or str(_last(parent, "discrimination")), **parse(settings or []))
    print(f"Go on with `python -m lionkit run --run {forked.name}`.")


@app.command()
def compare(
    names: list[str],
    figure: Annotated[Path | None, typer.Option(help="draw the scores into this file", callback=drawable)] = None,
) -> None:
    """Hold runs and forks against each other: scores with paired intervals, pools, costs, differing settings."""
    found = compare_runs(names)
    print(found)
    if figure:
        print(f"\nFigure: {draw(found.plot(), figure)}")


@app.command()
def arms(
    given: Annotated[list[str], typer.Argument(metavar="SEED ... [name=value ...]")],
    name: Annotated[str, typer.Option(help="what the runs' names begin with")] = "arms",
    preset: Preset = "offline",
    iterations: Annotated[int, typer.Option(min=2)] = 2,
    out: Annotated[Path, typer.Option(help="file for the result")] = Path("arms.json"),
    seeds: Annotated[bool, typer.Option("--seeds", help="may stand before the seeds")] = False,
) -> None:
    """Hold the paper's choice of instructions against controls of the same size, for every SEED: does it pay?

    Goes on from wherever it was stopped. Prints the table, writes the scores and a figure beside them.
    """
    from lionkit import arms as trial
    from lionkit import plots

    if out.is_dir() or out == (figure := out.with_suffix(".svg")):
        raise ConfigError(f"--out {out}: give the file of the scores, as in arms.json; a figure is drawn beside it")
    numbers = [int(word) for word in given if word.isdecimal()]
    changes = parse([word for word in given if not word.isdecimal()])
    trial.run_arms(name, numbers, iterations=iterations, preset=preset, changes=changes)
    table = trial.table(trial.record(name, numbers, out, f"python -m lionkit {shlex.join(sys.argv[1:])}"))
    print(table.to_string(index=False, float_format="{:.3f}".format))
    print(f"\nScores: {out}. Figure: {draw(plots.arms(table, trial.RANDOM), figure)}.")


@app.command()
def notebooks(name: Name = "") -> None:
    """Run the notebooks in order, write their executed copies and pages, and show the result."""
    from lionkit import notebooks as headless  # here: nbformat takes over a second

    opened = open_run(name, new=not name)
    os.environ["LIONKIT_RUN"] = opened.name
    paths = headless.find()
    for number, path in enumerate(paths, start=1):
        headless.execute(path, opened.path / "notebooks", title=f"notebook {number} of {len(paths)}: {path.stem}")
    summary = loop.write_summary(opened)
    print(f"\n{loop.as_text(loop.summarise(opened))}\n")
    print(f"Results: {shown(summary)}. Open next: {shown(headless.write_index(opened.path / 'notebooks'))},")
    print("or start JupyterLab on the notebooks with `make lab`.")


@app.command()
def page(name: Name = "", theme: Annotated[str, typer.Option(help="light or dark")] = "light") -> None:
    """Show a finished run's hard pool in a browser, without code, at an address with a token; until Ctrl-C."""
    from lionkit import notebooks as headless

    headless.serve(open_run(name, new=not name, keep=False), theme)


@app.command()
def status(name: Name = "") -> None:
    """Show which stages of a run are done, the iterations so far, and what the calls cost against what was expected."""
    opened = open_run(name, new=False)
    finished = opened.finished()
    for iteration in range(max([opened.config.iterations, *(place.iteration for place in finished)]) + 1):
        done = [place.stage for place in finished if place.iteration == iteration]
        print(f"iteration {iteration}: {', '.join(done) or 'nothing yet'}")
    print(loop.as_text(loop.summarise(opened)))
    bills: dict[str, list[Bill]] = {}
    for bill in ChatClient(opened.config.api, opened.store, replay=True).bills() if opened.store.exists() else []:
        bills.setdefault(bill.label.partition(" (")[0], []).append(bill)
    for label, some in bills.items():
        print(Bill(label, total([b.expected for b in some]), total([b.actual for b in some])))


@app.command()
def plan(
    name: Name = "",
    device: Annotated[str, typer.Option(help="cpu, cuda or mps; default: what is here")] = "",
    gib: Annotated[float, typer.Option(min=0, max=1e6, help="memory to fit into, in GiB; default: this machine's")] = 0,
) -> None:
    """Show what a run will take: calls and tokens by role, the student's memory, and what was measured so far."""
    if device not in ("", "cpu", "cuda", "mps"):
        raise ConfigError(f"--device {device}: plans are for cpu, cuda or mps")
    opened = open_run(name, keep=False)
    if not opened.path.exists():
        preset = opened.config.preset
        print(f"There is no such run yet, and none is made: this is what one from preset {preset} would take.")
    planning.report(opened, device or planning.here(), int(gib * 2**30))


@app.command()
def train(name: Name = "", iteration: LastTrained = None) -> None:
    """Run only the imitation stage of one iteration, on the pools that are there (default: the last that are); under
    `accelerate launch`, on all cards."""
    with _lead():
        opened = open_run(name, new=not name)
        after = iteration or _last(opened, "generation") + 1
        print(f"Adapter: {shown(loop.imitate(opened, loop.open_roles(opened), after))}")


@app.command()
def export(
    target: Path,
    name: Name = "",
    iteration: Last = None,
    tag: Annotated[str, typer.Option(help="only what readers gave this tag, as TARGET/TAG.json")] = "",
) -> None:
    """Write the hard, easy and undecided instructions of an iteration, as readers marked them, as Alpaca JSON files."""
    opened = open_run(name, new=False)
    found = loop.read_discrimination(opened, _last(opened, "discrimination") if iteration is None else iteration)
    answers = {r.instruction_id: r.text for r in found.teacher if r.status == "ok"}
    marked = marks.read(opened)
    split = marks.honoured(pools.split_by_gap(found.instructions, found.verdicts, opened.config.tau), marked)
    if count := marks.labelled(found.instructions, marked):
        dropped = len(found.instructions) - sum(map(len, split))
        print(f"As readers marked them: {count} instructions, of which {dropped} are left out (drop).")
    for side, items in (marks.tagged(split, marked, tag) if tag else split._asdict()).items():
        path = pools.export([replace(i, output=answers.get(i.id, "")) for i in items], target / f"{side}.json")
        print(f"{path}: {len(items)} instructions")
        if tag and len(items) > 1:  # one to hold out, one to train on
            print(f"To begin from these: {begin_from(opened.path, path, len(items), opened.config.heldout_size)}")


@app.command()
def export_student(
    target: Path,
    name: Name = "",
    iteration: LastTrained = None,
    dtype: Annotated[str, typer.Option(help="auto, float16 or bfloat16")] = "auto",
    gguf: Annotated[str, typer.Option(help="llama.cpp's folder; default: LLAMA_CPP, or its converter on PATH")] = "",
    base: Annotated[str, typer.Option(help="hub id to name as the base, where it is a folder here")] = "",
) -> None:
    """Write the student after an iteration: merged 16-bit weights, adapter, model card, GGUF."""
    opened = open_run(name, new=False)
    own, after = opened.config.student, iteration or _last(opened, "imitation") or 1
    rows = loop.summarise(opened)["iterations"][: after + 1]
    told = {"iteration": after, "config": config.to_dict(opened.config), "run": opened.provenance, "iterations": rows}
    how: dict[str, Any] = {"dtype": dtype, "template": own.template, "base": base, "gguf": gguf, "provenance": told}
    print(student.export_student(own.model, opened.require(after, "imitation") / "adapter", target, **how))


@app.command()
def recover(
    base: str,
    delta: str,
    target: Path,
    added_rows: Annotated[str, typer.Option(help="mean (Alpaca, Lion) or zero (Vicuna v0)")] = "mean",
) -> None:
    """Add published delta weights to their base (folders or hub ids) and write the model as safetensors."""
    print(f"Model: {student.recover_delta(base, delta, target, added_rows=added_rows)}")


def _last(run: Any, stage: str) -> int:
    """The last iteration in which a stage is finished; 0 where it is in none."""
    return max(run.iterations(stage), default=0)


def main() -> None:
    """Entry point: LionkitErrors become one line on stderr and exit code 1."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal may lack arrows and lines
    try:
        app()
    except LionkitError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
