"""Reading two scores out of a referee's reply: generous in how answers are named, strict in what a score is.

A reply is read in four steps: thinking blocks are dropped, JSON objects become `label: value` lines, markup is
stripped, and every `label, separator, value` is collected in order. Only the last pair of labels counts, so that a
score line quoted from an answer is never taken for the verdict. Nothing is clamped or guessed: whatever is not one
number in [1, 10] for each answer is `Unscored`, with the reason in words. Time is linear in the reply's length: no
pattern has an unbounded or nested repeat, failed JSON attempts draw on a fixed allowance, and of a reply over
`WINDOW` characters (JSON and thinking aside) the first and the last part are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Scores:
    """Two scores in [1, 10], by seat: `first` is the score of the answer shown first."""

    first: float
    second: float


@dataclass(frozen=True)
class Unscored:
    """A reply without two usable scores, and why."""

    reason: str


WINDOW = 60_000
"""Characters read at each end of a very long reply."""

_NOUN = (
    "answer|assistant|response|reply|model|candidate|output|completion|solution|submission|option|chatbot|bot|ai|llm|"
    "agent|score|rating|grade|mark|antwort|assistent|bewertung|punktzahl|wertung|note|modell|respuesta|asistente|"
    "puntuación|puntuacion|puntaje|calificación|calificacion|nota|modelo|réponse|reponse|modèle|resposta|assistente|"
    "pontuação|risposta|punteggio|voto|antwoord|odpowiedź|odpověď|svar|yanıt|cevap|trả lời|jawaban|"
    "ответ|ассистент|помощник|оценка|відповідь|回答|答案|助手|助理|回复|回覆|响应|模型|评分|得分|分数|評分|分數|"
    "アシスタント|スコア|応答|답변|응답|점수|الإجابة|उत्तर"
)
_ORDINAL = {
    "1": "first|1st|erste[nrs]?|primer[ao]?|premi[eè]re?|prim[ao]|primeir[ao]|eerste|перв[а-я]{2,3}|第一[个個份]?|첫 번째",
    "2": "second|2nd|zweite[nrs]?|segund[ao]|deuxième|seconde?|second[ao]|tweede|втор[а-я]{2,3}|第二[个個份]?|두 번째",
}
_SCORE_WORD = (
    "scor|rating|rate|grade|mark|point|bewertung|punkt|wertung|note|puntu|puntaje|calific|nota|pontua|punteg|voto|"
    "оцен|балл|评分|得分|分数|評分|分數|打分|スコア|점수"
)
_SEAT = rf"(?:\b|(?<=[^a-z]))(?:{_NOUN})[a-zа-я]{{0,2}}[ -]{{0,2}}(?:#|no\.?|nr\.?|number|№)? ?\(?(?P<seat>[12ab一二]|one|two)\)?s?"
_FIRST_SECOND = rf"\b(?:the )?(?:(?P<one>{_ORDINAL['1']})|(?P<two>{_ORDINAL['2']}))"
_LABEL = rf"(?:{_SEAT}|{_FIRST_SECOND})(?![a-z0-9]|[.,][0-9])"
_FILLER = (
    rf"[ \t\n:=|→—–−()>-]|[的の]|(?:{_NOUN})s?\b|is\b|ist\b|es\b|est\b|è\b|gets?\b|receives?\b|scores?\b|earns?\b|"
    r"deserves?\b|erhält\b|bekommt\b|obtiene\b|recibe\b|obtient\b|reçoit\b|an?\b|of\b|eine?n?\b|von\b|une?\b|un\b|de\b|"
    r"final\b|overall\b|points?\b|获得|得|打|为|是"
)
_MARK = re.compile(rf"{_LABEL}(?P<tail>(?: ?\([^()\n]{{0,40}}\))?(?:{_FILLER}){{0,30}}+)(?=(?P<value>[^\n]{{0,60}}))")
_BARE = re.compile(r"(?m)^[^\w\n]{0,6}(?P<seat>[12ab])(?P<tail> ?[:.)|=] ?)(?=(?P<value>[^\n]{0,60}))")
_HEADED = re.compile(rf"\b(?:{_SCORE_WORD})[a-zà-ÿ]{{0,8}}(?P<tail> ?[:=] ?)(?=(?P<value>[^\n]{{0,60}}))")
_HEADING = re.compile(rf"(?m)^[^\w\n]{{0,8}}{_LABEL}")
_EXPLICIT = re.compile(_SCORE_WORD)
_VALUE = re.compile(
    r"(?P<number>[+-]?[0-9]+(?:[.,][0-9]+){0,3})"
    r"(?P<scale> ?(?:/|out of|von|sur|de|su|of|op|из|\(out of|\(von|\(sur|\(de) ?(?P<top>[0-9]+(?:[.,]0+)?)\)?)?"
    r"(?P<unit> ?(?:points?|pts|punkten?|puntos?|pontos|punti|балл[а-я]{0,3}|分|点|점)(?![a-z]))?"
)
_MORE = re.compile(
    r" ?(?:-|–|—|−|~|→|->|\+|±|/|:|,|\||\.\.+|to|or|and|vs\.?|bis|oder|und|a|o|y|à|ou|et|至|到|或|和)? ?[+-]?[0-9]"
)
_ENDS = re.compile(
    rf" ?(?:$|[.,;:!?)(|—–-]|(?:and|und|y|et|e|и|because|as|since|for|weil|denn|da|porque|car|和)\b|(?:{_NOUN})|{_SCORE_WORD}|第)"
)
_NOTHING = re.compile(r"-?(?:n/?a\b|nan\b|inf|none\b|null\b|unscored|not |unable|cannot|keine|ninguna|无|\?|-+$)")
_PAIR = re.compile(
    r"([+-]?[0-9]+(?:[.,][0-9]+)?|-?nan|-?inf)(?: ?/ ?(10))?(?: ?[,;|&] ?|,? (?:and|und|y|et|vs\.?) | )"
    r"([+-]?[0-9]+(?:[.,][0-9]+)?|-?nan|-?inf)(?: ?/ ?(10))?[ .|)]{0,3}"
)
_PREFIX = re.compile(rf"[^:|\n]{{0,60}}(?:{_SCORE_WORD})[^:|\n]{{0,60}}[:|] ?")
_THINK = re.compile(r"[<\[](/?)(?:think|thinking|thought|reasoning|reflection)[>\]]", re.IGNORECASE)
_TAG = re.compile(r"</?[a-z][a-z0-9_]{0,20} ?/?>|\\(?:boxed|text|textbf|mathbf)\b")
_SEAT_TAG = re.compile(r"<([a-z_]{3,20}[12ab])>")
_CLEAN = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}  # full-width forms
_CLEAN |= dict.fromkeys(map(ord, "\u00a0\u3000\u202f\u2009\t_"), " ") | {ord("−"): "-", ord("、"): ",", ord("。"): "."}
_CLEAN |= dict.fromkeys(map(ord, "*`\"'’‘“”<>[]{}$\\#【】「」\u200b\ufeff\u2060"), None)


class _Found(NamedTuple):
    at: int
    seat: int
    value: float | str
    """A score, or why it is none."""


def parse_scores(reply: str) -> Scores | Unscored:
    """The referee's two scores by seat, each in [1, 10], or the reason why there are none. Raises on no string."""
    if not reply or not reply.strip():
        return Unscored("the reply is empty")
    text = _without_thinking(reply)
    if text is None:
        return Unscored("the reply ends inside its thinking block")
    text = _plain(_json_as_lines(text))
    found = sorted([*_labelled(text), *_under_headings(text)])
    return _final_pair(found) if found else _bare_pair(text)


def _without_thinking(reply: str) -> str | None:
    """The reply without thinking blocks; a closing tag alone ends a block that began in the prompt. None: unclosed."""
    kept: list[str] = []
    at, is_open = 0, False
    for tag in _THINK.finditer(reply):
        if tag[1] and not is_open:
            kept.clear()
        elif not is_open:
            kept.append(reply[at : tag.start()])
        is_open = not tag[1]
        at = tag.end()
    return None if is_open else "".join([*kept, reply[at:]])


def _json_as_lines(text: str) -> str:
    """JSON objects replaced by their numbers as lines, so that prose inside them (a quoted score) is out of reach."""
    decoder = json.JSONDecoder(strict=False, parse_int=str, parse_float=str, parse_constant=str)
    parts: list[str] = []
    at, start, allowance = 0, text.find("{"), 3 * len(text)
    while start >= 0 and allowance > 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            end = start + 1
            allowance -= (len(text) if "Unterminated" in error.msg else error.pos) - start + 1
        except RecursionError:
            break
        else:
            parts += [text[at:start], "\n", *_leaves(value, "", 0)]
            at = end
        start = text.find("{", end)
    return "".join([*parts, text[at:]])


def _leaves(value: Any, label: str, depth: int) -> Iterator[str]:
    """`label: value` for every number (or word where a number is due) in a decoded object, labels joined by spaces."""
    if isinstance(value, dict) and depth < 6:
        for key in ("answer", "assistant", "response", "candidate", "model", "id", "name"):
            if isinstance(value.get(key), str) and len(value[key]) <= 20:
                label = f"{label} answer {value[key]}"
                break
        for key, item in value.items():
            words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", key[:60])
            yield from _leaves(item, f"{label} {words}", depth + 1)
    elif isinstance(value, list) and depth < 6:
        for number, item in enumerate(value[:3], start=1):
            yield from _leaves(item, f"{label} {number}", depth + 1)
    elif value is None or (isinstance(value, str) and len(value) <= 20):
        yield f"{label.strip()}: {value}\n"


def _plain(text: str) -> str:
    """Lower case, one kind of colon, space and minus, no markup; the middle of a very long text left out."""
    if len(text) > 2 * WINDOW:
        text = text.lstrip()[:WINDOW] + "\n" + text.rstrip()[-WINDOW:]
    text = text.lower().replace("\r", "\n")
    text = _TAG.sub("", _SEAT_TAG.sub(r"\1: ", text)).translate(_CLEAN)
    return re.sub(r" {2,}", " ", text)


def _labelled(text: str) -> Iterator[_Found]:
    """Every labelled score, good or bad, in order."""
    for mark in _MARK.finditer(text):
        line = text[max(0, mark.start() - 40) : mark.start()].rpartition("\n")[2] + mark[0]
        seat = 1 if mark["one"] or mark["seat"] in ("1", "a", "一", "one") else 2
        tail, explicit = mark["tail"], bool(_EXPLICIT.search(line))
        if not explicit and not re.search(
            r"[:=|→—–(>\n-]|get|receive|score|earn|deserve|erhält|bekommt|ob|re|得|打", tail
        ):
            continue
        value = _value(mark["value"], tail, explicit)
        if value is not None:
            yield _Found(mark.end(), seat, value)
    for mark in _BARE.finditer(text):
        value = _value(mark["value"], "\n", explicit=False)
        if value is not None:
            yield _Found(mark.end(), 1 if mark["seat"] in "1a" else 2, value)


def _under_headings(text: str) -> Iterator[_Found]:
    """`Score: 8` without a label, under a line that begins with one."""
    headings = [
        (m.end(), 1 if m["one"] or m["seat"] in ("1", "a", "一", "one") else 2) for m in _HEADING.finditer(text)
    ]
    if not headings:
        return
    marked, upto = {m.end() for m in _MARK.finditer(text)}, 0
    for mark in _HEADED.finditer(text):
        while upto < len(headings) and headings[upto][0] <= mark.start():
            upto += 1
        value = _value(mark["value"], mark["tail"], explicit=True) if upto and mark.end() not in marked else None
        if value is not None:
            yield _Found(mark.end(), headings[upto - 1][1], value)


def _value(text: str, tail: str, explicit: bool) -> float | str | None:
    """A score in [1, 10]; or why the text that stands where a score should is none; or None: it is only prose."""
    match = _VALUE.match(text)
    if not match:
        said = explicit and "\n" not in tail and re.search("[:=]", tail) and text.strip()
        return f"is not a number: {text[:20].strip()!r}" if said or _NOTHING.match(text) else None
    rest = text[match.end() :]
    explicit = explicit or bool(match["scale"] or match["unit"])
    if "\n" in tail and rest.strip(" .|);,"):
        return None
    shown = repr(text[: match.end() + 8].strip())
    if _MORE.match(rest) or re.match(r"[a-z0-9%+±~/]", rest):
        return f"is not one number: {shown}" if explicit or not re.match(r"[a-z]", rest) else None
    if not explicit and not _ENDS.match(rest):
        return None
    if match["top"] and float(match["top"].replace(",", ".")) != 10:
        return f"is on another scale than 10: {shown}"
    return _number(match["number"], negative=tail.endswith(("-", "–")))


def _number(digits: str, negative: bool = False) -> float | str:
    """The number as a score, or why it is none; a comma before one or two digits is a decimal comma."""
    if negative or not re.fullmatch(r"\+?[0-9]{1,9}(?:\.[0-9]{1,17}|,[0-9]{1,2})?", digits):
        return f"is not a number from 1 to 10: {('-' if negative else '') + digits[:20]!r}"
    number = float(digits.replace(",", "."))
    return number if 1 <= number <= 10 else f"is outside 1 to 10: {digits[:20]!r}"


def _final_pair(found: list[_Found]) -> Scores | Unscored:
    """The last two labels, where they are a pair: of an odd run 1, 2, 1 the last may stand alone after a quoted pair."""
    run = 1
    while run < len(found) and found[-run - 1].seat != found[-run].seat:
        run += 1
    last = found[-1]
    if run == 1:
        return Unscored(f"there is no score for answer {3 - last.seat} beside the last one for answer {last.seat}")
    if run % 2 and found[-1].at - found[-2].at >= found[-2].at - found[-3].at:
        return Unscored(f"the last score for answer {last.seat} stands alone after an earlier pair")
    return _scores({item.seat: item.value for item in found[-2:]})


def _bare_pair(text: str) -> Scores | Unscored:
    """Two numbers alone on the last line or, as FastChat's judges write, on the first."""
    lines = [line.strip(" (|)") for line in text.strip().split("\n")]
    for line in (lines[-1], lines[0]):
        prefix = _PREFIX.match(line)
        rest = line[prefix.end() :] if prefix else line
        pair = _PAIR.fullmatch(rest.strip(" ()|"))
        if pair:
            return _scores({1: _number(pair[1]), 2: _number(pair[3])})
    return Unscored("no scores were found")


def _scores(values: dict[int, float | str]) -> Scores | Unscored:
    bad = [f"the score of answer {seat} {value}" for seat, value in sorted(values.items()) if isinstance(value, str)]
    return Unscored("; ".join(bad)) if bad else Scores(float(values[1]), float(values[2]))
