"""What a figure says to those who do not see it: an alt text of its titles, axes and numbers.

JupyterLab 4.6 and nbconvert 7.17 show an alt text in one place alone, an `<img>` of a `text/html` output; older
templates of nbconvert read `alt` in the metadata of the image, and a terminal shows the text. A figure that holds Axes
of ours brings all three along, as an attribute that IPython asks for and nothing else does: other figures, and other
programs, are as they were.
"""

from collections.abc import Iterator
from functools import partial
from html import escape
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.category import StrCategoryLocator
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator


def carry(ax: Axes, words: str) -> None:
    """Let the figure of these Axes bring these words about them along into a notebook."""
    figure: Any = ax.get_figure(root=True)
    figure.alt = {**getattr(figure, "alt", {}), ax: words}
    figure._repr_mimebundle_ = partial(bundle, figure)


def bundle(figure: Any, include: Any = None, exclude: Any = None) -> tuple[dict[str, str], dict[str, Any]]:
    """The figure as data and metadata of a notebook's output."""
    from IPython import get_ipython
    from IPython.core.pylabtools import print_figure

    shell: Any = get_ipython()
    drawn = shell and shell.display_formatter.formatters["image/png"](figure)  # as the reader has set it up
    png, size = drawn if isinstance(drawn, tuple) else (drawn or print_figure(figure, base64=True), {})
    alt = " ".join(words for ax, words in figure.alt.items() if ax in figure.axes)
    width = f" width={size['width']}" if size else ""
    html = f'<img alt="{escape(alt)}" src="data:image/png;base64,{png}" style="max-width:100%"{width}>'
    return {"image/png": png, "text/html": html, "text/plain": alt}, {"image/png": {**size, "alt": alt}}


def describe(ax: Axes, counted: str) -> str:
    """Title, what was counted, axes, and the numbers of what each named bar and line shows."""
    named = [f"{way}: {name}" for way, name in (("across", ax.get_xlabel()), ("up", ax.get_ylabel())) if name]
    said = [ax.get_title().replace("\n", " "), counted, ", ".join(named), *_numbers(ax)]
    return ". ".join(filter(None, said)).replace(r"\$", "$") + "."


def tick_names(axis: Any) -> list[str]:
    """The names along an axis whose places are set; none along one of numbers."""
    named = isinstance(axis.get_major_locator(), (FixedLocator, StrCategoryLocator))
    return [text.get_text() for text in axis.get_ticklabels()] if named else []


def _numbers(ax: Axes) -> Iterator[str]:
    """What is drawn, a phrase for everything that has a label, with its numbers where they are few or have names."""
    everything: list[Any] = [*ax.containers, *ax.lines, *ax.collections]
    for drawn in everything:
        label = str(drawn.get_label())
        label = "" if label.startswith("_") else label
        lying, values = False, np.array([])
        if isinstance(drawn, BarContainer):
            lying, values = drawn.orientation == "horizontal", np.asarray(drawn.datavalues)
        elif isinstance(drawn, ErrorbarContainer):
            lying = drawn.has_xerr
            values = np.asarray(drawn.lines[0].get_data()[0 if lying else 1])
        elif isinstance(drawn, Line2D) and label:
            values = np.asarray(drawn.get_ydata(), float)
        names = tick_names(ax.yaxis if lying else ax.xaxis)
        if names and len(names) == len(values):
            yield f"{label}: " * bool(label) + ", ".join(f"{n} {v:.4g}" for n, v in zip(names, values))
        elif len(values) > 2 and isinstance(drawn, Line2D):
            yield f"{label}: from {values[0]:.4g} to {values[-1]:.4g}"
        elif label:
            yield label
