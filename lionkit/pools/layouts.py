"""What the columns of a row mean, by the table in `layouts.toml`: the layouts that are known, as data.

`layout` is what a set of column names comes to, `exchange` one question of a conversation, be it a list or one text,
`choose` the choices and the right one of a question that has some. ValueError says what is wrong with a row.
"""

import ast
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache, partial
from importlib.resources import files
from itertools import chain, groupby, product
from string import ascii_uppercase
from typing import Any

TABLE = tomllib.loads((files(__package__) / "layouts.toml").read_text(encoding="utf-8"))
MEANINGS, REFUSED = TABLE["columns"], TABLE["refused"]
_ROLES = {name: role for role, names in TABLE["roles"].items() for name in names}
_NAMES = "|".join(sorted((name for name in _ROLES if len(name) > 1), key=len, reverse=True))
_SPEAKER, _ENDS, _NOTHING = (
    re.compile("".join(TABLE["dialogue"][name]).replace("NAMES", _NAMES)) for name in ("speaker", "ends", "nothing")
)
_PRINTED = re.compile(
    r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[}\]])(\s+(?=['"{\[]))?|array\(|(?:,\s*dtype=(?:\w+|'[^']*'))?\)(\s+)?""",
    re.DOTALL,
)
"""Texts and ends in a list as numpy prints it: `['a' 'b']`, `array(['a'], dtype=object)`."""
SPEAKERS = ("role", "from", "speaker", "author")
TEXTS = ("content", "value", "text", "parts", "message", "answer", "response")
"""Under what a message names who speaks, and what is said."""
Turn = tuple[str, str]
"""Role, a key of the table's roles, and text."""


@cache
def plain(name: Any) -> str:
    """A column's name as the table has it."""
    return re.sub(r"[\s.-]+", "_", str(name).strip("\ufeff \t\r\n").lower())


def layout(names: Iterable[Any], columns: Mapping[str, str]) -> dict[str, list[Any]]:
    """The names by what they mean, those that count first in front; under `unread` those whose text would be lost.

    `columns` are the reader's own words for some names. Choices in columns of their own stand under `group`, after
    their labels; `dialogue` says which question counts where the instruction may be a conversation; `refused` what
    rows are that hold no instructions, and what to do.
    """
    named, own = {plain(name): name for name in names}, {plain(name): meaning for name, meaning in columns.items()}
    by: dict[str, list[Any]] = {"group": []}
    for meaning, known in MEANINGS.items():
        wanted = [*(n for n, to in own.items() if to == meaning), *(n for n in known if n not in own)]
        by[meaning] = [named[name] for name in wanted if name in named]
    by["instruction"], by["choices"] = by["instruction"][:1], by["choices"][:1]
    asked, answered = ({*map(plain, by[meaning][:1])} for meaning in ("instruction", "output"))
    for labels, least, *group in () if by["choices"] else TABLE["choices"]["groups"]:
        there = [named[name] for name in group if name in named]
        if len(there) >= least and (group[0] != "a" or answered & {*TABLE["choices"]["lettered"]}):
            by["group"] = by["group"] or [*zip(labels, there)]
    for meaning in ("input", "output"):
        by[meaning] = [name for name in by[meaning] if name not in [*by["instruction"], *dict(by["group"]).values()]]
    if not by["choices"] + by["group"] and "label" not in own:  # a class of a text, not an answer
        by["output"] = [name for name in by["output"] if plain(name) != "label"]
    read = {*by["output"][:1], *dict(by["group"]).values()}
    read |= {name for meaning in MEANINGS if meaning not in ("output", "origin") for name in by[meaning]}
    by["cells"] = [*by["history"], *by["choices"], *(named[n] for n in TABLE["dialogue"]["cells"] if n in named)]
    by["unread"] = [name for key, name in named.items() if name not in read and own.get(key) != ""]
    shown = asked | (named.keys() - {*MEANINGS["instruction"]})
    mark = {named.get("label")} if by["output"] else set()  # a class beside an answer, or whether the answer is wanted
    by["origin"] = [*by["origin"], *mark]
    odd = [told for key, told in REFUSED.items() if key == "*" or named.get(key) in {*by["unread"]} - mark]
    by["refused"] = next((told[:2] for told in odd if not asked or shown & {*told[2:]}), [])
    kinds = [kind for kind in ("first", "last", "each") if asked & {*TABLE["dialogue"][kind]}]
    return by | {"dialogue": kinds or ["first"] * bool(asked & own.keys())}  # whoever names one may mean a list


def cell(value: Any) -> Any:
    """The list or object that a text is: JSON, or what Python or numpy prints; all else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        commas = partial(_PRINTED.sub, lambda found: (found[1] or "") + ("," if found[2] or found[3] else ""))
        for read in (json.loads, lambda text: ast.literal_eval(commas(text)), ast.literal_eval):
            with suppress(ValueError, RecursionError, SyntaxError, MemoryError, TypeError):
                if isinstance(found := read(value), list | dict):
                    return found
    return value


def turns(column: str, value: Any, role: str = "user") -> list[Turn]:
    """Who said what, in order: of a list, an object that names its speaker, or a text; where none is named, `role`."""
    if isinstance(value, str):
        if re.match(r"""\s*(\[\s*\{|\{\s*["']messages)""", value) and not isinstance(held := cell(value), str):
            with suppress(ValueError, RecursionError):
                if said := turns(column, held):
                    return said
        return _spoken(value) or [(role, value.strip())]
    if isinstance(value, list):
        roles = ("user", "assistant")  # by turns, where no speaker is named
        each = ([(roles[n % 2], v)] if isinstance(v, str) else turns(column, v) for n, v in enumerate(value))
        return _joined(chain(*each))
    if not isinstance(value, dict):
        raise ValueError(f"{column} is no conversation")
    if "messages" in value:
        return turns(column, value["messages"])
    who = next((str(value[key]) for key in SPEAKERS if key in value), None)
    if who is None:  # {"human": ..., "assistant": ...}
        return [(_ROLES[plain(key)], _content(column, text)) for key, text in value.items() if plain(key) in _ROLES]
    if plain(who) not in _ROLES:
        raise ValueError(f"{column} has a speaker of unknown role: {who!r:.40}")
    text = next((value[key] for key in TEXTS if key in value), None)
    if _ROLES[plain(who)] == "assistant" and value.get("weight", value.get("train", 1)) == 0:
        text = ""  # not to be learnt
    called = not text and (value.get("tool_calls") or value.get("function_call"))
    replies = value["replies"] if isinstance(value.get("replies"), list) else []
    return [(_ROLES[plain(who)], _content(column, None if called else text)), *turns(column, best(replies))]


def _joined(said: Iterable[Turn]) -> list[Turn]:
    """The turns, those of one speaker in a row as one; what a system says stays apart, since some of it is left out."""
    runs = [[*run] for _, run in groupby(said, lambda turn: turn if turn[0] == "system" else turn[0])]
    return [(run[0][0], "\n\n".join(text for _, text in run if text)) for run in runs]


def best(answers: list[Any]) -> list[Any]:
    """The answer of the first rank, or where none has a rank the first: a list of it, or of none."""
    ranked = {a["rank"]: a for a in answers if isinstance(a, dict) and isinstance(a.get("rank"), int | float)}
    return [ranked[min(ranked)]] if ranked else answers[:1]


def _content(column: str, value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(_content(column, part.get("text") if isinstance(part, dict) else part) for part in value)
    if not isinstance(value, str):
        raise ValueError(f"{column} has a message that is no text (a tool's call, a picture): remove such rows")
    return value.strip()


def _spoken(text: str) -> list[Turn]:
    """The turns of a text in which speakers are marked; none where it is no such text."""
    for sign, other in TABLE["dialogue"]["same"].items():
        text = text.replace(sign, other)
    marks = list(_SPEAKER.finditer(text))
    marks = [mark for mark in marks if not mark["e"] or marks[0]["e"]]
    roles = [_ROLES[mark[mark.lastgroup or 0].lower()] for mark in marks]
    before = _ENDS.sub("", text[: marks[0].start()]).strip() if marks else ""
    odd = marks and (marks[0]["c"] or marks[0]["e"]) and not _NOTHING.match(before)
    if "user" not in roles or (before and ("assistant" not in roles or odd)):
        return []
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    said = [(role, _ENDS.sub("", text[mark.end() : end]).strip()) for role, mark, end in zip(roles, marks, ends)]
    return _joined([("system", before), *said])


def exchange(column: str, said: list[Turn], last: bool) -> tuple[str, str, str, str, int]:
    """(system, question, input, answer, questions after it) of the first question, or of the last.

    The input is what the text gives as one, and the dialogue before the question.
    """
    system = "\n\n".join(text for role, text in said if role == "system" and text and not _NOTHING.match(text))
    talk = [(role, text) for role, text in said if role != "system" and (text or role == "assistant")]
    speaker = "user" if "user" in dict(talk) else "input"
    asked = [at for at, (role, _) in enumerate(talk) if role == speaker]
    if not asked:
        raise ValueError(f"{column} holds no question")
    at = asked[-1 if last else 0]
    before = "\n".join(text if role == "input" else f"{role.capitalize()}: {text}" for role, text in talk[:at])
    given = [text for role, text in talk[at + 1 : at + 2] if role == "input"]
    answer = "".join(text for role, text in talk[at + 1 :][len(given) :][:1] if role == "assistant")
    return system, talk[at][1], "\n\n".join(filter(None, [before, *given])), answer, len(asked) - 1


def choose(options: Any, column: str | None, answer: Any) -> tuple[str, str]:
    """(the choices, a line each; the right one): `answer` is a label, a place from 0, or the text of one."""
    if isinstance(options, str):
        return options.strip(), str(answer).strip()
    answer, (labels, texts) = cell(answer), _labelled(options)
    own = [re.match(rf"\(?{re.escape(label)} ?(?:\)|[.:](?!\d)) ?", text) for label, text in zip(labels, texts)]
    texts = [text[mark.end() :] for text, mark in zip(texts, own) if mark] if all(own) else texts
    lines = [f"{label}. {text}" for label, text in zip(labels, texts)]
    said = answer[0] if isinstance(answer, list) and len(answer) == 1 else answer
    key = str(said).strip().lower()
    bare = re.sub(r"^(?:option |choice |answer )?\(?(\w+)(?:[).:]+ ?|$)", r"\1. ", key).strip()
    keys = [key, key.removesuffix(".0"), bare, *(TABLE["choices"]["truth"][key] if isinstance(said, bool) else [])]
    places = [str(place) for place in range(len(lines))]
    ways = [labels, places, texts] if isinstance(said, int | float) else [labels, texts, places, lines]
    for form, names in product(keys, ways):
        for name, line in zip(names, lines):
            if form.rstrip(".") == name.lower().rstrip("."):
                return "\n".join(lines), line
    if len(key) < 3 and key not in ("", "-1"):  # a wrong label; what is longer is an answer in words
        what = f"{column} is {said!r:.40}, of {len(lines)} choices (a label, a place from 0, or a text)"
        raise ValueError(f'{what}: mend it, or columns={{"{column}": ""}}')
    words = ", ".join(map(str, answer)) if isinstance(answer, list) else str(answer).strip()
    return "\n".join(lines), "" if key in ("", "-1", "none") else words


def _labelled(options: Any) -> tuple[list[str], list[str]]:
    """Labels and texts of choices: of a list of texts or of objects with both, of an object of texts or of lists."""
    if isinstance(options, list) and isinstance(options[0], dict):
        options = {key: [o.get(key) if isinstance(o, dict) else None for o in options] for key in ("label", "text")}
    elif isinstance(options, dict) and "text" not in options:
        options = {"label": [*options], "text": [*options.values()]}
    labels, texts = (options.get("label"), options["text"]) if isinstance(options, dict) else (None, options)
    labels = labels if isinstance(labels, list) and None not in labels else ascii_uppercase
    if not isinstance(texts, list) or len(labels) < len(texts):
        raise ValueError("the choices are neither texts with a label each nor up to 26 texts")
    there = [n for n, text in enumerate(texts) if text is not None]
    return [str(labels[n]) for n in there], [str(texts[n]).strip() for n in there]
