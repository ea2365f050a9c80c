"""Figures: every function draws a table on matplotlib `Axes`. Nothing here calls an API, reads a file or trains.

Without the argument `ax` a function makes a figure, which the caller closes. An empty table gives empty axes.
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
from lionkit.plots.loop import FLOW, arms, comparison, flow, live_loss, loss, method, pool_sides, scores
