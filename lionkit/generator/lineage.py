"""What the generator proposed and where instructions come from, as tables: pure functions on records.

`candidate_table` has every candidate and whether it was accepted; `ancestors` goes from an instruction back to its
root, over all iterations of a cache pool (`explore.lineage` goes forward); `category_table` counts the pool as it grew.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence

import pandas as pd

from lionkit.errors import LionkitError
from lionkit.novelty import rouge_l
from lionkit.records import Candidate, Instruction


def candidate_table(candidates: Iterable[Candidate], seeds: Iterable[Instruction] = ()) -> pd.DataFrame:
    """One row a candidate: the fields of `Candidate`, and where `seeds` has its seed: `seed`, its text, and
    `seed_similarity`, the ROUGE-L F1 of the candidate to it, in [0, 1] (NaN where text or seed is missing).
    """
    texts = {item.id: item.text for item in seeds}
    columns = [f.name for f in dataclasses.fields(Candidate)]  # pandas' own str cannot hold a lone surrogate
    table = pd.DataFrame(map(dataclasses.astuple, candidates), columns=columns, dtype=object)
    table["seed"] = pd.Series([texts.get(id, "") for id in table["seed_id"]], dtype=object)
    pairs = zip(table["text"], table["seed"])
    table["seed_similarity"] = [rouge_l(text, seed) if text and seed else float("nan") for text, seed in pairs]
    numbers = {"similarity": "float64", "seed_similarity": "float64", "iteration": "int64", "attempt": "int64"}
    return table.astype(numbers)


def ancestors(id: str, pool: Sequence[Instruction]) -> pd.DataFrame:
    """From the root to the instruction, a row a generation. Columns: generation (0 is the root), id, text, source,
    category, iteration, parent. Starts at the oldest ancestor that the pool holds; LionkitError on an unknown id.
    """
    by_id = {item.id: item for item in pool}
    if id not in by_id:
        raise LionkitError(f"no instruction of the pool has the id {id!r}: take one from the `id` column of its table")
    line = [by_id[id]]
    while (parent := by_id.get(line[-1].parent)) and parent not in line:
        line.append(parent)
    columns = ["generation", "id", "text", "source", "category", "iteration", "parent"]
    rows = [(n, i.id, i.text, i.source, i.category, i.iteration, i.parent) for n, i in enumerate(reversed(line))]
    return pd.DataFrame(rows, columns=columns, dtype=object).astype({"generation": "int64", "iteration": "int64"})


def category_table(pool: Sequence[Instruction]) -> pd.DataFrame:
    """The cache pool as it stood after each iteration: a row an iteration from 0, a column a category, counts.
    Instructions without category are the column with the empty name.
    """
    counts = Counter((i.iteration, i.category) for i in pool)
    names = pd.Index(sorted({name for _, name in counts}), dtype=object, name="category")
    iterations = pd.RangeIndex(max((n for n, _ in counts), default=-1) + 1, name="iteration")
    return pd.DataFrame([[counts[n, name] for name in names] for n in iterations], iterations, names).cumsum()
