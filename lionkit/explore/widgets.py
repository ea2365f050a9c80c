"""The two widgets: move τ over a cache pool, and browse its hard and easy sides.

Each is one call on records in memory, calls no model, and keeps nothing outside itself. A callback's error is shown
in the widget. Not covered: editing, and several verdicts on one instruction (the last counts, as in
`pools.split_by_gap`).
"""

import io
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any, NamedTuple

import ipywidgets as w
import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from lionkit.errors import LionkitError
from lionkit.explore import static
from lionkit.explore.static import SYMBOLS, count_labels, number
from lionkit.plots.discrimination import INK, gap_histogram
from lionkit.pools.tables import Pool, Responses, Verdicts, pool_table

PAGE = 10
"""Rows of a list that are sent to the browser at a time."""
SORTS = {"gap": "gap", "teacher score": "teacher", "student score": "student", "length": "", "iteration": "iteration"}
"""Sort keys and their column of `pools.pool_table`; length is that of instruction and input together."""
SEARCHED = ("instruction", "input", "teacher_response", "student_response")


class Explorer(w.VBox):
    """A box of widgets that a saved notebook, which has no kernel behind it, shows as the line `summary`."""

    def __init__(self, name: str, counts: dict[str, int], tau: float, parts: list[Any]) -> None:
        super().__init__([w.HTML(static.STYLE), *parts])
        self.add_class("lk")
        numbers = ", ".join(f"{n} {label}" for label, n in counts.items())
        self.summary = f"{name}: {numbers} at τ = {tau:g}. Run this cell in JupyterLab to use it."

    def __repr__(self) -> str:
        return self.summary

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return {**super()._repr_mimebundle_(**kwargs), "text/plain": self.summary}


def tau_explorer(instructions: Pool, verdicts: Verdicts, tau: float = 1.0) -> Explorer:
    """Move τ over [-9, 9] and see counts, gaps, and which instructions change sides from where τ started.

    The counts equal those of `pools.split_by_gap` at the τ shown. Raises LionkitError for a τ outside [-9, 9].
    """
    if not -9 <= tau <= 9:
        raise LionkitError(f"tau = {tau}: gaps lie between -9 and 9, so choose it there (the paper's is 1.0)")
    table = pool_table(instructions, verdicts=verdicts, tau=tau)
    gaps = table["gap"].to_numpy()
    slider = w.FloatSlider(tau, min=-9, max=9, step=0.1, description="τ", readout_format=".1f")
    slider.layout.width, slider.style.description_width = "auto", "2em"
    counts, plot, moved, message = w.HTML(), w.HTML(), w.HTML(), w.HTML()

    def redraw() -> None:
        now = round(slider.value, 6)  # steps of 0.1 add up to 1.2000000000000002, which is above a gap of 1.2
        counts.value, moved.value = _counts(gaps, now), _moved(instructions, gaps, tau, now)
        plot.value = _histogram(table, now)

    redraw()
    slider.observe(guarded(message, redraw), "value")
    return Explorer("τ explorer", count_labels(gaps, tau), tau, [slider, message, counts, plot, moved])


def _counts(gaps: np.ndarray, tau: float) -> str:
    card = "<div class='card {0}'><b>{1:,}</b> {2} {0}</div>".format
    cards = "".join(card(label, n, SYMBOLS[label]) for label, n in count_labels(gaps, tau).items())
    note = f"<small>of {len(gaps):,} instructions in the cache pool at τ = {tau:g}</small>"
    return f"<div class='counts' role='status' aria-atomic='true'><div class='row'>{cards}</div>{note}</div>"


def _histogram(table: pd.DataFrame, tau: float) -> str:
    """The gap histogram as SVG that takes its ink from the notebook's theme."""
    names = ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    settings: Any = dict.fromkeys(names, INK) | {"svg.fonttype": "none", "legend.framealpha": 0}
    with rc_context(settings), io.StringIO() as file:
        figure = Figure(figsize=(8, 2.6))  # without pyplot, so that nothing is shown twice or left open
        gap_histogram(table, tau, figure.add_axes((0.09, 0.2, 0.9, 0.62)))  # a layout engine would double the time
        figure.savefig(file, format="svg", transparent=True)
        svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "var(--ink)")
    return f"<div role='img' aria-label='histogram of gaps with a line at τ = {tau:g}'>{svg}</div>"


def _moved(instructions: Pool, gaps: np.ndarray, start: float, now: float) -> str:
    low, high = sorted((start, now))
    found = np.flatnonzero((gaps >= low) & (gaps < high))
    between = f"between τ = {start:g} and τ = {now:g}"
    if start == now:
        return "<h4>Move τ to see which instructions change sides.</h4>"
    if not len(found):
        return f"<h4>No instruction changes sides {between}</h4>"
    nearest = found[np.argsort(np.abs(gaps[found] - start), kind="stable")][:PAGE]
    texts = (escape(static.one_line(instructions[i].text, 110)) for i in nearest)
    rows = "".join(f"<tr><td>{gap:+.3g}<td>{text}</tr>" for gap, text in zip(gaps[nearest], texts))
    more = f"<small>and {len(found) - PAGE:,} more</small>" if len(found) > PAGE else ""
    way = "from hard to easy" if now > start else "from easy to hard"
    return f"<h4>{len(found):,} move {way} {between}</h4><table>{rows}</table>{more}"


def browse_rows(
    table: pd.DataFrame, search: str = "", sort: str = "gap", descending: bool = True, **equal: Any
) -> pd.DataFrame:
    """Rows of `pools.pool_table` whose columns hold the values given and that contain `search`, in any case, in one
    of SEARCHED; ordered by one of SORTS, with rows that have no such score last.
    """
    for column, value in equal.items():
        table = table[table[column] == value]
    if search:
        needle = search.casefold()
        rows = zip(*(table[column] for column in SEARCHED))
        table = table[[any(needle in text.casefold() for text in row) for row in rows]]
    key = table[SORTS[sort]] if SORTS[sort] else table["instruction"].str.len() + table["input"].str.len()
    return table.loc[key.sort_values(ascending=not descending, kind="stable").index]


def pool_browser(
    instructions: Pool, teacher: Responses, student: Responses, verdicts: Verdicts, tau: float = 1.0
) -> Explorer:
    """Hard and easy side by side, with search, filters and sort; the chosen instruction stands in full below.

    Of each list one page at a time is sent to the browser. A record without counterpart is shown as missing.
    """
    pool: Any = (*([*records] for records in (instructions, teacher, student, verdicts)), tau)
    table = pool_table(*pool)
    search = w.Text(description="Search instructions and responses, then Enter", continuous_update=False)
    sort = w.Dropdown(options=list(SORTS), description="Sort by")
    order = w.Dropdown(options=[("high to low", True), ("low to high", False)], description="Order")
    filters = {name: _filter(name, table[name]) for name in ("category", "iteration", "source")}
    counts = count_labels(table["gap"].to_numpy(), tau)
    undecided = w.Checkbox(description=f"Show undecided ({counts['undecided']:,})", indent=False)
    detail, message = w.HTML(), w.HTML()

    def show(chosen: str, id: str) -> None:
        for label, other in lists.items():
            if label != chosen:
                other.select.index = None
        detail.value = f"<div aria-live='polite'>{static.show_instruction(id, *pool).html}</div>"

    def refresh() -> None:
        equal = {name: box.value[0] for name, box in filters.items() if box.value}
        rows = browse_rows(table, search.value, sort.value, order.value, **equal)
        detail.value = "<h4>Nothing matches.</h4>"
        for label in reversed(SYMBOLS):  # each list shows its first row when it is loaded, so hard comes last
            lists[label].load(rows[rows["label"] == label])
        lists["undecided"].box.layout.display = "flex" if undecided.value else "none"

    lists = {label: _listing(label, counts[label], show, message) for label in SYMBOLS}
    controls = [search, sort, order, *filters.values(), undecided]
    for control in controls:
        control.observe(guarded(message, refresh), "value")
        control.layout.width, control.layout.flex = "auto", "3 1 280px" if control is search else "1 1 130px"
        if control is not undecided:
            control.add_class("stacked")
    refresh()
    wrap = {"flex_flow": "row wrap", "grid_gap": "4px 12px"}
    columns = w.HBox([each.box for each in lists.values()], layout=wrap)
    return Explorer("pool browser", counts, tau, [w.HBox(controls, layout=wrap), message, columns, detail])


class _List(NamedTuple):
    box: w.VBox
    select: w.Select
    load: Callable[[pd.DataFrame], None]


def _listing(label: str, total: int, show: Callable[[str, str], None], message: w.HTML) -> _List:
    """One list and its pages. `row`, a number field, is what a keyboard moves: JupyterLab takes the arrow keys of
    anything but a text field for itself, to walk the cells.
    """
    select = w.Select(rows=PAGE, layout={"width": "auto"}).add_class("stacked")
    row = w.BoundedIntText(1, min=1, layout={"width": "170px"}, style={"description_width": "auto"})
    loaded = [pd.DataFrame()]

    def turn(step: int = 0) -> None:
        row.value += step
        start = (row.value - 1) // PAGE * PAGE
        page = loaded[0].iloc[start : start + PAGE].itertuples()
        options = [_row(place, each) for place, each in enumerate(page, start + 1)]
        if options != list(select.options):
            select.index = None  # otherwise the new options would choose their first
            select.options = options
        select.index = (row.value - 1) % PAGE if options else None

    def choose() -> None:
        if select.index is not None:
            row.value += select.index - (row.value - 1) % PAGE
            show(label, loaded[0]["id"].iloc[row.value - 1])

    def load(rows: pd.DataFrame) -> None:
        loaded[0], select.index, row.value, row.max = rows, None, 1, max(len(rows), 1)
        row.description = f"Row of {len(rows):,}"
        shown = f"{len(rows):,}" + f" of {total:,}" * (len(rows) != total)
        select.description = f"{SYMBOLS[label]} {label}: {shown} · row, gap, teacher : student, instruction"
        turn()

    buttons = [w.Button(description=name, layout={"width": "5em"}) for name in ("‹ page", "page ›")]
    for button, step in zip(buttons, (-PAGE, PAGE)):
        button.on_click(guarded(message, partial(turn, step)))
    row.observe(guarded(message, turn), "value")
    select.observe(guarded(message, choose), "index")
    return _List(w.VBox([select, w.HBox([row, *buttons])], layout={"flex": "1 1 340px"}), select, load)


def _row(place: int, row: Any) -> str:
    scores = f"{number(row.gap, '+'):>5}  {number(row.teacher):>4} : {number(row.student):<4}"
    return f"{place:>3}  {scores}  {static.one_line(row.instruction, 90)}"


def _filter(name: str, values: pd.Series) -> w.Dropdown:
    counted = sorted(Counter(values).items())
    options = [(f"{static.one_line(str(value), 40) or 'none'} ({n:,})", (value,)) for value, n in counted]
    layout = {"display": "flex" if len(options) > 1 else "none"}  # of one value there is nothing to choose
    return w.Dropdown(options=[(f"any {name}", ()), *options], description=name.capitalize(), layout=layout)


def guarded(message: w.HTML, act: Callable[[], None]) -> Callable[[Any], None]:
    """`act` as a widget's callback. Its error is shown in `message`, since a kernel shows no callback's traceback."""

    def callback(_: Any) -> None:
        message.value = ""
        try:
            act()
        except Exception as error:
            line = escape(static.one_line(f"{type(error).__name__}: {error}", 500))
            trace = f"<details><summary>traceback</summary>{static.block(traceback.format_exc())}</details>"
            message.value = f"<div class='error' role='alert'>{line}{trace}</div>"

    return callback
