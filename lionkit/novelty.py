"""Exact ROUGE-L novelty against a growing pool, without comparing with every text (paper section 3.3).

ROUGE-L F1 of two texts with m and n tokens is 2L / (m + n), L their longest common subsequence; a candidate is
novel when its highest F1 against the pool is at most the threshold. L cannot exceed the number of tokens shared
in any order, so an inverted index finds the few texts that can beat the best score so far, and only for those
L is computed (rapidfuzz). Nothing is approximated: `nearest` is the true maximum.

Tokens. Latin letters and digits are read as rouge_score (use_stemmer=False) reads them: lower case, runs of
[a-z0-9], all else a gap ("café au lait" is caf, au, lait), so scores and decisions equal its own. rouge_score
sees nothing in other scripts; here their words are tokens, characters one by one in scripts written without
spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese), and each emoji is a token. Not covered: stemming, word
segmentation, symbols and punctuation (so `a + b` and `a - b` are equal), letters styled as symbols.

Memory: about 0.2 kB a text of 12 words (two 4-byte numbers a token, 10 bytes, its share of the vocabulary), and
the text itself where nothing else holds it. tests/bench/novelty.py measures time and memory.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections import Counter

import numpy as np
import regex
from rapidfuzz.distance import LCSseq

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

_FLOORS = (0.7, 0.45, 0.25, 0.0)
"""`nearest` asks for a text above each in turn, and is done when there is one: the closer, the sooner."""
_BATCH = 64
_ROUNDING = 1e-9


def tokens(text: str) -> list[str]:
    """The tokens of a text in order, as the module's docstring defines them."""
    lowered = text.lower()
    if lowered.isascii():
        return _LATIN.findall(lowered)
    return [t if t.isascii() else unicodedata.normalize("NFKC", t) for t in _TOKEN.findall(lowered)]


def rouge_l(first: str, second: str) -> float:
    """ROUGE-L F1 of two texts, in [0, 1]; 0 where either has no token."""
    a, b = tokens(first), tokens(second)
    return _f1(LCSseq.similarity(a, b), len(a), len(b))


def _f1(common: int, m: int, n: int) -> float:
    """F1 in rouge_score's own order of operations, so that scores are equal to the last bit."""
    if not common:
        return 0.0
    precision, recall = common / m, common / n
    return 2 * precision * recall / (precision + recall)


class _Growing:
    """A numpy array that grows at its end; `view` is the filled part."""

    def __init__(self, dtype: type) -> None:
        self._store, self.size = np.zeros(1024, dtype), 0

    def extend(self, values: list[int]) -> None:
        end = self.size + len(values)
        if end > len(self._store):
            self._store = np.concatenate([self._store, np.zeros(max(end, len(self._store) // 2), self._store.dtype)])
        self._store[self.size : end] = values
        self.size = end

    @property
    def view(self) -> np.ndarray:
        return self._store[: self.size]


class NoveltyIndex:
    """A pool of texts that answers: which of you is nearest to this one, and is it novel at the threshold?"""

    def __init__(self, threshold: float = 0.7) -> None:
        if not 0 <= threshold <= 1:
            raise ConfigError(f"novelty = {threshold!r}: a ROUGE-L F1 in [0, 1]")
        self.threshold = threshold
        self._texts: list[str] = []
        self._ids: dict[str, int] = {}  # a word, or "word j" for its j-th repetition: texts become sets
        self._postings: list[array[int]] = []  # by id: the texts that hold it
        self._words, self._ends = _Growing(np.int32), _Growing(np.int64)  # all texts' words in order; where each ends
        self._lengths, self._shared = _Growing(np.int32), _Growing(np.int32)  # tokens; scratch, 0 between queries

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str) -> None:
        """Add a text. One without tokens counts in `len` and is nobody's neighbour."""
        words = tokens(text)
        for key in _distinct(words):
            if key not in self._ids:
                self._ids[key] = len(self._postings)
                self._postings.append(array("i"))
            self._postings[self._ids[key]].append(len(self._texts))
        self._texts.append(text)
        self._words.extend([self._ids[word] for word in words])
        self._ends.extend([self._words.size])
        self._lengths.extend([len(words)])
        self._shared.extend([0])

    def nearest(self, text: str) -> tuple[float, str | None]:
        """(highest F1 in [0, 1], a text that has it); (0.0, None) where no text shares a token."""
        words = tokens(text)
        for floor in _FLOORS:
            score, number = self._best(words, floor)
            if number is not None:
                return score, self._texts[number]
        return 0.0, None

    def is_novel(self, text: str) -> bool:
        """Whether the highest F1 is at most the threshold."""
        return self._best(tokens(text), self.threshold, any_will_do=True)[1] is None

    def _best(self, words: list[str], floor: float, any_will_do: bool = False) -> tuple[float, int | None]:
        """The highest F1 above `floor` and the number of its text, or (floor, None); texts in order of their bound."""
        best, found = floor, None
        numbers, bounds = self._candidates(words, floor)
        for start in range(0, len(numbers), _BATCH):
            if bounds[start] < best - _ROUNDING or best == 1 or (found is not None and any_will_do):
                break
            batch = numbers[start : start + _BATCH]
            for number, common in zip(batch.tolist(), self._lcs(words, batch)):
                score = _f1(common, len(words), int(self._lengths.view[number]))
                if score > best:
                    best, found = score, number
        return best, found

    def _candidates(self, words: list[str], floor: float) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of all texts whose F1 may be above `floor`, and upper bounds of their F1, highest first.

        F1 > floor needs L > floor * m / (2 - floor), since L <= n. So at least that many of the query's tokens are
        shared, and one of them is among the rarest that remain when all but the last such few are taken.
        """
        m = len(words)
        known = [self._postings[self._ids[key]] for key in _distinct(words) if key in self._ids]
        needed = int(floor * m / (2 - floor) - _ROUNDING) + 1
        rare = sorted(known, key=len)[: max(0, len(known) - needed + 1)]
        if not rare:
            return np.empty(0, np.int32), np.empty(0)
        lists = [np.frombuffer(posting, np.int32) for posting in rare]
        shared, lengths = self._shared.view, self._lengths.view
        for one in lists:
            shared[one] += 1
        every = np.concatenate(lists)
        rest = len(known) - len(rare)

        def bound(numbers: np.ndarray) -> np.ndarray:
            n = lengths[numbers]
            return 2 * np.minimum(shared[numbers] + rest, n) / (m + n)

        numbers = np.unique(every[bound(every) > floor - _ROUNDING])
        bounds = bound(numbers)
        shared[every] = 0
        order = np.argsort(-bounds, kind="stable")
        return numbers[order], bounds[order]

    def _lcs(self, words: list[str], numbers: np.ndarray) -> list[int]:
        """Length of the longest common subsequence of the query with each text."""
        ids = {word: self._ids[word] for word in set(words) if word in self._ids}
        known = np.sort(np.fromiter(ids.values(), np.int32))
        query = np.array([ids.get(word, -1) for word in words], np.int32)
        lengths, ends = self._lengths.view[numbers], self._ends.view[numbers]
        stops = np.cumsum(lengths, dtype=np.int64)
        places = np.arange(stops[-1]) + np.repeat(ends - stops, lengths)
        mine, theirs = _characters(query, known, len(known) + 1), _characters(self._words.view[places], known, 0)
        return [LCSseq.similarity(mine, theirs[stop - n : stop]) for stop, n in zip(stops.tolist(), lengths.tolist())]


def _characters(words: np.ndarray, known: np.ndarray, other: int) -> str:
    """One character a word: its place among the `known` (sorted) words from 1 on, or `other`."""
    places = np.searchsorted(known, words).clip(max=len(known) - 1)
    labels = np.where(known[places] == words, places + 1, other).astype("<u4")
    return labels.tobytes().decode("utf-32-le", "surrogatepass")


def _distinct(words: list[str]) -> list[str]:
    """The words with repetitions numbered, so that shared keys of two texts count what both have."""
    if len(set(words)) == len(words):
        return words
    seen: Counter[str] = Counter()
    keys = []
    for word in words:
        keys.append(f"{word} {seen[word]}" if seen[word] else word)
        seen[word] += 1
    return keys
