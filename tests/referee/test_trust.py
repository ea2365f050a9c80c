"""The audit: known biases are found within their intervals, and each measure equals its textbook value."""

from __future__ import annotations

import math
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lionkit import plots, pools
from lionkit.pools.reviews import read_fastchat_answers, read_fastchat_reviews
from lionkit.records import Instruction, Judgement, Response, Verdict
from lionkit.referee.trust import audit, seat_advantage, sides_by_tau

UNREAD = Judgement(None, None, reason="unread")


def verdict(name: str, first: tuple[float, float] | None, second: tuple[float, float] | None) -> Verdict:
    """Scores as (teacher, student), with the teacher first, then second."""
    return Verdict(name, *(Judgement(*s) if s else UNREAD for s in (first, second)))


def measures(table: pd.DataFrame, tau: float = 1.0, other: pd.DataFrame | None = None) -> pd.DataFrame:
    return audit(table, tau, other).set_index("measure")


def gaps(*values: float) -> pd.DataFrame:
    """A table with these gaps and no seat bias."""
    return pools.verdict_table(
        [verdict(str(i), (5 + g / 2, 5 - g / 2), (5 + g / 2, 5 - g / 2)) for i, g in enumerate(values)]
    )


def test_seat_bias_flips_and_shares_by_hand() -> None:
    table = pools.verdict_table([
        verdict("a", (9, 7), (7, 9)),  # first seat +2; hard, then not; winner changes
        verdict("b", (9, 6), (9, 8)),  # first seat +1; hard both times
        verdict("c", (8, 8), (8, 8)),  # a tie
        verdict("d", (9, 1), None),  # undecided: in no measure but its own
    ])  # fmt: skip
    found = measures(table)
    assert list(seat_advantage(table)) == [2, 1, 0]
    assert found.loc["seat bias", ["value", "n"]].tolist() == [1, 3]
    assert found.loc["undecided", "value"] == 0.25
    assert found.loc["label flips", "value"] == pytest.approx(1 / 3)
    assert found.loc["winner flips", "value"] == pytest.approx(1 / 3)
    assert found.loc["ties", "value"] == pytest.approx(2 / 3)
    assert found.loc["teacher's score", "value"] == pytest.approx((8 + 9 + 8) / 3)
    assert found["n"].drop("undecided").eq(3).all()
    margin = 1.96 / math.sqrt(3)
    assert found.loc["seat bias", ["low", "high"]].tolist() == pytest.approx([1 - margin, 1 + margin])


@pytest.mark.parametrize(("value", "n"), [(0.0, 11), (1.0, 60), (1.0, 20)])
def test_an_interval_holds_its_share_to_the_last_bit(value: float, n: int) -> None:
    table = pools.verdict_table([verdict(str(i), None if value else (8, 8), (8, 8)) for i in range(n)])
    found = measures(table)
    assert found.loc["undecided", "low"] <= value <= found.loc["undecided", "high"]
    plots.shares(found.reset_index())
    plt.close("all")


def test_intervals_of_the_seat_bias_hold_the_injected_bias_as_often_as_they_say() -> None:
    held = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        truth, noise = rng.uniform(5, 6, (60, 2)), rng.normal(0, 0.7, (60, 4))
        rows = [
            verdict(str(i), (t + 1 + n[0], s - 1 + n[1]), (t - 1 + n[2], s + 1 + n[3]))
            for i, ((t, s), n) in enumerate(zip(truth, noise))
        ]
        row = measures(pools.verdict_table(rows)).loc["seat bias"]
        held += row["low"] <= 2 <= row["high"]
    assert 0.91 <= held / 150 <= 0.985


def test_shares_have_wilson_intervals() -> None:
    ties = measures(gaps(*[0.0] * 22, *[1.0] * 58)).loc["ties"]
    assert ties[["value", "low", "high"]].tolist() == pytest.approx([0.275, 0.18918, 0.38144], abs=1e-5)
    none = measures(gaps(*[1.0] * 80)).loc["ties"]
    assert none[["value", "low", "high"]].tolist() == pytest.approx([0, 0, 0.04582], abs=1e-5)


def test_sides_that_hang_on_tau() -> None:
    found = measures(gaps(0.4, 0.5, 0.9, 1.0, 1.4, 1.5, 3.0, -2.0))
    assert found.loc["sides changed at tau 0.5", "value"] == 2 / 8  # 0.5 and 0.9 become hard
    assert found.loc["sides changed at tau 1.5", "value"] == 2 / 8  # 1.0 and 1.4 become easy
    assert "sides changed at tau 2.5" in measures(gaps(1.0), tau=2.0).index


def test_agreement_is_cohens_kappa_and_pearsons_r() -> None:
    one = gaps(*[2.0] * 25, *[0.0] * 25)
    two = gaps(*[2.0] * 20, *[0.0] * 5, *[2.0] * 10, *[0.0] * 15)
    found = measures(one, other=two)
    assert found.loc["agreement (kappa)", "value"] == pytest.approx(0.4)  # the textbook table 20, 5, 10, 15
    assert found.loc["agreement (gaps)", "value"] == pytest.approx(np.corrcoef(one["gap"], two["gap"])[0, 1])
    same = measures(one, other=one)
    assert same.loc["agreement (kappa)", "value"] == 1
    assert same.loc["agreement (gaps)", "value"] == pytest.approx(1)
    assert "agreement (kappa)" not in measures(one).index
    reordered = two.sample(frac=1, random_state=0)
    assert measures(one, other=reordered).loc["agreement (kappa)", "value"] == pytest.approx(0.4)
    assert math.isnan(measures(gaps(2.0, 2.0), other=gaps(2.0, 2.0)).loc["agreement (kappa)", "value"])


def test_kappas_interval_is_wilsons_and_does_not_vanish_when_all_agree() -> None:
    both = gaps(*[2.0] * 5, *[0.0] * 5)
    row = measures(both, other=both).loc["agreement (kappa)"]
    assert row[["value", "low", "high", "n"]].tolist() == pytest.approx([1, 2 * 0.72247 - 1, 1, 10], abs=1e-4)


@pytest.mark.parametrize("values", [[], [3.0], [2.0] * 9, [0.0] * 9, [2.0, 0.0]])
def test_degenerate_tables_give_counts_and_nan_not_errors(values: list[float]) -> None:
    table = gaps(*values)
    found = measures(table, other=table)
    assert found["n"].drop("undecided").eq(len(values)).all()
    one_kind = len(set(values)) < 2
    assert found.loc[["agreement (kappa)"], ["value", "low", "high"]].isna().all(axis=None) == one_kind
    assert found.loc[["agreement (gaps)"], ["value", "low", "high"]].isna().all(axis=None)
    assert found.loc[["seat bias"], ["low", "high"]].isna().all(axis=None) == (len(values) < 2)
    assert found.loc["ties", "n"] == len(values)
    assert np.isnan(found.loc["ties", "value"]) == (not values)


def test_sides_by_tau_repeat_the_audits_rows_and_are_nothing_at_tau_itself() -> None:
    table = gaps(0.4, 0.5, 0.9, 1.0, 1.3, 1.4, 1.5, 3.0, -2.0)
    moved = sides_by_tau(table, tau=1.1).set_index("tau")
    assert moved.loc[1.1, "share"] == 0
    assert moved.loc[1.3, "share"] == 0  # a gap of 1.3 is hard at tau = 1.3 still
    assert moved.loc[1.4, "share"] == 1 / 9
    found = measures(table, tau=1.1)
    for tau in (0.6, 1.6):
        assert moved.loc[tau].tolist() == found.loc[f"sides changed at tau {tau:g}", ["value", "low", "high"]].tolist()
    assert sides_by_tau(gaps())["share"].isna().all()


def test_length_bias_is_the_correlation_of_gap_and_length_difference() -> None:
    rng = np.random.default_rng(0)
    longer = rng.integers(-200, 200, 400)
    items = [Instruction(f"q{i}", id=str(i)) for i in range(400)]
    teacher = [Response(str(i), "x" * (300 + n)) for i, n in enumerate(longer)]
    student = [Response(str(i), "x" * 300) for i in range(400)]
    drawn = [(float(np.clip(6 + n / 200 + e, 1, 10)), 6.0) for n, e in zip(longer, rng.normal(0, 0.5, 400))]
    table = pools.pool_table(items, teacher, student, [verdict(str(i), s, s) for i, s in enumerate(drawn)])
    row = measures(table).loc["length bias"]
    assert row["value"] == pytest.approx(np.corrcoef(longer, [t - s for t, s in drawn])[0, 1])
    assert 0.6 < row["low"] < row["value"] < row["high"] < 0.85
    assert "length bias" not in measures(table.drop(columns=["teacher_response", "student_response"])).index


def test_one_order_has_no_seat_measures_and_no_data_is_nan() -> None:
    one_order = pools.verdict_table([Verdict("a", Judgement(9.0, 8.0)), Verdict("b", Judgement(7.0, 7.0))])
    found = measures(one_order)
    assert found.loc[["seat bias", "label flips", "winner flips"], "n"].tolist() == [0, 0, 0]
    assert found.loc[["seat bias", "label flips"], "value"].isna().all()
    assert found.loc["ties", "value"] == 0.5
    for empty in (pools.verdict_table([]), pools.verdict_table([verdict("a", None, None)])):
        table = measures(empty, other=empty)
        assert table.drop("undecided")["value"].isna().all()
        assert table.drop("undecided")["n"].eq(0).all()


def test_real_reviews(shared_data: Path) -> None:
    folder = shared_data / "vicuna80"
    files = [folder / f"{name}.jsonl" for name in ("answer_gpt35", "answer_vicuna-13b", "question")]
    verdicts = read_fastchat_reviews(folder / "review_gpt35_vicuna-13b.jsonl", *files)
    answers = [read_fastchat_answers(path) for path in files[:2]]
    found = measures(pools.pool_table(pools.read_instructions(files[2]), *answers, verdicts))
    assert found.loc["ties", "value"] == 22 / 80
    assert found.loc["length bias", "n"] == 80
    assert found.loc["teacher's score", "value"] == 693 / 80


def test_splitting_auditing_and_plotting_70_000_verdicts_takes_seconds() -> None:
    rng = np.random.default_rng(0)
    scores = np.clip(np.rint(2 * rng.normal(7, 1.5, (70_000, 4))) / 2, 1, 10).tolist()
    verdicts = [verdict(str(i), None if i % 50 == 0 else (a, b), (c, d)) for i, (a, b, c, d) in enumerate(scores)]
    items = [Instruction("q", id=str(i), category=f"c{i % 9}") for i in range(70_000)]
    answers = [[Response(str(i), "x" * (i % n)) for i in range(70_000)] for n in (97, 89)]
    drawings = [plots.score_scatter, plots.gap_histogram, plots.seat_bias, plots.relative_by_category,
                plots.length_bias, plots.score_distribution, plots.tau_shift,
                lambda table: plots.agreement(table, table)]  # fmt: skip
    started = time.process_time()
    split = pools.split_by_gap(items, verdicts, 1.0)
    table = pools.pool_table(items, *answers, verdicts)
    found = measures(table, other=table)
    for draw in drawings:
        figure = draw(table).figure
        figure.canvas.draw()
        plt.close(figure)  # type: ignore[arg-type]
    assert time.process_time() - started < 30
    assert sum(map(len, split)) == 70_000
    assert len(split.undecided) == 1400
    assert found.loc["undecided", "value"] == 0.02
