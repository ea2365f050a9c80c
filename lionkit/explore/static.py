"""The cache pool as inert HTML and plain text: what a saved page, a GitHub preview and the widgets show of a record.

Whatever a model wrote is untrusted: control characters and bidi overrides become visible code points, over-long text
is cut with a note, and all of it is escaped. Nothing here needs a kernel once it is shown.
"""

import re
from html import escape
from importlib.resources import files
from string import Template
from typing import NamedTuple

import numpy as np
import pandas as pd

from lionkit.errors import LionkitError
from lionkit.plots.discrimination import EASY, HARD
from lionkit.pools.tables import Pool, Responses, Verdicts, pool_table
from lionkit.records import Judgement, Verdict

LIMIT = 20_000
"""Characters shown of one text."""
SYMBOLS = {"hard": "▲", "easy": "●", "undecided": "?"}
"""Each label's shape, so that no colour carries meaning alone."""
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (tab and newline excepted), bidi embeddings and overrides, lone surrogates."""
_SHEET = Template(files(__package__).joinpath("style.css").read_text(encoding="utf-8"))
STYLE = f"<style>\n{_SHEET.substitute(hard=HARD, easy=EASY)}</style>"


class Static(NamedTuple):
    """HTML for notebooks and saved pages, and the same as plain text."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return f"{STYLE}<div class='lk'>{self.html}</div>"

    def __repr__(self) -> str:
        return self.text


def static_pool(
    instructions: Pool, teacher: Responses, student: Responses, verdicts: Verdicts, tau: float = 1.0, rows: int = 5
) -> Static:
    """The `rows` hardest and the `rows` easiest instructions as a table that a saved page can show."""
    table = pool_table(instructions, teacher, student, verdicts, tau)
    counts = ", ".join(f"{n} {label}" for label, n in count_labels(table["gap"].to_numpy(), tau).items())
    title = f"Hardest and easiest of {len(table)} instructions at τ = {tau:g}: {counts}"
    hard, easy = (table[table["label"] == label].sort_values("gap", kind="stable") for label in ("hard", "easy"))
    cells = [
        (f"{SYMBOLS[r.label]}\u00a0{r.label}", number(r.gap, "+"), number(r.teacher), number(r.student))
        + tuple(one_line(text, 120) for text in (r.instruction, r.teacher_response, r.student_response))
        for r in pd.concat([hard.iloc[::-1][:rows], easy[:rows]]).itertuples()
    ]
    columns = ["", "gap", "teacher", "student", "instruction", "teacher's response", "student's response"]
    shown = pd.DataFrame(cells, columns=columns, dtype=object)
    with pd.option_context("display.max_colwidth", None):
        html = re.sub("<(t[dh])>", r"<\1 style='text-align:left'>", shown.to_html(index=False, border=0))
        return Static(f"<h4>{title}</h4>{html}", f"{title}\n{shown.iloc[:, :5].to_string(index=False)}")


def show_instruction(
    id: str, instructions: Pool, teacher: Responses, student: Responses, verdicts: Verdicts, tau: float = 1.0
) -> Static:
    """One instruction in full, every text made inert: responses, referee replies with scores, label and lineage."""
    items = {item.id: item for item in instructions}
    if id not in items:
        raise LionkitError(f"no instruction has the id {id!r}: take one from the `id` column of pools.pool_table")
    item, parent = items[id], items.get(items[id].parent)
    verdict = {v.instruction_id: v for v in verdicts}.get(id)
    label = verdict.label(tau) if verdict else "undecided"
    facts = [
        f"gap {number(verdict.gap, '+')} at τ = {tau:g}" if verdict else "not judged",
        verdict.reason if verdict else "",
        f"category {item.category}" if item.category else "",
        f"source {item.source}, iteration {item.iteration}, id {id}",
        f"made from {item.parent}" if item.parent else "",
        f"“{one_line(parent.text, 100)}”" if parent else "",
    ]
    about = one_line(" · ".join(fact for fact in facts if fact), 600)
    rows = [[("Instruction", item.instruction)], [("Input", item.input)] if item.input else []]
    rows.append([_answer(id, "teacher", teacher, verdict), _answer(id, "student", student, verdict)])
    rows.append([_reply(n, judgement) for n, judgement in enumerate(verdict.judgements if verdict else ())])
    html = f"<div class='card {label}'><b>{SYMBOLS[label]} {label}</b><br><small>{escape(about)}</small></div>"
    for row in rows:
        cells = (f"<div><h4>{escape(title)}</h4>{block(text)}</div>" for title, text in row)
        html += f"<div class='row'>{''.join(cells)}</div>"
    texts = [f"{title}\n{visible(text[:LIMIT])}" for row in rows for title, text in row]
    return Static(html, "\n\n".join([f"{SYMBOLS[label]} {label} · {about}", *texts]))


def count_labels(gaps: np.ndarray, tau: float) -> dict[str, int]:
    """Instructions by label; a gap of NaN is undecided."""
    hard, easy = int((gaps >= tau).sum()), int((gaps < tau).sum())
    return {"hard": hard, "easy": easy, "undecided": len(gaps) - hard - easy}


def _answer(id: str, role: str, responses: Responses, verdict: Verdict | None) -> tuple[str, str]:
    score = f" · score {number(getattr(verdict, f'{role}_score'))}" if verdict else ""
    title = f"{role.capitalize()}'s response{score}"
    response = {r.instruction_id: r for r in responses}.get(id)
    if response is None:
        return f"{title} · missing", ""
    failed = f" · {response.status}: {one_line(response.reason, 300)}" if response.status != "ok" else ""
    return title + failed, response.text


def _reply(order: int, judgement: Judgement) -> tuple[str, str]:
    scores = f"teacher {number(judgement.teacher)}, student {number(judgement.student)}"
    told = scores if judgement.scored else f"unscored: {one_line(judgement.reason, 300)}"
    return f"Referee, {('teacher', 'student')[order]}'s answer first · {told}", judgement.reply


def visible(text: str) -> str:
    """Control characters, bidi overrides and lone surrogates as visible code points, so that none of them acts."""
    return UNSEEN.sub(lambda m: f"⟨U+{ord(m[0]):04X}⟩", text.replace("\r\n", "\n"))


def one_line(text: str, width: int) -> str:
    line = " ".join(visible(text[: 4 * width]).split())
    return line if len(line) <= width and len(text) <= 4 * width else line[: width - 1] + "…"


def block(text: str) -> str:
    """Untrusted text as an inert block (a parser drops the first newline in a <pre>, so one is given to it)."""
    note = f"<small>Shortened: the first {LIMIT:,} of {len(text):,} characters.</small>" if len(text) > LIMIT else ""
    return f"<pre style='white-space:pre-wrap' dir='auto'>\n{escape(visible(text[:LIMIT]))}</pre>{note}"


def number(value: float | None, sign: str = "") -> str:
    return "–" if value is None or value != value else f"{value:{sign}.3g}"
