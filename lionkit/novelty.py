"""Exact ROUGE-L novelty against a growing pool, without comparing with every text (paper section 3.3).

ROUGE-L F1 of two texts with m and n tokens is 2L / (m + n), L their longest common subsequence; a candidate is
novel when its highest F1 against the pool is at most the threshold. L cannot exceed the number of tokens shared
in any order, so an inverted index finds the few texts that can beat the best score so far, and only for those
L is computed (rapidfuzz). Nothing is approximated: `nearest` is the true maximum.

Tokens. Latin letters and digits are read as rouge_score (use_stemmer=False) reads them: lower case, runs of
[a-z0-9], all else a gap ("café au lait" is caf, au, lait), so scores and decisions equal its own. rouge_score
sees nothing in other scripts; here their words are tokens, characters one by one in scripts written without
spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese), and each emoji is a token. In a text that holds few of these
(under three tenths of its tokens: a name in Greek, a face at the end) they are gaps as for rouge_score; so few
could not make two texts novel to each other at 0.7. Not covered: stemming, word segmentation, symbols and
punctuation (so `a + b` and `a - b` are equal), letters styled as symbols, pools of over 1.1 million different tokens.

Memory: 0.6 kB a text of 12 words at 50,000 texts and 0.3 kB at 200,000, since rare words cost most (measured by
tests/bench/novelty.py), and the text itself where nothing else holds it.
"""

import unicodedata
from array import array
from bisect import bisect_right
from collections import defaultdict
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import regex
from rapidfuzz.distance import LCSseq
from rapidfuzz.process import cdist

from lionkit.errors import ConfigError

_LATIN = regex.compile(r"[a-z0-9]+")
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー]"
_OTHER = rf"[\p{{L}}\p{{N}}--\p{{Latin}}--\p{{Common}}--{_UNSPACED}]"
_EMOJI = r"[\p{Emoji_Presentation}\p{Extended_Pictographic}--\u0000-\u2BFF]|[\u2600-\u2604\u2607-\u26FF\u2763\u2764]"
UNSPACED = regex.compile(rf"(?V1){_UNSPACED}")
"""A letter of a script written without spaces between words."""
_TOKEN = regex.compile(
    rf"(?V1)[a-z0-9]+|{_UNSPACED}\p{{M}}*|{_OTHER}(?:{_OTHER}|\p{{M}}|[\u200C\u200D])*"
    rf"|\p{{Regional_Indicator}}{{2}}|(?:{_EMOJI})[\p{{Emoji_Modifier}}\uFE0F]*"
)

_FEW = 0.3
"""A text with a smaller share of tokens in other scripts is read as Latin text."""
_FLOORS = (0.7, 0.45, 0.25, 0.0)
"""`nearest` looks for a text above each of these scores in turn and stops at the first that has one."""
_SHORTEST = sorted({round(1.2**i) for i in range(100)})
"""Texts are kept in groups of similar length; the fewest tokens of each group."""
_BATCH = 64
_SPARE = 2
"""Lists of texts read beyond the fewest that suffice: that costs less than comparing every text in the fewest."""
_ROUNDING = 1e-9


def tokens(text: str) -> list[str]:
    """The tokens of a text in order, as the module's docstring defines them."""
    lowered = text.lower()
    if lowered.isascii():
        return _LATIN.findall(lowered)
    found = _TOKEN.findall(lowered)
    latin = [token for token in found if token.isascii()]
    if len(found) - len(latin) < _FEW * len(found):
        return latin
    return [t if t.isascii() else unicodedata.normalize("NFKC", t) for t in found]


def rouge_l(first: str, second: str) -> float:
    """ROUGE-L F1 of two texts, in [0, 1]; 0 where either has no token."""
    a, b = tokens(first), tokens(second)
    return float(_f1(LCSseq.similarity(a, b), max(len(a), 1), max(len(b), 1)))


def _f1(common: Any, m: int, n: Any) -> Any:
    """F1 by precision and recall in rouge_score's own order, so that scores are equal to the last bit."""
    precision, recall = common / m, common / n
    return 2 * precision * recall / np.where(common, precision + recall, 1)


class _Query(NamedTuple):
    keys: list[str]
    """The tokens, repetitions numbered."""
    characters: str
    """The query with one character a token, as the pool's texts have it."""


class NoveltyIndex:
    """A pool of texts that finds the nearest to a given text, and whether that text is novel at the threshold."""

    def __init__(self, threshold: float = 0.7) -> None:
        if not 0 <= threshold <= 1:
            raise ConfigError(f"novelty = {threshold!r}: a ROUGE-L F1 in [0, 1]")
        self.threshold = threshold
        self._texts: list[str] = []
        self._characters: dict[str, str] = {}  # by token: rapidfuzz compares strings fastest
        self._postings: dict[int, dict[str, array[int]]] = {}  # by length group and token: the texts that hold it
        self._shared = np.zeros(0, np.int32)  # scratch, 0 between queries
        self._coded: list[str] = []  # each text with one character a token
        self._lengths = array("i")  # and its tokens; no view of it is kept: an array that has one cannot grow

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str) -> None:
        """Add a text. One without tokens counts in `len` and is never the nearest."""
        words = tokens(text)
        if words:
            postings = self._postings.setdefault(bisect_right(_SHORTEST, len(words)) - 1, {})
            for key in _distinct(words):
                postings.setdefault(key, array("i")).append(len(self._texts))
        self._texts.append(text)
        self._coded.append("".join([self._characters.setdefault(w, chr(len(self._characters))) for w in words]))
        self._lengths.append(len(words))

    def nearest(self, text: str) -> tuple[float, str | None]:
        """(highest F1 in [0, 1], a text that has it); (0.0, None) where no text shares a token."""
        query, score, number = self._query(text), 0.0, None
        for floor in _FLOORS:
            score, number = self._search(query, max(floor, score), score, number)
            if score >= floor:
                break
        return score, None if number is None else self._texts[number]

    def is_novel(self, text: str) -> bool:
        """Whether the highest F1 is at most the threshold."""
        return self._search(self._query(text), self.threshold, self.threshold, None, any_will_do=True)[1] is None

    def _query(self, text: str) -> _Query:
        words, unknown = tokens(text), chr(len(self._characters))
        return _Query(_distinct(words), "".join([self._characters.get(word, unknown) for word in words]))

    def _search(
        self, query: _Query, floor: float, score: float, number: int | None, any_will_do: bool = False
    ) -> tuple[float, int | None]:
        """Improve on (score, number of its text) until no text can have an F1 above both `score` and `floor`."""
        numbers, bounds = self._candidates(query, floor, few=0 if any_will_do else _BATCH)
        size = _BATCH
        while len(numbers) and not (any_will_do and number is not None):
            order = np.argpartition(-bounds, min(size, len(bounds)) - 1)
            some, others = numbers[order[:size]], order[size:]
            scores = self._scores(query, some)
            if scores.max() > score:
                score, number = float(scores.max()), int(some[scores.argmax()])
            others = others[bounds[others] > max(score, floor) - _ROUNDING]
            numbers, bounds, size = numbers[others], bounds[others], 4 * size
        return score, number

    def _candidates(self, query: _Query, floor: float, few: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers and upper bounds of F1 of all texts that may be above `floor`, and of a `few` that look close.

        F1 > floor needs more than floor * (m + n) / 2 shared tokens. A text that shares so many holds one of the
        query's rarest, all but that many; with `_SPARE` more it holds several, which hardly any other text does.
        """
        m = len(query.keys)
        lists: list[array[int]] = []
        rests: list[int] = []
        least = m
        for group, postings in self._postings.items():
            needed = int(floor * (m + _SHORTEST[group]) / 2 - _ROUNDING) + 1
            if needed > min(m, _SHORTEST[group + 1] - 1):
                continue  # all of these texts are too long or too short
            known = sorted(filter(None, map(postings.get, query.keys)), key=len)
            lists += known[: max(0, len(known) - needed + 1 + _SPARE)] if needed <= len(known) else []
            rest = max(0, needed - 1 - _SPARE)
            rests += [rest] * (len(lists) - len(rests))
            least = min(least, needed - rest)
        if len(self._shared) < len(self):
            self._shared = np.zeros(2 * len(self), np.int32)
        every, shared = np.frombuffer(b"".join(lists), np.int32).astype(np.intp), self._shared
        try:
            np.add.at(shared, every, np.int32(1))
            counts = shared.take(every)
        finally:  # an interrupted query must not spoil the next
            shared[every] = 0
        top = counts.max(initial=0)
        if not top or (top < least and not few):
            return np.empty(0, np.intp), np.empty(0)
        chosen = np.flatnonzero(counts >= min(least, top))  # the bulk goes before anything is worked out
        numbers, ends = every[chosen], np.cumsum([len(one) for one in lists])
        most = counts[chosen] + np.array(rests)[np.searchsorted(ends, chosen, "right")]
        lengths = np.frombuffer(self._lengths, np.int32)[numbers]
        bounds = 2 * np.minimum(most, lengths) / (m + lengths)
        close = np.flatnonzero(bounds > floor - _ROUNDING)
        if len(close) < few:
            close = np.concatenate([close, np.flatnonzero(counts[chosen] == top)[:few]])
        found = dict(zip(numbers[close].tolist(), bounds[close].tolist()))  # a text stands in several lists
        return np.fromiter(found, np.intp), np.fromiter(found.values(), float)

    def _scores(self, query: _Query, numbers: np.ndarray) -> np.ndarray:
        """F1 of the query with each text."""
        texts = [self._coded[number] for number in numbers.tolist()]
        common = cdist([query.characters], texts, scorer=LCSseq.similarity, dtype=np.int32)[0]
        return _f1(common, len(query.keys), np.frombuffer(self._lengths, np.int32)[numbers])


def _distinct(words: list[str]) -> list[str]:
    """The words with repetitions numbered, so that shared keys of two texts count what both have."""
    if len(set(words)) == len(words):
        return words
    numbered: dict[str, count[int]] = defaultdict(count)
    return [f"{word} {i}" if (i := next(numbered[word])) else word for word in words]
