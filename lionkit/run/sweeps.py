"""What other settings would have made of a run's pools, from what it recorded: no call, no training.

That is exact for tau. Another novelty cut or mix is applied to the candidates that were proposed; what the generator
would have been asked on top, or not asked, is not in the record.
"""

from collections.abc import Sequence

import pandas as pd

from lionkit.novelty import NoveltyIndex
from lionkit.run.folder import Run
from lionkit.run.reading import cache_pool, held_out, read_candidates, sides

NOVEL = ("", "not novel", "duplicate", "surplus")
"""Rules (none: accepted) of candidates that were held against the pool; others broke a rule of the text itself."""


def by_tau(run: Run, iteration: int, taus: Sequence[float] = (0, 0.5, 1, 1.5, 2, 3, 4, 6)) -> pd.DataFrame:
    """The cache pool after an iteration at each tau: columns tau, hard, easy, undecided."""
    return pd.DataFrame([{"tau": tau, **sides(run, iteration, tau)} for tau in taus])


def by_novelty(run: Run, iteration: int, cuts: Sequence[float] = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)) -> pd.DataFrame:
    """The recorded candidates of an iteration's generation at each cut (ROUGE-L F1): columns novelty, hard, easy
    (new enough, surplus included) and too_near."""
    candidates = [c for c in read_candidates(run, iteration) if c.rule in NOVEL]
    pool = [item.text for item in (*cache_pool(run, iteration), *held_out(run))]
    rows = []
    for cut in cuts:
        index, known, counts = NoveltyIndex(cut), set(pool), dict.fromkeys(("hard", "easy", "too_near"), 0)
        for text in pool:
            index.add(text)
        for candidate in candidates:
            near = candidate.text in known or index.nearest(candidate.text)[0] > cut
            counts["too_near" if near else candidate.kind] += 1
            if not near:
                index.add(candidate.text)
                known.add(candidate.text)
        rows.append({"novelty": cut, **counts})
    return pd.DataFrame(rows)


def by_mix(run: Run, iteration: int, shares: Sequence[float] = (0, 0.25, 0.5, 0.75, 1)) -> pd.DataFrame:
    """New train pools of the run's size with another share of hard ones, from the candidates that are there: columns
    hard_share, hard, easy, missing (more calls would have been needed for these)."""
    found = pd.Series([c.kind for c in read_candidates(run, iteration) if c.rule in ("", "surplus")]).value_counts()
    rows, size = [], run.config.hard_size + run.config.easy_size
    for share in shares:
        wanted = {"hard": round(size * share), "easy": size - round(size * share)}
        got = {kind: int(min(count, found.get(kind, 0))) for kind, count in wanted.items()}
        rows.append({"hard_share": share, **got, "missing": size - sum(got.values())})
    return pd.DataFrame(rows)
