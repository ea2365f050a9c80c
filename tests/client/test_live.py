"""Live mode against a real language model over HTTP: a small one, served on this machine.

Such a model is a poor referee. What it writes that cannot be scored must end as undecided, with its reason and its
words; a stage that is left with nothing must say so and stop, and nothing that was answered may be asked again.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from lionkit import loop, records, student
from lionkit.errors import StageStopped
from lionkit.records import Response
from lionkit.run import Run, open_run
from lionkit.run.settings import preset
from lionkit.sandbox.families import seeds
from lionkit.student import served

pytestmark = pytest.mark.llm
SIZES = {"train_size": 4, "heldout_size": 2, "iterations": 1, "hard_size": 1, "easy_size": 1}
LENGTHS = {"teacher_max_tokens": 24, "referee_max_tokens": 40, "generator_max_tokens": 24}


@pytest.fixture(scope="module")
def endpoint(student_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`transformers serve` on a free port of 127.0.0.1; ended, with all it started, when the module is done."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("transformers")),
        "serve",
        str(student_weights),
        "--host",
        "127.0.0.1",
    ]
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    with open(log, "w") as out:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        server = subprocess.Popen([*command, "--port", str(port)], stdout=out, stderr=out, env=environment)
    try:
        for _ in range(240):
            assert server.poll() is None, log.read_text()[-2000:]
            try:
                urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5).close()
                break
            except (URLError, OSError):
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def run(endpoint: str, student_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint)
    monkeypatch.setenv("LIONKIT_MODEL", str(student_weights))
    student = {"epochs": 1, "max_new_tokens": 16}
    return open_run("live", preset="smoke", api={"concurrency": 2}, student=student, **SIZES, **LENGTHS)


def test_a_weak_model_as_teacher_and_referee(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.config.mode == "live"
    roles = loop.open_roles(run)
    loop.imitate(run, roles, 1)
    answers = records.read_jsonl(run.folder(1, "imitation") / "teacher.jsonl", Response)
    assert len(answers) == 4
    assert all(a.status in ("ok", "truncated") for a in answers)
    assert any(a.text for a in answers)

    found = loop.discriminate(run, roles, 1)
    counts = run.result(1, "discrimination")
    assert sum(counts.values()) == len(found.instructions) == 4
    for verdict in found.verdicts:
        assert verdict.scored or verdict.reason
        for judgement in verdict.judgements:
            assert judgement.scored or judgement.reason
            assert judgement.reply or "response" in judgement.reason

    if not (counts["hard"] and counts["easy"]):  # what a model of this size leads to
        with pytest.raises(StageStopped, match=r"hard|easy"):
            loop.generate(run, roles, 1)
    spent = roles.client.spent()
    assert spent.completion_tokens > 0

    again = loop.open_roles(run)
    assert loop.discriminate(run, again, 1).verdicts == found.verdicts
    assert again.client.spent() == spent


def test_an_unknown_model_stops_with_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIONKIT_MODEL", "no-such-model")
    other = open_run("other", preset="smoke", **SIZES, **LENGTHS)
    with pytest.raises(StageStopped) as caught:
        loop.imitate(other, loop.open_roles(other), 1)
    message = str(caught.value)
    assert "\n" not in message
    kept = other.folder(1, "imitation") / "teacher.jsonl"  # servers differ: some refuse the model, some fail the call
    reason = records.read_jsonl(kept, Response)[0].reason if kept.exists() else "no-such-model"
    assert reason
    assert reason in message


def test_a_served_student_answers_as_it_does_here(endpoint: str, student_weights: Path, tmp_path: Path) -> None:
    items = seeds(6, 5)
    client = served.connect(dataclasses.replace(preset("smoke"), student_url=endpoint), tmp_path / "student.sqlite")
    there = served.respond(
        client, items, model=str(student_weights), temperature=0.0, max_tokens=12, weights="the base's"
    )
    model = student.load(student_weights, quantize="none", dtype="float32", device="cpu")
    here = student.respond(model, [i.text for i in items], max_new_tokens=12, progress=False)
    assert [r.status for r in there] == ["ok"] * 6
    assert [(r.text.strip(), bool(r.reason)) for r in there] == [(a.text, a.cut) for a in here]
