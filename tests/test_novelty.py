"""Novelty: equal to rouge_score on Latin text, right on every other script, and the true maximum always."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import tokenize
from rouge_score.rouge_scorer import RougeScorer

from lionkit.errors import ConfigError
from lionkit.novelty import NoveltyIndex, rouge_l, tokens

SCORER = RougeScorer(["rougeL"], use_stemmer=False)


def reference(text: str, pool: list[str]) -> float:
    return max((SCORER.score(one, text)["rougeL"].fmeasure for one in pool), default=0.0)


def index_of(pool: list[str], threshold: float = 0.7) -> NoveltyIndex:
    index = NoveltyIndex(threshold)
    for text in pool:
        index.add(text)
    return index


def agrees(index: NoveltyIndex, text: str, pool: list[str]) -> None:
    best = reference(text, pool)
    score, nearest = index.nearest(text)
    assert score == best, (text, nearest)
    assert (nearest is None) == (best == 0)
    if nearest is not None:
        assert SCORER.score(nearest, text)["rougeL"].fmeasure == best
    assert index.is_novel(text) == (best <= index.threshold), text


WORD = st.sampled_from(["a", "b", "c", "The", "café", "x2", "don't", "über", "--", "7", "e\u0301", "½", "€5"])
LATIN = st.lists(WORD, max_size=14).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(st.lists(LATIN, max_size=20), LATIN, st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.9, 1.0]))
def test_scores_and_decisions_equal_rouge_score(pool: list[str], text: str, threshold: float) -> None:
    agrees(index_of(pool, threshold), text, pool)
    assert rouge_l(text, text) == (1.0 if tokens(text) else 0.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=12), st.text(max_size=30))
def test_nearest_is_the_maximum_of_rouge_l_for_any_text(pool: list[str], text: str) -> None:
    score, nearest = index_of(pool).nearest(text)
    assert score == max((rouge_l(one, text) for one in pool), default=0.0)
    assert nearest is None or rouge_l(nearest, text) == score


def test_many_lengths_and_repeated_words() -> None:
    rng = random.Random(0)
    words = [f"w{int(rng.paretovariate(0.7))}" for _ in range(4000)]
    pool = [" ".join(rng.choices(words, k=rng.choice([1, 2, 3, 5, 9, 12, 13, 40, 90]))) for _ in range(600)]
    index = index_of(pool)
    for text in rng.sample(pool, 20) + [" ".join(rng.choices(words, k=k)) for k in (1, 2, 4, 12, 12, 12, 30, 200)]:
        mutated = " ".join(word for word in text.split() if rng.random() > 0.25)
        agrees(index, mutated, pool)


def test_the_boundary_follows_rouge_score_to_the_last_bit() -> None:
    same, other = [f"s{i}" for i in range(7)], [f"o{i}" for i in range(9)]
    for m in range(7, 14):
        pool = " ".join(same + other[: 13 - m])
        text = " ".join(same + [f"x{i}" for i in range(m - 7)])
        agrees(index_of([pool]), text, [pool])


def test_real_texts_equal_rouge_score(shared_data: Path) -> None:
    texts = gzip.decompress((shared_data / "texts_52k.txt.gz").read_bytes()).decode().splitlines()
    texts = [text for text in texts if text.isascii()]
    rng = random.Random(0)
    pool, rest = texts[:1500], texts[-15:]
    rest += [" ".join(w for w in rng.choice(pool).split() if rng.random() > 0.2) for _ in range(15)]
    index = index_of(pool)
    for text in rest:
        agrees(index, text, pool)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop-me NOW, x2!", ["don", "t", "stop", "me", "now", "x2"]),
        ("café au lait, ½ €5 20°C ™", ["caf", "au", "lait", "5", "20", "c"]),
        ("Привет, мир! 2 раза", ["привет", "мир", "2", "раза"]),
        ("写一首诗。GPT-4", ["写", "一", "首", "诗", "gpt", "4"]),
        ("コーヒーをください", list("コーヒーをください")),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("اكتب قصيدة ١٢", ["اكتب", "قصيدة", "١٢"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("ชอบแมว", ["ช", "อ", "บ", "แ", "ม", "ว"]),
        ("π = 3", ["π", "3"]),
        ("ok 😀👍🏽 ❤️ 🇩🇪🇫🇷", ["ok", "😀", "👍🏽", "❤️", "🇩🇪", "🇫🇷"]),
        ("for i in range(3): x_1 += i", ["for", "i", "in", "range", "3", "x", "1", "i"]),
        ("... —", []),
        ("", []),
    ],
)
def test_tokens_of_every_script(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


def test_scripts_that_rouge_score_does_not_see() -> None:
    russian = index_of(["Напиши 5 строк о море"])
    assert russian.is_novel("Сколько будет 5 плюс шесть")
    assert not russian.is_novel("Напиши 5 строк о лесе и море")
    assert index_of(["写一首关于秋天的诗"]).nearest("写一首关于秋天的诗") == (1.0, "写一首关于秋天的诗")
    assert not index_of(["写一首关于秋天的诗"]).is_novel("写一首关于秋天的诗")
    assert index_of(["写一首关于秋天的诗"]).is_novel("今天天气怎么样")
    for text in ("اكتب قصيدة قصيرة", "एक छोटी कविता लिखो", "😀😀", "แต่งกลอนสั้น", "def f(x): return x"):
        assert not index_of([text]).is_novel(text), text
    assert index_of(["\u1112\u1161\u11ab"]).nearest("\ud55c")[0] == 1.0  # one syllable, decomposed and composed


def test_every_latin_letter_is_read_as_rouge_score_reads_it() -> None:
    latin = [c for c in map(chr, range(0x20000)) if regex.match(r"\p{Latin}", c)]
    assert len(latin) > 1300
    for c in latin:
        text = f"a{c}b {c} {c}{c}"
        assert tokens(text) == tokenize.tokenize(text, None), hex(ord(c))


def test_a_few_words_of_another_script_are_gaps_as_for_rouge_score() -> None:
    pool = ["Marcia: Oli: the questions", "Hellas is the name that Greeks use", "see you on Monday then"]
    index = index_of(pool)
    for text in ("Hellas (Ἑλλάς) is the name that Greeks use", "see you on Monday 😀", "π is the name that all use"):
        agrees(index, text, pool)
    first, second = "Translate to English: кот спит дома", "Translate to English: мы любим чай"
    assert index_of([first]).nearest(second)[0] == 0.5


def test_an_empty_pool_and_texts_without_tokens() -> None:
    index = NoveltyIndex()
    assert index.nearest("anything") == (0.0, None)
    assert index.is_novel("anything")
    index.add("?!")
    assert len(index) == 1
    assert index.nearest("?!") == (0.0, None)
    assert index.is_novel("?!")


def test_added_texts_count_at_once() -> None:
    index = NoveltyIndex()
    for i in range(3000):
        text = f"describe item {i} of lot {i % 7}"
        if i % 500 == 0:
            assert index.nearest(text)[0] < 1
        index.add(text)
        if i % 500 == 0:
            assert index.nearest(text) == (1.0, text)
    assert len(index) == 3000


def test_a_threshold_outside_its_range_is_refused() -> None:
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="novelty"):
            NoveltyIndex(bad)
