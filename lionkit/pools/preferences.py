"""Judge results of other kinds, in one file: MT-Bench's grades and pairs, votes of an arena, AlpacaEval's annotations.

A grade is a score as it is recorded, -1 being none. A preference becomes shares of 1: the better answer has 1, the other
0, a draw gives 0.5 to each, so that the student's mean score is its win rate. Where nothing is recorded, the last
`[[7]]` or `[[A]]` of the judge's text counts.
"""

import math
import re
from pathlib import Path
from typing import Any

from lionkit.errors import DataError
from lionkit.pools.reviews import checked, key
from lionkit.records import Instruction, Judgement, Verdict

_FIRST = dict.fromkeys(("model_1", "model_a", "a", "a>b", "a>>b"), 1.0)
_FIRST |= dict.fromkeys(("tie", "tie (bothbad)", "c", "a=b"), 0.5) | dict.fromkeys(("model_2", "model_b", "b"), 0.0)
_FIRST |= dict.fromkeys(("b>a", "b>>a"), 0.0)
"""The first answer's share, by the ways to say which is better."""
Game = dict[str, float | None]
"""What each model got, the one shown first in front; None where there is no result."""


def read_judgements(path: str | Path, *, teacher: str = "", student: str = "") -> list[Verdict]:
    """One verdict a question and turn (`81`, `81-2`) that has results of both models, in the file's order.

    `teacher` and `student` are names of models; a file of two needs none, its first (AlpacaEval's reference) being the
    teacher. Results that are none have a reason. DataError names the file, and every bad line.
    """
    games: dict[str, list[Game]] = {}
    replies: dict[str, str] = {}
    for name, played, reply in checked(path, _games):
        replies[name] = f"{replies.get(name, '')}\n\n{reply}".strip()
        if len(played[0]) == 1 and name in games and not played[0].keys() & games[name][-1].keys():
            games[name][-1] |= played[0]  # grades of two models make a pair
        else:
            games.setdefault(name, []).extend(played)
    models = list(dict.fromkeys(model for played in games.values() for game in played for model in game))
    pair = [teacher, student] if teacher and student else models
    if len(pair) != 2 or not {*pair} <= {*models}:
        some = f"{', '.join(models[:8])}{', ...' * (len(models) > 8)}"
        raise DataError(path, None, f"read_judgements(path, teacher=..., student=...) takes two of its models: {some}")
    verdicts = []
    for name, played in games.items():
        both = [
            [game[model] for model in pair]
            for game in sorted(played, key=lambda game: [*game][:1] != pair[:1])
            if game.keys() >= {*pair}
        ]
        judged = [
            Judgement(*scores, replies[name])
            if None not in scores
            else Judgement(None, None, replies[name], "no result is recorded")
            for scores in both[:2]
        ]
        verdicts += [Verdict(name, *judged)] if judged else []
    return verdicts


def _games(row: dict[str, Any]) -> tuple[str, list[Game], str]:
    """A row's question, results and the judge's words. ValueError says what is wrong with it."""
    texts = (row[k] for k in ("judgment", "g1_judgment", "text") if isinstance(row.get(k), str))
    reply = next(texts, "")
    said = re.findall(r"\[\[([^\[\]]{1,9})\]\]", reply)[-1:]
    if "preference" in row:
        item, value = Instruction(str(row.get("instruction")).strip(), str(row.get("input") or "")), row["preference"]
        first, second = (str(row.get(f"generator_{n}", f"output_{n}")) for n in (1, 2))
        if value is not None and value == value and not (value in (0, 0.0) or 1 <= _number(value) <= 2):
            raise ValueError(f"preference is {value!r:.40}, expected 1 to 2, or 0 for a draw")
        share = None if value is None or value != value else 2 - (value or 1.5)
        return item.id, [{first: share, second: None if share is None else 1 - share}], reply
    name = key(row, "question_id") + (f"-{row['turn']}" if row.get("turn", 1) not in (1, None) else "")
    if "model" in row:
        grade = _number(row.get("score", said[0] if said else -1))
        return name, [{str(row["model"]): grade if 0 <= grade < math.inf else None}], reply
    letter = "12" if "model_1" in row else "ab"
    one, two = (key(row, f"model_{mark}") for mark in letter)
    shares = [_FIRST.get(str(row[k]).lower()) for k in ("g1_winner", "g2_winner", "winner") if k in row]
    shares = shares or [_FIRST.get(letter.lower()) for letter in said] or [None]
    rest = [None if share is None else 1 - share for share in shares]
    return name, [{one: shares[0], two: rest[0]}, *({two: r, one: s} for s, r in zip(shares[1:], rest[1:]))], reply


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"the result is {value!r:.40}, expected a number") from None
