"""What all that is shown has in common: the style, and untrusted text made inert.

Whatever a model wrote is untrusted: control characters and bidi overrides become visible code points, over-long text
is cut with a note, and all of it is escaped. Nothing here needs a kernel once it is shown.
"""

from importlib.resources import files
from string import Template
from typing import NamedTuple

from lionkit.markup import visible
from lionkit.plots.discrimination import EASY, HARD

LIMIT = 20_000
"""Characters shown of one text."""
SYMBOLS = {"hard": "▲", "easy": "●", "undecided": "?"}
"""Each label's shape, so that no colour carries meaning alone."""
_SHEET = Template(files(__package__).joinpath("style.css").read_text(encoding="utf-8"))
STYLE = f"<style>\n{_SHEET.substitute(hard=HARD, easy=EASY)}</style>"


class Static(NamedTuple):
    """HTML for notebooks and saved pages, and the same as plain text."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return f"{STYLE}<div class='lk'>{self.html}</div>"

    def __repr__(self) -> str:
        return self.text


def one_line(text: str, width: int) -> str:
    line = " ".join(visible(text[: 4 * width]).split())
    return line if len(line) <= width and len(text) <= 4 * width else line[: width - 1] + "…"


def number(value: float | None, sign: str = "") -> str:
    return "–" if value is None or value != value else f"{value:{sign}.3g}"
