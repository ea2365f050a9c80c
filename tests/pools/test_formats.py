"""docs/formats.md, row by row: what becomes of other people's layouts, files and judge results."""

import bz2
import gzip
import io
import json
import lzma
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lionkit.errors import ConfigError, DataError
from lionkit.pools import read_fastchat_answers, read_instructions, read_judgements
from lionkit.pools.layouts import MEANINGS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
ROWS = [
    {"instruction": "Name a fruit.", "input": "", "output": "fig"},
    {"instruction": "Sort.", "input": "3 1 2", "output": "1 2 3"},
]
EXPECTED = [("Name a fruit.", "", "fig"), ("Sort.", "3 1 2", "1 2 3")]
LINES = "\n".join(map(json.dumps, ROWS)).encode()
TABLE = b"instruction,input,output\nName a fruit.,,fig\nSort.,3 1 2,1 2 3\n"


def table(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of the page."""
    part = PAGE.partition(f"\n## {heading}")[2].partition("\n## ")[0]
    rows = [re.split(r" ?(?<!\\)\| ?", line)[1:-1] for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip(" `").replace("\\|", "|") for cell in row] for row in rows[2:]]


LAYOUTS, REFUSED = table("Instructions"), table("Rows that are refused")
FILES, JUDGEMENTS = table("Kinds of files"), table("Judge results")


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def texts(path: Path, **settings: Any) -> list[tuple[str, str, str]]:
    return [(i.instruction, i.input, i.output) for i in read_instructions(path, **settings)]


def test_the_page_has_them_all() -> None:
    assert [len(part) for part in (LAYOUTS, REFUSED, FILES, JUDGEMENTS)] == [51, 16, 26, 17]


@pytest.mark.parametrize("row", LAYOUTS, ids=lambda row: row[0])
def test_a_layout(tmp_path: Path, row: list[str]) -> None:
    _, sample, *expected = row
    assert texts(lines(tmp_path / "a.jsonl", sample)) == [tuple(json.loads(cell) if cell else "" for cell in expected)]


@pytest.mark.parametrize("row", LAYOUTS, ids=lambda row: row[0])
def test_a_layout_loses_no_text_in_silence(tmp_path: Path, row: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A column that nobody knows is named, beside whatever layout it stands."""
    sample = {**json.loads(row[1]), "hint": "Think of figs first."}
    read_instructions(lines(tmp_path / "a.jsonl", sample))
    assert 'columns={"hint": "input"})' in capsys.readouterr().out
    [item] = read_instructions(tmp_path / "a.jsonl", columns={"hint": "input"})
    assert "Think of figs first." in item.input


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row[0])
def test_refused_rows(tmp_path: Path, row: list[str]) -> None:
    _, sample, told = row
    with pytest.raises(DataError) as caught:
        read_instructions(lines(tmp_path / "a.jsonl", ROWS[0], sample))
    assert caught.value.line == 2
    assert all(part in caught.value.problem for part in told.split(" ... "))


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def parquet() -> bytes:
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), buffer)
    return buffer.getvalue()


MAKE: dict[str, Callable[[], bytes]] = {
    "a.json": lambda: json.dumps(ROWS).encode(),
    "a.jsonl": lambda: LINES,
    "a.csv": lambda: TABLE,
    "a.tsv": lambda: TABLE.replace(b",", b"\t"),
    "semicolons.csv": lambda: TABLE.replace(b",", b";"),
    "bars.csv": lambda: TABLE.replace(b",", b"|"),
    "bom.csv": lambda: b"\xef\xbb\xbf" + TABLE.replace(b"\n", b"\r\n"),
    "headings with spaces.csv": lambda: TABLE.replace(b"instruction,input,output", b"Instruction , Input, OUTPUT"),
    "for Excel.csv": lambda: b"sep=;\r\n" + TABLE.replace(b",", b";") + b";;\n",
    "a.parquet": parquet,
    "a.jsonl.gz": lambda: gzip.compress(LINES),
    "a.csv.gz": lambda: gzip.compress(TABLE),
    "a.jsonl.bz2": lambda: bz2.compress(LINES),
    "a.json.xz": lambda: lzma.compress(LINES),
    "a.zip": lambda: zipped({"a.csv": TABLE, "__MACOSX/a.csv": b"x"}),
    "two.zip": lambda: zipped({"a.csv": TABLE, "b.csv": TABLE}),
    "a.xlsx": lambda: zipped({"[Content_Types].xml": b"x", "xl/workbook.xml": b"x"}),
    "a.xls": lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99),
    "a.jsonl.zst": lambda: b"\x28\xb5\x2f\xfd" + bytes(20),
    "half.zip": lambda: zipped({"a.csv": TABLE})[:60],
    "a.arrow": lambda: b"\xff\xff\xff\xff" + bytes(20),
    "pointer.parquet": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "page.json": lambda: b"<!DOCTYPE html><html></html>",
    "twice.csv": lambda: b"instruction,input,input\na,b,c\n",
    "latin1.csv": lambda: "instruction,output\ncafé,b\n".encode("latin-1"),
}


@pytest.mark.parametrize(("name", "told"), FILES, ids=lambda cell: cell)
def test_a_kind_of_file(tmp_path: Path, name: str, told: str) -> None:
    path = tmp_path / name
    if name in MAKE:
        path.write_bytes(MAKE[name]())
    else:
        import datasets

        datasets.Dataset.from_list(ROWS).save_to_disk(str(path))
    if told == "read":
        assert texts(path) == EXPECTED
    else:
        with pytest.raises(DataError, match=re.escape(told)) as caught:
            read_instructions(path)
        assert str(path) in str(caught.value)


def test_a_completion_that_is_not_wanted_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": "q", "completion": "bad", "label": False}, {"prompt": "q", "completion": "good", "label": True}]
    assert texts(lines(tmp_path / "a.jsonl", *rows)) == [("q", "", ""), ("q", "", "good")]
    assert "1 outputs are marked as not wanted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"conversations": [{"from": "human", "value": "Q", "weight": 0}, {"from": "gpt", "value": "A"}]},
            ("Q", "", "A"),
        ),
        ({"prompt": '[{"name": "Bob"}]', "completion": "o"}, ('[{"name": "Bob"}]', "", "o")),
        ({"question": "Q", "options": ["x", "y"], "answer": "Option B"}, ("Q", "A. x\nB. y", "B. y")),
        ({"question": "Q", "options": ["x", "y"], "answer": "It is y, since"}, ("Q", "A. x\nB. y", "It is y, since")),
        ({"question": "Q", "options": ["x", "y", "z"], "answer": ["A", "B"]}, ("Q", "A. x\nB. y\nC. z", "A, B")),
        ('"{\\"a\\": 1} is what in JSON?"', ('{"a": 1} is what in JSON?', "", "")),
    ],
)
def test_what_looks_like_another_layout(tmp_path: Path, row: Any, expected: tuple[str, str, str]) -> None:
    assert texts(lines(tmp_path / "a.jsonl", row)) == [expected]


FRUIT = ("Name a fruit.", "", "A fig.")
DIALOGUES = {
    "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.<|end|>"
    "<|start|>developer<|message|>Be brief.<|end|><|start|>user<|message|>"
    "Name a fruit.<|end|><|start|>assistant<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
    "<|channel|>final<|message|>A fig.<|return|>": ("Be brief.\n\nName a fruit.", "", "A fig."),
    "<|begin_of_text|><|header_start|>user<|header_end|>\n\nName a fruit.<|eot|><|header_start|>assistant<|header_end|>"
    "\n\nA fig.<|eot|>": FRUIT,
    "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Be brief.<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|>"
    "<|USER_TOKEN|>Name a fruit.<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>A fig."
    "<|END_RESPONSE|><|END_OF_TURN_TOKEN|>": ("Be brief.\n\nName a fruit.", "", "A fig."),
    "<|start_of_role|>user<|end_of_role|>Name a fruit.<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>A fig."
    "<|end_of_text|>": FRUIT,
    "GPT4 Correct User: Name a fruit.<|end_of_turn|>GPT4 Correct Assistant: A fig.<|end_of_turn|>": FRUIT,
    "<|im_user|>user<|im_middle|>Name a fruit.<|im_end|><|im_assistant|>assistant<|im_middle|>A fig.<|im_end|>": FRUIT,
    "[gMASK]<sop><|user|>\nName a fruit.<|assistant|>\nA fig.": FRUIT,
    "<s>[SYSTEM_PROMPT]You are a helpful assistant.[/SYSTEM_PROMPT][INST]Name a fruit.[/INST]A fig.</s>": FRUIT,
    "<s>Human: Name a fruit.\n</s><s>Assistant: A fig.\n</s>": FRUIT,
    "BEGINNING OF CONVERSATION: USER: Name a fruit. GPT: A fig.</s>": FRUIT,
    "<extra_id_0>System\n\n<extra_id_1>User\nName a fruit.\n<extra_id_1>Assistant\nA fig.": FRUIT,
    "### Question: Name a fruit.\n### Answer: A fig.": FRUIT,
    "### Question:\nName a fruit.\n\n### Answer:\nA fig.": FRUIT,
    "Question: Name a fruit.\nAnswer: A fig.": FRUIT,
    "Q: Name a fruit.\nA: A fig.": FRUIT,
    "Question: Which?\nA: brick\nB: fig\nAnswer: B": ("Which?\nA: brick\nB: fig", "", "B"),
    "Context: Ann ate.\nQuestion: Who?\nAnswer: Ann": ("Who?", "Ann ate.", "Ann"),
    "### Instruction:\nWho?\n\n### Context:\nAnn ate.\n\n### Response:\nAnn": ("Who?", "Ann ate.", "Ann"),
    "Human: Go on.\nQuestion: Who?\nAnswer: Ann\nAssistant: ok": ("Go on.\nQuestion: Who?\nAnswer: Ann", "", "ok"),
    "### Answer the question\nWho?": ("### Answer the question\nWho?", "", ""),
    "<question>Who?</question> Say it in <answer> tags.": (
        "<question>Who?</question> Say it in <answer> tags.",
        "",
        "",
    ),
}


@pytest.mark.parametrize("text", DIALOGUES, ids=range(len(DIALOGUES)))
def test_a_dialogue_in_one_text_of_any_template(tmp_path: Path, text: str) -> None:
    assert texts(lines(tmp_path / "a.jsonl", {"text": text})) == [DIALOGUES[text]]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"instruction": "c?", "history": '[["a", "b"]]', "output": "d"}, ("c?", "User: a\nAssistant: b", "d")),
        ({"instruction": "c?", "history": "[['a', 'b']]", "output": "d"}, ("c?", "User: a\nAssistant: b", "d")),
        ({"instruction": "c?", "history": "[]", "output": "d"}, ("c?", "", "d")),
        ({"question": "Q", "choices": "['x', 'y']", "answer": "B"}, ("Q", "A. x\nB. y", "B. y")),
        ({"question": "Q", "choices": "['x', 'y']", "answer": "['B']"}, ("Q", "A. x\nB. y", "B. y")),
        ({"question": "Q", "choices": "['x' \"it's\"]", "answer": "1"}, ("Q", "A. x\nB. it's", "B. it's")),
        (
            {"question": "Q", "choices": "{'text': array(['x', 'y'], dtype=object), 'label': array(['1', '2'],\n"
             "dtype='<U1')}", "answerKey": "2"},
            ("Q", "1. x\n2. y", "2. y"),
        ),
        ({"question": "Q", "answers": "{'text': ['a'], 'answer_start': [0]}"}, ("Q", "", "a")),
        ({"question": "Q", "answers": "{'text': array(['a'], dtype=object), 'x': array([0])}"}, ("Q", "", "a")),
        ({"conversations": "[{'from': 'human', 'value': 'Q'}\n {'from': 'gpt', 'value': 'A'}]"}, ("Q", "", "A")),
        ({"conversations": "['Q', 'A']"}, ("Q", "", "A")),
        ({"turns": "['Q', 'R']"}, ("Q", "", "")),
        (
            {"prompt": "[{'role': 'user', 'content': 'Q'}]", "completion": "[{'role': 'assistant', 'content': 'A'}]"},
            ("Q", "", "A"),
        ),
        ({"prompt": '["b", "a"]', "completion": "[1, 2]"}, ('["b", "a"]', "", "[1, 2]")),
        ({"question": "Q", "answers": [{"text": "a", "answer_start": 0}]}, ("Q", "", "a")),
        ({"prompt": "Q", "answers": [{"answer": "b", "rank": 2}, {"answer": "a", "rank": 1}]}, ("Q", "", "a")),
        ({"query": "Q", "answers": [{"name": "f", "arguments": {}}]}, ("Q", "", '[{"name": "f", "arguments": {}}]')),
        ({"question": "Q", "answer": {"value": "a", "aliases": ["b"]}}, ("Q", "", "a")),
        ({"instruction": "Sort.", "input": [3, 1], "output": [1, 3]}, ("Sort.", "3, 1", "1, 3")),
        (
            {"question": "Q", "option1": "x", "option2": "y", "option3": "z", "answer": "3"},
            ("Q", "1. x\n2. y\n3. z", "3. z"),
        ),
    ],
)  # fmt: skip
def test_lists_as_text_and_answers_in_lists(tmp_path: Path, row: Any, expected: tuple[str, str, str]) -> None:
    assert texts(lines(tmp_path / "a.jsonl", row)) == [expected]


def test_a_template_that_is_not_known_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "<|turn:asker|>Name a fruit.<|turn:answerer|>A fig."
    assert texts(lines(tmp_path / "a.jsonl", {"text": text}, {"text": "Say."})) == [(text, "", ""), ("Say.", "", "")]
    assert "1 texts have signs of a chat template that is not known" in capsys.readouterr().out


def test_a_conversation_in_a_column_of_any_name(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"id": "1", "data": ["Name a fruit.", "A fig."]})  # UltraChat
    assert texts(path, columns={"data": "instruction"}) == [FRUIT]


def test_games_without_their_baseline_are_refused(tmp_path: Path) -> None:
    row = {"question_id": "q", "model": "m", "judge": "g", "games": [{"score": "A>>B"}, {"score": "B>A"}]}
    with pytest.raises(DataError, match="a baseline that they do not name"):
        read_judgements(lines(tmp_path / "a.jsonl", row))


@pytest.mark.parametrize("row", JUDGEMENTS, ids=lambda row: row[0])
def test_judge_results(tmp_path: Path, row: list[str]) -> None:
    _, rows, teacher, student = row
    [verdict] = read_judgements(lines(tmp_path / "a.jsonl", *json.loads(rows)))
    if teacher:
        assert (verdict.teacher_score, verdict.student_score) == (float(teacher), float(student))
    else:
        assert not verdict.scored
        assert "no result is recorded" in verdict.reason


# whatever a row holds

TEXTS = ["", "fig", "A", "(B)", "2", "[{", "User: hi\nAssistant: ho", '[{"role": "user", "content": "hi"}]', "\ud83d"]
PARTS = ["role", "from", "content", "value", "text", "label", "replies", "rank", "messages", "user", "A", "instances"]
COLUMNS = [*(name for known in MEANINGS.values() for name in known), *PARTS, *"abcd", "sol1", "sol2", "preference",
          "question_id", "model", "model_1", "model_2", "score", "winner", "turn", "judgment"]  # fmt: skip
ODD: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([*TEXTS, "user", "assistant", 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(PARTS), inner, max_size=3),
    max_leaves=8,
)
PYTHON = re.compile(
    r"object|NoneType|unhashable|out of range|not supported|unpack|recursion|argument|validation error|\n"
)


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from(COLUMNS), ODD, max_size=4) | ODD, min_size=1, max_size=3))
def test_an_odd_row_is_read_or_refused_in_plain_words(tmp_path: Path, rows: list[Any]) -> None:
    path = lines(tmp_path / "a.jsonl", *map(json.dumps, rows))
    for read in (read_instructions, read_judgements, read_fastchat_answers):
        try:
            read(path)
        except DataError as error:
            words = error.problem.replace("an object", "")
            assert not PYTHON.search(words), words


def test_a_row_nested_as_deeply_as_json_can_be_is_refused_in_plain_words(tmp_path: Path) -> None:
    for key, deep in (("messages", "[" * 900 + "]" * 900), ("note", '{"a": ' * 990 + '"fig"' + "}" * 990)):
        with pytest.raises(DataError, match="nested too deeply|holds no question"):
            read_instructions(lines(tmp_path / "a.jsonl", f'{{"instruction": "a", "{key}": {deep}}}'))
    text = "[{" * 5000
    assert texts(lines(tmp_path / "a.jsonl", {"messages": text})) == [(text, "", "")]


# what the page says around its tables


def test_columns_say_what_the_reader_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"task": "Sort.", "things": f"{n} 1", "solved": f"1 {n}", "note": "by hand"} for n in (2, 3)]
    path = lines(tmp_path / "a.jsonl", *rows)
    columns = {"task": "instruction", "things": "input", "solved": "output", "note": ""}
    assert texts(path, columns=columns) == [("Sort.", "2 1", "1 2"), ("Sort.", "3 1", "1 3")]
    assert capsys.readouterr().out == ""
    with pytest.raises(DataError, match=r"line 1: no instruction .*columns=\{\"...\": \"instruction\"\}"):
        read_instructions(path)
    with pytest.raises(DataError, match="there is no column 'thing', only task, things, solved, note"):
        read_instructions(path, columns={**columns, "thing": "input"})
    with pytest.raises(ConfigError, match="cannot be 'inputs', choose one of instruction, input, output"):
        read_instructions(path, columns={"things": "inputs"})


def test_a_known_column_can_be_taken_for_another(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"question": "2+2?", "answer": "4", "response": "It is 4.", "answer_de": "vier"})
    assert texts(path, columns={"answer_de": "output", "answer": ""}) == [("2+2?", "", "vier")]
    path = lines(tmp_path / "b.jsonl", {"text": "I liked it.", "label": "good"})
    assert texts(path, columns={"label": "output"}) == [("I liked it.", "", "good")]


def test_text_in_few_rows_is_named_with_their_number_and_what_is_said_already_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**ROWS[1], "note": "rare" if n == 0 else "", "same": "3 1 2", "number": "7"} for n in range(4)]
    read_instructions(lines(tmp_path / "a.jsonl", *rows))
    assert "not read: column note (1 of 4 rows). read_instructions" in capsys.readouterr().out


NEEDED = {
    "numbers as text": [{"instruction": "Sort the numbers.", "it": "3 1 2", "output": "1 2 3"}],
    "numbers in a list": [{"instruction": "Sort the numbers.", "it": [3, 1, 2], "output": "1 2 3"}],
    "a sum": [{"instruction": "Work it out.", "it": "12*(3+4)", "output": "84"}],
    "a number in one row": [{"instruction": "Is it prime?", "it": 7, "output": "yes"}],
    "a number in every row": [{"instruction": "Is the number prime?", "it": n, "output": "yes"} for n in (3, 5, 7)],
    "a number in the same words": [{"instruction": f"{n}. Is it prime?", "it": n, "output": "yes"} for n in (3, 5, 7)],
    "source": [{"instruction": f"{n}. Translate.", "source": f"Good day {n}", "target": "Bonjour"} for n in range(9)],
    "topic": [{"instruction": "Write a poem.", "topic": topic, "output": "Oh."} for topic in ("sea", "sun") * 9],
    "language": [
        {"instruction": f"{n}. Say it in this language.", "language": "Latin", "output": "!"} for n in range(9)
    ],
    "category": [{"instruction": "Write a poem.", "category": f"sea {n}", "output": "Oh."} for n in range(9)],
    "tools": [{"instruction": "Call one.", "tools": [{"name": "add"}], "output": "none"}] * 9,
    "a word within another": [{"instruction": "Define it, to start with.", "it": "art", "output": "A skill."}],
    "reference": [{"instruction": "Who?", "reference": "Ann ate.", "output": "Ann"}] * 9,
    "label": [{"instruction": "Explain.", "label": "toxic", "output": "It is rude."}],
}


@pytest.mark.parametrize("name", NEEDED)
def test_what_the_instruction_needs_is_said(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Columns that carry the task vanish without a word."""
    path, there = lines(tmp_path / "a.jsonl", *NEEDED[name]), len(NEEDED[name])
    column = name if name in NEEDED[name][0] else "it"
    read_instructions(path)
    assert f"column {column} ({there} of {there} rows)" in capsys.readouterr().out
    assert all(item.input for item in read_instructions(path, columns={column: "input"}))


@pytest.mark.parametrize(
    "row",
    [
        {"source": "gsm8k"},
        {"topic": "food", "language": "en", "task_name": "niv2", "level": "Level 5", "category": "open_qa"},
        {"score": 0.5, "index": 7, "helpfulness": "3", "scores": {"style": 1, "sense": 0.5}},
        {"label": True},
    ],
)
def test_where_rows_come_from_and_scores_are_no_part_of_a_task(
    tmp_path: Path, row: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"Count to {n}.", "completion": "So.", **row} for n in range(9)]
    assert texts(lines(tmp_path / "a.jsonl", *rows)) == [(f"Count to {n}.", "", "So.") for n in range(9)]
    assert capsys.readouterr().out == ""
    rows = [{"prompt": f"Count to {n}.", "completion": "So.", "name": f"count_to_{n}"} for n in range(9)]
    assert len(texts(lines(tmp_path / "a.jsonl", *rows))) == 9
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["question", "query", "text", "translation", "preference", "parent_id", "judgment"])
def test_an_ordinary_column_beside_an_instruction_refuses_nothing_and_is_named(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lines(tmp_path / "a.jsonl", {**ROWS[1], name: "Sort downwards."}, ROWS[0])
    assert texts(path) == EXPECTED[::-1]
    assert f"column {name} (1 of 2 rows)" in capsys.readouterr().out
    assert texts(path, columns={name: "input"})[0] == ("Sort.", "Sort downwards.\n\n3 1 2", "1 2 3")


def test_a_text_and_its_label_beside_an_instruction_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"instruction": "Is it kind?", "text": "I liked it.", "label": 1}
    assert texts(lines(tmp_path / "a.jsonl", row)) == [("Is it kind?", "", "")]
    assert "column text (1 of 1 rows)" in capsys.readouterr().out


def test_columns_of_one_letter_are_choices_only_beside_an_answer_of_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    letters = {"a": "fig", "b": "nut"}
    rows = [{**ROWS[1], **letters}, {"prompt": "Add.", **letters, "c": "oak", "completion": "done"},
            {"question": "Which?", **letters, "answer": "12"},
            {"question": "Which?", **letters, "c": "oak", "answer": "b"}]  # fmt: skip
    assert [output for *_, output in texts(lines(tmp_path / "a.jsonl", *rows))] == ["1 2 3", "done", "12", "B. nut"]
    assert "column a (3 of 4 rows), b (3 of 4 rows), c (1 of 4 rows)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("chosen", "output"),
    [
        (
            "User: hi\nAssistant: hello\nUser: bye\nAssistant: ciao",
            "User: hi\nAssistant: hello\nUser: bye\nAssistant: ciao",
        ),
        ("\n\nHuman: Write a dialogue.\n\nAssistant: Hi!", "Hi!"),
    ],
)
def test_a_chosen_answer_that_is_a_dialogue_stays_whole(tmp_path: Path, chosen: str, output: str) -> None:
    row = {"prompt": "Write a dialogue.", "chosen": chosen, "rejected": "no"}
    assert texts(lines(tmp_path / "a.jsonl", row)) == [("Write a dialogue.", "", output)]


def test_later_questions_are_counted_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk = [{"from": who, "value": f"{who} {n}"} for n in range(3) for who in ("human", "gpt")]
    assert texts(lines(tmp_path / "a.jsonl", *[{"conversations": talk}] * 2)) == [("human 0", "", "gpt 0")] * 2
    assert "4 later questions of conversations are not read" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    [
        "Write a dialogue.\nUser: hi\nAssistant: hello",
        "What does <user> mean in XML?",
        "Explain the heading ### Response in Markdown.",
        "Assistant: is that a job?",
    ],
)
def test_a_text_about_speakers_is_no_dialogue(tmp_path: Path, text: str) -> None:
    assert texts(lines(tmp_path / "a.jsonl", {"prompt": text, "completion": "ok"})) == [(text, "", "ok")]


@pytest.mark.parametrize(
    ("row", "output"),
    [
        ({"choices": ["1", "2", "3"], "answer": 1}, "B. 2"),
        ({"choices": ["1", "2", "3"], "answer": "2"}, "B. 2"),
        ({"choices": ["fig", "nut"], "answer": "nut"}, "B. nut"),
        ({"choices": ["fig", "nut"], "answer": "(B)"}, "B. nut"),
        ({"choices": [{"label": "x", "text": "fig"}, {"label": "y", "text": "nut"}], "answer": "y"}, "y. nut"),
        ({"options": {"A": "fig", "B": "nut"}, "answer": "A"}, "A. fig"),
        ({"sol1": "fig", "sol2": "nut", "label": -1}, ""),
        ({"choices": None, "answer": "4"}, "4"),
        ({"choices": ["fig", "nut"], "answer": ["nut"]}, "B. nut"),
        ({"choices": ["fig", "nut"], "answer": 1.0}, "B. nut"),
        ({"choices": ["fig", "nut"], "answer": True}, "B. nut"),
        ({"choices": ["yes", "no"], "answer": True}, "A. yes"),
        ({"choices": ["true", "false"], "answer": False}, "B. false"),
        ({"choices": ["fig", "nut"], "answer": "A) fig"}, "A. fig"),
        ({"choices": ["fig", "nut"], "answer": "(B) nut."}, "B. nut"),
        ({"choices": ["fig", "nut"], "answer": ""}, ""),
        ({"choices": ["1.0", "2.0"], "answer": "1.0"}, "A. 1.0"),
        ({"choices": {"text": ["fig", "nut"]}, "answer": "nut"}, "B. nut"),
        ({"choices": {"A": "fig", "B": "nut", "C": None}, "answer": "B"}, "B. nut"),
        ({"choices": "a) 1, b) 2", "answer": "b"}, "b"),
    ],
)
def test_the_right_choice(tmp_path: Path, row: dict[str, Any], output: str) -> None:
    assert [found[2] for found in texts(lines(tmp_path / "a.jsonl", {"question": "Which?", **row}))] == [output]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "Which?", "choices": ["a", "b"], "answer": 7}, "answer is 7, of 2 choices"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "unknown role: 'wizard'"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "holds no question"),
        ({"messages": 7}, "is no conversation"),
        ({"messages": [{"role": "user", "content": "half \ud83d"}]}, "half a character"),
        ({"question": {"stem": "Which?"}}, "question is an object"),
        ({"question": "Which?", "choices": [{"x": 1}], "answer": 0}, "label"),
        ({"question": "Which?", "choices": ["a", "b"], "answer": "E"}, "answer is 'E', of 2 choices"),
        ({"question": "Which?", "choices": 7, "answer": 0}, "the choices are neither texts"),
        ({"question": "Which?", "choices": ["x"] * 27, "answer": 0}, "nor up to 26 texts"),
        ({"instructions": [{"instruction": "a"}]}, "instructions is a list (of rows? then give a file of it alone)"),
        ({"instruction": "a", "history": 7}, "history is no conversation"),
        ({"turns": [1, "a"]}, "turns is no conversation"),
        ({"messages": [{"role": ["x"], "content": "q"}]}, "messages has a speaker of unknown role"),
        ({"prompt": {"text": "a", "role": "prompter", "replies": [7]}}, "prompt is no conversation"),
        ({"messages": [[[]]]}, "messages holds no question"),
    ],
)
def test_a_row_that_cannot_be_understood_names_its_line(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match="line 2: ") as caught:
        read_instructions(lines(tmp_path / "a.jsonl", ROWS[0], row))
    assert words in caught.value.problem


def test_a_split_is_read_by_name_and_a_choice_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import datasets

    splits = {name: datasets.Dataset.from_list([row]) for name, row in zip(("test", "train"), ROWS)}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "d"))
    assert texts(tmp_path / "d") == EXPECTED[1:]
    assert "the split train is read, of test, train" in capsys.readouterr().out
    assert texts(tmp_path / "d", split="test") == EXPECTED[:1]
    assert capsys.readouterr().out == ""
    with pytest.raises(DataError, match="there is no split 'dev', only test, train"):
        read_instructions(tmp_path / "d", split="dev")


def test_judgements_of_many_models_need_two_names(tmp_path: Path) -> None:
    rows = [{"question_id": q, "model": m, "score": s, "turn": t} for m, s in (("a", 9), ("b", 7), ("c", 5))
            for q in (81, 82) for t in (1, 2)]  # fmt: skip
    path = lines(tmp_path / "a.jsonl", *rows)
    with pytest.raises(DataError, match="takes two of its models: a, b, c"):
        read_judgements(path)
    verdicts = read_judgements(path, teacher="c", student="a")
    assert [v.instruction_id for v in verdicts] == ["81", "81-2", "82", "82-2"]
    assert {(v.teacher_score, v.student_score) for v in verdicts} == {(5, 9)}


def test_judgements_in_both_orders_are_kept_by_role(tmp_path: Path) -> None:
    row = {"question_id": 1, "model_1": "a", "model_2": "b", "g1_winner": "model_1", "g2_winner": "tie"}
    path = lines(tmp_path / "a.jsonl", row, row)
    verdicts = read_judgements(path, teacher="b", student="a")
    assert [v.instruction_id for v in verdicts] == ["1", "1+"]
    assert (verdicts[0].teacher_first.teacher, verdicts[0].student_first.teacher) == (0.5, 0)  # type: ignore[union-attr]


def test_repeated_grades_make_pairs_in_their_order_and_other_models_make_none(tmp_path: Path) -> None:
    grades = [("a", 9), ("b", 7), ("c", 1), ("a", 5), ("c", 2), ("b", 3), ("a", 4)]
    path = lines(tmp_path / "a.jsonl", *({"question_id": 81, "model": m, "score": s} for m, s in grades))
    verdicts = read_judgements(path, teacher="a", student="b")
    assert [(v.instruction_id, v.teacher_score, v.student_score) for v in verdicts] == [("81", 9, 7), ("81+", 5, 3)]


def test_every_ill_formed_judgement_is_named(tmp_path: Path) -> None:
    rows = [{"instruction": "a", "preference": p} for p in (3, "x")] + [{"question_id": 1, "model": "m", "score": "y"}]
    with pytest.raises(DataError, match="line 1: preference is 3, .*; line 2: the result is 'x', .*; line 3: .* 'y'"):
        read_judgements(lines(tmp_path / "a.jsonl", *rows))
