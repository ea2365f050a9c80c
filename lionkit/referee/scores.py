"""Reading two scores out of a referee's reply: generous in how answers are named, strict in what a score is.

Thinking blocks are dropped, JSON objects become `label: value` lines, markup goes, and each label with its value is
collected in order; only the last pair counts, so a score line quoted from an answer is never the verdict. Nothing
is clamped or guessed: without one number in [1, 10] for each answer a reply is `Unscored`, with the reason. Time
is linear: patterns have bounded repeats, JSON attempts an allowance, and of a reply over 2 x `WINDOW` characters
(JSON and thinking aside) both ends are read. Numbers in words, and scores given only in prose, are not read.
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


WINDOW = 40_000
"""Characters read at each end of a very long reply."""
_NOUN = (  # what a score or an answer is called
    "answer|assistant|response|reply|model|candidate|output|completion|solution|submission|option|chatbot|bot|ai|llm|"
    "agent|score|rating|grade|mark|antwort|assistent|bewertung|punktzahl|wertung|note|modell|respuesta|asistente|"
    "puntuación|puntuacion|puntaje|calificación|calificacion|nota|modelo|réponse|reponse|modèle|resposta|assistente|"
    "pontuação|risposta|punteggio|voto|antwoord|odpowiedź|odpověď|svar|yanıt|cevap|trả lời|jawaban|ответ|ассистент|"
    "помощник|оценка|відповідь|回答|答案|助手|助理|回复|回覆|响应|模型|评分|得分|分数|評分|分數|アシスタント|スコア|応答|"
    "답변|응답|점수|الإجابة|उत्तर"
)
_FIRST = (
    "first|1st|erste[nrs]?|primer[ao]?|premi[eè]re?|prim[ao]|primeir[ao]|eerste|перв[а-я]{2,3}|第一[个個份]?|첫 번째"
)
_SECOND = "second|2nd|zweite[nrs]?|segund[ao]|deuxième|seconde?|second[ao]|tweede|втор[а-я]{2,3}|第二[个個份]?|두 번째"
_SCORE = (
    "scor|rating|grade|bewertung|punkt|wertung|puntu|puntaje|calific|pontua|punteg|оцен|балл|评分|得分|分数|評分|分數|"
    "スコア|점수|\\brate"
)
_GIVES = (  # verbs that stand for a colon
    r"gets?\b|receives?\b|scores?\b|earns?\b|deserves?\b|erhält\b|bekommt\b|obtiene\b|recibe\b|obtient\b|reçoit\b|获得|得|打"
)
_LABEL = (
    rf"(?:(?<![a-zа-я])(?:{_NOUN})(?:e?[sn]|[а-я]{{1,2}})?[ -]{{0,2}}(?:#|no\.?|nr\.?|number|№)? ?"
    rf"\(?(?P<seat>[12ab一二]|one|two)\)?s?|\b(?:the )?(?:(?P<first>{_FIRST})|(?P<second>{_SECOND})))"
    r"(?![a-z0-9]|[.,][0-9])"
)
_FILLER = (
    r"\((?![0-9.,]{1,5}(?: ?/ ?10| points?)?\))[^()\n]{0,40}\)|[ \n:=|→—–()>-]|[的の为是]|"
    rf"(?:{_NOUN})s?(?![a-z]| ?\(?(?:[12ab]|one|two)\b)|{_GIVES}|"
    r"(?:is|ist|es|est|è|an?|of|eine?n?|von|une?|un|de|final|overall|total|points?)\b"
)
_MARK = re.compile(
    rf"(?:{_LABEL}|(?:(?m:^)|[:;,|] )[^\w\n]{{0,6}}(?P<bare>[12ab])(?= ?[:.)|=][^\w\n]{{0,4}}[0-9n])(?!\.[0-9])\.?)"
    rf"(?P<tail>(?:{_FILLER}){{0,30}}+)(?=(?P<value>[^\n]{{0,60}}))"
)
_HEADING = re.compile(rf"(?m)^[^\w\n]{{0,8}}{_LABEL}")
_HEADED = re.compile(rf"\b(?:{_SCORE}|note|nota)[a-zà-ÿ]{{0,8}}(?P<tail> ?[:=] ?| is )(?=(?P<value>[^\n]{{0,60}}))")
_SEPARATES = re.compile(rf"[:=|→—–(>\n-]|{_GIVES}")
_VALUE = re.compile(
    r"(?P<number>[+-]?[0-9]+(?:[.,][0-9]+){0,3})"
    r"(?: ?\(?(?:/|out of|von|sur|de|su|of|op|из) ?(?P<top>[0-9]+(?:[.,]0+)?)\)?)?"
    r"(?: ?(?:points?|pts|punkten?|puntos?|pontos|punti|балл[а-я]{0,3}|分|点|점)(?![a-z]))?"
)
_MORE = re.compile(  # a range, a sum, a correction, another number
    r" ?(?:[-–—~→+±/:,;|]|->|\.\.+|to|or|and|vs\.?|bis|oder|und|a|o|y|à|ou|et|至|到|或|和)? ?[+-]?[0-9]|[a-z0-9%+±~/]"
)
_ENDS = re.compile(
    r" ?(?:$|[.,;:!?)(|—–-]|(?:and|und|y|et|e|и|because|as|since|for|weil|denn|da|porque|car)\b|"
    rf"(?:{_NOUN}|{_SCORE}|第|和))"
)
_NEXT = re.compile(r" ?[,;|]{1,3}[^\w\n]{0,4}[12ab] ?[:=]")
_NOTHING = re.compile(r"-?(?:n/?a\b|nan\b|inf|none\b|null\b|unscored|not |unable|cannot|keine|ninguna|无|\?|-+$)")
_NUMBER = r"([+-]?[0-9]+(?:[.,][0-9]+)?|-?nan|-?inf)(?: ?/ ?10)?"
_PAIR = re.compile(
    rf"([^:|\n]{{0,60}}(?:{_SCORE})[^:|\n]{{0,60}}[:|])?[ (|]{{0,3}}"
    rf"(?:{_NUMBER}(?: ?[;|&] ?|, |,? (?:and|und|y|et|vs\.?) | ){_NUMBER}|([0-9]+),([0-9]+))[ .|)]{{0,3}}"
)
_THINK = re.compile(r"[<\[](/?)(?:think|thinking|thought|reasoning|reflection)[>\]]", re.IGNORECASE)
_BLOCK_QUOTATION = re.compile(r"(?m)^ {0,3}>.*$")
_QUOTATION = re.compile(r"(?<=[\w:,(：，]) ?[\"“„«「『][^\"“”„«»「」『』\n]{1,300}[\"”“»」』]")
_TAG = re.compile(r"</?[a-z][a-z0-9_]{0,20} ?/?>|\\(?:boxed|text|textbf|mathbf)\b")
_CLEAN: dict[int, str | None] = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}  # full-width forms
_CLEAN |= dict.fromkeys(map(ord, "\u00a0\u3000\u202f\u2009\t_"), " ") | {0x2212: "-", ord("、"): ",", ord("。"): "."}
_CLEAN |= dict.fromkeys(map(ord, "*`\"'’‘“”<>[]{}$\\#【】「」\u200b\ufeff\u2060"), None)


class _Found(NamedTuple):
    at: int
    seat: int
    value: float | str
    """A score, or why it is none."""
    leads: bool = True
    """Its label stands at the start of a line, as a verdict's does; not within a sentence."""


def parse_scores(reply: str) -> Scores | Unscored:
    """The referee's two scores by seat, each in [1, 10], or the reason why there are none. Raises on nothing."""
    if not isinstance(reply, str) or not reply.strip():
        return Unscored("the reply is empty" if not reply or isinstance(reply, str) else "the reply is no text")
    text = _without_thinking(reply)
    if text is None:
        return Unscored("the reply ends inside its thinking block")
    text = _without_quotations(_json_as_lines(text))
    if text is None:
        return Unscored("there are scores both in the block quotation at its end and outside it")
    text = _plain(text)
    found = {item.at: item for item in [*_under_headings(text), *_labelled(text)]}  # a label of its own wins
    lines = text.strip().split("\n")
    final = _bare_pair(lines[-1])
    if not final and found:
        final = _final_pair([found[at] for at in sorted(found)])
    if not isinstance(final, Scores):
        return _bare_pair(lines[0]) or final or Unscored("no scores were found")  # FastChat's judges begin with them
    return final


def _without_thinking(reply: str) -> str | None:
    """The reply without thinking blocks; a closing tag alone ends a block that began in the prompt. None: unclosed."""
    kept: list[str] = []
    at, is_open = 0, False
    for tag in _THINK.finditer(reply):
        if tag[1] and not is_open:
            kept.clear()
        elif not is_open:
            kept.append(reply[at : tag.start()])
        is_open, at = not tag[1], tag.end()
    return None if is_open else "".join([*kept, reply[at:]])


def _json_as_lines(text: str) -> str:
    """JSON objects replaced by their numbers as lines, so that prose inside them (a quoted score) is out of reach."""
    decoder = json.JSONDecoder(strict=False, parse_int=str, parse_float=str, parse_constant=str)
    parts: list[Any] = []
    at, failures, allowance = 0, 0, 3 * len(text)
    for start in re.finditer(r'\{(?=\s{0,99}")', text):
        if start.start() < at:
            continue
        if failures > 50 or allowance < 0:
            break
        try:
            value, end = decoder.raw_decode(text, start.start())
        except json.JSONDecodeError as error:
            failures += 1
            allowance -= len(text) if "Unterminated" in error.msg else error.pos - start.start()
        except RecursionError:
            break
        else:
            parts += [text[at : start.start()], value]
            at = end
    parts[:-100] = [part for part in parts[:-100] if isinstance(part, str)]
    return "".join(p if isinstance(p, str) else "\n" + "".join(_leaves(p, "", 0)) for p in [*parts, text[at:]])


def _leaves(value: Any, label: str, depth: int) -> Iterator[str]:
    """`label: value` for each number, or for what stands in its place, in a decoded object; keys joined by spaces."""
    if isinstance(value, dict) and depth < 6:
        for key, item in value.items():
            words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", key[:60])
            if key in ("answer", "assistant", "response", "id", "name") and "score" in value and isinstance(item, str):
                label = f"{label} answer {item[:20]}"  # {"answer": 1, "score": 8}
            else:
                bare = "answer " if key.lower() in ("1", "2", "a", "b") else ""
                yield from _leaves(item, f"{label} {bare}{words}", depth + 1)
    elif isinstance(value, list) and len(value) == 2 and depth < 6:
        for number, item in enumerate(value, start=1):
            yield from _leaves(item, f"{label} {number}", depth + 1)
    elif value is None or (isinstance(value, str) and re.match(r"[+-]?[0-9]", value + " ") and len(value) <= 20):
        yield f"{label.strip()}: {value}\n"
    elif isinstance(value, str) and _NOTHING.match(value[:20].lower()):
        yield f"{label.strip()}: n/a\n"


def _without_quotations(text: str) -> str | None:
    """The text without quoted scores: block quotations, and score lines in quotation marks after a word or colon. A
    block quotation at the end may be the verdict; None: there are scores outside it, too. Of a very long text, the
    middle is left out."""
    if len(text) > 2 * WINDOW:
        text = text.lstrip()[:WINDOW] + "\n" + text.rstrip()[-WINDOW:]
    text = _QUOTATION.sub(lambda found: " " if any(_labelled(_plain(found[0]))) else found[0], text)
    own = _BLOCK_QUOTATION.sub("", text)
    if not text.rstrip().rpartition("\n")[2].lstrip().startswith(">"):
        return own
    outside, inside = (any(_labelled(_plain(t))) for t in (own, "\n".join(_BLOCK_QUOTATION.findall(text))))
    return None if outside and inside else text


def _plain(text: str) -> str:
    """Lower case, one kind of colon, space and minus, no markup."""
    if "\n" not in text:
        text = text.replace("\\n", "\n")
    text = re.sub(r"<([a-z_]{3,20}[12ab])>", r"\1: ", text.lower().replace("\r", "\n"))
    return re.sub(r" {2,}", " ", _TAG.sub(" ", text).translate(_CLEAN))


def _seat(mark: re.Match[str]) -> int:
    token = mark["seat"] or mark.groupdict().get("bare")
    return 1 if mark["first"] or token in ("1", "a", "一", "one") else 2


def _labelled(text: str) -> Iterator[_Found]:
    """Every score behind a label, good or bad, in order."""
    for mark in _MARK.finditer(text):
        line = text[max(0, mark.start() - 40) : mark.start()].rpartition("\n")[2] + mark[0]
        explicit = not mark["bare"] and re.search(_SCORE, line) is not None
        if explicit or mark["bare"] or _SEPARATES.search(mark["tail"]):
            alone = "\n" in mark["tail"] or (mark["bare"] is not None and ":" not in mark["tail"])
            value = _value(mark["value"], mark["tail"], explicit, alone)
            if value is not None:
                yield _Found(mark.end(), _seat(mark), value, len(line) - len(mark[0]) <= 30)


def _under_headings(text: str) -> Iterator[_Found]:
    """The last `Score: 8` of each passage that begins with a label."""
    headings = list(_HEADING.finditer(text))
    for i, heading in enumerate(headings):
        end = headings[i + 1].start() if i + 1 < len(headings) else len(text)
        last: _Found | None = None
        for mark in _HEADED.finditer(text, heading.end(), end):
            value = _value(mark["value"], mark["tail"], explicit=False, alone=False)
            if value is not None:
                last = _Found(mark.end(), _seat(heading), value) if isinstance(value, float) else None
        if last:
            yield last


def _value(text: str, tail: str, explicit: bool, alone: bool) -> float | str | None:
    """A score in [1, 10]; or why what stands in a score's place is none; or None, for prose.

    `explicit`: the line speaks of scores, so words may follow. `alone`: nothing may follow on the line.
    """
    match = _VALUE.match(text)
    if not match:
        said = explicit and not alone and re.search("[:=]", tail) and text.strip()
        return f"is not a number: {text[:20].strip()!r}" if said or _NOTHING.match(text) else None
    rest, shown = text[match.end() :], repr(text[: match.end() + 8].strip())
    if _NEXT.match(rest):  # A: 8, B: 6
        rest = ""
    if alone and rest.strip(" .|);,") and not (match["top"] and re.match(" ?[,;:(—–-]", rest)):
        return None
    if _MORE.match(rest):
        return f"is not one number: {shown}"
    if not (explicit or match["top"] or _ENDS.match(rest)):
        return None
    if match["top"] and float(match["top"].replace(",", ".")) != 10:
        return f"is on another scale than 10: {shown}"
    return _number(("-" if tail.endswith(("-", "–")) else "") + match["number"])


def _number(digits: str) -> float | str:
    """The number as a score, or why it is none; a comma before one or two digits is a decimal comma."""
    if not re.fullmatch(r"\+?[0-9]{1,9}(?:\.[0-9]{1,17}|,[0-9]{1,2})?", digits):
        return f"is not a number from 1 to 10: {digits[:20]!r}"
    number = float(digits.replace(",", "."))
    return number if 1 <= number <= 10 else f"is outside 1 to 10: {digits[:20]!r}"


def _final_pair(found: list[_Found]) -> Scores | Unscored:
    """The last two, where they are a pair. In an odd run such as 1 2 1 the last may stand alone after a quoted pair;
    it is paired only when it is nearer to its neighbour than that is to the one before, in natural order a little."""
    if found[-1].leads and {item.seat for item in found if item.leads} == {1, 2}:
        found = [item for item in found if item.leads]
    run = 1
    while run < len(found) and found[-run - 1].seat != found[-run].seat:
        run += 1
    last = found[-1]
    if run == 1:
        return Unscored(f"there is no score for answer {3 - last.seat} beside the last one for answer {last.seat}")
    lonely = run == 3 or (run % 2 and last.seat == 1)
    if lonely and (last.at - found[-2].at) * (2 if last.seat == 1 else 1.2) >= found[-2].at - found[-3].at:
        return Unscored(f"the last score for answer {last.seat} stands alone after an earlier pair")
    return _scores({item.seat: item.value for item in found[-2:]})


def _bare_pair(line: str) -> Scores | Unscored | None:
    """Two numbers that are all of a line, save for words that name no answer or, in their order, both."""
    pair = _PAIR.fullmatch(line.strip(" |"))
    if not pair:
        return None
    named = [_seat(mark) for mark in _MARK.finditer(pair[1] or "")] or [1, 2]
    first, second = _number(pair[2] or pair[4]), _number(pair[3] or pair[5])
    return _scores({named[0]: first, named[1]: second}) if sorted(named) == [1, 2] else None


def _scores(values: dict[int, float | str]) -> Scores | Unscored:
    bad = [f"the score of answer {seat} {value}" for seat, value in sorted(values.items()) if isinstance(value, str)]
    return Unscored("; ".join(bad)) if bad else Scores(float(values[1]), float(values[2]))
