"""From a generator's reply to an instruction: harmless wrapping is removed, and named rules reject what is none.

`unwrap` removes what models put around an instruction (thoughts, a label, quotation marks, a code fence).
`broken_rule` names the first rule that a text breaks; each rule looks at the text alone or at its seed, none at the
pool, which novelty compares with. A rule that is unsure lets the text pass: the referee meets it later, while a text
dropped here is never seen again. Patterns (in `phrases.toml`) are English, refusals also in the larger languages.
"""

import re
import tomllib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from types import SimpleNamespace

from lionkit.markup import answer
from lionkit.novelty import UNSPACED, rouge_l, tokens
from lionkit.prompts import wording
from lionkit.records import Instruction

_TEXT = tomllib.loads(files(__package__).joinpath("phrases.toml").read_text(encoding="utf-8"))
_FLAGS = re.IGNORECASE | re.VERBOSE | re.MULTILINE
_PATTERN = SimpleNamespace(**{k: re.compile(v.replace("NOUN", _TEXT["noun"]), _FLAGS) for k, v in _TEXT.items()})


def unwrap(reply: str) -> str:
    """The reply without thoughts, preamble line, label, fence or quotation marks around the whole of it."""
    text, before = answer(reply).strip(), None
    while text != before:
        before = text
        text = _PATTERN.label.sub("", _PATTERN.preamble.sub("", text), count=1)
        for whole in (_PATTERN.fence, _PATTERN.quoted):
            if match := whole.match(text):
                text = match[match.lastindex or 0]
        text = text.strip()
    return text


def _too_short(text: str, seed: Instruction) -> bool:
    """Under two words, or under four letters in scripts without spaces; two such letters count as a word."""
    letters = len(UNSPACED.findall(text))
    words = sum(1 for piece in UNSPACED.sub(" ", text).split() if any(c.isalnum() for c in piece))
    return letters + 2 * words < 4


def _scaffolding(text: str, seed: Instruction) -> bool:
    """Lines of the generator's own prompt, or its fence, are in the text."""
    lowered = " ".join(text.lower().split())
    return "<<<" in text and "example" in lowered or any(line in lowered for line in _prompt_lines())


@cache
def _prompt_lines() -> tuple[str, ...]:
    """The long lines of the generator's prompts, by which a copied prompt is recognised."""
    prompts = "\n".join(wording(f"generator_{kind}").template.lower() for kind in ("hard", "easy"))
    return tuple(line for line in (line.strip(" -.;,") for line in prompts.split("\n")) if len(line) >= 30)


def declines(text: str) -> bool:
    """Whether a model declines in this text, or speaks of itself as a model."""
    return bool(_PATTERN.refusal.match(text.replace("’", "'")))


def _answer(text: str, seed: Instruction) -> bool:
    """It is an answer, or has one: an answer's opening, one filled `Output:` part at its end, or the seed's output."""
    parts = _PATTERN.part.findall(text)
    if _PATTERN.answer.search(text) or (len(parts) == 1 and parts[0] and not text.rstrip().endswith("?")):
        return True
    return len(tokens(seed.output)) > 3 and rouge_l(text, seed.output) > 0.7


def _not_self_contained(text: str, seed: Instruction) -> bool:
    """It speaks of a text, list or picture that is not there."""
    if _PATTERN.attached.search(text):
        return True
    if (match := _PATTERN.above.search(text)) and len(tokens(text[: match.start()])) < 8:
        return True
    if match := _PATTERN.following.search(text):
        after = text[match.end() :]
        return len(tokens(after)) < 8 and not _PATTERN.material.search(after)
    return False


RULES: dict[str, Callable[[str, Instruction], bool]] = {
    "empty": lambda text, seed: not tokens(text),
    "too short": _too_short,
    "scaffolding": _scaffolding,
    "refusal": lambda text, seed: declines(text),
    "answer": _answer,
    "not self-contained": _not_self_contained,
    "same as seed": lambda text, seed: tokens(text) == tokens(seed.text),
}
"""In the order in which they are tried. `rounds` adds `cut` and other states of the call, `duplicate`, `not novel`, and
`surplus` for a good candidate that came after the count was met."""


def broken_rule(text: str, seed: Instruction) -> str:
    """Name of the first rule that the unwrapped text breaks; empty when it breaks none."""
    return next((name for name, breaks in RULES.items() if breaks(text, seed)), "")
