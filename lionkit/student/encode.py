"""From an instruction and a response to token ids and labels, and the audit of them before training.

Prompt and response are tokenised apart and joined as ids, so no tokeniser merge can shift the label mask.
Labels are the response and its end-of-sequence token; everything else is -100. Two formats: the tokenizer's
chat template (with an empty system message, which keeps a template's default one out: 16 tokens a row for
SmolLM2), or the plain format that the paper's students were trained on.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from typing import Any, Literal

from lionkit.errors import StudentError, first_line

Template = Literal["chat", "plain"]
Part = Literal["prompt", "response", "end"]
IGNORED = -100
PROBE = "lionkit"
"""A text that must come out of a chat template."""
TRYING = "{}: \"Sort\" <a href='https://a.example'> & it's.\n    3 1 2\\n é\n" * 9 + "{}"
"""What must come out of one letter by letter, with a word for {}: templates cut, escape, print or change texts."""
DAY = datetime(2026, 1, 1)
"""The date that a chat template which prints one is given, so that rows stay what they are from day to day."""
_SIGNS = {"-d": "1", "-m": "1", "e": " 1"} | {sign: f"{DAY:%{sign}}" for sign in "aAbBcdfFGHIjmMpSTuUVwWxXyYzZ%"}
PINNED = "{%- macro strftime_now(format) %}{{ format SIGNS }}{% endmacro %}\n".replace(
    "SIGNS", "".join(f"|replace('%{sign}', '{shown}')" for sign, shown in _SIGNS.items())
)
"""What stands before a template, so that it is given `DAY` however it asks: transformers keeps functions from it."""
SHORTEST_PROMPT = 8
"""Fewer prompt tokens than this say nothing about the task."""
PLAIN = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{}\n\n### Response:\n"
)
"""Alpaca's format, to the letter: the paper's published weights know no other."""


@dataclass(frozen=True)
class Encoded:
    """One training row. `labels` has the length of `input_ids`: -100 on the prompt, the ids themselves after it."""

    input_ids: list[int]
    labels: list[int]
    cut: int = 0
    """Tokens left out of the prompt to fit."""

    @property
    def supervised(self) -> int:
        return sum(label != IGNORED for label in self.labels)


def prompt_ids(tokenizer: Any, text: str, *, template: Template) -> list[int]:
    """Token ids of the prompt up to where the response begins, with exactly one BOS where the tokenizer has it.

    Control tokens spelt out in `text` stay text: an instruction cannot end its own turn.
    """
    if template == "plain":
        ids = _text_ids(tokenizer, PLAIN.format(text))
        has_bos = tokenizer.bos_token_id is not None and tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id
        return [tokenizer.bos_token_id, *ids] if has_bos else ids
    template = tokenizer.get_chat_template()
    system, parts = _form(tokenizer, template)
    options = {"chat_template": PINNED + template, "add_generation_prompt": True, "return_dict": False}
    said = messages(text, "" if system else None, parts)
    ids = tokenizer.apply_chat_template(said, sanitize_control_tokens=True, **options)
    return list(ids[1:] if ids[:2] == [tokenizer.bos_token_id] * 2 else ids)


def messages(text: str, system: str | None = "", parts: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A prompt with an empty system message, or none (None); the roles in `parts` have their contents in parts."""
    said = [("system", system), ("user", text)]
    contents = [(role, [{"type": "text", "text": words}] if role in parts else words) for role, words in said]
    return [{"role": role, "content": content} for role, content in contents if content is not None]


@lru_cache(maxsize=8)
def _form(tokenizer: Any, template: str) -> tuple[bool, tuple[str, ...]]:
    """Whether a chat template takes a system message, and the roles whose contents it wants in parts: the first form
    in which a whole instruction comes out, and of a system message nothing or all. StudentError where it does in none.
    """
    problem, changed = "its prompt leaves the instruction out", ""
    options = {"chat_template": PINNED + template, "tokenize": False, "add_generation_prompt": True}
    texts = {word: TRYING.replace("{}", word) for word in (PROBE, PROBE[::-1])}
    user, rule = texts.values()
    both: tuple[str, ...] = ("system", "user")
    for system, roles in ((True, ()), (True, both), (True, both[1:]), (True, both[:1]), (False, ()), (False, both[1:])):
        try:
            told = [messages(user, said, roles) for said in ((rule, "") if system else (None,))]
            prompt, *empty = (tokenizer.apply_chat_template(said, **options) for said in told)
        except Exception as error:  # the template is a program of whoever made the model
            problem = first_line(error)
            continue
        whole = all(prompt.count(word) == 10 * prompt.count(text) for word, text in texts.items())
        if whole and all(user in shown for shown in (prompt, *empty)):
            return system, roles
        if PROBE in prompt:
            changed = "its prompt changes the instruction, or leaves some of it out"
    raise StudentError(changed or problem)


def _text_ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def encode(tokenizer: Any, text: str, response: str, *, template: Template, max_length: int) -> Encoded | None:
    """One row of at most `max_length` ids, or None where nothing would be learnt from it.

    A row that is too long loses the middle of its prompt, never its response; where the response with its
    end-of-sequence token leaves too few ids for a prompt, the row is dropped (None), and so is an empty response and
    one that no token could end.
    """
    answer = _text_ids(tokenizer, response)
    if not answer or tokenizer.eos_token_id is None:
        return None
    answer = [*answer, tokenizer.eos_token_id]
    prompt = prompt_ids(tokenizer, text, template=template)
    cut = max(len(prompt) + len(answer) - max_length, 0)
    if cut:
        room = len(prompt) - cut
        if room < SHORTEST_PROMPT:
            return None
        del prompt[room // 2 : room // 2 + cut]
    return Encoded(prompt + answer, [IGNORED] * len(prompt) + answer, cut)


TAGS: dict[Part, str] = {
    "prompt": 'span style="color:#666"',
    "response": 'mark style="background:#cce6f7;color:#003a5c"',
    "end": 'mark style="background:#f7d4bd;color:#5c2700;font-weight:bold;border:1px solid"',
}
"""How each part of a row is shown. Where a page loses the styles, the marks are still there."""


@dataclass(frozen=True, repr=False)
class LabelAudit:
    """What training would see, counted. It may start when there are no `problems`."""

    template: Template
    rows: int
    dropped: int
    """Rows with an empty response, or one that leaves no room for the prompt."""
    cut: int
    """Rows whose prompt was shortened."""
    tokens: int
    supervised: int
    """Tokens with a label."""
    ended: int
    """Rows whose last label is the end-of-sequence token."""
    problems: tuple[str, ...]
    example: tuple[tuple[Part, str], ...]
    """The first row in its parts: (part, text)."""

    def __str__(self) -> str:
        share = self.supervised / max(self.tokens, 1)
        counts = f"{self.rows} rows ({self.template}), {self.tokens} tokens, {share:.0%} supervised"
        counts += f", {self.ended} end in a learned end-of-sequence token, {self.cut} prompts cut"
        return "; ".join((f"{counts}, {self.dropped} rows dropped", *self.problems))

    def __repr__(self) -> str:
        """The counts and the first row as text, `[[` and `]]` around what is learned."""
        return f"{self}\n" + "".join(text if part == "prompt" else f"[[{text}]]" for part, text in self.example)

    def _repr_html_(self) -> str:
        """The counts, and the first row with its parts in colour: a wrong mask is seen at a glance."""
        legend, row = (
            "".join(f"<{TAGS[part]}>{html.escape(text)}</{TAGS[part].split()[0]}>" for part, text in parts)
            for parts in ([(part, f" {part} ") for part in TAGS], self.example)
        )
        return f'<p>{html.escape(str(self))}</p><p>{legend}</p><pre style="white-space:pre-wrap">{row}</pre>'


def label_audit(
    tokenizer: Any, pairs: Sequence[tuple[str, str]], *, template: Template, max_length: int
) -> tuple[list[Encoded], LabelAudit]:
    """Encode (instruction, response) pairs, and count what training depends on. Raises StudentError where the chat
    template leaves instructions out."""
    encoded = [encode(tokenizer, text, response, template=template, max_length=max_length) for text, response in pairs]
    rows = [row for row in encoded if row is not None]
    return rows, LabelAudit(
        template=template,
        rows=len(rows),
        dropped=len(encoded) - len(rows),
        cut=sum(row.cut > 0 for row in rows),
        tokens=sum(len(row.input_ids) for row in rows),
        supervised=sum(row.supervised for row in rows),
        ended=sum(_ends(row, tokenizer.eos_token_id) for row in rows),
        problems=problems(rows, tokenizer.eos_token_id, tokenizer.bos_token_id),
        example=_parts(tokenizer, rows[0]) if rows else (),
    )


def _parts(tokenizer: Any, row: Encoded) -> tuple[tuple[Part, str], ...]:
    def part(pair: tuple[int, int]) -> Part:
        return "prompt" if pair[1] == IGNORED else "end" if pair[0] == tokenizer.eos_token_id else "response"

    runs = groupby(zip(row.input_ids, row.labels), part)
    return tuple((name, tokenizer.decode([token for token, _ in pairs])) for name, pairs in runs)


def _ends(row: Encoded, eos: int | None) -> bool:
    return row.labels[-1:] == row.input_ids[-1:] == [eos]


def problems(rows: Sequence[Encoded], eos: int | None, bos: int | None) -> tuple[str, ...]:
    """Why these rows must not be trained on, in words; empty when they may be."""
    if eos is None:
        return ("the tokenizer has no end-of-sequence token, so the student would never learn to stop",)
    if not rows:
        return ("no row is left: raise student.max_length, or look at the responses",)
    moved = [any(b not in (IGNORED, a) for a, b in zip(row.input_ids, row.labels)) for row in rows]
    counts = {
        "do not end in a labelled end-of-sequence token": sum(not _ends(row, eos) for row in rows),
        "have no labelled response": sum(row.supervised <= 1 for row in rows),
        "have labels that are not their own tokens": sum(moved),
        "begin with two BOS tokens": sum(bos not in (None, eos) and row.input_ids[:2] == [bos] * 2 for row in rows),
    }
    return tuple(f"{count} rows {fault}" for fault, count in counts.items() if count)
