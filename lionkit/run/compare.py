"""What runs came to: one as a row an iteration, and any number of runs and forks side by side.

Differences are paired: both students are scored on the same held-out instructions (`evaluate.paired_difference`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lionkit import evaluate
from lionkit.client import ChatClient
from lionkit.errors import ConfigError
from lionkit.files import disk_error, write_text
from lionkit.run import settings
from lionkit.run.folder import Run
from lionkit.run.opening import saved
from lionkit.run.reading import read_evaluation, sides
from lionkit.run.stages import pools_before

COLUMNS = ["iteration", "train_pool", "cache_pool", "hard", "easy", "undecided", "relative_score", "exact_match"]


def summarise(run: Run) -> dict[str, Any]:
    """A row an iteration, as far as the run has come; 0 is before training, scores are on held-out instructions."""
    rows: list[dict[str, Any]] = []
    while run.done(len(rows), "evaluation") and run.done(len(rows), "discrimination"):
        iteration = len(rows)
        scored, counts = run.result(iteration, "evaluation"), sides(run, iteration)
        before = run.result(*pools_before(iteration))
        train_pool = sum(before.get(part, 0) for part in ("train", "new_hard", "new_easy", "replayed"))
        sizes = {"train_pool": train_pool if iteration else 0, "cache_pool": sum(counts.values()), **counts}
        rows.append({"iteration": iteration, **sizes, **{name: scored[name] for name in COLUMNS[-2:]}})
    return {"iterations": rows, "seconds": run.seconds}


def write_summary(run: Run) -> Path:
    """Write `summary.json` into the run's folder."""
    write_text(run.path / "summary.json", json.dumps(summarise(run), indent=1) + "\n")
    return run.path / "summary.json"


def as_text(summary: dict[str, Any]) -> str:
    """A summary as aligned text, the last screen of a run."""
    rows = [[column.replace("_", " ") for column in COLUMNS]]
    for row in summary["iterations"]:
        name = f"{row['iteration']} (before training)" if row["iteration"] == 0 else str(row["iteration"])
        scores = ["-" if row[key] is None else f"{row[key]:.1%}" for key in COLUMNS[-2:]]
        rows.append([name, *(str(row[key]) for key in COLUMNS[1:-2]), *scores])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:], f"Stages took {summary['seconds']:.0f} s in all."])


@dataclass(frozen=True)
class Comparison:
    """Runs side by side. Printing it shows its tables, `plot` draws the scores."""

    scores: pd.DataFrame
    """A row a run and iteration: run, iteration, train_pool, cache_pool, hard, easy, undecided, relative_score, low,
    high (95 % interval of it), exact_match."""
    differences: pd.DataFrame
    """A row an iteration and run but the first: iteration, run, difference (relative score minus the first run's, on
    the instructions that both were scored on), low, high (95 %, paired), n."""
    costs: pd.DataFrame
    """A row a run: run, calls, prompt_tokens, reply_tokens, dollars (NaN without a price), seconds, parent."""
    changed: pd.DataFrame
    """A row a setting that differs, a column a run."""

    def plot(self, ax: Any = None) -> Any:
        """Held-out relative score by iteration, a line a run; returns the Axes."""
        from lionkit import plots

        return plots.comparison(self.scores, ax)

    def __str__(self) -> str:
        parts = {
            "Held-out scores and pools": (self.scores, "{:.3f}"),
            "Difference to the first run": (self.differences, "{:+.3f}"),
            "Paid calls": (self.costs, "{:,.2f}"),
            "Settings that differ": (self.changed, "{:g}"),
        }
        shown = []
        for title, (table, form) in parts.items():
            text = table.to_string(index=False, float_format=form.format, na_rep="-")
            shown.append(f"{title}\n{text}" if len(table) else f"{title}: none")
        return "\n\n".join(shown)

    __repr__ = __str__


def drawable(path: Path | None) -> Path | None:
    """The file for a figure; ConfigError, before anything long is computed, where none can be drawn into it."""
    if path is None:
        return None
    from matplotlib.backend_bases import FigureCanvasBase

    if path.suffix[1:].lower() not in (known := FigureCanvasBase.get_supported_filetypes()) or path.is_dir():
        raise ConfigError(f"{path}: no file that a figure can be drawn into: let it end in one of .{', .'.join(known)}")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {path.parent}: make it first, or name another")
    return path


def draw(axes: Any, path: Path) -> Path:
    """Draw a figure into a file. LionkitError for what the disk refuses."""
    try:
        axes.figure.savefig(path)
    except OSError as error:
        raise disk_error(error, path) from None
    return path


def compare(runs: Sequence[Run | str]) -> Comparison:
    """Hold runs (or their names) against each other, the first being what the others are compared with.

    Reads what is there: iterations that only some have reached are shown for those. ConfigError for fewer than two.
    """
    opened = [run if isinstance(run, Run) else saved(run) for run in runs]
    if len(opened) < 2 or len({run.name for run in opened}) < len(opened):
        raise ConfigError("compare needs two or more different runs")
    scores, differences = [], []
    judged: dict[tuple[str, int], Any] = {}
    for run in opened:
        for row in summarise(run)["iterations"]:
            verdicts = judged[run.name, row["iteration"]] = read_evaluation(run, row["iteration"]).verdicts
            low, high = evaluate.relative_interval(verdicts)
            scores.append({"run": run.name, **row, "low": low, "high": high})
    for (name, iteration), verdicts in judged.items():
        first = judged.get((opened[0].name, iteration))
        if name != opened[0].name and first is not None:
            found = evaluate.paired_difference(first, verdicts)
            differences.append({"iteration": iteration, "run": name, **found._asdict()})
    return Comparison(
        pd.DataFrame(scores, columns=["run", *COLUMNS, "low", "high"]).astype(dict.fromkeys(COLUMNS[-2:], float)),
        pd.DataFrame(differences),
        pd.DataFrame([_cost(run) for run in opened]),
        _changed(opened),
    )


def _cost(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {"run": run.name, "calls": 0, "prompt_tokens": 0, "reply_tokens": 0}
    if run.store.exists():
        client = ChatClient(run.config.api, run.store, replay=True)
        used = client.spent()
        bills = [bill.actual for bill in client.bills()]
        found["calls"] = sum(bill.calls for bill in bills)
        found |= {"prompt_tokens": used.prompt_tokens, "reply_tokens": used.completion_tokens}
        priced = run.config.api.prices  # by model: what is on no bill, as of a forked run, has no price of its own
        found["dollars"] = sum(b.dollars for b in bills) if priced else used.dollars(run.config.api.price_per_million)
    return found | {"seconds": run.seconds, "parent": run.provenance.get("parent", {}).get("run", "")}


def _changed(runs: list[Run]) -> pd.DataFrame:
    """The settings in which the runs differ, each as it is now."""
    rows = []
    for name in settings.NAMES:
        values = [settings.value(run.config, name) for run in runs]
        if any(given != values[0] for given in values):
            rows.append({"setting": name} | {run.name: given for run, given in zip(runs, values)})
    return pd.DataFrame(rows)
