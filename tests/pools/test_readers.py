"""Reading other people's instruction files: every known format, every known way in which they are broken."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest

from lionkit.errors import DataError
from lionkit.pools import deduplicate, read_instructions
from lionkit.pools.readers import set_aside_unanswered
from lionkit.records import Instruction, write_jsonl

ROWS = [
    {"instruction": "Name a fruit.", "input": "", "output": "fig"},
    {"instruction": "Sort.", "input": "3 1 2", "output": "1 2 3"},
]
EXPECTED = [("Name a fruit.", "", "fig"), ("Sort.", "3 1 2", "1 2 3")]


def texts(path: Path) -> list[tuple[str, str, str]]:
    return [(i.instruction, i.input, i.output) for i in read_instructions(path)]


def written(tmp_path: Path, content: str | bytes, name: str = "pool.json") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def problem(tmp_path: Path, content: str | bytes, name: str = "pool.json") -> DataError:
    path = written(tmp_path, content, name)
    with pytest.raises(DataError) as caught:
        read_instructions(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


ARRAY, LINES = json.dumps(ROWS), "\n".join(map(json.dumps, ROWS))


@pytest.mark.parametrize("name", ["pool.json", "pool.jsonl", "pool.txt", "pool"])
@pytest.mark.parametrize(
    "content",
    [
        ARRAY,
        json.dumps(ROWS, indent=4),
        LINES,
        LINES.replace("\n", "\n\n") + "\n\n",
        LINES.replace("\n", "\r\n") + "\r\n",
        "\ufeff" + ARRAY,
        "\ufeff" + LINES.replace("\n", "\r\n"),
        ARRAY.encode("utf-16"),
        gzip.compress(LINES.encode(), mtime=0),
    ],
)
def test_json_or_json_lines_whatever_the_suffix(tmp_path: Path, name: str, content: str | bytes) -> None:
    """The fault: "BOM, CRLF, JSON or JSONL whatever the suffix"."""
    assert texts(written(tmp_path, content, name)) == EXPECTED


def test_csv_tsv_and_parquet(tmp_path: Path) -> None:
    table = 'instruction,input,output\r\nName a fruit.,,fig\r\n"Sort.","3 1 2",1 2 3\r\n'
    assert texts(written(tmp_path, "\ufeff" + table, "a.csv")) == EXPECTED
    assert texts(written(tmp_path, table.replace(",", "\t"), "a.tsv")) == EXPECTED
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet") == EXPECTED


def test_a_table_with_a_missing_cell_names_its_row(tmp_path: Path) -> None:
    """The fault: "missing or NaN cell" of a data frame, which Parquet keeps as null."""
    import pandas as pd

    for output in (["fig", float("nan")], [1.5, float("nan")]):
        pd.DataFrame({"instruction": ["a", "b"], "output": output}).to_parquet(tmp_path / "a.parquet")
        with pytest.raises(DataError, match=r"line 2: output is missing \(null\)"):
            read_instructions(tmp_path / "a.parquet")


def test_the_delimiter_is_that_of_the_heading_alone(tmp_path: Path) -> None:
    for table in ("instruction;output\rSort, b, a;a\r", '"instruction, in full";output\n"Sort, b, a";a\n'):
        [item] = read_instructions(
            written(tmp_path, table, "a.csv"), columns={"instruction, in full": "instruction"} if '"' in table else None
        )
        assert (item.instruction, item.output) == ("Sort, b, a", "a")


def test_csv_cells_stay_what_they_are(tmp_path: Path) -> None:
    table = 'instruction,input,output\n"Say\n007",N/A,None\nAgain,007,N/A\n'
    assert texts(written(tmp_path, table, "a.csv")) == [("Say\n007", "", "None"), ("Again", "007", "N/A")]


@pytest.mark.parametrize("value", ["", "N/A", "n/a", "<noinput>", "<No input>", "No input.", "None", "nan", None])
def test_every_way_to_say_no_input_is_one(tmp_path: Path, value: str | None) -> None:
    """The fault: '"", "N/A", "<noinput>" as input', which are one form."""
    row = json.dumps({"instruction": "x", "input": value, "output": "y"})
    assert texts(written(tmp_path, row)) == [("x", "", "y")]


def test_an_output_keeps_its_none(tmp_path: Path) -> None:
    """The fault: an *output* "None" taken for a missing one."""
    rows = [{"instruction": "x", "output": value} for value in ("None", "N/A", "nan")]
    assert [o for *_, o in texts(written(tmp_path, json.dumps(rows)))] == ["None", "N/A", "nan"]


def test_numbers_become_text(tmp_path: Path) -> None:
    """The fault: "numbers as output"."""
    rows = [{"instruction": "x", "input": 7, "output": value} for value in (42, 0.5, 0, True, "007")]
    assert texts(written(tmp_path, json.dumps(rows))) == [("x", "7", o) for o in ("42", "0.5", "0", "true", "007")]


def test_missing_cells_are_errors_with_their_line(tmp_path: Path) -> None:
    """The fault: "missing or NaN cell", read as the text "nan"."""
    for key in ("instruction", "input", "output"):
        row = {"instruction": "x", "input": "", "output": "y", key: float("nan")}
        error = problem(tmp_path, f"{json.dumps(ROWS[0])}\n{json.dumps(row)}\n")
        assert (error.line, error.problem.split()[0]) == (2, key)
    assert problem(tmp_path, '[\n{"instruction": "a"},\n\n{"instruction": null}]').line == 4
    assert problem(tmp_path, '{"instruction": "a"}\n{"instruction": " "}').line == 2
    assert problem(tmp_path, '{"instruction": "a"}\n{"instruction": "b", "output": null}').line == 2
    assert problem(tmp_path, 'instruction,output\n"a\nb",c\nd\n', "a.csv").line == 4
    assert problem(tmp_path, "instruction,output\na,b,c\n", "a.csv").line == 2
    assert problem(tmp_path, '{"instruction": "a"}\n{"instruction": "b",\n{"instruction": "c"}').line == 2


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ("", None, "no instructions"),
        ("[]", None, "no instructions"),
        ("hello", 1, "neither JSON"),
        ('{"instruction": "a"}\n{"instruction": "b', 2, "not readable as JSON"),
        ('[{"instruction": "a"},\n{"instruction": "b"}', 2, "is the file whole"),
        ('[{"instruction": "a"}\n{"instruction": "b"}]', 2, "expected a comma"),
        ('[{"instruction": "a"},\n]', 2, "not readable as JSON"),
        ('[{"instruction": "a"}]\n[]', 2, "does not end where the file does"),
        ('{"instruction": "a"}\n{"task": "b", "answer": "c"}', 2, "keys: task, answer"),
        ('{"instruction": "a"}\n7', 2, "expected an object"),
        ('{"instruction": ["a"]}', 1, "instruction is a list"),
        ('{"instruction": "a", "output": {"b": 1}}', 1, "output is an object"),
        pytest.param("[" * 100_000, 1, "nested too deeply", id="deep"),
        pytest.param('{"instruction": %s}' % ("9" * 5000), 1, "integer string", id="digits"),
        (b'{"instruction": "a"}\n{"instruction": "caf\xe9"}', 2, "UTF-8"),
        (b"\x1f\x8b\x08\x00half", None, "gzip"),
        (gzip.compress(b'{"instruction": "a"}' * 9, mtime=0)[:10] + b"\xff" * 30, None, "gzip"),
        (b"PAR1 but no more", None, "Parquet"),
        ('{"instruction": "a"}\n{"instruction": "half \\ud83d"}', 2, "instruction holds half a character"),
        ('{"instruction": "a", "input": "\\ud83d"}', 1, "input holds half a character"),
        ('{"instruction": "a", "output": "\\ud83d"}', 1, "output holds half a character"),
        ('{"instruction": "a", "category": "\\ud83d", "id": 1}', 1, "category holds half a character"),
        ('{"instruction": "a", "id": "\\ude00"}', 1, "id holds half a character"),
        ('{"\\u001b[2J\\u202e%s": 1}' % ("x" * 99), 1, f"(keys: ?[2J?{'x' * 55}...)"),
    ],
)
def test_every_problem_names_file_and_line(tmp_path: Path, content: str | bytes, line: int | None, words: str) -> None:
    error = problem(tmp_path, content)
    assert error.line == line
    assert words in error.problem


def test_what_is_not_there_or_not_instructions(tmp_path: Path, shared_data: Path) -> None:
    for path in ("a\0b", "a" * 5000):
        with pytest.raises(DataError, match="cannot be read"):
            read_instructions(path)
    for path in (tmp_path / "no.json", tmp_path):
        with pytest.raises(DataError, match=str(path)):
            read_instructions(path)
    for name, what in (("answer_gpt35.jsonl", "answers"), ("review_gpt35_vicuna-13b.jsonl", "reviews")):
        with pytest.raises(DataError, match=f"line 1: these are {what}, not instructions"):
            read_instructions(shared_data / "vicuna80" / name)


def test_the_shared_files(shared_data: Path) -> None:
    seeds = read_instructions(shared_data / "self_instruct_seed_tasks.jsonl")
    assert (len(seeds), seeds[1].id, seeds[1].input) == (175, "seed_task_1", "Night : Day :: Right : Left")
    assert all(item.output for item in seeds)
    user = read_instructions(shared_data / "user_oriented_instructions.jsonl")
    assert (len(user), user[0].category) == (252, "Grammarly")
    answered = read_instructions(shared_data / "user_oriented_davinci003.jsonl")
    assert [(i.instruction, i.input) for i in answered] == [(i.instruction, i.input) for i in user]
    assert answered[0].output != user[0].output
    questions = read_instructions(shared_data / "vicuna80" / "question.jsonl")
    assert (len(questions), questions[0].id, questions[0].category) == (80, "1", "generic")
    assert questions[0].instruction == "How can I improve my time management skills?"
    assert not questions[0].output
    for pool in (seeds, user, answered, questions):
        assert len({item.id for item in pool}) == len(pool)


def test_the_reference_implementations_files(tmp_path: Path) -> None:
    judged = {"instruction": "x", "input": "", "assist1": "teacher's", "assist2": "student's", "assist1_score": 8.5,
              "assist2_score": 6.0, "review_score_diff": 2.5}  # fmt: skip
    assert texts(written(tmp_path, json.dumps(judged) + "\n")) == [("x", "", "teacher's")]


def test_other_keys_strings_turns_and_instances(tmp_path: Path) -> None:
    rows = [
        "just a text",
        {"prompt": "p", "completion": "c", "score": 3},
        {"question_id": 81, "turns": ["first", "second"], "category": "writing"},
        {"instruction": "i", "id": "t", "instances": [{"input": "1", "output": "a"}, {"input": "2", "output": "b"}]},
    ]
    items = read_instructions(written(tmp_path, json.dumps(rows)))
    assert [(i.instruction, i.input, i.output) for i in items] == [
        ("just a text", "", ""), ("p", "", "c"), ("first", "", ""), ("i", "1", "a"), ("i", "2", "b"),
    ]  # fmt: skip
    assert [i.id for i in items[2:]] == ["81", "t", "t-2"]


def test_empty_outputs_and_duplicates_are_kept_and_counted(tmp_path: Path) -> None:
    """The faults: "empty outputs", to be set aside and counted (Alpaca has 28), and "duplicates", to be counted."""
    rows = [*ROWS, ROWS[0], {"instruction": "Blank.", "output": "  "}]
    items = read_instructions(written(tmp_path, json.dumps(rows)))
    assert len({i.id for i in items}) == 4
    assert deduplicate(items)[1] == 1
    answered, unanswered = set_aside_unanswered(items)
    assert (len(answered), [i.instruction for i in unanswered]) == (3, ["Blank."])


def test_repeated_ids_are_numbered_past_those_that_are_there_and_quickly(tmp_path: Path) -> None:
    rows = [{"instruction": str(n), "id": name} for n, name in enumerate(["a", "a-2", "a", "a", "a-2", "b"])]
    items = read_instructions(written(tmp_path, json.dumps(rows)))
    assert [i.id for i in items] == ["a", "a-2", "a-3", "a-4", "a-2-2", "b"]
    path = written(tmp_path, "".join('{"id": "same", "instruction": "x"}\n' for _ in range(20_000)))
    started = time.process_time()
    assert read_instructions(path)[-1].id == "same-20000"
    assert time.process_time() - started < 20  # hours, where each is compared with all


def test_a_suffix_in_capitals_is_the_same_suffix(tmp_path: Path) -> None:
    assert texts(written(tmp_path, "instruction,output\na,b\n", "X.CSV")) == [("a", "", "b")]


def test_parquet_that_cannot_become_rows_is_named(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"instruction": pyarrow.array([b"\xff"]).view(pyarrow.string())})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="not readable as Parquet"):
        read_instructions(tmp_path / "a.parquet")


def test_own_records_come_back_equal(tmp_path: Path) -> None:
    pool = [Instruction(" kept as is ", "N/A", "None", source="hard", parent="p", iteration=2), Instruction("b")]
    write_jsonl(tmp_path / "cache.jsonl", pool)
    assert read_instructions(tmp_path / "cache.jsonl") == pool
    own = json.loads((tmp_path / "cache.jsonl").read_text().splitlines()[0])
    for wrong in ("two", float("inf"), None, -1, 1.5, 10_001, True, "9" * 5000, []):
        assert problem(tmp_path, json.dumps({**own, "iteration": wrong})).line == 1
    for empty in ("", " \n"):
        assert problem(tmp_path, json.dumps({**own, "instruction": empty})).problem == "instruction is empty"


def test_a_hub_data_set_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[str] = []

    def load(name: str) -> Any:
        asked.append(name)
        if name == "owner/missing":
            raise ConnectionError("no route\nto host")
        return datasets.DatasetDict(test=datasets.Dataset.from_list(ROWS[:1]), train=datasets.Dataset.from_list(ROWS))

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert [i.output for i in read_instructions("owner/name")] == ["fig", "1 2 3"]
    with pytest.raises(DataError, match="owner/missing: no such file, nor a hub data set within reach: no route$"):
        read_instructions("owner/missing")
    for path in ("missing.json", "folder/missing.json", "/abs/missing", "a/b/c"):
        with pytest.raises(DataError):
            read_instructions(path)
    assert asked == ["owner/name", "owner/missing"]
    assert len(read_instructions("teknium/OpenHermes-2.5")) == 2


def test_seventy_thousand_rows_are_read_in_seconds(tmp_path: Path) -> None:
    rows = [
        {"instruction": f"Do thing {i} well", "input": "" if i % 2 else f"{i} and", "output": f"word {i} " * 20}
        for i in range(70_000)
    ]
    path = written(tmp_path, json.dumps(rows, indent=4))
    started = time.process_time()
    assert len(read_instructions(path)) == 70_000
    assert time.process_time() - started < 20
