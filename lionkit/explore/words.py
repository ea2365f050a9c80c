"""Untrusted texts side by side and searched: words that differ and words that were looked for, marked in inert HTML."""

import difflib
import re
from collections.abc import Sequence
from html import escape

from lionkit.explore.static import LIMIT, visible

MOST = 1_500
"""Words of a text that are compared; longer ones are shown without their differences."""
Piece = tuple[str, bool]
"""A stretch of text, and whether it differs."""


def pieces(first: str, second: str) -> tuple[list[Piece], list[Piece]]:
    """Two texts cut where their words differ; joined, each is its first `LIMIT` characters."""
    texts = [re.findall(r"\S+|\s+", text[:LIMIT]) for text in (first, second)]
    if not all(0 < len(words) <= MOST for words in texts):
        return [(first[:LIMIT], False)], [(second[:LIMIT], False)]
    cut: tuple[list[Piece], list[Piece]] = ([], [])
    for kind, a, b, c, d in difflib.SequenceMatcher(None, texts[0], texts[1], autojunk=False).get_opcodes():
        for side, words in zip(cut, (texts[0][a:b], texts[1][c:d])):
            side.append(("".join(words), kind != "equal"))
    return cut


def hits(text: str, searched: Sequence[str]) -> str:
    """Inert HTML of a text with the words that were looked for in <mark>."""
    text = visible(text)
    if not searched:
        return escape(text)
    longest = (re.escape(word).replace("ss", "(?:ss|ß)") for word in sorted(searched, key=len, reverse=True))
    found = re.split(f"({'|'.join(longest)})", text, flags=re.IGNORECASE)
    return "".join(f"<mark>{escape(part)}</mark>" if n % 2 else escape(part) for n, part in enumerate(found))


def compared(first: str, second: str, searched: Sequence[str], tags: tuple[str, str]) -> list[str]:
    """Both texts as blocks, in each of which what the other does not have stands in its tag, <ins> or <del>."""
    texts = (first, second)
    return [written(cut, searched, tag, len(text)) for cut, tag, text in zip(pieces(*texts), tags, texts)]


def block(text: str, searched: Sequence[str] = ()) -> str:
    """An untrusted text alone as an inert block."""
    return written([(text[:LIMIT], False)], searched, length=len(text))


def written(cut: Sequence[Piece], searched: Sequence[str] = (), tag: str = "ins", length: int = 0) -> str:
    """A block of text: pieces that differ in <ins> or <del>, words looked for in <mark>, a note where it was cut."""
    html = "".join(
        f"<{tag}>{hits(text, searched)}</{tag}>" if other and text.strip() else hits(text, searched)
        for text, other in cut
    )
    note = f"<small>Shortened: the first {LIMIT:,} of {length:,} characters.</small>" if length > LIMIT else ""
    return f"<pre dir='auto'>\n{html}</pre>{note}"  # a parser drops the first newline in a <pre>
