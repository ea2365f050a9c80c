"""The command line: what the user can mend is one line and exit code 1."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import rote
from lionkit import loop, plan, records
from lionkit.__main__ import app
from lionkit.__main__ import plan as show_plan
from lionkit.client import ChatClient, ChatRequest
from lionkit.client.store import Store
from lionkit.errors import ConfigError, LionkitError
from lionkit.records import Judgement, Verdict
from lionkit.run import open_run
from lionkit.run.compare import draw
from lionkit.sandbox.app import create_app


def lionkit(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lionkit", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["run"], {"LIONKIT_MODE": "cloud"}, "error: LIONKIT_MODE=cloud: unknown mode, choose offline, live or replay"),
        (["run", "--preset", "huge"], {}, "error: preset 'huge' is unknown"),
        (["status"], {"LIONKIT_MODE": "replay"}, "error: there is no run to replay at"),
        (["run", "--run", "../x"], {}, "error: run name '../x'"),
        (["train"], {"WORLD_SIZE": "2"}, "error: WORLD_SIZE is set, but no launcher started this"),
        (["plan", "--device", "tpu"], {}, "error: --device tpu: plans are for cpu, cuda or mps"),
        (["notebooks", "--run", "misspelt"], {}, "error: there is no run of the name misspelt"),
        (["train", "--run", "misspelt"], {}, "error: there is no run of the name misspelt"),
    ],
)
def test_errors_are_one_line(arguments: list[str], environment: dict[str, str], words: str) -> None:
    out = lionkit(*arguments, **environment)
    assert out.returncode == 1
    assert out.stderr.startswith(words)
    assert len(out.stderr.splitlines()) == 1


def test_the_plan_stands_beside_what_was_measured(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = open_run("p", preset="smoke", student={"model": str(tiny_model)})
    run.note(1, "imitation", peak_memory=2**30, planned_memory=2**29)
    show_plan("p", device="cuda", gib=4.0)
    lines = capsys.readouterr().out.splitlines()
    measured = "iteration-01/imitation: measured 1.00 GiB, with all else that the process held"
    assert f"{measured}; planned 0.50 GiB (-50%)" in lines
    assert (
        f"Most rows at once in 4.0 GiB: {plan.largest_batch(str(tiny_model), run.config, 2**32, device='cuda')}"
        in lines
    )
    assert any(line.lstrip().startswith("CUDA context") for line in lines)


def test_a_plan_makes_no_run(
    tmp_path: Path, student_weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or the name would be taken, with settings that nobody chose."""
    for name, value in (("MODE", "live"), ("PRESET", "smoke"), ("MODEL", "m")):
        monkeypatch.setenv(f"LIONKIT_{name}", value)
    show_plan("new", device="cpu", gib=1.0)
    said = "There is no such run yet, and none is made: this is what one from preset smoke would take."
    assert said in capsys.readouterr().out
    assert not (tmp_path / "runs" / "new").exists()


def test_a_terminal_without_arrows_gets_question_marks() -> None:
    open_run("r")
    out = lionkit("set", "--run", "r", "tau=3", PYTHONIOENCODING="latin-1")
    assert (out.returncode, out.stderr) == (0, "")
    assert "tau 1.0 ? 3.0" in out.stdout


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = lionkit("train", LIONKIT_RUNS=str(tmp_path / "file"))
    assert out.returncode == 1
    assert len(out.stderr.splitlines()) == 1
    assert out.stderr.startswith("error: cannot write")


def test_status_of_a_new_run(tmp_path: Path) -> None:
    missing = lionkit("status")
    assert missing.returncode == 1
    assert missing.stderr == "error: there is no run of the name demo in runs: known are none yet\n"
    assert not (tmp_path / "runs").exists()
    open_run()
    out = lionkit("status")
    assert out.returncode == 0
    assert "offline mode" in out.stdout
    assert "iteration 1: nothing yet" in out.stdout


@pytest.mark.parametrize("price", [None, (1.0, 2.0)])
def test_a_plan_ends_its_calls_with_their_total(
    price: tuple[float, float] | None, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_run("r", preset="smoke", student={"model": str(tiny_model)}, api={"price_per_million": price})
    show_plan("r", device="cpu", gib=8.0)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    start = rows.index(["role", "calls", "prompt_tokens", "reply_tokens", "dollars"]) + 1
    roles, total = rows[start : start + 3], rows[start + 3]
    assert total[:4] == ["total", *(str(sum(int(row[column]) for row in roles)) for column in (1, 2, 3))]
    assert total[4] == "-" if price is None else float(total[4]) == pytest.approx(sum(float(row[4]) for row in roles))


def test_table_is_aligned_and_shows_what_is_unscored() -> None:
    row = {"train_pool": 0, "cache_pool": 10, "hard": 1, "easy": 2, "undecided": 7, "exact_match": 0.5}
    rows = [
        {"iteration": 0, **row, "relative_score": None},
        {"iteration": 1, **row, "relative_score": 0.731, "exact_match": None},
    ]
    summary = {"iterations": rows, "seconds": 12.3}
    lines = loop.as_text(summary).splitlines()
    assert len({len(line) for line in lines[:4]}) == 1
    assert "before training" in lines[2]
    assert lines[2].split()[-2] == "-"
    assert lines[3].split()[-2:] == ["73.1%", "-"]


def test_export_writes_the_iteration_that_is_named(tmp_path: Path) -> None:
    run = open_run("r", preset="smoke", iterations=1)
    cache = loop.prepare(run).cache
    for iteration, scores in ((0, (9, 2)), (1, (5, 5))):
        folder = run.folder(iteration, "discrimination")
        verdicts = [Verdict(item.id, Judgement(*scores), Judgement(*scores)) for item in cache]
        for name, lines in (("teacher", []), ("student", []), ("verdicts", verdicts)):
            records.write_jsonl(folder / f"{name}.jsonl", lines)
        (folder / "done.json").write_text('{"inputs": {}, "files": {}, "result": {}}')
    for options, hard in ((["--iteration", "0"], 64), ([], 0), (["--iteration", "1"], 0)):
        out = CliRunner().invoke(app, ["export", str(tmp_path / "out"), "--run", "r", *options])
        assert out.exit_code == 0
        assert f"hard.json: {hard} instructions" in out.output


def test_training_takes_the_last_pools_that_are_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = open_run("r", preset="smoke", iterations=5)
    loop.prepare(run)
    trained: list[int] = []
    monkeypatch.setattr(loop, "imitate", lambda run, roles, iteration: trained.append(iteration) or tmp_path)
    CliRunner().invoke(app, ["train", "--run", "r"])
    folder = run.folder(1, "generation")
    folder.mkdir(parents=True)
    (folder / "done.json").write_text('{"inputs": {}, "files": {}, "result": {}}')
    CliRunner().invoke(app, ["train", "--run", "r"])
    assert trained == [1, 2]


def test_a_plan_without_a_network_is_one_line_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.create_connection", lambda *_: (_ for _ in ()).throw(OSError("no network")))
    open_run("r", preset="smoke", student={"model": "nobody/nothing-here"})
    done = CliRunner().invoke(app, ["plan", "--run", "r", "--device", "cpu", "--gib", "8"])
    assert isinstance(done.exception, LionkitError)
    assert "nobody/nothing-here is not on this machine" in str(done.exception)


@pytest.mark.parametrize("command", [["train"], ["export-student", "out"]])
def test_there_is_no_training_before_the_first_iteration(command: list[str]) -> None:
    out = CliRunner().invoke(app, [*command, "--iteration", "0"])
    assert out.exit_code == 2
    assert "--iteration" in out.output


def test_status_only_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_run("r", preset="smoke")
    asked = ChatRequest([{"role": "user", "content": "Add these numbers: 1, 2"}], max_tokens=9)
    ChatClient(run.config.api, run.store, app=create_app()).map([asked], progress="teacher")
    monkeypatch.setattr(Store, "_create", lambda self: pytest.fail("the store was opened for writing"))
    out = CliRunner().invoke(app, ["status", "--run", "r"])
    assert out.exit_code == 0
    assert "teacher: 1 call, " in out.output


def test_settings_forks_and_comparisons_from_the_command_line(tmp_path: Path) -> None:
    run = open_run("r", preset="smoke")
    cli = CliRunner()

    def said(*words: str) -> str:
        done = cli.invoke(app, list(words))
        assert done.exit_code == 0, done.exception
        return done.output

    assert "Changed: tau 1.0 → 2.0 (method: stages to come read it)." in said("set", "--run", "r", "tau=2")
    assert "api.concurrency 32 → 4 (execution" in said("set", "--run", "r", "api.concurrency=4")
    loop.prepare(run)
    out = said("fork", "r", "two", "--after", "0:pools", "tau=3")
    assert "two keeps 1 stages of r and its stored replies; nothing was asked or trained." in out
    assert "Go on with `python -m lionkit run --run two`." in out
    out = said("compare", "r", "two", "--figure", str(tmp_path / "figure.png"))
    assert "tau" in out
    assert (tmp_path / "figure.png").stat().st_size > 5000
    for words, problem in (
        (["set", "--run", "nosuch", "tau=2"], "no run of the name nosuch"),
        (["set", "--run", "r", "train_size=3"], "was read by pools of iteration 0"),
        (["fork", "r", "two", "--after", "0:pools"], "there is a run of the name two already"),
        (["compare", "r"], "two or more different runs"),
        (["run", "--run", "my-7bb"], "no run of the name my-7bb"),
    ):
        done = cli.invoke(app, words)
        assert isinstance(done.exception, LionkitError)
        assert problem in str(done.exception)
    assert sorted(p.name for p in (tmp_path / "runs").iterdir() if p.name[0] != ".") == ["r", "two"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "r", "two", "--figure", "y.foo"], "y.foo: no file that a figure can be drawn into: .* .svg"),
        (["compare", "r", "two", "--figure", "y"], "y: no file that a figure"),
        (["compare", "r", "two", "--figure", "gone/y.png"], "gone/y.png: there is no folder gone: make it"),
        (["arms", "0", "--out", "x.svg"], "--out x.svg: give the file of the scores"),
        (["arms", "0", "--out", "."], "--out .: give the file"),
    ],
)
def test_a_file_that_cannot_be_drawn_into_is_said_before_anything_is_computed(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for long in ("lionkit.__main__.compare_runs", "lionkit.arms.run_arms"):
        monkeypatch.setattr(long, lambda *_, **__: pytest.fail("computed"))
    with pytest.raises(ConfigError, match=said):
        CliRunner().invoke(app, words, catch_exceptions=False)


def test_what_the_disk_refuses_of_a_figure_is_one_line(tmp_path: Path) -> None:
    class Axes:
        class figure:
            @staticmethod
            def savefig(path: Path) -> None:
                raise OSError(28, "No space left on device", str(path))

    with pytest.raises(LionkitError, match=r"the disk is full, .*y.png was not written"):
        draw(Axes(), tmp_path / "y.png")


def test_a_finished_run_has_no_calls_to_come(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run("r", preset="smoke", student={"model": str(tiny_model)}, iterations=1)
    loop.run_all(run, rote.roles(run))
    show_plan("r", device="cpu", gib=8.0)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert next(row for row in rows if row[:1] == ["total"])[:4] == ["total", "0", "0", "0"]


def test_every_command_that_a_message_gives_is_one() -> None:
    known = {command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands}
    source = "".join(path.read_text(encoding="utf-8") for path in Path(loop.__file__).parent.rglob("*.py"))
    assert set(re.findall(r"python -m lionkit (\w[\w-]*)", source)) <= known
