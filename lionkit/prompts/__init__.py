"""Rendering of every prompt; nothing else knows their wording.

The wording is in the `.txt` files beside this one. Whatever comes from a model or a user is placed between fences whose
name contains a digest of the fenced texts: the same pair always gives the same prompt (so a stored reply is found
again), and a text cannot contain the end of its own fence, since it would have to contain a digest of itself. Chat
templates' own tokens in such texts are broken by a space, since a local server's tokenizer would take them for real.
"""

import tomllib
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

from lionkit.markup import TOKEN
from lionkit.records import content_id

Messages = list[dict[str, str]]


@cache
def wording(name: str) -> Template:
    """The text of `prompts/<name>.txt` as a template with $placeholders."""
    return Template(files(__package__).joinpath(f"{name}.txt").read_text(encoding="utf-8").strip())


def fence(label: str, text: str, mark: str) -> str:
    """`text` between two marker lines that only this prompt can contain; `<|im_end|>` becomes `< |im_end|>`."""
    text = TOKEN.sub(lambda token: f"{token[0][0]} {token[0][1:]}", text)
    return f"<<<{label} {mark}>>>\n{text}\n<<<end {label} {mark}>>>"


def mark_for(*texts: str) -> str:
    """A digest of the texts: none of them can contain it, since that would change the digest."""
    return content_id("fence", "0", *texts)[:10]  # "0" is part of every stored prompt


def teacher_messages(text: str) -> Messages:
    """Ask the teacher: the instruction as the user's whole message, so that any endpoint's own habits apply."""
    return [{"role": "user", "content": text}]


REFEREE_FORMAT: dict[str, Any] = tomllib.loads((files(__package__) / "referee_format.toml").read_text(encoding="utf-8"))
"""Structured output for the referee, where the endpoint has it."""


def referee_messages(text: str, first: str, second: str, structured: bool = False) -> Messages:
    """Ask the referee to compare two answers, `first` and `second` by seat (section 3.2): evidence, then scores."""
    mark = mark_for(text, first, second)
    user = wording("referee").substitute(
        instruction=fence("instruction", text, mark),
        first=fence("answer 1", first, mark),
        second=fence("answer 2", second, mark),
        mark=mark,
        closing=wording("referee_json" if structured else "referee_lines").template,
    )
    return [{"role": "system", "content": wording("referee_system").template}, {"role": "user", "content": user}]


def generator_messages(text: str, kind: str) -> Messages:
    """Ask the generator for one instruction like `text` (section 3.3): `hard` is as difficult, `easy` is rarer."""
    mark = mark_for(text)
    return [{"role": "user", "content": wording(f"generator_{kind}").substitute(seed=fence("example", text, mark))}]
