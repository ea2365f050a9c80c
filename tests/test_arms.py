"""The arms on the rote student: equal budgets, going on after a stop, and figures that can be checked by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rote
from lionkit import arms, evaluate, loop
from lionkit.errors import ConfigError, DataError
from lionkit.records import Instruction, read_jsonl
from lionkit.run import Run, saved


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every run plays with the rote student; the list has the name of the run of each training."""
    names: list[str] = []

    def roles(run: Run) -> loop.Roles:
        made = rote.roles(run)
        learn = made.student.train
        made.student.train = lambda *args, **options: names.append(run.name) or learn(*args, **options)
        return made

    monkeypatch.setattr(loop, "open_roles", roles)
    return names


def test_all_arms_train_on_as_many_rows_and_nothing_is_made_twice(trained: list[str], tmp_path: Path) -> None:
    ask: dict[str, Any] = {"preset": "smoke", "iterations": 3}
    runs = arms.run_arms("a", [0, 1], **ask)
    assert len(runs) == 14
    assert len(trained) == 2 + 14 * 2
    pools = [read_jsonl(run.folder(i, "generation") / "train.jsonl", Instruction) for run in runs for i in (1, 2)]
    assert {len(pool) for pool in pools} == {12}
    sources = {run.name: run.result(1, "generation") for run in runs}
    assert sources["a-0-no-new"]["replayed"] == 12
    assert (sources["a-0-replay"]["new_hard"], sources["a-0-replay"]["replayed"]) == (3, 6)
    assert (sources["a-1-hard-only"]["new_hard"], sources["a-1-easy-only"]["new_easy"]) == (12, 12)
    assert not runs[0].done(3, "discrimination")  # no further iteration asks for it
    arms.run_arms("a", [0, 1], **ask)
    assert len(trained) == 30
    with pytest.raises(ConfigError, match="was read by generation"):  # finished arms keep what they were made with
        arms.run_arms("a", [0, 1], **ask, changes={"novelty": 0.5})
    scores = arms.record("a", [0, 1], tmp_path / "arms.json", "a test")
    assert len(scores) == 2 * 7 * 3 * 16
    table = arms.table(scores)
    assert table["arm"].unique().tolist() == list(arms.designs(runs[0].config))
    random = table[table["arm"] == "random"]
    assert (random[["difference", "low", "high", "win", "lose"]] == 0).all(axis=None)
    summary = loop.summarise(saved("a-0-paper"))["iterations"]
    own = scores[(scores["seed"] == 0) & (scores["arm"] == "paper") & (scores["iteration"] == 1)]
    assert own["exact"].mean() == summary[1]["exact_match"] if len(summary) > 1 else True
    assert arms.by_category(scores, 3).shape == (scores["category"].nunique(), 7)


def test_stopped_in_an_arm_it_goes_on_there(trained: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    generate = loop.generate

    def stopped(run: Run, *args: Any) -> Any:
        if run.name == "b-0-hard-only":
            raise KeyboardInterrupt
        return generate(run, *args)

    monkeypatch.setattr(loop, "generate", stopped)
    with pytest.raises(KeyboardInterrupt):
        arms.run_arms("b", [0], preset="smoke", only=["paper", "hard only"])
    monkeypatch.setattr(loop, "generate", generate)
    arms.run_arms("b", [0], preset="smoke", only=["paper", "hard only"])
    assert trained == ["b-0", "b-0-paper", "b-0-hard-only"]


def test_an_unknown_arm_and_another_file_are_refused(trained: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no arm 'best': known are paper"):
        arms.run_arms("c", [0], preset="smoke", only=["best"])
    for seeds in ([], [0, 0]):
        with pytest.raises(ConfigError, match="one or more different ones"):
            arms.run_arms("c", seeds)
    with pytest.raises(ConfigError, match="seed is no setting of all arms"):
        arms.run_arms("c", [0], changes={"seed": 3})
    for text in ("{}", "[", '{"scores": [], "categories": {}}'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(DataError, match="not a result"):
            arms.read(tmp_path / "x.json")


def made_up(gains: dict[int, float], n: int = 200) -> pd.DataFrame:
    """Scores of two arms whose students differ by `gains` points, seed by seed, on noisy instructions."""
    rng, rows = np.random.default_rng(0), []
    for seed, gain in gains.items():
        base = rng.uniform(1, 7, n)
        for arm, student in (("random", base), ("paper", base + gain + rng.normal(0, 0.2, n))):
            for iteration in (1, 2):
                given = base if iteration == 1 else student
                some = {"student": given, "teacher": 9.0, "exact": given > 6, "number": range(n), "category": "c"}
                rows.append(pd.DataFrame(some).assign(seed=seed, arm=arm, iteration=iteration))
    return pd.concat(rows)


def test_seeds_that_disagree_widen_the_interval() -> None:
    agreed = arms.difference(made_up(dict.fromkeys(range(5), 0.45)), "paper", "random", 2)
    apart = arms.difference(made_up({0: -0.9, 1: 1.8, 2: 0, 3: -0.45, 4: 1.8}), "paper", "random", 2)
    assert agreed.difference == pytest.approx(apart.difference, abs=0.01) == pytest.approx(0.05, abs=0.01)
    assert agreed.low > 0.04
    assert agreed.n == 1000
    assert apart.low < 0 < apart.high


def test_the_table_counts_what_changed_by_hand() -> None:
    table = arms.table(made_up({0: 9.0}, n=50), tau=1.0).set_index(["arm", "iteration"])
    assert table.loc[("paper", 2), ["win", "tie", "lose", "became_easy", "lost"]].tolist() == [50, 0, 0, 50, 0]
    assert table.loc[("paper", 1), ["win", "tie", "lose"]].tolist() == [0, 50, 0]


def test_one_seed_is_the_plain_paired_bootstrap() -> None:
    scores = np.random.default_rng(1).uniform(1, 9, (80, 4))
    one, two = evaluate.over_seeds([scores]), evaluate.over_seeds([scores, scores])
    assert one.difference == pytest.approx(two.difference)
    assert two.high - two.low < one.high - one.low
    assert np.isnan(evaluate.over_seeds([]).difference)
