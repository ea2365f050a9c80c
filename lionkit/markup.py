"""What models leave around their answers: thoughts, the control tokens of chat templates, characters nobody sees.

The one list of marks is `markup.toml`. Endpoints without a parser for a model's thoughts leave them in the reply; a
server with the wrong end-of-turn token leaves that. Thoughts of other shapes, plain prose for one, are not covered.
"""

import re
import tomllib
from importlib.resources import files

_LISTED = tomllib.loads((files("lionkit") / "markup.toml").read_text(encoding="utf-8"))
_ANY = {name: f"(?:{'|'.join(patterns)})" for name, patterns in _LISTED.items()}
_TOKEN = f"(?!{_ANY['open']}|{_ANY['close']}){_ANY['token']}"
_MARK = re.compile(f"(?P<open>{_ANY['open']})|(?P<close>{_ANY['close']})|{_ANY['until']}", re.IGNORECASE)
_BEFORE, _NEXT, _AFTER, _WHOLE = (
    re.compile(pattern.replace("TOKEN", _TOKEN), re.IGNORECASE)
    for pattern in (rf"\s*{_ANY['before']}", _ANY["next"], r"TOKEN\Z", rf"\s*{_ANY['whole']}\s*")
)
_PAUSE = re.compile(r"(?:\A|\n|[.!?…。！？)])[^\S\n]*\Z")  # a line's or a sentence's end
_WORD = re.compile(r"[^`'\"“]\Z")  # anything but a mark that is quoted
TOKEN = re.compile(_ANY["token"], re.IGNORECASE)
"""One control token, as a chat template writes it."""
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
    "|(?<![\u0300-\u1fff\u2070-\U0010ffff])[\u200c\u200d]|[\u200c\u200d](?![\u0300-\u1fff\u2070-\U0010ffff])"
)
"""Control characters (tab and newline excepted), zero-width and direction marks, lone surrogates. Joiners count where
one neighbour is Latin or missing: between letters of other scripts and emoji they have work to do."""


def without_thoughts(text: str, *, anywhere: bool = False) -> str | None:
    """The text without its thoughts; None where they never end. A closing mark alone ends thoughts begun in the prompt.

    Thoughts come before the answer, unless they may be `anywhere`: elsewhere, marks are what a text is about.
    """
    kept, at, inside, opened, pause = list[str](), 0, False, False, _PAUSE
    for mark in _MARK.finditer(text):
        if inside:
            if mark["open"]:
                pause = _WORD  # two ends may follow
            else:
                inside, at = False, mark.end()
        elif mark["open"]:
            if anywhere or not (opened or text[at : mark.start()].strip()):
                kept.append(text[at : mark.start()])
                inside = True
            else:
                opened = True
        elif mark["close"] and (anywhere or not opened and pause.search(text, max(mark.start() - 99, 0), mark.start())):
            kept.clear()
            at = mark.end()
    return None if inside else "".join([*kept, text[at:]])


def answer(reply: str) -> str:
    """The answer in a reply, without thoughts before it and control tokens around it; empty where it never begins."""
    text = _ended(_begun(reply))
    own = without_thoughts(text)
    if own is None or own == text:
        return own or ""
    own = _ended(_begun(own.lstrip()))
    whole = _WHOLE.fullmatch(own)
    return whole[2].strip() if whole else own


def _begun(text: str) -> str:
    """The text after the control tokens at its beginning."""
    before = _BEFORE.match(text)
    if not before or (before[0].strip() == "<s>" and "</s>" in text.rstrip()[:-4]):
        return text
    return text[before.end() :]


def _ended(text: str) -> str:
    """The text up to the control tokens that end its turn, and without the turns that a model made up after it."""
    if (after := _NEXT.search(text)) and not TOKEN.search(text[: after.start()]):
        text = text[: after.start()].rstrip()
    bare = text.rstrip()
    while (last := _AFTER.search(bare, max(len(bare) - 99, 0))) and not (last[0] == "</s>" and "<s>" in bare):
        text = bare = bare[: last.start()].rstrip()
    return text


def visible(text: str) -> str:
    """Every character of UNSEEN as a visible code point, so that none of them acts."""
    return UNSEEN.sub(lambda m: f"⟨U+{ord(m[0]):04X}⟩", text.replace("\r\n", "\n"))
