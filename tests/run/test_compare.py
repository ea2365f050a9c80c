"""Runs side by side: paired differences, pools, costs, and the settings that differ."""

from __future__ import annotations

import math

import matplotlib
import pytest

import lionkit
import rote
from lionkit import evaluate, loop
from lionkit.errors import ConfigError
from lionkit.run import Run, open_run
from lionkit.run.reading import read_evaluation

matplotlib.use("agg")


def test_a_fork_is_held_against_its_parent_with_paired_intervals(finished: Run) -> None:
    forked = finished.fork("two", "1:discrimination", tau=2, generator_draw=4)
    loop.run_all(forked, rote.roles(forked))
    found = lionkit.compare(["r", forked])
    assert [(row.run, row.iteration) for row in found.scores.itertuples()] == [
        (name, iteration) for name in ("r", "two") for iteration in (0, 1, 2)
    ]
    by_hand = [
        evaluate.paired_difference(read_evaluation(finished, i).verdicts, read_evaluation(forked, i).verdicts)
        for i in (0, 1, 2)
    ]
    for row, wanted in zip(found.differences.itertuples(), by_hand, strict=True):
        assert (row.run, row.difference, row.low, row.high, row.n) == ("two", *wanted)
    assert [row.difference for row in found.differences.itertuples()][:2] == [0.0, 0.0]  # the same students
    assert found.changed.set_index("setting").to_dict("index") == {
        "tau": {"r": 1.0, "two": 2.0},
        "generator_draw": {"r": 0, "two": 4},
    }
    costs = found.costs.set_index("run")
    assert costs["parent"].tolist() == ["", "r"]
    assert 0 < costs.loc["two", "calls"] < costs.loc["r", "calls"]  # what its parent had paid for is not counted again
    assert math.isnan(costs.loc["r", "dollars"])
    lines = found.plot().get_lines()
    assert lines[0].get_ydata().tolist() == pytest.approx([100 * s for s in found.scores["relative_score"][:3]])
    said = str(found)
    for words in ("Held-out scores and pools", "Difference to the first run", "Paid calls", "Settings that differ"):
        assert words in said


def test_a_run_that_has_not_begun_is_shown_empty(finished: Run) -> None:
    open_run("new", preset="smoke", api={"price_per_million": (1.0, 1.0)})
    found = lionkit.compare(["r", "new"])
    assert set(found.scores["run"]) == {"r"}
    assert found.differences.empty
    assert found.costs.set_index("run").loc["new", "calls"] == 0
    assert "Difference to the first run: none" in str(found)
    assert lionkit.compare(["new", open_run("newer", preset="smoke")]).scores.empty
    assert lionkit.compare(["new", "newer"]).plot().has_data() is False


@pytest.mark.parametrize(
    ("names", "words"),
    [(["r"], "two or more different runs"), (["r", "r"], "two or more"), (["r", "x"], "no run of the name x")],
)
def test_what_cannot_be_compared_is_one_line(finished: Run, names: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        lionkit.compare(names)


def test_only_offered_names_are_looked_up() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = lionkit.nonsense
