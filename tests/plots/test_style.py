"""Figures can be read on white and on dark paper, by colour-blind readers, with any names, any fonts, at any size."""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

from lionkit import plots, pools
from lionkit.generator.lineage import candidate_table
from lionkit.plots import style
from lionkit.plots.style import COLOURS, INK, NOTE, OTHERS, plain
from lionkit.records import Candidate, Judgement, Verdict
from lionkit.referee import trust

WHITE, DARK = (1.0, 1.0, 1.0), to_rgb("#111111")
NAMES = [
    "math", "writing", "coding", "roleplay", "stem", "extraction of facts from a very long text about something",
    "W" * 60, "数学と物理学の問題" * 4, "👩\u200d🔬 emoji", "zero\u200bwidth", "\u202eright to left", "a\u2066b",
    "\x07bell", "costs $5 or $a_{", "עברית", "हिन्दी",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


def luminance(colour: Any) -> float:
    part = np.asarray(to_rgb(colour))
    return float(np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def contrast(colour: Any, other: Any) -> float:
    """WCAG's contrast ratio, of a colour that may be transparent on `other`."""
    *inside, alpha = to_rgba(colour)
    low, high = sorted(map(luminance, (np.array(inside) * alpha + np.array(to_rgb(other)) * (1 - alpha), other)))
    return (high + 0.05) / (low + 0.05)


def least(colour: Any) -> float:
    return min(contrast(colour, WHITE), contrast(colour, DARK))


def tables() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Verdicts, candidates, categories, scores and runs, with every one of NAMES in the place of a name."""
    draw = np.random.default_rng(0)
    verdicts = [Verdict(str(i), *(Judgement(*draw.integers(1, 11, 2).astype(float)) for _ in "ab")) for i in range(64)]
    table = pools.verdict_table(verdicts).assign(teacher_response="abc", student_response="a")
    table["category"] = pd.Series(NAMES * 4, table.index, dtype=object)
    candidates = [Candidate("a b", "hard", "s", "rejected", name, similarity=0.8) for name in NAMES]
    candidates += [Candidate("a c", "easy", "s", "accepted", similarity=i / 9) for i in range(9)]
    lineage = candidate_table(candidates).assign(seed_similarity=0.5)
    drift = pd.DataFrame(draw.integers(1, 60, (4, 16)).cumsum(0), columns=pd.Index(NAMES, dtype=object))
    # fmt: off
    score = pd.DataFrame({"iteration": [0, 1], "relative_score": [0.2, 0.7], "exact_match": [0.1, 0.5],
                          "low": [0.1, 0.6], "high": [0.3, 0.8], "hard": [4, 5], "easy": [0, 7], "undecided": [0, 1]})
    # fmt: on
    runs = pd.concat([score] * 16, ignore_index=True).assign(difference=0.0, low=-0.1)
    runs["run"] = runs["arm"] = pd.Series([name for name in NAMES for _ in score.index], dtype=object)
    return table, lineage, drift, score, runs


TABLE, LINEAGE, DRIFT, SCORE, RUNS = tables()
FLOWING = pd.DataFrame({name: [3, 4] for name in plots.FLOW}, index=[1, 2])
DRAWINGS: dict[str, Callable[..., Axes]] = {
    "method": plots.method,
    "loss": lambda ax=None: plots.loss([3.0, 2.0, 1.0], ax, validation=[(1, 2.5), (3, 1.5)]),
    "scores": lambda ax=None: plots.scores(SCORE, ax),
    "comparison": lambda ax=None: plots.comparison(RUNS[RUNS["run"].isin(NAMES[:8])], ax),
    "comparison of many": lambda ax=None: plots.comparison(RUNS, ax),
    "flow": lambda ax=None: plots.flow(FLOWING, ax),
    "arms": lambda ax=None: plots.arms(RUNS, NAMES[7], ax),
    "pool_sides": lambda ax=None: plots.pool_sides(SCORE, ax),
    "score_scatter": lambda ax=None: plots.score_scatter(TABLE, ax=ax),
    "gap_histogram": lambda ax=None: plots.gap_histogram(TABLE, ax=ax),
    "seat_bias": lambda ax=None: plots.seat_bias(TABLE, ax),
    "length_bias": lambda ax=None: plots.length_bias(TABLE, ax),
    "score_distribution": lambda ax=None: plots.score_distribution(TABLE, ax),
    "agreement": lambda ax=None: plots.agreement(TABLE, TABLE.assign(gap=TABLE["gap"].to_numpy()[::-1]), ax=ax),
    "tau_shift": lambda ax=None: plots.tau_shift(TABLE, ax=ax),
    "shares": lambda ax=None: plots.shares(trust.audit(TABLE), ax),
    "relative_by_category": lambda ax=None: plots.relative_by_category(TABLE, ax),
    "novelty_histogram": lambda ax=None: plots.novelty_histogram(LINEAGE, ax=ax),
    "rejections": lambda ax=None: plots.rejections(LINEAGE, ax),
    "seed_similarity": lambda ax=None: plots.seed_similarity(LINEAGE, ax),
    "category_drift": lambda ax=None: plots.category_drift(DRIFT, ax, most=16),
}
drawing = pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS.keys())


def test_every_figure_is_tried() -> None:
    drawn = {name for name in dir(plots) if callable(getattr(plots, name)) and name != "live_loss"}
    assert drawn == {name for name in DRAWINGS if " " not in name}


def test_no_ink_is_better_on_both_papers() -> None:
    greys = [least((level / 255,) * 3) for level in range(256)]
    assert least(INK) == pytest.approx(max(greys))
    assert least(INK) > 4.33
    # luminance alone decides, and the best lies where both ratios are equal: no colour has 4.5 on both
    assert np.sqrt(1.05 / (luminance(DARK) + 0.05)) == pytest.approx(4.35, abs=0.01)


def test_a_colour_has_one_meaning_and_every_one_is_seen_on_both_papers() -> None:
    assert len({*COLOURS.values(), *OTHERS, INK}) == len(COLOURS) + len(OTHERS) + 1
    assert {name: least(colour) for name, colour in COLOURS.items() if least(colour) < 3} == {}
    assert [colour for colour in OTHERS if least(colour) < 3] == []


SIGHT = {  # Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


@pytest.mark.parametrize("sight", SIGHT.values(), ids=SIGHT.keys())
def test_colour_blind_readers_tell_the_five_apart(sight: list[list[float]]) -> None:
    def lab(colour: str) -> np.ndarray:
        part = np.asarray(to_rgb(colour))
        seen = np.clip(np.array(sight) @ np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4), 0, 1)
        xyz = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]) @ seen
        x, y, z = np.cbrt(xyz / [0.9505, 1, 1.0888])
        return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

    pairs = itertools.combinations(map(lab, COLOURS.values()), 2)
    assert min(np.linalg.norm(one - other) for one, other in pairs) > 23


@drawing
def test_everything_drawn_is_seen_on_both_papers(draw: Callable[..., Axes]) -> None:
    ax = draw()
    ax.figure.canvas.draw()
    texts = [text for text in ax.figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert {text.get_text() for text in texts if text.get_text() != "●" and least(text.get_color()) < 4.33} == set()
    legend = ax.get_legend()
    assert legend is None or not legend.get_frame().get_visible()
    lines = [*ax.lines, *(tick for axis in (ax.xaxis, ax.yaxis) for tick in axis.get_ticklines())]
    edges = [colour for dots in ax.collections if isinstance(dots, PathCollection) for colour in dots.get_edgecolors()]
    colours = [*(line.get_color() for line in lines), *(spine.get_edgecolor() for spine in ax.spines.values()), *edges]
    for patch in ax.patches:
        face = patch.get_facecolor()
        colours += [face if face[3] else patch.get_edgecolor()]
        assert not patch.get_hatch() or contrast(patch.get_edgecolor(), face) >= 3
    assert [colour for colour in colours if least(colour) < 3] == []


@drawing
def test_a_saved_figure_has_no_background(draw: Callable[..., Axes]) -> None:
    file = io.BytesIO()
    draw().figure.savefig(file)
    file.seek(0)
    alpha = plt.imread(file)[..., 3]
    assert alpha[[0, 0, -1, -1], [0, -1, 0, -1]].max() == 0
    assert 0 < (alpha > 0).mean() < 0.9


@drawing
@pytest.mark.parametrize("dpi", [80, 100])
def test_nothing_is_cut_and_a_notebook_has_room_for_it(draw: Callable[..., Axes], dpi: int) -> None:
    with mpl.rc_context({"figure.dpi": dpi}):
        figure = draw().figure
        figure.canvas.draw()
        low, high = figure.get_tightbbox().get_points()
    assert figure.get_size_inches()[0] <= 8.5
    assert (low > -0.02).all()
    assert (high < figure.get_size_inches() + 0.02).all()


def test_labels_at_the_ends_do_not_overlap() -> None:
    ax = plots.comparison(RUNS[RUNS["run"].isin(NAMES[:8])])  # all end at the same height
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text() != "●"]
    assert len(boxes) == 8
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert len(plots.comparison(RUNS).get_legend().get_texts()) == 16  # too many for the ends of lines


def test_labels_are_cut_by_width_and_hide_nothing() -> None:
    assert plain("数" * 14) == "数" * 14
    assert plain("数" * 15) == "数" * 13 + "…"
    assert plain("x" * 28) == "x" * 28
    assert plain("x" * 29) == "x" * 27 + "…"
    assert plain("a\u200bb\u202ec\ud800\x07\n d") == "a⟨U+200B⟩b⟨U+202E⟩c⟨U+D800⟩…"
    assert plain("a\u200bb", 40) == "a⟨U+200B⟩b"
    assert plain("costs $5") == r"costs \$5"


def test_names_with_a_lone_surrogate_are_drawn_apart() -> None:
    broken = pd.Series(["\ud800", "\udc00"] * 2, dtype=object)
    runs = plots.comparison(RUNS[:4].assign(run=broken))
    assert [bars.get_label() for bars in runs.containers] == ["⟨U+D800⟩", "⟨U+DC00⟩"]
    rows = names(plots.relative_by_category(TABLE[:4].assign(category=broken)))
    assert sorted(rows) == ["all (4)", "⟨U+D800⟩ (2)", "⟨U+DC00⟩ (2)"]
    assert sorted(names(plots.rejections(LINEAGE[:4].assign(rule=broken)))) == ["⟨U+D800⟩", "⟨U+DC00⟩"]


def wide_font(path: Path, characters: str, name: str = "Test Wide") -> None:
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    for go, *point in (("moveTo", (0, 0)), ("lineTo", (0, 800)), ("lineTo", (800, 0)), ("closePath",)):
        getattr(pen, go)(*point)
    names = [".notdef", *(f"u{ord(c):X}" for c in characters)]
    font = FontBuilder(1000)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(c): f"u{ord(c):X}" for c in characters})
    font.setupGlyf(dict.fromkeys(names, pen.glyph()))
    font.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": name, "styleName": "Regular"})
    font.setupOS2(sTypoAscender=800)
    font.setupPost()
    font.save(path)


def names(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def test_a_font_that_has_the_characters_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drift = pd.DataFrame({"数学 mix": [1, 2], "物": [2, 1]})
    bare = plots.category_drift(drift)
    assert names(bare) == ["▯▯ mix", "▯"]
    assert NOTE in " ".join(bare.get_xlabel().split())
    assert "数学 mix" in bare.figure.alt[bare]  # type: ignore[union-attr]
    wide_font(tmp_path / "wide.ttf", "数学")
    monkeypatch.setattr(fontManager, "ttflist", list(fontManager.ttflist))
    fontManager.addfont(tmp_path / "wide.ttf")
    ax = plots.category_drift(drift)
    assert names(ax) == ["数学 mix", "▯"]
    ax.figure.canvas.draw()
    assert "Test Wide" in ax.get_yticklabels()[0].get_fontfamily()
    assert names(plots.category_drift(drift[["数学 mix"]])) == ["数学 mix"]
    assert "▯" not in plots.category_drift(drift[["数学 mix"]]).get_xlabel()


def test_the_readers_own_font_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fontManager, "ttflist", list(fontManager.ttflist))
    wide_font(tmp_path / "own.ttf", "数 ab", "Own")
    fontManager.addfont(tmp_path / "own.ttf")
    with mpl.rc_context({"font.family": "Own"}):
        families, none = style._families(set(map(ord, "数c")), "normal")
    assert families[0] == "Own"
    assert none == set()
