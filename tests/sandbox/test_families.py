"""The answer key: every instruction it invents it can solve, score and vary; what it does not know it says."""

from __future__ import annotations

import random

import pytest

from lionkit import prompts
from lionkit.novelty import NoveltyIndex
from lionkit.referee import Scores, Unscored, parse_scores
from lionkit.sandbox import answer_key
from lionkit.sandbox.families import FAMILIES, invent, seeds, solve

ANSWERS = {
    "Reverse the order of these words: pear, fig, apple": "apple, fig, pear",
    "Sort the list from A to Z: drum, bear, axe": "axe, bear, drum",
    "Count the items: cat, dog, cow, goat": "4",
    "Give the opposite of each word: hot, early": "cold, late",
    "Name the capital of each country: France, Japan": "Paris, Tokyo",
    "Add these numbers: 4, 7, 12": "23",
    "Find the maximum of these values: 8, 86, 36": "86",
    "Arrange the values in ascending order: 97, 8, 69": "8, 69, 97",
    "Take the first letter of each word: rake, sock": "r, s",
    "Write these words in capital letters: drill, mouse": "DRILL, MOUSE",
    "Write the plural of each noun: bench, cherry, wolf, mango, saw": "benches, cherries, wolves, mangoes, saws",
    "Find the odd one out: shirt, dress, melon, hat": "melon",
    "Find the number in this sentence: Ben sold 36 plums for the goat near the garden": "36",
    "Who is this sentence about? Ben sold 36 plums for the goat near the garden": "Ben",
    "Which animal appears in this sentence? Ben sold 36 plums for the goat near the garden": "goat",
    "Copy the final word: Ben sold 36 plums for the goat near the garden": "garden",
}


@pytest.mark.parametrize(("text", "answer"), ANSWERS.items())
def test_one_answer_of_each_family(text: str, answer: str) -> None:
    family, found = solve(text) or pytest.fail(f"unknown: {text}")
    assert found == answer
    assert answer_key.reply(prompts.teacher_messages(text)) == answer


def test_there_are_enough_families_and_each_is_covered() -> None:
    assert len(FAMILIES) >= 12
    assert {solve(text)[0].name for text in ANSWERS} == {f.name for f in FAMILIES}  # type: ignore[index]
    for family in FAMILIES:
        assert len(family.phrasings) >= 3
        for rare in (False, True):
            text = invent(family, random.Random(1), rare=rare)
            assert solve(text)[0] is family  # type: ignore[index]


@pytest.mark.parametrize("text", ["", "Write a poem", "Add these numbers: x, y", "Find the odd one out: one, two"])
def test_what_it_does_not_know_it_says(text: str) -> None:
    assert solve(text) is None
    assert "no rule" in answer_key.reply(prompts.teacher_messages(text))
    assert isinstance(parse_scores(answer_key.reply(prompts.referee_messages(text, "a", "b"))), Unscored)


def test_seeds_are_distinct_even_and_repeatable() -> None:
    found = seeds(160, 5)
    assert len({i.id for i in found}) == 160
    assert {sum(i.category == f.name for i in found) for f in FAMILIES} == {10}
    assert seeds(160, 5) == found
    assert seeds(160, 6) != found


@pytest.mark.parametrize(
    ("answer", "score"),
    [("apple, fig, pear", 9), ("apple fig pear", 9), ("pear, fig, apple", 3), ("", 1), ("banana", 1), ("fig", 4)],
)
def test_partial_credit(answer: str, score: float) -> None:
    assert answer_key.grade(answer, "apple, fig, pear")[0] == score


def test_referee_is_fair_and_its_bias_is_as_asked() -> None:
    text, right, wrong = "Add these numbers: 4, 7, 12", "23", "It is 23, I think"
    fair = parse_scores(answer_key.reply(prompts.referee_messages(text, right, wrong)))
    swapped = parse_scores(answer_key.reply(prompts.referee_messages(text, wrong, right)))
    assert isinstance(fair, Scores)
    assert isinstance(swapped, Scores)
    assert (fair.first, fair.second) == (swapped.second, swapped.first)
    biased = parse_scores(answer_key.reply(prompts.referee_messages(text, right, wrong), bias=2))
    assert isinstance(biased, Scores)
    assert (biased.first, biased.second) == (fair.first + 1, fair.second - 1)


def test_generator_stays_in_the_family_and_novelty_is_attainable() -> None:
    pool = seeds(320, 0)
    index = NoveltyIndex(0.7)
    for item in pool:
        index.add(item.text)
    for family in FAMILIES:
        seed = next(i for i in pool if i.category == family.name)
        for kind in ("hard", "easy"):
            made = [answer_key.reply(prompts.generator_messages(seed.text, kind), slot=str(n)) for n in range(30)]
            assert {solve(text)[0].name for text in made} == {family.name}  # type: ignore[index]
            assert sum(index.is_novel(text) for text in made) >= 3, (family.name, kind)
