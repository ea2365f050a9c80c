"""The answer-key teacher: rules in the three roles of the method, behind the same prompts as an LLM.

`reply` reads the messages that `lionkit.prompts` renders, finds out which role is asked for, and answers
in the form the prompt wants: as **teacher** with the right answer, as **referee** with evidence and two
scores by comparison with the right answer, as **generator** with a new instruction of the seed's family.
It knows only the families of `families`; for anything else it says so, and the pair stays undecided. It is
not a language model and shows nothing about one: it makes the loop's mechanism visible and checkable.
"""

from __future__ import annotations

import json
import random
import re

from rapidfuzz.distance import LCSseq

from lionkit.records import content_id
from lionkit.sandbox import Refusal
from lionkit.sandbox.families import invent, solve

NAME = "answer key (rules, not a language model)"
BEST, WORST = 9.0, 1.0
"""A right answer gets 9, not 10, so that an injected seat bias is not cut off at the top of the scale."""

_FENCE = re.compile(
    r"<<<(?P<label>[a-z0-9 ]+) (?P<mark>[0-9a-f]{10})>>>\n(?P<text>.*?)\n<<<end (?P=label) (?P=mark)>>>", re.DOTALL
)


def reply(messages: list[dict[str, str]], *, temperature: float = 0.0, slot: str = "0", bias: float = 0.0) -> str:
    """The answer to a prompt; depends on its arguments only.

    `bias`: points by which the referee favours the first seat over the second. A `Refusal` where no rule applies.
    """
    prompt = messages[-1]["content"]
    fenced = {m["label"]: m["text"] for m in _FENCE.finditer(prompt)}
    if {"instruction", "answer 1", "answer 2"} <= fenced.keys():
        form = prompt.rpartition(">>>")[2]  # what follows the fences, where no answer can speak
        return _judge(fenced["instruction"], (fenced["answer 1"], fenced["answer 2"]), bias, as_json="JSON" in form)
    if "example" in fenced:
        return _generate(fenced["example"], rare="rarer" in prompt, draw=content_id(prompt, slot, str(temperature)))
    known = solve(prompt)
    return known[1] if known else Refusal("The answer key has no rule for this instruction.")


def _judge(instruction: str, answers: tuple[str, str], bias: float, as_json: bool) -> str:
    known = solve(instruction)
    if known is None:
        return Refusal("The answer key has no rule for this instruction, so neither answer can be scored.")
    lines, scores = [], []
    for seat, answer in enumerate(answers, start=1):
        score, evidence = grade(answer, known[1])
        scores.append(min(10.0, max(1.0, score + (bias / 2 if seat == 1 else -bias / 2))))
        lines.append(f"Answer {seat} {evidence}.")
    if as_json:
        return json.dumps({"evidence": " ".join(lines), "answer_1": scores[0], "answer_2": scores[1]})
    return f"{' '.join(lines)}\n\nScore of answer 1: {scores[0]:g}\nScore of answer 2: {scores[1]:g}"


def grade(answer: str, truth: str) -> tuple[float, str]:
    """(score, why): 9 for the right answer alone, 1 to 7 by how much of it is there in order, counted as ROUGE-L F1."""
    given, wanted = tokens(answer), tokens(truth)
    if given == wanted:
        return BEST, "is exactly right"
    common = LCSseq.similarity(given, wanted)
    f1 = 2 * common / (len(given) + len(wanted)) if given else 0.0
    score = round(2 * (WORST + 6 * f1)) / 2
    if not common:
        return score, "has nothing of the right answer" if given else "is empty"
    return score, f"has {common} of {len(wanted)} parts of the right answer in order, among {len(given)} words"


def tokens(text: str) -> list[str]:
    """Words and numbers; case counts only where the answer is about case, so it is kept."""
    return re.findall(r"\w+", text)


def _generate(seed: str, *, rare: bool, draw: str) -> str:
    known = solve(seed)
    if known is None:
        return Refusal("The answer key has no rule for this example, so it cannot write another.")
    return invent(known[0], random.Random(draw), rare=rare)
