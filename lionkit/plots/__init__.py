"""Tables to matplotlib `Axes`: nothing here calls an API, reads a file or trains.

Every function takes a table and `ax=None`; without `ax` it makes a figure, which the caller closes.
"""

from lionkit.plots.discrimination import gap_histogram, relative_by_category, score_scatter, seat_bias

__all__ = ["gap_histogram", "relative_by_category", "score_scatter", "seat_bias"]
