"""How every figure looks, on white paper and in a dark notebook alike: colours, axes, labels, and what stands around.

Figures are drawn without a background. Other people's words are drawn with whatever installed font has them; what no
font has is drawn as `▯`, and the figure says so. Not covered: scripts that need a shaper which matplotlib lacks.
"""

import textwrap
import unicodedata
from functools import cache
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.legend_handler import HandlerPathCollection

from lionkit.markup import visible
from lionkit.plots.alt import carry, describe, tick_names

COLOURS = {"teacher": "#1f8fff", "student": "#a8209d", "hard": "#f2571c", "easy": "#2f7848", "undecided": "#909090"}
"""One meaning a colour. Each has 3 : 1 or more against white and against #111; under simulated deuteranopia,
protanopia and tritanopia (Machado, Oliveira and Fernandes 2009) any two stay 23 apart in CIELAB or more."""
OTHERS = ["#00897b", "#8a63d2", "#c2185b", "#7a8b1f", "#5f7f95"]
"""For what has no meaning of its own, such as runs side by side; shapes tell these apart as well."""
INK = "#797979"
"""Text and axes: the grey with the most contrast on both, 4.35 on white and 4.34 on #111; no colour has more."""
TITLE, BODY = 11, 9
"""Sizes of text, in points; there are no others."""
MISSING, NOTE = "▯", "▯: no font installed here has this character; one such as Noto Sans CJK may"


def axes(ax: Axes | None, width: float = 6.0, height: float = 3.6) -> Axes:
    """The given axes, or new ones on a figure of this size in inches."""
    return ax if ax is not None else plt.subplots(figsize=(width, height), layout="constrained")[1]


def finish(
    ax: Axes, title: str, xlabel: str, ylabel: str, *, counted: str = "", grid: Any = "y", direct: Any = ()
) -> Axes:
    """Title, a line of what was counted, names of the axes, and one look; every figure ends with this.

    `direct` are (height, colour, words) at the right end of lines or bars. Whatever has a label of its own stands in a
    legend between title and axes, unless it is named at its end; with None for `direct` neither is drawn.
    """
    figure: Any = ax.get_figure(root=True)
    for patch in (figure.patch, ax.patch):
        patch.set_visible(False)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[:].set_color(INK)
    ax.tick_params(colors=INK, labelsize=BODY)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(axis=grid, color=INK, alpha=0.22, linewidth=0.7)
    room = 1.1 * ax.bbox.width * 72 / figure.dpi  # in points; axes grow when the figure is laid out
    if tick_names(ax.yaxis):
        room /= 2  # names as wide as they may be leave no more
    above = 6.0
    if direct is not None and not _name_ends(ax, direct) and ax.get_legend_handles_labels()[1]:
        above += _legend(ax, room)
    words = [textwrap.fill(line, max(int(room / width), 26)) for line, width in ((counted, 5.2), (title, 6.6))]
    if counted:
        ax.annotate(words[0], (0, 1), (0, above), "axes fraction", "offset points", color=INK, size=BODY)
        above += 1.5 * BODY * words[0].count("\n") + 14
    ax.set_title(words[1], x=0, ha="left", pad=above, size=TITLE, weight="bold", color=INK)
    ax.set_xlabel(xlabel, color=INK, size=BODY)
    ax.set_ylabel(ylabel, color=INK, size=BODY)
    carry(ax, describe(ax, counted))
    _drawable(ax, room)
    return ax


def plain(text: object, most: int = 28) -> str:
    """Somebody's text as a label: one line of at most this width (a Chinese character counts as 2), no formula, and
    nothing in it that acts unseen."""
    line = " ".join(visible(str(text)[: 9 * most]).split())
    widths = np.cumsum([1 + (unicodedata.east_asian_width(character) in "WF") for character in line])
    kept = int((widths <= most).sum())
    return (line if kept == len(line) else f"{line[: (widths < most).sum()]}…").replace("$", r"\$")


def _legend(ax: Axes, room: float) -> float:
    """The legend, in as few lines as fit; returns its height in points."""
    labels = ax.get_legend_handles_labels()[1]
    widths = [5.2 * len(label) + 26 for label in labels]
    columns = len(labels) if sum(widths) < room else max(int(room / max(widths)), 1)
    place: Any = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": columns, "borderpad": 0, "borderaxespad": 0.5}
    spaces: Any = {"handlelength": 1.4, "handletextpad": 0.5, "columnspacing": 1.2, "labelspacing": 0.3}
    dots: Any = {PathCollection: HandlerPathCollection(sizes=[36])}  # not the size of the first one drawn
    ax.legend(frameon=False, fontsize=BODY, labelcolor=INK, handler_map=dots, **place, **spaces)
    return 13.0 * -(-len(labels) // columns) + 4


def _name_ends(ax: Axes, ends: Any) -> bool:
    """Words right of the axes, each at its height and moved apart where they would overlap; False where none fit."""
    figure: Any = ax.get_figure(root=True)
    low, high = ax.get_ylim()
    step = 1.4 * BODY * (high - low) / (ax.bbox.height * 72 / figure.dpi)
    ends = sorted((end for end in ends if np.isfinite(end[0])), key=lambda end: end[0])
    if not ends or len(ends) * step > high - low:
        return False
    steps = step * np.arange(len(ends))
    apart = np.maximum.accumulate(np.array([height for height, *_ in ends]) - steps) + steps
    heights = np.minimum(apart, high - steps[::-1])  # the highest stays inside and moves those below it
    for height, (_, colour, words) in zip(heights, ends):
        for text, shift, ink in (("●", 3, colour), (words, 13, INK)):
            ax.annotate(text, (1, height), (shift, 0), ("axes fraction", "data"), "offset points", va="center",
                        color=ink, size=BODY)  # fmt: skip
    return True


@cache
def _characters(path: Any) -> frozenset[int]:
    """What a font file can draw; nothing where it cannot be read."""
    try:
        return frozenset(get_font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def _families(characters: set[int], weight: Any) -> tuple[list[str], set[int]]:
    """The families, the reader's own first, that together have these characters; and those that none has."""
    families = list(FontProperties().get_family())
    for family in families:
        characters = characters - _characters(findfont(FontProperties(family=[family], weight=weight)))
    for font in fontManager.ttflist:
        if not characters:
            break
        usual = font.style == "normal" and font.weight in (400, "normal", "regular", "book")
        if usual and "Last Resort" not in font.name and characters & _characters(font.fname):
            found = findfont(FontProperties(family=[font.name], weight=weight))
            if has := characters & _characters(found):
                families.append(font.name)
                characters = characters - has
    return families, characters


def _drawable(ax: Axes, room: float) -> None:
    """Give every word the fonts that it needs; what no font has becomes MISSING, and a note says so."""
    missed = set[int]()

    def drawn(text: str, weight: Any = "normal") -> tuple[str, list[str]]:
        families, none = _families(set(map(ord, text)) - {10}, weight)
        missed.update(none)
        return text.translate(dict.fromkeys(none, MISSING)), families

    for axis in (ax.xaxis, ax.yaxis):
        if names := tick_names(axis):
            axis.set_ticks(axis.get_ticklocs(), [drawn(name)[0] for name in names])
            axis.set_tick_params(labelfontfamily=drawn("".join(names))[1])
    legend = ax.get_legend()
    for text in (ax.title, *ax.texts, *(legend.get_texts() if legend else ())):
        words, families = drawn(text.get_text(), text.get_weight())
        text.set(text=words, family=families)
    if missed:
        note = textwrap.fill(NOTE, max(int(room / 5.2), 20))
        ax.set_xlabel(f"{ax.get_xlabel()}\n{note}".strip(), x=0, ha="left")
