"""Families of instructions whose right answer can be computed: what the answer-key teacher knows.

Each family has several phrasings around one `{data}` slot (in `families.toml`), a way to draw data from
common or rare words, and a function from data to the answer. An instruction is solved by finding the phrasing
it matches, so nothing has to be remembered about it. English only; anything else is unknown to the key.
"""

import random
import re
import tomllib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from lionkit.records import Instruction

_TEXT = tomllib.loads(files(__package__).joinpath("families.toml").read_text(encoding="utf-8"))
_PAIRS = {name: dict(p.split("-") for p in _TEXT[name].split()) for name in ("opposites", "capitals", "plurals")}

Draw = Callable[[random.Random, bool], str]
Answer = Callable[[str], str]


class Family(NamedTuple):
    """One kind of verifiable instruction."""

    name: str
    draw: Draw
    """(rng, rare) -> data."""
    answer: Answer
    """data -> the right answer."""

    @property
    def phrasings(self) -> list[str]:
        return _TEXT["phrasings"][self.name]


def _items(data: str) -> list[str]:
    return [part.strip() for part in data.split(",")]


def _vocabulary(rare: bool, *kinds: str) -> list[str]:
    return [word for kind in kinds or _TEXT["words"] for word in _TEXT["words"][kind][rare].split()]


def _words(low: int, high: int) -> Draw:
    return lambda rng, rare: ", ".join(rng.sample(_vocabulary(rare), rng.randint(low, high)))


def _numbers(low: int, high: int, top: int) -> Draw:
    """Rare numbers are drawn from four times the range."""
    return lambda rng, rare: ", ".join(map(str, rng.sample(range(2, top * (4 if rare else 1)), rng.randint(low, high))))


def _keys(table: dict[str, str], size: int) -> Draw:
    """The last third of a table is rare."""
    common = len(table) * 2 // 3
    return lambda rng, rare: ", ".join(rng.sample(list(table)[common:] if rare else list(table)[:common], size))


def _sentence(rng: random.Random, rare: bool) -> str:
    who, did, where = (rng.choice(_TEXT[part].split()) for part in ("people", "verbs", "places"))
    things = _plural(rng.choice(_vocabulary(rare, "tool", "fruit")))
    number, animal = rng.randint(3, 99), rng.choice(_vocabulary(rare, "animal"))
    return f"{who} {did} {number} {things} for the {animal} near the {where}"


def _three_and_one(rng: random.Random, rare: bool) -> str:
    many, other = rng.sample(list(_TEXT["words"]), 2)
    words = [*rng.sample(_vocabulary(rare, many), 3), rng.choice(_vocabulary(rare, other))]
    return ", ".join(rng.sample(words, 4))


def _odd(data: str) -> str:
    kinds = {word: kind for kind in _TEXT["words"] for rare in (False, True) for word in _vocabulary(rare, kind)}
    found = [kinds.get(word, "") for word in _items(data)]
    return next(word for word, kind in zip(_items(data), found, strict=True) if found.count(kind) == 1)


def _plural(word: str) -> str:
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return _PAIRS["plurals"].get(word) or (f"{word}es" if word.endswith(("s", "x", "ch", "sh")) else f"{word}s")


def _each(change: Answer) -> Answer:
    return lambda data: ", ".join(change(item) for item in _items(data))


def _search(pattern: str) -> Answer:
    return lambda data: re.search(pattern, data)[1]  # type: ignore[index]


FAMILIES: tuple[Family, ...] = (
    Family("reverse words", _words(4, 6), lambda data: ", ".join(_items(data)[::-1])),
    Family("sort words", _words(4, 5), lambda data: ", ".join(sorted(_items(data)))),
    Family("count words", _words(3, 9), lambda data: str(len(_items(data)))),
    Family("opposites", _keys(_PAIRS["opposites"], 5), _each(_PAIRS["opposites"].__getitem__)),
    Family("capitals", _keys(_PAIRS["capitals"], 4), _each(_PAIRS["capitals"].__getitem__)),
    Family("sum", _numbers(2, 3, 60), lambda data: str(sum(map(int, _items(data))))),
    Family("largest number", _numbers(4, 6, 100), lambda data: max(_items(data), key=int)),
    Family("sort numbers", _numbers(4, 5, 100), lambda data: ", ".join(sorted(_items(data), key=int))),
    Family("first letters", _words(4, 6), _each(lambda word: word[0])),
    Family("capital letters", _words(4, 5), str.upper),
    Family("plurals", _words(4, 5), _each(_plural)),
    Family("odd one out", _three_and_one, _odd),
    Family("find the number", _sentence, _search(r"\b(\d+)\b")),
    Family("find the person", _sentence, _search(r"^(\w+)")),
    Family("find the animal", _sentence, _search(r"for the (\w+) near")),
    Family("last word", _sentence, _search(r"(\w+)\W*$")),
)


@cache
def _patterns() -> list[tuple[Family, re.Pattern[str]]]:
    return [(f, re.compile(re.escape(p).replace(r"\{data\}", "(.+)"))) for f in FAMILIES for p in f.phrasings]


def solve(text: str) -> tuple[Family, str] | None:
    """The family of an instruction and its right answer; None when the key does not know it."""
    for family, pattern in _patterns():
        if found := pattern.fullmatch(text.strip()):
            try:
                return family, family.answer(found[1])
            except (KeyError, ValueError, IndexError, TypeError, StopIteration):
                return None  # a known phrasing around data that the family has no answer for
    return None


def invent(family: Family, rng: random.Random, *, rare: bool = False) -> str:
    """A new instruction of the family, in any of its phrasings."""
    return rng.choice(family.phrasings).format(data=family.draw(rng, rare))


def seeds(count: int, seed: int) -> list[Instruction]:
    """`count` different instructions, spread evenly over the families; the same for the same seed."""
    rng = random.Random(f"families {seed}")
    found: dict[str, Instruction] = {}
    while len(found) < count:
        family = FAMILIES[len(found) % len(FAMILIES)]
        item = Instruction(invent(family, rng), category=family.name)
        found.setdefault(item.id, item)
    return list(found.values())
