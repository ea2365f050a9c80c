"""One instruction in full: label and facts, answers with their differences, referee replies, lineage, and its mark."""

from collections.abc import Sequence
from html import escape

from lionkit.errors import LionkitError
from lionkit.explore.front import field
from lionkit.explore.source import Source, shelf
from lionkit.explore.static import LIMIT, SYMBOLS, Static, number, one_line, visible
from lionkit.explore.words import block, compared
from lionkit.pools.tables import Pool, Responses, Verdicts
from lionkit.records import Judgement, Response
from lionkit.run.marks import Mark

ROLES = ("teacher", "student")
Part = tuple[str, str, str]
"""Title, text, and the text as inert HTML."""


def show_instruction(
    id: str, instructions: Pool, teacher: Responses, student: Responses, verdicts: Verdicts, tau: float = 1.0
) -> Static:
    """One instruction in full, every text made inert: responses, referee replies with scores, label and lineage."""
    return card(shelf(instructions, teacher, student, verdicts, tau).open(0), id, tau)


def card(source: Source, id: str, tau: float, searched: Sequence[str] = (), mark: Mark | None = None) -> Static:
    """As `show_instruction`, of a pool that was opened, with words that were looked for marked."""
    if id not in source.place:
        raise LionkitError(f"no instruction has the id {id!r}: take one from the `id` column of pools.pool_table")
    item, verdict = source.items[source.place[id]], source.verdicts.get(id)
    parent = source.items[source.place[item.parent]] if item.parent in source.place else None
    label = verdict.label(tau) if verdict else "undecided"
    facts = [
        f"gap {number(verdict.gap, '+')} at τ = {tau:g}" if verdict else "not judged",
        verdict.reason if verdict else "",
        f"category {item.category}" if item.category else "",
        f"source {item.source}, iteration {item.iteration}, id {id}",
        f"made from {item.parent}" if item.parent else "",
        f"“{one_line(parent.text, 100)}”" if parent else "",
        told(mark) if mark else "",
    ]
    about = one_line(" · ".join(fact for fact in facts if fact), 900)
    rows: list[list[Part]] = [[_part("Instruction", item.instruction, searched)]]
    if item.input:
        rows.append([_part("Input", item.input, searched)])
    answers = [by.get(id) for by in (source.teacher, source.student)]
    teacher, student = texts = [answer.text if answer else "" for answer in answers]
    blocks = compared(teacher, student, searched, ("ins", "del"))
    if not all(answers):  # nothing to differ from
        blocks = [block(text, searched) for text in texts]
    scores = [source.scores[role][source.place[id]] for role in ROLES]
    titles = map(_answered, ROLES, answers, scores)
    rows.append([*zip(titles, texts, blocks)])
    rows.append([_part(_replied(n, j), j.reply, searched) for n, j in enumerate(verdict.judgements if verdict else ())])
    html = f"<div class='card {label}'><b>{SYMBOLS[label]} {label}</b><br><small>{escape(about)}</small></div>"
    for row in rows:
        cells = (f"<div><h4>{escape(title)}</h4>{shown}</div>" for title, _, shown in row)
        html += f"<div class='row'>{''.join(cells)}</div>"
    plain = [f"{title}\n{visible(text[:LIMIT])}" for row in rows for title, text, _ in row]
    return Static(html, "\n\n".join([f"{SYMBOLS[label]} {label} · {about}", *plain]))


def told(mark: Mark) -> str:
    """A mark in words."""
    parts = [mark.label, f"tags {mark.tags}" if mark.tags else "", f"“{mark.note}”" if mark.note else ""]
    return f"marked {', '.join(part for part in parts if part)} by {mark.by}, {mark.at}"


def mark_form(id: str, mark: Mark | None) -> str:
    """The form that marks an instruction; sent as `mark`."""
    now = mark or Mark(id)
    options = "".join(
        f"<option value='{label}'{' selected' * (label == now.label)}>{label or 'as the gap says'}</option>"
        for label in ("", "hard", "easy", "drop")
    )
    label = f"<label>Label<select name='label'>{options}</select></label>"
    fields = label + field("", "Tags", now.tags, "text") + field("", "Note", now.note, "text")
    hidden = f"<input type='hidden' name='id' value='{escape(id, quote=True)}'>"
    who = f"<small>{escape(visible(told(now)))}</small>" if now.said else ""
    return f"<form class='controls' data-on='mark'>{hidden}{fields}<button>Mark</button>{who}</form>"


def _part(title: str, text: str, searched: Sequence[str]) -> Part:
    return title, text, block(text, searched)


def _answered(role: str, response: Response | None, score: float) -> str:
    title = f"{role.capitalize()}'s response · score {number(score)}"
    if response is None:
        return f"{title} · missing"
    failed = f" · {response.status}: {one_line(response.reason, 300)}" if response.status != "ok" else ""
    return title + failed


def _replied(order: int, judgement: Judgement) -> str:
    scores = f"teacher {number(judgement.teacher)}, student {number(judgement.student)}"
    said = scores if judgement.scored else f"unscored: {one_line(judgement.reason, 300)}"
    return f"Referee, {ROLES[order]}'s answer first · {said}"
