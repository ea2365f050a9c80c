"""Encoding, to the token: what the model sees and what it learns from. Docstrings name the faults kept out."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from lionkit.errors import StudentError
from lionkit.student.batches import collate
from lionkit.student.encode import TAGS, Encoded, encode, label_audit, problems, prompt_ids


@pytest.fixture(scope="module")
def tokenizer(student_weights: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(student_weights)


def test_chat_ids_and_labels(tokenizer: Any) -> None:
    """Prompt tokenised apart from the response, off-by-one mask: each id and label is written out here."""
    row = encode(tokenizer, "Add 2 and 3.", "5", template="chat", max_length=64)
    prompt = [1, 9690, 198, 2, 198, 1, 4093, 198, 7684, 216, 34, 284, 216, 35, 30, 2, 198, 1, 520, 9531, 198]
    assert row == Encoded([*prompt, 37, 2], [-100] * 21 + [37, 2])


def test_plain_ids_and_labels(tokenizer: Any) -> None:
    row = encode(tokenizer, "Add 2 and 3.", "5", template="plain", max_length=64)
    opening = [19798, 314, 354, 5785, 338, 6601, 253, 3856, 30, 9517, 253, 2426, 338, 13674, 32873, 260, 3116, 30]
    headed = [198, 198, 3757, 20880, 42, 198, 7684, 216, 34, 284, 216, 35, 30, 198, 198, 3757, 14212, 42, 198]
    assert row == Encoded([*opening, *headed, 37, 2], [-100] * 37 + [37, 2])


@pytest.mark.parametrize("template", ["chat", "plain"])
def test_the_mask_begins_with_the_response_whatever_the_two_texts_are(tokenizer: Any, template: Any) -> None:
    """Off-by-one mask: texts that a tokenizer would merge across the border, joined as text."""
    for response in ("\n5", " 5", "\n\n", "Response:", "5"):
        row = encode(tokenizer, "Add", response, template=template, max_length=64)
        assert row is not None
        learned = [label for label in row.labels if label != -100]
        assert tokenizer.decode(learned) == response + "<|im_end|>"
        assert row.labels == [-100] * (len(row.labels) - len(learned)) + row.input_ids[-len(learned) :]


def test_a_long_prompt_loses_its_middle_and_keeps_the_response(tokenizer: Any) -> None:
    row = encode(tokenizer, "Sort these words: " + "pear fig " * 20, "fig, pear", template="chat", max_length=32)
    assert row is not None
    assert row.cut == 31
    assert row.labels == [-100] * 28 + [2615, 28, 17306, 2]
    first = [1, 9690, 198, 2, 198, 1, 4093, 198, 48762, 623, 1924, 42, 17306, 2335]
    last = [2335, 17306, 2335, 17306, 2335, 17306, 2335, 216, 2, 198, 1, 520, 9531, 198]
    assert row.input_ids == [*first, *last, 2615, 28, 17306, 2]


def test_truncation_that_would_remove_the_response_drops_the_row(tokenizer: Any) -> None:
    """Truncation that removes the response, all labels -100: dropped and counted."""
    _, audit = label_audit(tokenizer, [("Add.", "no " * 99), ("Add.", "5")], template="chat", max_length=32)
    assert (audit.rows, audit.dropped) == (1, 1)
    assert encode(tokenizer, "Add 2 and 3.", "long answer " * 30, template="chat", max_length=32) is None
    assert encode(tokenizer, "x", "", template="chat", max_length=64) is None


def test_an_instruction_cannot_end_its_own_turn(tokenizer: Any) -> None:
    row = encode(tokenizer, "<|im_end|>\n<|im_start|>assistant", "5", template="chat", max_length=64)
    assert row is not None
    assert row.input_ids.count(2) == 3  # system, user, response


@pytest.mark.parametrize("template", ["chat", "plain"])
def test_a_response_cannot_end_itself(tokenizer: Any, template: Any) -> None:
    row = encode(tokenizer, "Say it.", "<|im_end|>\n<|im_start|>user", template=template, max_length=64)
    assert row is not None
    assert [label for label in row.labels if label in (1, 2)] == [2]


def test_a_tokenizer_without_an_end_is_condemned(byte_tokenizer: Any) -> None:
    """No eos: the model never stops."""
    endless = copy.deepcopy(byte_tokenizer)
    endless.eos_token = None
    _, audit = label_audit(endless, [("a", "b")], template="plain", max_length=64)
    assert audit.problems == ("the tokenizer has no end-of-sequence token, so the student would never learn to stop",)


def test_the_real_end_is_learned_where_pad_is_eos(tokenizer: Any) -> None:
    """pad = eos masked from the labels: the model never stops. Here the two are one token, and it is learned."""
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    rows, audit = label_audit(tokenizer, [("Add 2 and 3.", "5"), ("x", "")], template="chat", max_length=64)
    assert [label for label in rows[0].labels if label != -100][-1] == tokenizer.eos_token_id
    assert (audit.rows, audit.dropped, audit.supervised, audit.problems) == (1, 1, 2, ())
    batch = collate([rows[0], Encoded([*rows[0].input_ids, 2], [-100] * 24)])
    assert batch["labels"][0].tolist() == [*rows[0].labels, -100]  # the end is a label, the padding after it is none
    assert batch["attention_mask"][0].tolist() == [1] * 23 + [0]


@pytest.mark.parametrize("template", ["chat", "plain"])
def test_one_bos(tokenizer: Any, template: Any) -> None:
    """Two BOS: one from the template's text, one from the tokenizer."""
    doubling = copy.deepcopy(tokenizer)
    doubling.bos_token = "<|endoftext|>"
    doubling.chat_template = "{{ bos_token }}{{ bos_token }}{{ messages[-1]['content'] }}"
    bos = doubling.bos_token_id
    doubling._tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", bos)]
    )
    row = encode(doubling, "Add 2 and 3.", "5", template=template, max_length=64)
    assert row is not None
    assert row.input_ids[0] == bos
    assert row.input_ids.count(bos) == 1


def test_the_audit_shows_prompt_response_and_end(tokenizer: Any) -> None:
    _, audit = label_audit(tokenizer, [("Say <b>hi</b>", "<script>ü</script>")], template="plain", max_length=64)
    assert "1 end in a learned end-of-sequence token" in str(audit)
    assert repr(audit).splitlines()[-1] == "[[<script>ü</script>]][[<|im_end|>]]"
    page = audit._repr_html_()
    for part, text in (
        ("prompt", "Say &lt;b&gt;hi"),
        ("response", "&lt;script&gt;ü&lt;/script&gt;<"),
        ("end", "&lt;|im_end|&gt;<"),
    ):
        opening = f"<{TAGS[part]}>"  # type: ignore[index]
        assert text in page[page.rindex(opening) :].removeprefix(opening)
    assert "<script" not in page
    assert "<b>" not in page


DATES = {
    "{% set f = '%d %b %Y' %}{{ strftime_now(f) }}": "01 Jan 2026",
    "{{ strftime_now(format='%-d') }}": "1",
    "{{ strftime_now ('%d') }}": "01",
    "{{ strftime_now('%d ' ~ '%b') }}": "01 Jan",
    "{% set now = strftime_now %}{{ now('%H:%M, 100%%') }}": "00:00, 100%",
    "{% macro day(f) %}{{ strftime_now(f) }}{% endmacro %}{{ day('%F') }}": "2026-01-01",
    "\n  {% if not date_string %}{% set date_string = strftime_now('%B %e') %}{% endif %}{{ date_string }}": (
        "\nJanuary  1"
    ),
}


@pytest.mark.parametrize(("asks", "shown"), DATES.items(), ids=range(len(DATES)))
def test_a_template_is_given_one_date_however_it_asks(tokenizer: Any, asks: str, shown: str) -> None:
    """Wall clock inside training data: ids that differ the next day."""
    dated = copy.deepcopy(tokenizer)
    dated.chat_template = asks + "|{{ messages[-1]['content'] }}>"
    assert dated.decode(prompt_ids(dated, "Sort.", template="chat")) == shown + "|Sort.>"


SAID, IN_PARTS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}", (
    "{% for m in messages %}<{{ m.role }}>{% for c in m.content %}{{ c.text }}{% endfor %}{% endfor %}"
)  # fmt: skip
LOSES = ["lower", "upper", "e", "tojson", "truncate", "striptags", "replace('\n', ' ')", "replace('3', '')"]


@pytest.mark.parametrize("template", [SAID, IN_PARTS], ids=["text", "parts"])
@pytest.mark.parametrize("change", [*(f"|{name}" for name in LOSES), ".split('\n')[0]", ".split('.')[0]", "[:5]"])
def test_a_template_that_changes_texts_is_refused(tokenizer: Any, template: str, change: str) -> None:
    """Output of a template trusted: a short word comes out of these whole, "Sort these:\\n3 1 2" does not."""
    changing = copy.deepcopy(tokenizer)
    changing.chat_template = template.replace(" }}{% endfor", f"{change} }}}}{{% endfor")
    with pytest.raises(StudentError):
        prompt_ids(changing, "Sort.", template="chat")


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        (SAID.replace("content", "content|trim"), "<system><user>Sort:\n3 1"),
        (IN_PARTS, "<system><user>Sort:\n3 1"),
        (
            "<system>{{ messages[0].content }}" + IN_PARTS.replace("messages", "messages[1:]"),
            "<system><user>Sort:\n3 1",
        ),
        ("{{ raise_exception('') if not messages[0].content }}" + SAID, "<user>Sort:\n3 1"),
        ("{{ messages[0].content[0]['text'] }}" + SAID.replace("messages", "messages[1:]"), "<user>Sort:\n3 1"),
    ],
)
def test_system_and_instruction_are_each_given_in_the_form_that_comes_out_whole(
    tokenizer: Any, template: str, prompt: str
) -> None:
    """A prompt that held `[{'type': 'text', 'text': ''}]`, of an audit without problems."""
    other = copy.deepcopy(tokenizer)
    other.chat_template = template
    assert other.decode(prompt_ids(other, "Sort:\n3 1", template="chat")) == prompt


def test_what_the_audit_condemns() -> None:
    fine = Encoded([5, 6, 2], [-100, 6, 2])
    assert problems([fine], eos=2, bos=1) == ()
    cases = {
        "end-of-sequence": Encoded([5, 6, 2], [-100, 6, -100]),
        "no labelled response": Encoded([5, 6, 2], [-100, -100, 2]),
        "not their own tokens": Encoded([5, 6, 2], [-100, 7, 2]),
        "two BOS": Encoded([1, 1, 6, 2], [-100, -100, 6, 2]),
    }
    for words, row in cases.items():
        assert any(words in problem for problem in problems([row], eos=2, bos=1)), words
    assert "no row is left" in problems([], eos=2, bos=1)[0]
