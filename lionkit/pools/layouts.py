"""What the columns of a row mean, by the table in `layouts.toml`: the layouts that are known, as data.

`layout` is what a set of column names comes to, `exchange` one question of a conversation, be it a list or one text,
`choose` the choices and the right one of a question that has some. ValueError says what is wrong with a row.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib.resources import files
from itertools import groupby
from operator import itemgetter
from typing import Any

TABLE = tomllib.loads((files(__package__) / "layouts.toml").read_text(encoding="utf-8"))
MEANINGS, REFUSED = TABLE["columns"], TABLE["refused"]
_ROLES = {name: role for role, names in TABLE["roles"].items() for name in names}
_NAMES = "|".join(sorted(_ROLES, key=len, reverse=True))
_SPEAKER, _ENDS, _NOTHING = (
    re.compile("".join(TABLE["dialogue"][name]).replace("NAMES", _NAMES)) for name in ("speaker", "ends", "nothing")
)
Turn = tuple[str, str]
"""Role, a key of the table's roles, and text."""


@cache
def plain(name: Any) -> str:
    """A column's name as the table has it."""
    return re.sub(r"[\s.-]+", "_", str(name).strip("\ufeff \t\r\n").lower())


def layout(names: Iterable[Any], columns: Mapping[str, str]) -> dict[str, list[Any]]:
    """The names by what they mean, those that count first in front; under `unread` those whose text would be lost.

    `columns` are the reader's own words for some names. Choices in columns of their own stand under `group`, after
    their labels; `dialogue` says which question counts where the instruction may be a conversation.
    """
    named, own = {plain(name): name for name in names}, {plain(name): meaning for name, meaning in columns.items()}
    by: dict[str, list[Any]] = {}
    for meaning, known in MEANINGS.items():
        wanted = [*(n for n, to in own.items() if to == meaning), *(n for n in known if n not in own)]
        by[meaning] = [named[name] for name in wanted if name in named]
    by["instruction"], by["choices"] = by["instruction"][:1], by["choices"][:1]
    groups = [[labels, *(named[n] for n in group if n in named)] for labels, *group in TABLE["choices"]["groups"]]
    by["group"] = next((group for group in groups if len(group) > 2 and not by["choices"]), [])
    for meaning in ("input", "output"):
        by[meaning] = [name for name in by[meaning] if name not in by["instruction"] + by["group"]]
    if not by["choices"] + by["group"] and "label" not in own:  # a class of a text, not an answer
        by["output"] = [name for name in by["output"] if plain(name) != "label"]
    asked = {*map(plain, by["instruction"])}
    read = {*by["output"][:1], *(name for meaning in by if meaning != "output" for name in by[meaning])}
    read |= {named.get("label")} if by["output"] else set()
    by["unread"] = [name for key, name in named.items() if name not in read and own.get(key) != ""]
    return by | {"dialogue": [kind for kind in ("first", "last", "each") if asked & {*TABLE["dialogue"][kind]}]}


def turns(value: Any, role: str = "user") -> list[Turn]:
    """Who said what, in order: of a list, an object that names its speaker, or a text; where none is named, `role`."""
    if isinstance(value, str):
        if value.lstrip().startswith("[{"):
            with suppress(ValueError):
                return turns(json.loads(value))
        return _spoken(value) or [(role, value.strip())]
    if isinstance(value, list):
        roles = ("user", "assistant")  # by turns, where no speaker is named
        said = [t for n, v in enumerate(value) for t in ([(roles[n % 2], v)] if isinstance(v, str) else turns(v))]
        spoken = [(role, [text for _, text in some if text]) for role, some in groupby(said, itemgetter(0))]
        return [(role, "\n\n".join(texts)) for role, texts in spoken]  # one speaker, twice in a row
    if not isinstance(value, dict):
        raise ValueError("is no conversation")
    if "messages" in value:
        return turns(value["messages"])
    who = next((value[key] for key in ("role", "from", "speaker", "author") if key in value), None)
    if who is None:  # {"human": ..., "assistant": ...}
        return [(_ROLES[plain(key)], _content(text)) for key, text in value.items() if plain(key) in _ROLES]
    if plain(who) not in _ROLES:
        raise ValueError(f"has a speaker of unknown role: {who!r:.40}")
    best = sorted(value.get("replies") or [], key=lambda reply: (reply.get("rank") is None, reply.get("rank")))[:1]
    text = next((value[key] for key in ("content", "value", "text", "parts", "message") if key in value), None)
    return [(_ROLES[plain(who)], _content(text)), *(turns(best[0]) if best else [])]


def _content(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(_content(part.get("text") if isinstance(part, dict) else part) for part in value)
    if not isinstance(value, str):
        raise ValueError("has a message that is no text (a tool's call, a picture): remove such rows")
    return value.strip()


def _spoken(text: str) -> list[Turn]:
    """The turns of a text in which speakers are marked; none where it is no such text."""
    for sign, other in TABLE["dialogue"]["same"].items():
        text = text.replace(sign, other)
    marks = list(_SPEAKER.finditer(text))
    roles = [_ROLES[mark[mark.lastgroup or 0].lower()] for mark in marks]
    before = _ENDS.sub("", text[: marks[0].start()]).strip() if marks else ""
    if "user" not in roles or (before and ("assistant" not in roles or (marks[0]["c"] and not _NOTHING.match(before)))):
        return []
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    said = [(role, _ENDS.sub("", text[mark.end() : end]).strip()) for role, mark, end in zip(roles, marks, ends)]
    return [("system", before), *said]


def exchange(said: list[Turn], last: bool) -> tuple[str, str, str, str, int]:
    """(system, question, input, answer, questions after it) of the first question, or of the last.

    The input is what the text gives as one, and the dialogue before the question.
    """
    system = "\n\n".join(text for role, text in said if role == "system" and text and not _NOTHING.match(text))
    talk = [(role, text) for role, text in said if role != "system" and (text or role == "assistant")]
    speaker = "user" if "user" in dict(talk) else "input"
    asked = [at for at, (role, _) in enumerate(talk) if role == speaker]
    if not asked:
        raise ValueError("holds no question")
    at = asked[-1 if last else 0]
    before = "\n".join(f"{role.capitalize()}: {text}" for role, text in talk[:at])
    given = [text for role, text in talk[at + 1 : at + 2] if role == "input"]
    answer = "".join(text for role, text in talk[at + 1 :][len(given) :][:1] if role == "assistant")
    return system, talk[at][1], "\n\n".join(filter(None, [before, *given])), answer, len(asked) - 1


def choose(options: Any, labels: str, answer: Any) -> tuple[str, str]:
    """(the choices, a line each; the right one): `answer` is a label, a place from 0, or the text of one."""
    if isinstance(options, str):
        return options.strip(), str(answer).strip()
    if isinstance(options, dict):
        pairs = list(zip(options.get("label", options), options.get("text", options.values())))
    else:
        pairs = [(o["label"], o["text"]) if isinstance(o, dict) else (labels[n], o) for n, o in enumerate(options)]
    names, texts = [str(name) for name, _ in pairs], [str(text).strip() for _, text in pairs]
    own = [re.match(rf"\(?{re.escape(n)} ?(?:\)|[.:](?!\d)) ?", text) for n, text in zip(names, texts)]
    texts = [text[mark.end() :] for text, mark in zip(texts, own) if mark] if all(own) else texts
    lines = [f"{n}. {text}" for n, text in zip(names, texts)]
    key = re.sub(r"^\(?(\w)[).]$", r"\1", str(answer).strip()).lower()
    places = [[n.lower() for n in names], [str(n) for n in range(len(lines))], [text.lower() for text in texts]]
    for known in places if isinstance(answer, int) else (places[0], places[2], places[1]):
        if key in known:
            return "\n".join(lines), lines[known.index(key)]
    if key.isdigit():
        raise ValueError(f"answer is {key}, of {len(lines)} choices")
    return "\n".join(lines), "" if key in ("-1", "none") else str(answer).strip()
