"""Where a map puts texts: like ones together, in neighbourhoods that have words.

Texts become TF-IDF vectors, reduced to `DIMENSIONS` by truncated SVD, unless vectors are given (a student's hidden
states, for example); k-means finds the neighbourhoods, whose centres are laid out by multidimensional scaling, each
with its own members around it. What is near within a neighbourhood, and which neighbourhoods are near, is shown; a
distance between single points of two neighbourhoods says nothing.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lionkit.errors import LionkitError

DIMENSIONS = 24


def layout(texts: Sequence[str], vectors: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Points in [-1, 1] (a row a text), the neighbourhood of each, and the words of each neighbourhood."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.manifold import MDS

    if len(texts) < 4:
        return np.zeros((len(texts), 2), np.float32), np.zeros(len(texts), int), ["all"] * bool(len(texts))
    counting = TfidfVectorizer(
        max_features=4_000, sublinear_tf=True, dtype=np.float32, token_pattern=r"(?u)\b[^\W\d_]{2,}\b"
    )
    try:
        table = counting.fit_transform([text[:300] for text in texts])
    except ValueError:  # no words at all
        return np.zeros((len(texts), 2), np.float32), np.zeros(len(texts), int), ["no words"]
    names = counting.get_feature_names_out()
    if vectors is None:
        size = min(DIMENSIONS, table.shape[1] - 1, len(texts) - 1)
        vectors = TruncatedSVD(size, n_iter=2, random_state=0).fit_transform(table) if size > 1 else table.toarray()
    vectors = np.asarray(vectors, dtype=np.float32)
    if len(vectors) != len(texts):
        raise LionkitError(f"{len(vectors)} vectors for {len(texts)} instructions: give a row for each")
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    kinds = min(24, max(2, round((len(texts) / 3) ** 0.5)))
    found = MiniBatchKMeans(kinds, random_state=0, n_init=1, batch_size=4096, max_iter=20).fit(vectors)
    centres, at = found.cluster_centers_, found.labels_
    scaling = MDS(2, random_state=0, n_init=1, init="random", max_iter=200, normalized_stress=False)
    spread = scaling.fit_transform(centres)
    spread = spread / max(np.abs(spread).max(), 1e-9)
    apart = np.linalg.norm(spread[:, None] - spread[None], axis=2) + 9 * np.eye(len(spread))
    points = np.zeros((len(texts), 2), np.float32)
    for kind in range(len(centres)):
        own = np.flatnonzero(at == kind)
        if len(own) > 2:
            inside = vectors[own] - vectors[own].mean(axis=0)
            axes = np.linalg.svd(inside[:: max(len(own) // 500, 1)], full_matrices=False)[2][:2]
            flat = inside @ axes.T
            points[own, : flat.shape[1]] = flat / max(np.percentile(np.abs(flat), 98), 1e-9) * 0.48 * apart[kind].min()
        points[own] += spread[kind]
    said = [_words(table, at == kind, names) for kind in range(len(centres))]
    return np.clip(points / max(np.abs(points).max(), 1e-9), -1, 1) * 0.97, at, said


def _words(table: Any, own: np.ndarray, names: np.ndarray) -> str:
    """The three words that set a neighbourhood apart: mean weight in it less that over all; no "the", no "for"."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    if not own.any():
        return ""
    weight = np.asarray(table[own].mean(axis=0) - 0.5 * table.mean(axis=0)).ravel()
    weight[np.isin(names, list(ENGLISH_STOP_WORDS))] = 0
    return ", ".join(names[n] for n in np.argsort(-weight)[:3] if weight[n] > 0)
