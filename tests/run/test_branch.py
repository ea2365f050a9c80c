"""Settings that change: execution at any time, method while nothing has read it, then in a fork or from here on."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

import rote
from lionkit import loop
from lionkit.errors import ConfigError, StageChanged, StageMissing
from lionkit.run import Run, open_run, saved, settings

TEACHER, ANSWERS, JUDGED = {"imitation", "evaluation", "discrimination"}, {"evaluation", "discrimination"}, "generation"
STALE: dict[str, set[str]] = {
    "seed": {"pools", *TEACHER, "generation"},
    "seed_file": {"pools"},
    "train_size": {"pools"},
    "heldout_size": {"pools"},
    "api.base_url": {*TEACHER, "generation"},
    "api.model": {*TEACHER, "generation"},
    "teacher_temperature": TEACHER,
    "teacher_max_tokens": TEACHER,
    "student.model": TEACHER,
    "student.quantize": TEACHER,
    "student.template": TEACHER,
    **{
        f"student.{name}": {"imitation"}
        for name in "rank alpha dropout learning_rate later_rate epochs step_rows max_length "
        "validation_share patience".split()
    },
    "student.max_new_tokens": ANSWERS,
    "student.temperature": ANSWERS,
    "student_url": ANSWERS,
    "student_name": ANSWERS,
    "referee_temperature": ANSWERS,
    "referee_max_tokens": ANSWERS,
    "referee_bias": ANSWERS,
    "structured": ANSWERS,
    "referee_model": {"discrimination"},
    "judge_model": {"evaluation"},
    **{
        name: {"generation"}
        for name in "generator_model generator_temperature generator_max_tokens generator_draw tau novelty "
        "hard_size easy_size seeds_by replay_share use_marks".split()
    },
}
"""Method settings, and the stages that a change of each makes stale. Every other setting is one of execution."""
OTHER: dict[str, Any] = {
    "seed_file": "owner/name",
    "api.base_url": "http://127.0.0.1:9/v1",
    "api.price_per_million": (1.0, 2.0),
    "api.prices": {"big": (1.0, 2.0)},
    "student.quantize": "none",
    "student.template": "plain",
    "student.dropout": 0.1,
    "student.learning_rate": 0.5,
    "student.later_rate": 0.5,
    "student.validation_share": 0.1,
    "student_url": "http://127.0.0.1:9/v1",
    "structured": "on",
    "novelty": 0.5,
    "seeds_by": "random",
    "replay_share": 0.5,
    "missing_share": 0.5,
    "useless_share": 0.5,
}
NEEDS = {"api.budget_usd": {"api.price_per_million": (1.0, 2.0)}, "student.patience": {"student.validation_share": 0.1}}


def other(name: str, now: Any) -> Any:
    """A valid value of a setting that differs from `now`."""
    if name in OTHER:
        return OTHER[name]
    return 1 if now is None else not now if isinstance(now, bool) else f"{now}x" if isinstance(now, str) else now + 1


@pytest.mark.parametrize("name", [name for name in settings.NAMES if name not in settings.FIXED])
def test_each_setting_makes_stale_what_the_table_says_and_nothing_else(finished: Run, name: str) -> None:
    config = settings.apply(finished.config, NEEDS.get(name, {}))
    changed = Run(finished.path, settings.apply(config, {name: other(name, settings.value(config, name))}))
    needed = {stage for need in NEEDS.get(name, {}) for stage in STALE.get(need, ())}
    stale = set()
    for place in finished.finished():
        try:
            changed.make(*place, lambda stage: pytest.fail("made again"))
        except StageChanged:
            stale.add(place.stage)
    assert stale == STALE.get(name, set()) | needed
    assert (name in settings.METHOD) == (name in STALE)


def test_execution_settings_change_at_any_opening_and_change_no_file(
    finished: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.read_bytes() for p in finished.path.glob("iteration-*/**/*") if p.is_file()}
    again = open_run("r", api={"concurrency": 2, "budget_tokens": 10**6}, student={"response_batch": 3})
    assert "Changed: api.concurrency 32 → 2 (execution: finished stages stay as they are)." in capsys.readouterr().out
    assert open_run("r").config == again.config
    asked = rote.Asked(again)
    loop.run_all(again, asked.roles)
    assert asked.texts == []
    assert {p: p.read_bytes() for p in finished.path.glob("iteration-*/**/*") if p.is_file()} == before


def test_only_what_is_given_is_compared(finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ({}, {"preset": "smoke"}, {"tau": 1}, {"api": {"base_url": finished.config.api.base_url + "/"}}):
        assert open_run("r", **given).config == finished.config
    assert not (finished.path / "changes.jsonl").exists()


def test_a_method_setting_changes_freely_until_a_stage_has_read_it() -> None:
    run = open_run("new", preset="smoke")
    loop.prepare(run)
    run = open_run("new", tau=2, student={"rank": 4})
    loop.imitate(run, rote.roles(run), 1)
    assert open_run("new", tau=3.0).config.tau == 3
    with pytest.raises(ConfigError, match="student.rank = 4 was read by imitation of iteration 1: to try it beside"):
        open_run("new", student={"rank": 8})
    assert open_run("new", student={"rank": 4}).config.student.rank == 4


def test_a_refusal_names_both_ways_and_each_of_them_works(finished: Run) -> None:
    with pytest.raises(ConfigError) as refused:
        open_run("r", tau=2)
    told = str(refused.value)
    assert "`python -m lionkit fork r r-2 --after 1:discrimination tau=2.0`" in told
    assert "`python -m lionkit set --run r --from-here tau=2.0`" in told
    forked = finished.fork("r-2", "1:discrimination", tau=2.0)
    loop.run_all(forked, rote.roles(forked))
    run = open_run("r", from_here=True, tau=2.0)
    loop.run_all(run, rote.roles(run))
    assert run.record(1, "generation")["settings"]["tau"] == 1.0
    assert forked.record(1, "generation")["settings"]["tau"] == 2.0


def test_from_here_on_later_stages_take_the_new_value_and_finished_ones_show_theirs(
    finished: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = loop.sides(finished, 1)
    run = open_run("r", from_here=True, tau=3.0, iterations=3)
    loop.run_all(run, rote.roles(run))
    assert run.record(2, "generation")["settings"]["tau"] == 3.0
    assert loop.sides(run, 1) == sides
    capsys.readouterr()
    said = open_run("r").banner
    assert "tau was 1.0 for iteration-01/generation; later stages take 3.0." in said


@pytest.mark.parametrize(
    ("setting", "value", "point"), [("train_size", 20, "start"), ("student.model", "HuggingFaceTB/x", "0:pools")]
)
def test_what_no_later_stage_could_take_alone_is_only_forked(
    finished: Run, setting: str, value: Any, point: str
) -> None:
    for from_here in (False, True):
        with pytest.raises(ConfigError, match=f"--after {point} {setting}={value}`$"):
            open_run("r", from_here=from_here, **{setting: value})
    with pytest.raises(ConfigError, match=f"--after {point} {setting}={value}`$"):
        finished.fork("other", "1", **{setting: value})
    forked = finished.fork("other", point, **{setting: value})
    assert settings.value(forked.config, setting) == value


@pytest.mark.parametrize(("name", "given"), [("rank", 4), ("alpha", 8), ("dropout", 0.1)])
def test_what_an_adapter_was_made_with_is_changed_before_the_first_one(finished: Run, name: str, given: Any) -> None:
    asked = [lambda: open_run("r", from_here=True, student={name: given}),
             lambda: finished.fork("two", "1", student={name: given})]  # fmt: skip
    for ask in asked:
        with pytest.raises(ConfigError, match=rf"--after 0:discrimination student.{name}={given}`$"):
            ask()
    forked = finished.fork("two", "0:discrimination", student={name: given})
    loop.run_all(forked, rote.roles(forked))
    assert forked.record(2, "imitation")["settings"][f"student.{name}"] == given


def test_a_refusal_can_be_pasted_whatever_the_value(finished: Run) -> None:
    odd = {"seeds_by": "none", "judge_model": "none", "referee_model": 'it\'s "7" $HOME', "use_marks": True}
    for name, given in odd.items():
        with pytest.raises(ConfigError) as refused:
            open_run("r", **{name: given})
        command = str(refused.value).partition("`python -m lionkit ")[2].partition("`")[0]
        assert settings.parse(shlex.split(command)[5:]) == {name: given}


def test_more_iterations_are_no_change(finished: Run) -> None:
    run = open_run("r", iterations=3)
    asked = rote.Asked(run)
    summary = loop.run_all(run, asked.roles)
    assert len(summary["iterations"]) == 4
    assert asked.texts
    assert open_run("r", iterations=1).config.iterations == 1


def test_a_fork_asks_and_trains_nothing_again_and_each_outlives_the_other(finished: Run) -> None:
    forked = finished.fork("two", "1:discrimination", tau=2)
    asked = rote.Asked(forked)
    players = asked.roles
    for iteration in (0, 1):
        loop.score(forked, players, iteration)
        loop.discriminate(forked, players, iteration)
    loop.imitate(forked, players, 1)
    assert (asked.texts, players.student.calls) == ([], [])
    summary = loop.run_all(forked, players)
    assert players.student.calls.count("train") == 1
    assert forked.provenance["parent"] == {"run": "r", "after": "1:discrimination", "changes": {"tau": 2}}
    assert forked.record(1, "generation")["settings"]["tau"] == 2.0
    shutil.rmtree(finished.path)
    again = loop.run_all(saved("two"), rote.Asked(saved("two")).roles)
    assert again["iterations"] == summary["iterations"]


def test_a_fork_forgets_what_stages_kept_that_it_does_not_have(finished: Run) -> None:
    run = open_run("r", from_here=True, novelty=0.6)
    assert run.kept_by("novelty") == {"iteration-01/generation"}
    forked = run.fork("two", "1:discrimination")
    assert forked.kept_by("novelty") == set()
    loop.run_all(forked, rote.roles(forked))
    with pytest.raises(ConfigError, match="novelty = 0.6 was read by generation of iteration 1"):
        open_run("two", novelty=0.5)


def test_a_setting_that_is_taken_away_is_written_as_none(finished: Run) -> None:
    run = open_run("new", preset="smoke", student={"validation_share": 0.2, "patience": 1})
    loop.imitate(run, rote.roles(run), 1)
    with pytest.raises(ConfigError, match=r"student.patience=none`; to let later stages") as refused:
        open_run("new", student={"patience": None})
    assert "--from-here student.patience=none`" in str(refused.value)
    assert settings.parse(["student.patience=none"]) == {"student.patience": None}


def test_deleting_a_fork_leaves_the_run_whole(finished: Run) -> None:
    before = {p.relative_to(finished.path): p.read_bytes() for p in finished.path.rglob("*") if p.is_file()}
    shutil.rmtree(finished.fork("two", "1").path)
    after = {p.relative_to(finished.path): p.read_bytes() for p in finished.path.rglob("*") if p.is_file()}
    assert {k: v for k, v in after.items() if "sqlite" not in k.name} == {
        k: v for k, v in before.items() if "sqlite" not in k.name
    }


def test_a_fork_from_the_start_keeps_the_paid_replies_and_owes_nothing(finished: Run) -> None:
    forked = finished.fork("two", "start", tau=2)
    asked = rote.Asked(forked)
    loop.prepare(forked)
    loop.score(forked, asked.roles, 0)
    assert asked.texts == []
    assert asked.roles.client.spent().total_tokens == 0
    assert asked.roles.client.bills() == []


@pytest.mark.parametrize(
    ("name", "after", "error", "words"),
    [
        ("r", "1", ConfigError, "there is a run of the name r already"),
        ("a/b", "1", ConfigError, "run name"),
        ("x", "one", ConfigError, "after = 'one': give an iteration"),
        ("x", "1:training", ConfigError, "ITERATION:STAGE"),
        ("x", "3", StageMissing, "discrimination of iteration 3 is not done"),
    ],
)
def test_a_fork_that_cannot_be_is_one_line_and_leaves_nothing(
    finished: Run, name: str, after: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        finished.fork(name, after)
    assert [p.name for p in finished.path.parent.iterdir() if not p.name.startswith(".")] == ["r"]


def test_a_fork_takes_a_seed_file_by_its_whole_path(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="seed_file: there is no gone.json"):
        finished.fork("x", "start", seed_file="gone.json")
    (tmp_path / "mine.json").write_text('[{"instruction": "Add these numbers: 4, 3"}]')
    monkeypatch.chdir(tmp_path)
    assert finished.fork("x", "start", seed_file="mine.json").config.seed_file == str(tmp_path / "mine.json")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"api": "gpt-4o"}, "api = 'gpt-4o': give a dictionary"),
        ({"concurrency": 3}, "concurrency is not a setting: did you mean api.concurrency?"),
        ({"student": {"batch_size": 3}}, "student.batch_size is not a setting: known are .*student.step_rows"),
        ({"mode": "live"}, "open a run of another name"),
        ({"preset": "paper"}, "was begun with preset smoke"),
        ({"tau": "big"}, "tau = 'big': a number"),
    ],
)
def test_odd_changes_are_named(
    finished: Run, changes: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "mode" in changes:
        assert open_run("r", **changes).config.mode == "offline"
        assert words in capsys.readouterr().out
        return
    with pytest.raises(ConfigError, match=words):
        open_run("r", **changes)


def test_values_of_the_command_line_are_read_as_toml_and_else_as_text() -> None:
    given = ["tau=2", "api.model=big-1", "api.batch=true", "api.price_per_million=[0.15, 0.6]", "student_name=a={}"]
    assert settings.parse(given) == {
        "tau": 2,
        "api.model": "big-1",
        "api.batch": True,
        "api.price_per_million": [0.15, 0.6],
        "student_name": "a={}",
    }
    assert settings.parse(["api.budget_usd=none"]) == {"api.budget_usd": None}
    with pytest.raises(ConfigError, match="'tau': give a setting and its value as name=value"):
        settings.parse(["tau"])


def test_a_run_copied_elsewhere_and_one_without_its_seed_file_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text("".join(json.dumps({"instruction": f"Add these numbers: {n}, 3"}) + "\n" for n in range(30)))
    run = open_run("mine", preset="smoke", seed_file=seeds, train_size=20, heldout_size=5)
    first = loop.prepare(run)
    seeds.rename(tmp_path / "moved.jsonl")
    shutil.copytree(run.path, tmp_path / "elsewhere" / "copied")
    monkeypatch.setenv("LIONKIT_RUNS", str(tmp_path / "elsewhere"))
    for there in (run, open_run("copied", new=False)):
        assert len(loop.held_out(there)) == 5
        assert loop.pools_for(there, 1) == first
        assert loop.prepare(there) == first


def test_a_run_of_the_version_before_opens_and_goes_on(finished: Run) -> None:
    before = loop.summarise(finished)["iterations"]
    config = (finished.path / "config.toml").read_text().replace("step_rows = 8", "batch_size = 4\naccumulation = 2")
    lines = [line for line in config.splitlines() if not line.startswith(("preset", "device_rows", "missing_share"))]
    (finished.path / "config.toml").write_text("\n".join(lines) + "\n")
    for place in finished.finished():
        done = json.loads((finished.folder(*place) / "done.json").read_text())
        del done["settings"]
        if place.stage == "discrimination":
            done["result"] = loop.sides(finished, place.iteration)
        (finished.folder(*place) / "done.json").write_text(json.dumps(done))
    run = open_run("r")
    assert (run.config.student.step_rows, run.config.student.device_rows) == (8, 4)
    assert loop.summarise(run)["iterations"] == before
    asked = rote.Asked(run)
    loop.run_all(run, asked.roles)
    assert asked.texts == []
    with pytest.raises(ConfigError, match="tau = 1.0 was read by generation of iteration 1"):
        open_run("r", tau=2)
