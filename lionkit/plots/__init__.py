"""Tables to matplotlib `Axes`: nothing here calls an API, reads a file or trains.

Every function takes a table and `ax=None`; without `ax` it makes a figure, which the caller closes.
"""

from lionkit.plots.discrimination import (
    agreement,
    gap_histogram,
    length_bias,
    relative_by_category,
    score_distribution,
    score_scatter,
    seat_bias,
    shares,
    tau_shift,
)
from lionkit.plots.generation import category_drift, novelty_histogram, rejections, seed_similarity
from lionkit.plots.loop import comparison, live_loss, loss, method, pool_sides, scores
