"""The patterns by which `scores` finds labels, numbers and quotations in a referee's reply.

The words they are made of, in about twenty languages, are in `words.toml`. Every pattern is matched against text that
`scores` has brought to lower case and freed of markup, except those for thoughts, quotations and tags, which come
before that. All repeats are bounded, so that time stays linear in the length of a reply.
"""

import re
import tomllib
from importlib.resources import files

_WORDS = tomllib.loads(files(__package__).joinpath("words.toml").read_text(encoding="utf-8"))
_WORD = {name: "|".join(lines) for name, lines in _WORDS.items()}
_NOUN, _GIVES, SCORE = _WORD["noun"], _WORD["gives"], _WORD["score"]

_LABEL = (
    rf"(?:(?<![a-zа-я])(?:{_NOUN})(?:e?[sn]|[а-я]{{1,2}})?[ -]{{0,2}}(?:#|no\.?|nr\.?|number|№)? ?"
    rf"\(?(?P<seat>[12ab一二]|one|two)\)?s?|\b(?:the )?(?:(?P<first>{_WORD['first']})|(?P<second>{_WORD['second']})))"
    r"(?![a-z0-9]|[.,][0-9])"
)
"""Names an answer by number, letter or place."""
_FILLER = (
    r"\((?![0-9.,]{1,5}(?: ?/ ?10| points?)?\))[^()\n]{0,40}\)|[ \n:=|→—–()>-]|[的の为是]|"
    rf"(?:{_NOUN})s?(?![a-z]| ?\(?(?:[12ab]|one|two)\b)|{_GIVES}|(?:{_WORD['joins']})\b"
)
MARK = re.compile(
    rf"(?:{_LABEL}|(?:(?m:^)|[:;,|] )[^\w\n]{{0,6}}(?P<bare>[12ab])(?= ?[:.)|=][^\w\n]{{0,4}}[0-9n])(?!\.[0-9])\.?)"
    rf"(?P<tail>(?:{_FILLER}){{0,30}}+)(?=(?P<value>[^\n]{{0,60}}))"
)
"""A label with what stands between it and its value, and up to 60 characters of the value."""
HEADING = re.compile(rf"(?m)^[^\w\n]{{0,8}}{_LABEL}")
HEADED = re.compile(rf"\b(?:{SCORE}|note|nota)[a-zà-ÿ]{{0,8}}(?P<tail> ?[:=] ?| is )(?=(?P<value>[^\n]{{0,60}}))")
SEPARATES = re.compile(rf"[:=|→—–(>\n-]|{_GIVES}")
VALUE = re.compile(
    r"(?P<number>[+-]?[0-9]+(?:[.,][0-9]+){0,3})"
    rf"(?: ?\(?(?:/|{_WORD['of']}) ?(?P<top>[0-9]+(?:[.,]0+)?)\)?)?(?: ?(?:{_WORD['points']})(?![a-z]))?"
)
MORE = re.compile(rf" ?(?:[-–—~→+±/:,;|]|->|\.\.+|{_WORD['range']})? ?[+-]?[0-9]|[a-z0-9%+±~/]")
"""After a number: a range, a sum, a correction or another number."""
ENDS = re.compile(rf" ?(?:$|[.,;:!?)(|—–-]|(?:{_WORD['goes_on']})\b|(?:{_NOUN}|{SCORE}|第|和))")
NEXT = re.compile(r" ?[,;|]{1,3}[^\w\n]{0,4}[12ab] ?[:=]")
NOTHING = re.compile(rf"-?(?:{_WORD['nothing']}|\?|-+$)")
_NUMBER = r"([+-]?[0-9]+(?:[.,][0-9]+)?|-?nan|-?inf)(?: ?/ ?10)?"
PAIR = re.compile(
    rf"([^:|\n]{{0,60}}(?:{SCORE})[^:|\n]{{0,60}}[:|])?[ (|]{{0,3}}"
    rf"(?:{_NUMBER}(?: ?[;|&] ?|, |,? (?:and|und|y|et|vs\.?) | ){_NUMBER}|([0-9]+),([0-9]+))[ .|)]{{0,3}}"
)
"""Two numbers that fill a line."""
THINK = re.compile(r"[<\[](/?)(?:think|thinking|thought|reasoning|reflection)[>\]]", re.IGNORECASE)
BLOCK_QUOTATION = re.compile(r"(?m)^ {0,3}>.*$")
QUOTATION = re.compile(r"(?<=[\w:,(：，]) ?[\"“„«「『][^\"“”„«»「」『』\n]{1,300}[\"”“»」』]")
TAG = re.compile(r"</?[a-z][a-z0-9_]{0,20} ?/?>|\\(?:boxed|text|textbf|mathbf)\b")
CLEAN: dict[int, str | None] = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}  # full-width forms
CLEAN |= dict.fromkeys(map(ord, "\u00a0\u3000\u202f\u2009\t_"), " ") | {0x2212: "-", ord("、"): ",", ord("。"): "."}
CLEAN |= dict.fromkeys(map(ord, "*`\"'’‘“”<>[]{}$\\#【】「」\u200b\ufeff\u2060"), None)
"""For `str.translate`: one kind of space, minus and punctuation, and no markup."""
