"""How good the student is next to the teacher: relative score, wins, categories, intervals (paper section 4.3).

Every figure pairs both scores of the same items: a verdict with an unscored order counts as unscored and enters
no sum. Nothing scored gives NaN, never 0. `harness` is a bridge to the public benchmarks of lm-evaluation-harness.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lionkit.errors import LionkitError, first_line
from lionkit.records import Response, Verdict


class RelativeScore(NamedTuple):
    """Totals over the pairs scored for both roles; scores of two orders count as their mean."""

    student_total: float
    teacher_total: float
    scored: int
    unscored: int

    @property
    def score(self) -> float:
        """Student's total over the teacher's; NaN when nothing was scored."""
        return self.student_total / self.teacher_total if self.teacher_total else float("nan")

    def __str__(self) -> str:
        unit = f"{self.student_total:g} : {self.teacher_total:g}, {self.scored} scored, {self.unscored} unscored"
        return f"{100 * self.score:.2f} % ({unit})"


class WinTieLose(NamedTuple):
    """Pairs by who scored higher, from the student's side; `undecided` are the unscored ones."""

    win: int
    tie: int
    lose: int
    undecided: int


def relative_score(verdicts: Iterable[Verdict]) -> RelativeScore:
    """Student's total score over the teacher's, as in the paper's tables (94.74 % and so on)."""
    verdicts = list(verdicts)
    scored = [v for v in verdicts if v.scored]
    student, teacher = sum(v.student_score for v in scored), sum(v.teacher_score for v in scored)
    return RelativeScore(student, teacher, len(scored), len(verdicts) - len(scored))


def win_tie_lose(verdicts: Iterable[Verdict]) -> WinTieLose:
    """Counts of pairs in which the student's mean score is above, equal to, or below the teacher's."""
    gaps = np.array([v.gap for v in verdicts], dtype=float)
    return WinTieLose(*(int(which.sum()) for which in (gaps < 0, gaps == 0, gaps > 0, np.isnan(gaps))))


class PairedDifference(NamedTuple):
    """How much better the second of two students is, on the instructions scored for both."""

    difference: float
    """Relative score of the second minus that of the first, in shares of 1; over seeds the mean. NaN if n is 0."""
    low: float
    high: float
    """95 % interval."""
    n: int
    """Instructions scored for both."""


def relative_interval(verdicts: Iterable[Verdict], draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the relative score: instructions redrawn with replacement `draws` times.

    (NaN, NaN) when nothing was scored. It covers the choice of instructions, not the judge's own noise.
    """
    scores = np.array([(v.student_score, v.teacher_score) for v in verdicts if v.scored], dtype=float)
    found = over_seeds([scores.reshape(-1, 2)], draws, seed)
    return found.low, found.high


def paired_difference(
    first: Iterable[Verdict], second: Iterable[Verdict], draws: int = 2000, seed: int = 0
) -> PairedDifference:
    """The second student's relative score minus the first's, over the instructions scored for both.

    The interval is a 95 % percentile bootstrap that redraws instructions, the same for both students, so that what
    makes an instruction hard for both cancels. Of several verdicts on an instruction the last counts.
    """
    one, two = ({v.instruction_id: v for v in verdicts if v.scored} for verdicts in (first, second))
    pairs = [(two[i], one[i]) for i in one if i in two]
    scores = np.array([[s for v in pair for s in (v.student_score, v.teacher_score)] for pair in pairs], dtype=float)
    return over_seeds([scores.reshape(-1, 4)], draws, seed)


def over_seeds(groups: Sequence[np.ndarray], draws: int = 2000, seed: int = 0) -> PairedDifference:
    """The mean of several paired differences, one a training seed, with an interval for seeds and instructions both.

    `groups`: an array [n, 4] a seed, a row an instruction: the second student's score and its teacher's, the first's
    and its teacher's; or [n, 2], one student alone. The 95 % percentile bootstrap redraws seeds, and within each the
    instructions. With one seed it says nothing about others.
    """
    n = sum(map(len, groups))
    if not n:
        return PairedDifference(np.nan, np.nan, np.nan, n)
    rng, several = np.random.default_rng(seed), len(groups) > 1
    found = [np.mean([_relative(scores.sum(axis=0)) for scores in groups])]
    for _ in range(draws):
        drawn = [groups[i] for i in rng.integers(len(groups), size=len(groups))] if several else groups
        totals = [scores[rng.integers(len(scores), size=len(scores))].sum(axis=0) for scores in drawn]
        found.append(np.mean([_relative(total) for total in totals]))
    low, high = np.quantile(found[1:], [0.025, 0.975])
    return PairedDifference(float(found[0]), float(low), float(high), n)


def _relative(totals: np.ndarray) -> float:
    """Student's total over the teacher's, less the same of a second student where there is one."""
    relative = totals[0::2] / totals[1::2]
    return float(relative[0] - relative[1:].sum())


def exact_match(teacher: Iterable[Response], student: Iterable[Response]) -> float:
    """Share of the teacher's complete answers that the student gives word for word (spacing aside), in [0, 1].

    It says something only where there is one right answer, as in the answer key's families. NaN without complete
    answers.
    """
    given = {r.instruction_id: r.text.split() for r in student if r.status == "ok"}
    same = [r.text.split() == given.get(r.instruction_id) for r in teacher if r.status == "ok"]
    return sum(same) / len(same) if same else float("nan")


def relative_by_category(table: pd.DataFrame) -> pd.DataFrame:
    """From `pools.pool_table`: one row a category in order of first appearance, with an `all` row last.

    Columns: category, scored, unscored, student_total, teacher_total, score (student / teacher, NaN if unscored).
    """
    decided = table["gap"].notna()
    totals = {f"{role}_total": table[role].where(decided) for role in ("student", "teacher")}
    rows = table[["category"]].assign(scored=decided, unscored=~decided, **totals)
    rows = pd.concat([rows.assign(whole=False), rows.assign(category="all", whole=True)])
    rows = rows.groupby(["whole", "category"], sort=False).sum().reset_index()  # a category may be named all
    rows["category"] = rows["category"].replace("", "none")
    rows["score"] = (rows["student_total"] / rows["teacher_total"]).where(rows["scored"] > 0)
    return rows.drop(columns="whole")


def harness(
    model: str, tasks: Sequence[str | dict[str, Any]], adapter: Path | None = None, **options: Any
) -> pd.DataFrame:
    """Tasks of lm-evaluation-harness (0.4) on `model`, with the adapter in a folder on it: one row a task and metric.

    `model` is a hub id, a folder or the offline student; its weights are used in 16 or 32 bits, not in 4. `options` go
    to `lm_eval.simple_evaluate` (limit, num_fewshot, batch_size, device, apply_chat_template). Columns: task, metric,
    filter, value, stderr (NaN where there is none), n. Most tasks fetch their data from the hub. LionkitError without
    the package, and for what it refuses.
    """
    try:
        import lm_eval
    except ImportError:
        raise LionkitError("harness needs the package lm-eval: pip install lm-eval") from None
    from lionkit.sandbox import weights

    arguments = {"pretrained": str(weights.fetch() if model == weights.NAME else model)}
    arguments |= {"peft": str(adapter)} if adapter is not None else {}
    settings: dict[str, Any] = {"batch_size": 8, "log_samples": False, **options}
    try:
        found = lm_eval.simple_evaluate("hf", model_args=arguments, tasks=list(tasks), **settings)
    except (KeyError, ValueError, OSError, AssertionError) as error:
        raise LionkitError(f"lm-eval on {', '.join(map(str, tasks))}: {first_line(error)}") from None
    rows = []
    for task, values in (found or {"results": {}})["results"].items():  # only the first of several processes has any
        counted = found["n-samples"].get(task, {}).get("effective")
        for name, value in values.items():
            metric, comma, kind = name.partition(",")
            if comma and not metric.endswith("_stderr"):
                rows.append((task, metric, kind, value, values.get(f"{metric}_stderr,{kind}"), counted))
    table = pd.DataFrame(rows, columns=["task", "metric", "filter", "value", "stderr", "n"])
    return table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in ("value", "stderr", "n")})
