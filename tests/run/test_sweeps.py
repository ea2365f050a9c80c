"""Sweeps say what a run's pools would have been; where the run itself is the answer, they give it."""

from lionkit.pools import split_by_gap
from lionkit.run import Run, sweeps
from lionkit.run.reading import read_candidates, read_discrimination


def test_tau_moves_the_sides_as_splitting_anew_does(finished: Run) -> None:
    found = read_discrimination(finished, 1)
    table = sweeps.by_tau(finished, 1, [0, 1, 4, 9])
    for row in table.itertuples():
        split = split_by_gap(found.instructions, found.verdicts, row.tau)
        assert (row.hard, row.easy, row.undecided) == tuple(map(len, split))
    assert table["hard"].is_monotonic_decreasing
    assert table["hard"].nunique() > 1


def test_the_runs_own_cut_gives_the_runs_own_pool_and_a_lower_one_less(finished: Run) -> None:
    kept = [c for c in read_candidates(finished, 1) if c.rule in ("", "surplus")]
    table = sweeps.by_novelty(finished, 1, [0.2, finished.config.novelty]).set_index("novelty")
    assert table.loc[finished.config.novelty, "hard"] == sum(c.kind == "hard" for c in kept)
    assert table.loc[finished.config.novelty, "easy"] == sum(c.kind == "easy" for c in kept)
    assert table.loc[0.2, "too_near"] > table.loc[finished.config.novelty, "too_near"]
    assert (table.sum(axis=1) == table.sum(axis=1).iloc[0]).all()


def test_a_mix_takes_what_is_there_and_says_what_is_missing(finished: Run) -> None:
    table = sweeps.by_mix(finished, 1).set_index("hard_share")
    assert table.loc[0.5].tolist() == [6, 6, 0]
    assert (table.sum(axis=1) == 12).all()
    assert table.loc[1, "hard"] >= 6
    assert table.loc[1, "easy"] == 0
