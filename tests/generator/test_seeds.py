"""Which instructions seed new ones: the paper's choice and the controls."""

import pytest

from lionkit.generator import seeds
from lionkit.pools import split_by_gap
from lionkit.records import Instruction, Judgement, Verdict


def pool(scores: dict[str, list[float]]) -> tuple[list[Instruction], list[Verdict]]:
    """Instructions by category with the student's scores; the teacher always has 9."""
    items = [
        Instruction(f"{name} {n}", category=name if name[0] != "-" else "")
        for name, given in scores.items()
        for n, _ in enumerate(given)
    ]
    flat = [score for given in scores.values() for score in given]
    return items, [Verdict(i.id, Judgement(9, s), Judgement(9, s)) for i, s in zip(items, flat, strict=True)]


SCORES = {"never": [1.0, 1.0, 1.0], "half": [9.0, 1.0, 1.0, 9.0], "nearly": [9.0, 9.0, 8.0], "-": [5.0]}


def test_gap_is_the_papers_choice_and_random_the_same_sizes() -> None:
    items, verdicts = pool(SCORES)
    split = split_by_gap(items, verdicts)
    assert seeds.choose(split, verdicts) == split
    dealt = seeds.choose(split, verdicts, "random", seed=3)
    assert [len(side) for side in dealt] == [len(side) for side in split]
    assert {i.id for i in [*dealt.hard, *dealt.easy]} == {i.id for i in items}
    assert dealt.hard != split.hard
    assert seeds.choose(split, verdicts, "random", seed=3) == dealt != seeds.choose(split, verdicts, "random", seed=4)


def test_the_frontier_is_what_is_half_known() -> None:
    items, verdicts = pool(SCORES)
    split = split_by_gap(items, verdicts)
    chosen = seeds.choose(split, verdicts, "frontier")
    assert sorted(item.category for item in chosen.hard) == ["", "half", "half", "never"]
    assert chosen.easy == split.easy


def test_credit_is_that_of_the_category_or_its_own() -> None:
    items, verdicts = pool(SCORES)
    credit = seeds.credit(items, verdicts)
    assert credit[items[0].id] == pytest.approx(1 / 9)
    assert credit[items[3].id] == pytest.approx(5 / 9)
    assert credit[items[-1].id] == pytest.approx(5 / 9)


def test_old_ones_are_drawn_once_each_and_the_same_for_the_same_seed() -> None:
    items, _ = pool(SCORES)
    old = seeds.replayed(items, 5, 1, seed=2)
    assert len({item.id for item in old}) == 5
    assert old == seeds.replayed(items[::-1], 5, 1, seed=2) != seeds.replayed(items, 5, 2, seed=2)
    assert len(seeds.replayed(items, 99, 1)) == len(items)
