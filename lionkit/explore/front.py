"""The front end that all explorers share: HTML that the kernel writes, and a module that brings it to life.

An explorer's output is one HTML page of named regions, complete as it stands: GitHub, a saved notebook and a page
without a kernel show it as it was opened. Where a kernel answers, `explorer.js` takes the same page over: what a
reader does is sent as `{on, value}`, and the kernel answers with the regions that changed. Every text from outside is
escaped here, in the kernel; the browser asks nothing of any other machine.
"""

import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets

from lionkit.errors import LionkitError
from lionkit.explore.static import STYLE, one_line, visible
from lionkit.explore.words import block, hits

VIEW_MIME = "application/vnd.jupyter.widget-view+json"
Regions = dict[str, str]
Act = Callable[[Any], Regions]


class Explorer(anywidget.AnyWidget):
    """A page of regions (name: HTML) and what each control does: `events[name](value)` returns the regions that change.

    `tau` may be linked between explorers. `buffers` are numbers for a map, sent with the region `map`.
    """

    _esm = Path(__file__).with_name("explorer.js")
    page = traitlets.Unicode().tag(sync=True)
    key = traitlets.Unicode().tag(sync=True)
    tau = traitlets.Float()

    def __init__(self, name: str, regions: Regions, events: Mapping[str, Act], summary: str, **values: Any) -> None:
        super().__init__(**values)
        self.name, self.summary = name, f"{summary}. Run this cell in JupyterLab to use it."
        self.regions, self.key = {"message": "", **regions}, self.model_id
        self.events = {"open": lambda _: self.regions, "tau": self._take_tau, **events}
        self.buffers: dict[str, bytes] = {}
        self.on_msg(self._receive)

    def html(self) -> str:
        """The page as it is now."""
        parts = "".join(f"<div class='{name}' data-region='{name}'>{html}</div>" for name, html in self.regions.items())
        page = f"<div class='page'>{parts}<p class='asleep'><small>{escape(self.summary)}</small></p></div>"
        about = f"data-lk='{self.key}' role='group' aria-label='{escape(self.name, quote=True)}'"
        return f"{STYLE}<div class='lk tex2jax_ignore mathjax_ignore' {about}>{page}</div>"

    def update(self, changed: Regions) -> None:
        """Show other contents of some regions on every page of this explorer, with its numbers where it is a map."""
        self.regions |= changed
        buffers = self.buffers if "map" in changed else {}
        self.send({"regions": changed, "buffers": list(buffers)}, list(buffers.values()))

    def act(self, on: str, value: Any = None) -> None:
        """What a reader's doing does, as from the browser. An error is shown in the page: a kernel shows none."""
        try:
            self.update({"message": "", **self.events[on](value)})
        except Exception as error:
            line = escape(one_line(str(error) if isinstance(error, LionkitError) else repr(error), 500))
            trace = "" if isinstance(error, LionkitError) else block(traceback.format_exc())
            details = f"<details><summary>traceback</summary>{trace}</details>" if trace else ""
            self.update({"message": f"<div class='error' role='alert'>{line}{details}</div>"})

    def _take_tau(self, value: Any) -> Regions:
        before = self.tau
        try:
            self.tau = round(float(value), 6)  # its observers draw; steps of 0.1 add up to 1.2000000000000002
        except Exception:
            with suppress(Exception):
                self.tau = before  # one that cannot be drawn is not kept
            raise
        return {}

    def _receive(self, _: Any, content: dict[str, Any], __: Any) -> None:
        self.act(content["on"], content.get("value"))
        self.send({"answered": content["from"]})

    def __repr__(self) -> str:
        return f"{self.name}: {self.summary}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:  # type: ignore[override]
        shown = {"text/html": self.html(), "text/plain": repr(self)}
        if not _needs_a_view():
            return shown
        self.page = self.html()
        return {VIEW_MIME: {"version_major": 2, "version_minor": 0, "model_id": self.model_id}, **shown}


def _needs_a_view() -> bool:
    """Whether widgets wake only where a view of one is in the page: in VS Code, and on Colab."""
    return "VSCODE_PID" in os.environ or "VSCODE_CWD" in os.environ or "google.colab" in sys.modules


def field(on: str, label: str, value: str = "", kind: str = "search") -> str:
    """A line of text, sent as it is typed; without `on` it belongs to a form and is sent with it."""
    name = f"data-on='{on}'" if on else f"name='{escape(label.lower(), quote=True)}'"
    text = escape(in_field(value), quote=True)
    return f"<label>{label}<input type='{kind}' {name} value='{text}' autocomplete='off'></label>"


def in_field(text: str) -> str:
    """A text as a field shows it, and sends it where nobody edits it: on one line, with nothing unseen in it."""
    return visible(text).replace("\n", " ")


def choice(on: str, label: str, options: Sequence[str], chosen: int = 0) -> str:
    """A list to choose one of, where there are several; its place is sent."""
    if len(options) < 2:
        return ""
    texts = (one_line(text, 40) for text in options)
    rows = "".join(
        f"<option value='{n}'{' selected' * (n == chosen)}>{escape(text)}</option>" for n, text in enumerate(texts)
    )
    return f"<label>{label}<select data-on='{on}'>{rows}</select></label>"


def tick(on: str, label: str, checked: bool = False) -> str:
    """A box to tick; true or false is sent."""
    return f"<label class='tick'><input type='checkbox' data-on='{on}'{' checked' * checked}>{label}</label>"


def button(on: str, label: str, value: str = "", pressed: bool | None = None) -> str:
    """A button; its value is sent. `pressed` says whether one that stays down is down."""
    state = "" if pressed is None else f" aria-pressed='{str(pressed).lower()}'"
    return f"<button type='button' data-on='{on}' value='{escape(value, quote=True)}'{state}>{label}</button>"


def row(number: str, note: str, text: str, searched: Sequence[str] = (), flag: str = "") -> str:
    """A row of a listing: a number and a note, both HTML, then a flag (HTML) and one line of untrusted text."""
    return f"<b>{number}</b><small>{note}</small><span>{flag}{hits(one_line(text, 110), searched)}</span>"


class Listing:
    """Rows of which a page is shown, and one may be chosen: `at` is its place, or None; `first` begins the page.

    `shown` draws what changes with the choice.
    """

    def __init__(self, name: str, size: int = 10, shown: Callable[[], Regions] = dict) -> None:
        self.name, self.size, self.shown = name, size, shown
        self.fill([])

    def fill(self, rows: Sequence[Any] | np.ndarray, at: int | None = None) -> None:
        """Hold other rows; nothing is chosen unless it is said."""
        self.rows, self.first = rows, 0
        self.choose(at if len(rows) else None)

    def choose(self, at: int | None) -> None:
        self.at = at
        if at is not None:
            self.first = at // self.size * self.size

    @property
    def chosen(self) -> Any:
        """The row that is chosen, or None."""
        return None if self.at is None else self.rows[self.at]

    def step(self, value: Any) -> Regions:
        """Choose what the browser asks for, within the rows: a place, or a step from the one that is chosen.

        A click sends a row's place; arrows, Home, End and page keys `"+1"`, `"-1"`, `"first"`, `"last"`, `"+page"`.
        """
        if len(self.rows):
            now, last, text = -1 if self.at is None else self.at, len(self.rows) - 1, str(value)
            moves = {"first": 0, "last": last, "+page": max(now, 0) + self.size, "-page": now - self.size}
            asked = moves[text] if text in moves else now + int(text) if text[:1] in "+-" else int(text)
            self.choose(min(max(asked, 0), last))
        return self.shown()

    def html(self, title: str, write: Callable[[Any], str]) -> str:
        """The page with its title; `write` makes a row's HTML."""
        total = len(self.rows)
        page = self.rows[self.first : self.first + self.size]
        options = "".join(
            f"<div role='option' id='{self.name}-{n}' data-value='{n}' aria-selected='{str(n == self.at).lower()}' "
            f"aria-posinset='{n + 1}' aria-setsize='{total}'>{write(each)}</div>"
            for n, each in enumerate(page, self.first)
        )
        active = f"aria-activedescendant='{self.name}-{self.at}'" if self.at is not None else ""
        label = escape(title, quote=True)
        box = f"<div role='listbox' tabindex='0' data-on='{self.name}' aria-label='{label}' {active}>{options}</div>"
        shown = f"{self.first + 1:,} to {self.first + len(page):,} of {total:,}" if len(page) < total else ""
        pages = button(self.name, "‹ page", "-page") + button(self.name, "page ›", "+page") if shown else ""
        return f"<h4>{title}</h4>{box}<div class='controls pager'>{pages}<small>{shown}</small></div>"
