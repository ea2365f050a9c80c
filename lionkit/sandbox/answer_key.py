"""The answer-key teacher: rules in the three roles of the method, behind the same prompts as an LLM.

`reply` reads the messages that `lionkit.prompts` renders, finds out which role is asked for, and answers
in the form the prompt wants: as **teacher** with the right answer, as **referee** with evidence and two
scores by comparison with the right answer, as **generator** with a new instruction of the seed's family.
It knows only the families of `families`; for anything else it says so, and the pair stays undecided. It is
not a language model and shows nothing about one: it makes the loop's mechanism visible and checkable.
"""

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
    task = fenced.get("instruction") or fenced.get("example") or prompt
    known = solve(task)
    if known is None:
        return Refusal("The answer key has no rule for this instruction, so it cannot answer, score or vary it.")
    family, truth = known
    if {"instruction", "answer 1", "answer 2"} <= fenced.keys():
        form = prompt.rpartition(">>>")[2]  # what follows the fences, where no answer can speak
        return _judge(truth, (fenced["answer 1"], fenced["answer 2"]), bias, as_json="JSON" in form)
    if "example" in fenced:
        return invent(family, random.Random(content_id(prompt, slot, str(temperature))), rare="rarer" in prompt)
    return truth


def _judge(truth: str, answers: tuple[str, str], bias: float, as_json: bool) -> str:
    """Evidence and scores by comparison with the truth; the first seat has half the bias more, the second half less."""
    graded = [grade(answer, truth) for answer in answers]
    first, second = (min(10.0, max(1.0, score + b)) for (score, _), b in zip(graded, (bias / 2, -bias / 2)))
    said = " ".join(f"Answer {seat} {evidence}." for seat, (_, evidence) in enumerate(graded, start=1))
    if as_json:
        return json.dumps({"evidence": said, "answer_1": first, "answer_2": second})
    return f"{said}\n\nScore of answer 1: {first:g}\nScore of answer 2: {second:g}"


def grade(answer: str, truth: str) -> tuple[float, str]:
    """(score, why): 9 for the right answer alone, 1 to 7 by how much of it is there in order, counted as ROUGE-L F1."""
    given, wanted = (re.findall(r"\w+", text) for text in (answer, truth))  # some answers are about case, so it counts
    if given == wanted:
        return BEST, "is exactly right"
    common = LCSseq.similarity(given, wanted)
    f1 = 2 * common / (len(given) + len(wanted)) if given else 0.0
    score = round(2 * (WORST + 6 * f1)) / 2
    if not common:
        return score, "has nothing of the right answer" if given else "is empty"
    return score, f"has {common} of {len(wanted)} parts of the right answer in order, among {len(given)} words"
