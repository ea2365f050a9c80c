"""What makes of a generator's reply an instruction: harmless wrapping comes off, and named rules reject the rest.

`unwrap` takes off what models put around an instruction (thoughts, a label, quotation marks, a code fence).
`broken_rule` names the first rule that a text breaks; each rule looks at the text alone or at its seed, none at
the pool, which is novelty's part. A rule that is unsure lets the text pass: the referee meets it later, while
a text dropped here is never seen again. Patterns are English, refusals also in the larger languages.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from lionkit.novelty import UNSPACED, rouge_l, tokens
from lionkit.prompts import wording
from lionkit.records import Instruction

_FLAGS = re.IGNORECASE | re.VERBOSE
_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"\A```[\w-]*\n((?:(?!^```).)*?)\n?```\Z", re.DOTALL | re.MULTILINE)
_LABEL = re.compile(
    r"""\A (?:\#+\ *|\*\*)? (?:a\ |the\ )?(?:new\ |generated\ )? (?:instruction|task|prompt) (?:\ \d+)?
        (?:\*\*)?\ ?[:：]\ ?(?:\*\*)? \s*
    | \A \#+\ * (?:new\ )? instruction \ *\n""",
    _FLAGS,
)
_PREAMBLE = re.compile(
    r"""\A (?:(?:sure|certainly|of\ course|okay|absolutely)\b[^\n]{0,80}
        | here(?:'s|\ is)[^\n]{0,60}instruction[^\n]{0,40}) :\s*\n\s*""",
    _FLAGS,
)
_QUOTED = re.compile(
    r"\A(?:\"([^\"]+)\"|'([^']+)'|“([^“”]+)”|‘([^‘’]+)’|«([^«»]+)»|„([^„“”]+)[“”]|「([^「」]+)」|\*\*([^*]+)\*\*)\Z"
)


def unwrap(reply: str) -> str:
    """The reply without thoughts, preamble line, label, fence or quotation marks around the whole of it."""
    text, before = _THOUGHT.sub("", reply).strip(), None
    while text != before:
        before = text
        text = _LABEL.sub("", _PREAMBLE.sub("", text), count=1)
        for whole in (_FENCE, _QUOTED):
            if match := whole.match(text):
                text = match[match.lastindex or 0]
        text = text.strip()
    return text


def _empty(text: str, seed: Instruction) -> bool:
    """No letter, digit or emoji."""
    return not tokens(text)


def _too_short(text: str, seed: Instruction) -> bool:
    """Under two words, or under four letters in scripts without spaces; half of each will do."""
    letters = len(UNSPACED.findall(text))
    words = sum(1 for piece in UNSPACED.sub(" ", text).split() if any(c.isalnum() for c in piece))
    return letters + 2 * words < 4


def _scaffolding(text: str, seed: Instruction) -> bool:
    """Lines of our own prompt, or its fence, come back."""
    lowered = " ".join(text.lower().split())
    return "<<<" in text and "example" in lowered or any(line in lowered for line in _prompt_lines())


@cache
def _prompt_lines() -> tuple[str, ...]:
    lines = [
        line.strip(" -.;,").lower()
        for kind in ("hard", "easy")
        for line in wording(f"generator_{kind}").template.split("\n")
    ]
    return tuple(line for line in lines if len(line) >= 30)


_REFUSAL = re.compile(
    r"""\A (?:(?:i'm\ |i\ am\ |we're\ |we\ are\ )?(?:really\ |very\ |so\ |truly\ )?sorry
            | i\ apologi[sz]e | my\ apologies | unfortunately)?
        [,;:.]?\ ?(?:but\ |as\ an\ ai[^,.]{0,40},\ )*
        i(?:'m|\ am)?\ (?:can\ ?not|can't|won't|will\ not|unable|not\ able|must|have)\ (?:to\ )?(?:decline\ to\ |refuse\ to\ )?
        (?:assist|help|comply|fulfill?|support|engage|provide|create|generate|produce|continue|answer|respond|access
            | do\ (?:that|this) | write\ (?:an?|such|this|that|new) )\b
    | \A as\ an?\ (?:ai|artificial|large|language)\b[^.?!]{0,60}\bi\ (?:can|do|am|have|must|won|will)
    | \A (?:lo\ siento|(?:je\ suis\ )?désolée?|(?:es\ )?tut\ mir\ leid|mi\ dispiace|desculpe|sinto\ muito|извините|простите
            | к\ сожалению),?\ (?:pero\ |mais\ |aber\ |ma\ |mas\ |но\ )?
        (?:no\ puedo|je\ ne\ peux|ich\ kann|non\ posso|não\ posso|я\ не\ могу)
    | \A (?:很?抱歉|对不起|對不起)，?我?[无無不]  | \A 申し訳(?:ありません|ございません)が | \A 죄송하지만""",
    _FLAGS,
)


def declines(text: str) -> bool:
    """Whether a model declines in this text, or speaks of itself as a model."""
    return bool(_REFUSAL.match(text.replace("’", "'")))


def _refusal(text: str, seed: Instruction) -> bool:
    """The model declines."""
    return declines(text)


_ANSWER = re.compile(
    r"""\A (?:\#+\ *|\*\*)? (?:the\ )?(?:correct\ |final\ )? (?:answer|response|output|solution)
        (?:\ is\b | (?:\*\*)?\ ?[:：])
    | \A (?:sure|certainly|of\ course|absolutely) [,!.]
    | ^ \#+\ * (?:response|answer|output)\b""",
    _FLAGS | re.MULTILINE,
)
_PART = re.compile(
    r"^(?:\*\*)?(?:answer|response|output|solution)(?:\*\*)?\ ?[:：](?:\*\*)?[ \n]*(\S*)", re.IGNORECASE | re.MULTILINE
)


def _answer(text: str, seed: Instruction) -> bool:
    """It answers, or answers as well: an answer's opening, one filled `Output:` part at its end, the seed's output."""
    parts = _PART.findall(text)
    if _ANSWER.search(text) or (len(parts) == 1 and parts[0] and not text.rstrip().endswith("?")):
        return True
    return len(tokens(seed.output)) > 3 and rouge_l(text, seed.output) > 0.7


_NOUN = (
    "(?:text|passage|paragraph|sentences?|article|story|poem|code|list|table|data|dialogue|conversation|email|review"
    "|document|question|context|information|excerpt)"
)
_ABOVE = re.compile(rf"\b(?:above(?:-mentioned)? {_NOUN}|{_NOUN} (?:given |provided |shown )?above)\b", re.IGNORECASE)
_FOLLOWING = re.compile(rf"\b(?:following (?:\w+ )?{_NOUN}|{_NOUN} (?:given |provided |shown )?below)\b", re.IGNORECASE)
_ATTACHED = re.compile(
    r"""\b(?:attached|uploaded|enclosed)\ (?:file|image|photo|picture|document|spreadsheet|pdf|audio|video)
    | \b(?:image|photo|picture|video|diagram|chart)\ (?:above|below|shown|attached|provided)\b""",
    _FLAGS,
)
_MATERIAL = re.compile(r"[:：\n\"'“‘«(\[{`\d]")


def _not_self_contained(text: str, seed: Instruction) -> bool:
    """It speaks of a text, list or picture that is not there."""
    if _ATTACHED.search(text):
        return True
    if (match := _ABOVE.search(text)) and len(tokens(text[: match.start()])) < 8:
        return True
    if match := _FOLLOWING.search(text):
        after = text[match.end() :]
        return len(tokens(after)) < 8 and not _MATERIAL.search(after)
    return False


def _same_as_seed(text: str, seed: Instruction) -> bool:
    """The seed's words in the seed's order."""
    return tokens(text) == tokens(seed.text)


RULES: dict[str, Callable[[str, Instruction], bool]] = {
    "empty": _empty,
    "too short": _too_short,
    "scaffolding": _scaffolding,
    "refusal": _refusal,
    "answer": _answer,
    "not self-contained": _not_self_contained,
    "same as seed": _same_as_seed,
}
"""In the order in which they are asked. `generator` adds `cut` and other states of the call, `duplicate`, `not novel`,
and `surplus`: good, but the count was met."""


def broken_rule(text: str, seed: Instruction) -> str:
    """Name of the first rule that the unwrapped text breaks; empty when it breaks none."""
    return next((name for name, breaks in RULES.items() if breaks(text, seed)), "")
