"""Run directories: a stage is made once, says when its inputs changed, and survives being cut short."""

from __future__ import annotations

import json
import os
import threading
import time
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from lionkit import files
from lionkit import run as runs
from lionkit.errors import ConfigError, LionkitError, StageChanged, StageMissing, StageStopped
from lionkit.records import Instruction, write_jsonl
from lionkit.run import Run, Stage, settings


@pytest.fixture
def run() -> runs.Run:
    return runs.open_run("r")


def write(text: str, name: str = "out.txt") -> Any:
    def make(stage: Stage) -> dict[str, Any]:
        (stage.folder / name).write_text(text)
        return {"n": len(text)}

    return make


def first_pools(stage: Stage) -> dict[str, Any]:
    for name in ("train", "cache", "heldout"):
        write_jsonl(stage.folder / f"{name}.jsonl", [Instruction("a")])
    return {"train": 1}


def never(stage: Stage) -> dict[str, Any]:
    pytest.fail("the stage was made twice")


def test_a_stage_is_made_once(run: runs.Run) -> None:
    folder = run.make(0, "pools", first_pools)
    assert run.make(0, "pools", never) == folder
    assert run.result(0, "pools") == {"train": 1}
    assert json.loads((run.path / "provenance.json").read_text())["versions"]["torch"]
    assert run.record(0, "pools")["settings"] == {"seed": 0, "seed_file": "", "train_size": 480, "heldout_size": 160}


def test_an_edited_setting_is_named_and_both_ways_on_are_ready_to_paste(run: runs.Run) -> None:
    run.make(0, "pools", first_pools)
    run.make(1, "imitation", write("abc"))
    other = Run(run.path, settings.apply(run.config, {"student.epochs": 4}))
    with pytest.raises(StageChanged) as caught:
        other.make(1, "imitation", never)
    assert str(caught.value) == (
        "imitation of iteration 1 was made with student.epochs = 1, and the settings now say 4: to try it beside this "
        "run, which keeps all that comes before: `python -m lionkit fork r r-2 --after 0:pools student.epochs=4`"
        "; to let later stages alone take it: `python -m lionkit set --run r --from-here student.epochs=4`"
    )


def test_an_altered_or_missing_file_is_named_before_something_is_made_from_it(run: runs.Run) -> None:
    train = run.make(0, "pools", first_pools) / "train.jsonl"
    before = train.read_bytes()
    for spoil in (lambda: train.write_text("other"), train.unlink):
        spoil()
        with pytest.raises(StageChanged, match=r"train\.jsonl is missing or was altered.*put it back.*--after start"):
            run.make(1, "imitation", never)
    train.write_bytes(before)
    run.make(1, "imitation", write("abc"))


def test_a_stage_made_from_another_file_than_is_there_now_is_named(run: runs.Run) -> None:
    run.make(0, "pools", first_pools)
    folder = run.make(1, "imitation", write("abc"))
    done = json.loads((folder / "done.json").read_text())
    done["inputs"]["iteration-00/pools/train.jsonl"] = "0" * 32
    (folder / "done.json").write_text(json.dumps(done))
    with pytest.raises(StageChanged, match=r"made from another iteration-00/pools/train\.jsonl.*fork r r-2 --after"):
        run.make(1, "imitation", never)


def test_a_stage_cut_short_is_made_again_with_the_same_result(run: runs.Run) -> None:
    def dies(stage: Stage) -> dict[str, Any]:
        (stage.folder / "half.txt").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.make(0, "pools", dies)
    assert not run.done(0, "pools")
    run.make(0, "pools", write("abc"))
    assert run.done(0, "pools")


def test_two_kernels_do_not_make_one_stage_at_once(run: runs.Run) -> None:
    def make(stage: Stage) -> dict[str, Any]:
        with pytest.raises(StageStopped, match=r"pools is being made by another notebook or process"):
            run.make(0, "pools", never)
        return write("abc")(stage)

    folder = run.make(0, "pools", make)
    assert sorted(p.name for p in folder.iterdir()) == ["done.json", "out.txt"]


def test_full_disk_in_a_stage_is_one_line(run: runs.Run) -> None:
    def full(stage: Stage) -> dict[str, Any]:
        raise OSError(28, os.strerror(28), str(stage.folder / "big"))

    with pytest.raises(LionkitError, match="the disk is full"):
        run.make(0, "pools", full)


def test_a_stage_is_handed_what_it_declared_and_nothing_else(run: runs.Run) -> None:
    def reads(name: str) -> Any:
        return lambda stage: {"n": attrgetter(name)(stage.settings)}

    for name in ("tau", "student.rank", "teacher_temperature"):
        with pytest.raises(AttributeError, match="was not handed to this stage: list it in run.settings.READS"):
            run.make(0, "pools", reads(name))
    assert not run.done(0, "pools")
    run.make(0, "pools", reads("seed"))


@pytest.mark.parametrize(
    ("iteration", "stage", "notebook"),
    [
        (1, "imitation", "02_imitation"),
        (1, "discrimination", "03_disc"),
        (1, "generation", "04_gen"),
        (2, "imitation", "05_"),
    ],
)
def test_out_of_order_says_what_to_run(run: runs.Run, iteration: int, stage: str, notebook: str) -> None:
    with pytest.raises(StageMissing, match=f"run notebook {notebook}.* or `python -m lionkit run --run r`"):
        run.require(iteration, stage)


@pytest.mark.parametrize(
    ("iteration", "stage", "words"),
    [
        (5, "imitation", "has iterations 0 to 2: for more of them .* set --run r iterations=5`, then .* run --run r`$"),
        (2, "generation", r"0 to 2: .* iterations=3`"),  # the last iteration generates nothing
        (0, "imitation", "and never is: iteration 0 has pools, evaluation, discrimination; later ones have imitation"),
        (1, "pools", "and never is"),
    ],
)
def test_what_no_run_of_this_length_makes_says_what_does(run: runs.Run, iteration: int, stage: str, words: str) -> None:
    with pytest.raises(StageMissing, match=words) as refused:
        run.require(iteration, stage)
    assert "for all of it" not in str(refused.value)


def test_same_run_same_done_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for name in ("one", "two"):
        monkeypatch.setenv("LIONKIT_RUNS", str(tmp_path / name))
        found.append((runs.open_run("r").make(0, "pools", first_pools) / "done.json").read_bytes())
    assert found[0] == found[1]


def test_opening_says_the_mode_aloud(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    runs.open_run()
    said = capsys.readouterr().out
    assert "offline mode: no OPENAI_API_KEY" in said
    assert "rules, not a language model" in said
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("LIONKIT_MODEL", "small")
    opened = runs.open_run()
    assert "live mode: OPENAI_BASE_URL is set" in capsys.readouterr().out
    assert opened.path.name == "live"
    assert (opened.config.api.base_url, opened.config.api.model) == ("http://127.0.0.1:9/v1", "small")


def test_a_run_keeps_its_settings(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = runs.open_run("mine", preset="smoke", tau=2.0)
    assert runs.open_run("mine").config == first.config
    assert runs.open_run("mine", preset="smoke", tau=2.0).config == first.config
    assert runs.open_run("mine", preset="smoke").config == first.config  # a preset's other fields were not given
    with pytest.raises(ConfigError, match="was begun with preset smoke, not paper: leave the preset out"):
        runs.open_run("mine", preset="paper")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    assert runs.open_run("mine").config.mode == "offline"
    said = capsys.readouterr().out
    assert "for live mode" in said
    assert "sk-x" not in said


def test_replay_needs_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIONKIT_MODE", "replay")
    with pytest.raises(ConfigError, match="no run to replay"):
        runs.open_run("nothing")
    monkeypatch.setenv("LIONKIT_MODE", "offline")
    runs.open_run("nothing")
    monkeypatch.setenv("LIONKIT_MODE", "replay")
    assert runs.open_run("nothing").config.mode == "replay"


@pytest.mark.parametrize("changes", [{"taau": 1}, {"student": {"depth": 3}}, {"mode": "demo"}])
def test_unknown_settings_are_named(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"taau|depth|demo"):
        runs.open_run("x", **changes)


def test_run_names_stay_inside_the_folder() -> None:
    with pytest.raises(ConfigError, match="run name"):
        runs.open_run("../outside")


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"stages": 3, "result": 3}', "[" * 100_000])
def test_spoilt_notes_are_named_and_cost_no_more_than_themselves(run: runs.Run, text: str) -> None:
    (run.path / "provenance.json").write_text(text)
    with pytest.raises(LionkitError, match=r"rename it, and run again; times"):
        _ = run.seconds
    run.folder(1, "imitation").mkdir(parents=True)
    (run.folder(1, "imitation") / "done.json").write_text(text)
    with pytest.raises(LionkitError, match="iteration-01/imitation/done.json is not readable: rename it, .*that stage"):
        run.result(1, "imitation")


@pytest.mark.parametrize("name", ["a/b", "../x", ".x", "a\nb", "\x1b[31m", " ", "é<script>", "x" * 200])
def test_names_of_runs_are_plain(name: str) -> None:
    with pytest.raises(ConfigError, match="run name"):
        runs.open_run(name)


def test_looking_at_a_new_run_asks_nobody_about_the_machine(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lionkit.run.folder.surroundings", lambda: pytest.fail("git was asked"))
    assert run.seconds == 0
    assert run.stages == {}


def test_no_password_of_the_environment_comes_into_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:secretpw@127.0.0.1/v1")
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL holds an @") as refused:
        runs.open_run("live", mode="live", preset="single_gpu")
    assert "secretpw" not in str(refused.value)


def test_the_endpoint_is_fixed_when_a_run_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    live = runs.open_run("live", mode="live", preset="single_gpu")
    assert "at api.openai.com." in live.banner
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    again = runs.open_run("live", mode="live")
    assert (again.config.api.base_url, again.config.api.model) == ("https://api.openai.com/v1", "gpt-4o-mini")
    assert "it keeps https://api.openai.com/v1 (OPENAI_BASE_URL is http://127.0.0.1:9/v1)" in capsys.readouterr().out


def test_what_a_killed_writer_left_is_no_artefact(run: runs.Run) -> None:
    folder = run.folder(1, "imitation")
    (folder / "adapter" / ".adapter-x1").mkdir(parents=True)
    (folder / "adapter" / ".adapter-x1" / "adapter_model.safetensors").write_text("half")
    (folder / ".out.txt.77.tmp").write_text("ha")
    run.make(0, "pools", first_pools)
    run.make(1, "imitation", write("abc"))
    assert list(run.record(1, "imitation")["files"]) == ["out.txt"]


def test_notes_of_several_kernels_are_all_kept(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = files.write_text

    def slow(path: Path, text: str) -> None:
        time.sleep(0.02)
        real(path, text)

    monkeypatch.setattr(files, "write_text", slow)
    threads = [threading.Thread(target=run.note, args=(i, "generation"), kwargs={"n": i}) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {values["n"] for values in run.stages.values()} == set(range(8))


def test_a_live_run_says_what_the_environment_names_and_it_does_not_use(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("LIONKIT_MODEL", "small")
    runs.open_run("mine")
    runs.open_run("mine")
    assert "keeps" not in capsys.readouterr().out
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8/v1?key=s3cret")
    monkeypatch.setenv("LIONKIT_MODEL", "big")
    assert runs.open_run("mine").config.api.model == "small"
    said = capsys.readouterr().out
    assert (
        "it keeps http://127.0.0.1:9/v1 (OPENAI_BASE_URL is http://127.0.0.1:8/v1) and small (LIONKIT_MODEL is big), "
        "for others open a run of another name." in said.splitlines()[0]
    )
    assert "s3cret" not in said
    assert "sk-x" not in said


@pytest.mark.parametrize(("part", "name"), [("student", "validation_share"), ("api", "model")])
def test_a_misspelt_setting_is_named_with_those_there_are(part: str, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{part}.{name[:-1]} is not a setting: did you mean {part}.{name}\?"):
        runs.open_run("x", preset="smoke", **{part: {name[:-1]: 1}})


def test_what_is_missing_names_the_notebook_that_makes_it() -> None:
    run = runs.open_run("x", preset="smoke")
    for iteration, notebook in ((0, "05_adversarial_loop"), (1, "03_discrimination"), (2, "05_adversarial_loop")):
        with pytest.raises(StageMissing, match=f"run notebook {notebook} first"):
            run.require(iteration, "discrimination")
