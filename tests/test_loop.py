"""The loop on a student that learns by rote: what the stages promise each other, however they are cut short."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import rote
import server
from lionkit import files, loop, pools, records
from lionkit.client import ChatClient
from lionkit.errors import ConfigError, StageMissing, StageStopped
from lionkit.records import Instruction, Response, Verdict
from lionkit.run import Run, folder, open_run
from lionkit.sandbox import answer_key
from lionkit.sandbox.families import solve


@pytest.fixture
def run() -> Run:
    return open_run("r", preset="smoke")


def written(run: Run) -> dict[str, bytes]:
    found = {str(p.relative_to(run.path)): p.read_bytes() for p in run.path.rglob("*") if p.is_file()}
    return {
        name: data for name, data in found.items() if not name.startswith(("calls.sqlite", "provenance", "summary"))
    }


def test_pools_are_conserved_over_iterations(run: Run) -> None:
    summary = loop.run_all(run, rote.roles(run))
    config, rows = run.config, summary["iterations"]
    assert [row["iteration"] for row in rows] == [0, 1, 2]
    new = config.hard_size + config.easy_size
    assert [row["train_pool"] for row in rows] == [0, config.train_size, new]
    assert [row["cache_pool"] for row in rows] == [config.train_size, config.train_size, config.train_size + new]
    for row in rows:
        assert row["hard"] + row["easy"] + row["undecided"] == row["cache_pool"]
    assert rows[0]["exact_match"] == 0
    assert rows[1]["exact_match"] > 0.3
    assert rows[1]["relative_score"] > rows[0]["relative_score"] + 0.25


def test_each_iteration_goes_on_from_the_last_adapter(run: Run) -> None:
    players = rote.roles(run)
    loop.run_all(run, players)
    to_answer, *to_train = players.student.loaded
    assert to_answer is None
    assert to_train == [None, run.folder(1, "imitation") / "adapter"]


def test_a_half_trained_student_never_answers(run: Run) -> None:
    """Training changes the weights in memory: after an interrupt they are neither the old nor the new student."""
    players = rote.roles(run)
    players.student.interrupted = True
    with pytest.raises(KeyboardInterrupt):
        loop.imitate(run, players, 1)
    found = loop.discriminate(run, players, 0)
    assert {r.text for r in found.student} == {"no idea"}


def test_a_share_of_the_train_pool_is_kept_for_validation() -> None:
    seen: list[list[Any]] = []
    run = open_run("v", preset="smoke", student={"validation_share": 0.1, "patience": 2})
    players = rote.roles(run)
    train = players.student.train
    players.student.train = lambda student, pairs, **o: (
        seen.append([pairs, o["validation"], o["patience"]]) or train(student, pairs, **o)
    )
    loop.imitate(run, players, 1)
    [[pairs, validation, patience]] = seen
    assert (len(pairs), len(validation), patience) == (57, 7, 2)
    assert len({*pairs, *validation}) == 64


def test_held_out_is_never_learned_from(run: Run) -> None:
    loop.run_all(run, rote.roles(run))
    held = {i.text for i in loop.held_out(run)}
    assert len(held) == run.config.heldout_size
    for iteration in (1, 2):
        for pool in loop.pools_for(run, iteration):
            assert not held & {i.text for i in pool}


def test_train_pool_is_replaced_and_cache_pool_grows(run: Run) -> None:
    loop.run_all(run, rote.roles(run))
    loop.generate(run, rote.roles(run), 2)
    first, second, third = (loop.pools_for(run, n) for n in (1, 2, 3))
    assert second.cache == [*first.cache, *second.train]
    assert third.cache == [*second.cache, *third.train]
    sides = pools.split_by_gap(
        *(lambda d: (d.instructions, d.verdicts))(loop.read_discrimination(run, 1)), run.config.tau
    )
    hard, easy = ({i.id for i in side} for side in (sides.hard, sides.easy))
    for item in second.train:
        assert item.parent in (hard if item.source == "hard" else easy)
        assert item.iteration == 1
    assert [i.source for i in second.train].count("hard") == run.config.hard_size


def test_a_second_run_asks_nobody_and_trains_nothing(run: Run) -> None:
    loop.run_all(run, rote.roles(run))
    before = written(run)
    asked = server.create_app()
    again = loop.Roles(ChatClient(run.config.api, run.store, app=asked), rote.RoteStudent())
    loop.run_all(run, again)
    assert again.student.calls == []
    assert asked.state.accounts.requests == 0
    assert written(run) == before


def test_cut_short_anywhere_it_ends_the_same(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loop.run_all(run, rote.roles(run))
    monkeypatch.setenv("LIONKIT_RUNS", str(tmp_path / "cut"))
    cut = open_run("r", preset="smoke")
    real, left = files.write_text, 0

    def write(path: Any, text: str) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        real(path, text)

    monkeypatch.setattr(files, "write_text", write)
    for attempt in range(60):
        left = 5 + attempt % 3  # enough for any one stage, so that every attempt gets on
        try:
            loop.run_all(cut, rote.roles(cut))
            break
        except KeyboardInterrupt:
            continue
    assert attempt > 5
    assert written(cut) == written(run)


def test_out_of_order(run: Run) -> None:
    with pytest.raises(StageMissing, match="run notebook 02_imitation first"):
        loop.discriminate(run, rote.roles(run), 1)
    with pytest.raises(StageMissing, match="run notebook 03_discrimination first"):
        loop.generate(run, rote.roles(run), 1)


def test_a_referee_that_cannot_be_read_ends_as_undecided_and_stops_cleanly(run: Run) -> None:
    def mumble(messages: list[dict[str, str]], **options: Any) -> str:
        return "I like them both." if "referee" in messages[0]["content"] else solve(messages[-1]["content"])[1]  # type: ignore[index]

    mumbling = rote.roles(run, answer=mumble)
    loop.imitate(run, mumbling, 1)
    found = loop.discriminate(run, mumbling, 1)
    assert run.result(1, "discrimination") == {"undecided": len(found.instructions), "gaps": []}
    assert loop.sides(run, 1) == {"hard": 0, "easy": 0, "undecided": len(found.instructions)}
    assert all(v.teacher_first.reply == "I like them both." and v.reason for v in found.verdicts)
    with pytest.raises(StageStopped, match=r"hard"):
        loop.generate(run, mumbling, 1)
    assert records.read_jsonl(run.folder(1, "discrimination") / "verdicts.jsonl", Verdict) == found.verdicts
    scored = loop.score(run, mumbling, 1)
    assert scored["relative_score"] is None
    assert scored["unscored"] == run.config.heldout_size
    assert "NaN" not in (run.folder(1, "evaluation") / "done.json").read_text()


def test_structured_output_follows_the_setting_and_makes_other_verdicts_anew(run: Run) -> None:
    def first_reply(run: Run) -> str:
        loop.discriminate(run, rote.roles(run), 0)
        return loop.read_discrimination(run, 0).verdicts[0].teacher_first.reply

    assert (
        first_reply(run).splitlines()[-1].startswith("Score of answer 2: ")
    )  # auto: the answer key is asked for lines
    asked = open_run("json", preset="smoke", structured="on")
    assert list(json.loads(first_reply(asked))) == ["evidence", "answer_1", "answer_2"]
    live = open_run("live", preset="smoke", mode="live")
    assert (live.config.structured, loop.structured(live.config)) == ("auto", True)
    assert not loop.structured(open_run("off", preset="smoke", mode="live", structured="off").config)


def test_answers_that_cannot_be_trained_on(run: Run) -> None:
    body = {"error": {"message": "the prompt was filtered", "code": "content_filter"}}
    refusing = rote.roles(run, answer=lambda messages, **options: (400, body))
    with pytest.raises(StageStopped, match=r"none of the teacher's 64 answers"):
        loop.imitate(run, refusing, 1)
    kept = records.read_jsonl(run.folder(1, "imitation") / "teacher.jsonl", Response)
    assert len(kept) == 64
    assert not run.done(1, "imitation")


def test_a_score_without_a_whole_answer_of_the_teachers_is_none(run: Run) -> None:
    body = {"error": {"message": "the prompt was filtered", "code": "content_filter"}}
    scored = loop.score(run, rote.roles(run, answer=lambda messages, **options: (400, body)), 0)
    assert (scored["relative_score"], scored["exact_match"]) == (None, None)
    assert "NaN" not in (run.folder(0, "evaluation") / "done.json").read_text()


def test_seed_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text("".join(json.dumps({"instruction": f"Add these numbers: {n}, 3"}) + "\n" for n in [*range(30), 7]))
    mine = open_run("mine", preset="smoke", seed_file=str(path), train_size=20, heldout_size=5)
    train, cache = loop.prepare(mine)
    assert len(train) == 20
    assert train == cache
    counts = mine.result(0, "pools")
    assert {name: counts[name] for name in counts if name != "seed_file"} == {
        "read": 31,
        "duplicates": 1,
        "train": 20,
        "heldout": 5,
    }
    path.write_text(json.dumps({"instruction": "Add these numbers: 1, 1"}) + "\n")
    capsys.readouterr()
    assert loop.prepare(mine).train == train
    assert (
        "was changed since these pools were made; for pools from it now, begin another run." in capsys.readouterr().out
    )
    assert isinstance(train[0], Instruction)


def test_what_the_answer_key_cannot_answer_is_not_trained_on(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text("".join(json.dumps({"instruction": f"Write {n} lines about rain."}) + "\n" for n in range(30)))
    mine = open_run("mine", preset="smoke", seed_file=str(path), train_size=20, heldout_size=5)
    with pytest.raises(StageStopped, match="none of the teacher's 20 answers can be trained on.*no rule"):
        loop.imitate(mine, rote.roles(mine, answer=answer_key.reply), 1)


def test_an_own_file_is_looked_for_at_once_and_kept_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"seed_file.*missing\.json"):
        open_run("lost", seed_file=str(tmp_path / "missing.json"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.json").write_text("[]")
    assert open_run("found", seed_file="mine.json").config.seed_file == str((tmp_path / "mine.json").resolve())
    assert open_run("hub", seed_file="owner/name").config.seed_file == "owner/name"
    assert open_run("dot", seed_file="teknium/OpenHermes-2.5").config.seed_file == "teknium/OpenHermes-2.5"


def test_offline_means_that_nobody_is_asked_over_the_network() -> None:
    with pytest.raises(ConfigError, match="not offline: set OPENAI_API_KEY.*LIONKIT_MODE=live"):
        open_run("big", preset="single_gpu")
    assert open_run("big", preset="single_gpu", mode="live").config.mode == "live"


def test_a_run_that_is_only_looked_at_must_be_there(run: Run) -> None:
    with pytest.raises(ConfigError, match=f"no run of the name nosuch.*{run.path.name}"):
        open_run("nosuch", new=False)
    assert open_run(run.path.name, new=False).config == run.config


def test_no_pool_is_read_or_digested_twice_in_a_stage(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    digested: list[Path] = []
    read_bytes, digest = files.read_bytes, folder.digest
    monkeypatch.setattr(files, "read_bytes", lambda path: read.append(Path(path)) or read_bytes(path))
    monkeypatch.setattr(folder, "digest", lambda value: digested.append(value) or digest(value))
    players = rote.roles(run)
    loop.prepare(run)
    for stage in (
        lambda: loop.imitate(run, players, 1),
        lambda: loop.discriminate(run, players, 1),
        lambda: loop.generate(run, players, 1),
        lambda: loop.score(run, players, 1),
    ):
        read.clear(), digested.clear()
        stage()
        pools_read = [path for path in read if path.stem in ("train", "cache", "heldout")]
        assert len(pools_read) == len(set(pools_read))
        assert len(digested) == len(set(digested))
        read.clear(), digested.clear()
        stage()  # it is finished now
        assert digested == []


def test_later_iterations_may_have_a_rate_of_their_own() -> None:
    for later, wanted in ((None, [1e-3, 1e-3]), (5e-4, [1e-3, 5e-4])):
        run, rates = open_run(f"r{later}", preset="smoke", student={"later_rate": later}), []
        players = rote.roles(run)
        learn = players.student.train
        players.student.train = lambda *args, rates=rates, learn=learn, **options: (
            rates.append(options["learning_rate"]) or learn(*args, **options)
        )
        loop.run_all(run, players)
        assert rates == wanted
