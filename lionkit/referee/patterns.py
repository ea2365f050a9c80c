"""The patterns by which `scores` finds labels, numbers and quotations in a referee's reply.

They and the words they are made of, in about twenty languages, are in `patterns.toml`.
"""

import re
import tomllib
from importlib.resources import files
from types import SimpleNamespace

_TEXT = tomllib.loads((files(__package__) / "patterns.toml").read_text(encoding="utf-8"))
_PARTS = {name: "|".join(lines) for name, lines in _TEXT["words"].items()}
for _name, _lines in _TEXT["patterns"].items():
    _PARTS[_name] = re.sub("[A-Z_]{2,}", lambda word: _PARTS[word[0].lower()], "".join(_lines))
PATTERN = SimpleNamespace(**{name: re.compile(text) for name, text in _PARTS.items()})
CLEAN: dict[int, str | None] = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}  # full-width forms
CLEAN |= {ord(sign): plain or None for plain, signs in _TEXT["clean"].items() for sign in signs}
"""For `str.translate`: one kind of space, minus and punctuation, and no markup."""
