"""Measurements of exact novelty at the paper's scale, on real texts. Run by hand, one at a time on a quiet machine:

    LIONKIT_DATA=... python tests/bench/novelty.py [exact] [ratio] [growth] [memory]

Without names, all of them (about five minutes, 2 GB). Each prints one line a figure, with the limit it is held to.
"""

from __future__ import annotations

import gzip
import multiprocessing
import os
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from rapidfuzz.distance import LCSseq
from rapidfuzz.process import cdist
from rouge_score import rouge_scorer, tokenize

from lionkit.novelty import NoveltyIndex

DATA = Path(os.environ.get("LIONKIT_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
TEXTS = gzip.decompress((DATA / "texts_52k.txt.gz").read_bytes()).decode().splitlines()
POOL, REST = TEXTS[:50_000], TEXTS[50_000:]
WORDS = [text.split() for text in TEXTS]


def main() -> None:
    parts = {"exact": exact, "ratio": ratio, "growth": growth, "memory": memory}
    for name in sys.argv[1:] or parts:
        parts[name]()


def report(name: str, value: str, limit: str = "") -> None:
    print(f"{name:58} {value:>24}   {limit}", flush=True)


def index_of(texts: list[str]) -> NoveltyIndex:
    index = NoveltyIndex()
    for text in texts:
        index.add(text)
    return index


def exact() -> None:
    """The file's last 2,000 texts and 3,000 altered ones of the pool: decisions and scores against rouge_score's."""
    rng = random.Random(1)
    candidates = REST + [altered(rng.choice(POOL), rng) for _ in range(3000)]
    index, decisions, scores = index_of(POOL), 0, 0
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    for number, (text, (best, nearest)) in enumerate(zip(candidates, reference_scores(candidates))):
        score, found = index.nearest(text)
        decisions += index.is_novel(text) == (best <= index.threshold)
        scores += score == best
        if score != best:
            print(f"  {score:.4f}, rouge_score {best:.4f}: {text[:90]!r}")
        if number % 50 == 0 and found:  # the reference itself is checked on a sample
            for one in {found, nearest}:
                assert scorer.score(one, text)["rougeL"].fmeasure == best
    report("decisions equal to rouge_score's", f"{decisions:,} of {len(candidates):,}", "all")
    report("scores of the nearest equal to rouge_score's", f"{scores:,} of {len(candidates):,}", "all")


def altered(text: str, rng: random.Random) -> str:
    """Some words left out, some put in: near the threshold on both sides."""
    words = [word for word in text.split() if rng.random() > 0.15]
    for _ in range(rng.randint(0, 3)):
        words.insert(rng.randint(0, len(words)), rng.choice(rng.choice(WORDS)))
    return " ".join(words)


def reference_scores(candidates: list[str]) -> Iterator[tuple[float, str]]:
    """(highest F1 over the pool, a text that has it) by rouge_score's tokens and formula; rapidfuzz counts."""
    letters: dict[str, str] = {}

    def encode(text: str) -> str:
        words = tokenize.tokenize(text, None)
        return "".join(letters.setdefault(word, chr(0x10000 + len(letters))) for word in words)

    pool = [encode(text) for text in POOL]
    lengths = np.array([len(one) for one in pool])
    for start in range(0, len(candidates), 64):
        queries = [encode(text) for text in candidates[start : start + 64]]
        for query, common in zip(queries, cdist(queries, pool, scorer=LCSseq.similarity, dtype=np.int32)):
            precision, recall = common / max(len(query), 1), common / np.maximum(lengths, 1)
            f1 = 2 * precision * recall / np.where(common, precision + recall, 1)
            yield float(f1.max()), POOL[int(f1.argmax())]


def ratio() -> None:
    """One is_novel at 50,000 texts, and the reference method: rouge_score over the pool, a process pool a candidate."""
    index, few = index_of(POOL), REST[:5]
    pool = [tokenize.tokenize(text, None) for text in POOL]
    started = time.perf_counter()
    for text in few:
        with multiprocessing.Pool() as workers:
            workers.map(partial(rouge_scorer._score_lcs, tokenize.tokenize(text, None)), pool)
    slow = (time.perf_counter() - started) / len(few)
    fast = seconds(index.is_novel, REST)
    report(f"reference method, {os.cpu_count()} processes", f"{slow:.2f} s")
    report("is_novel at 50,000 texts", f"{fast * 1e3:.3f} ms")
    report("nearest at 50,000 texts", f"{seconds(index.nearest, REST) * 1e3:.3f} ms")
    report("reference method over is_novel", f"{slow / fast:,.0f}", ">= 5,000")


def seconds(query: Callable[[str], object], texts: list[str]) -> float:
    """Mean time of a query; the better of two passes, so that a busy moment does not count."""
    passes = []
    for _ in range(2):
        started = time.perf_counter()
        for text in texts:
            query(text)
        passes.append((time.perf_counter() - started) / len(texts))
    return min(passes)


def growth() -> None:
    """A query against 10,000 and 1,000,000 distinct texts, recombined from the real ones in two ways."""
    for name, make in (("halves of two texts", halves), ("words drawn from all", drawn)):
        stream = distinct(make)
        queries, index = [next(stream) for _ in range(300)], NoveltyIndex()
        times: dict[str, list[float]] = {"is_novel": [], "nearest": []}
        for size in (10_000, 1_000_000):
            while len(index) < size:
                index.add(next(stream))
            for method, found in times.items():
                found.append(seconds(getattr(index, method), queries))
        for method, (small, large) in times.items():
            label = f"{name}: {method}, 10,000 → 1,000,000"
            report(label, f"{small * 1e3:.3f} → {large * 1e3:.3f} ms = {large / small:.1f}x", "<= 20x")


def distinct(make: Callable[[random.Random], str]) -> Iterator[str]:
    rng, seen = random.Random(0), set()
    while True:
        if (text := make(rng)) not in seen:
            seen.add(text)
            yield text


def halves(rng: random.Random) -> str:
    first, second, cut = rng.choice(WORDS), rng.choice(WORDS), rng.randint(1, 11)
    return " ".join(first[:cut] + second[cut:])


def drawn(rng: random.Random) -> str:
    return " ".join(rng.choice(rng.choice(WORDS)) for _ in range(12))


def memory() -> None:
    """Bytes that the index holds for each stored text, beyond the text itself."""
    for name, texts in (("real", POOL), ("recombined", [t for t, _ in zip(distinct(halves), range(200_000))])):
        tracemalloc.start()
        index = index_of(texts)
        report(f"memory a text, {len(index):,} {name} ones", f"{tracemalloc.get_traced_memory()[0] / len(index):.0f} B")
        tracemalloc.stop()


if __name__ == "__main__":
    main()
