"""What a run says when it stops, followed to the end: each remedy mends the run, and nothing is paid or made twice.

`MET` names the test that has met each setting which a message gives as its remedy: a message with a new one fails here
until somebody has followed it.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from typer.testing import CliRunner

import rote
import server
from conftest import KINDS
from lionkit import loop
from lionkit.__main__ import app as command_line
from lionkit.client import ChatClient
from lionkit.errors import LionkitError
from lionkit.generator import rounds
from lionkit.run import Run, saved, settings
from lionkit.run import open_run as open_aloud
from lionkit.sandbox import answer_key
from lionkit.sandbox.families import solve

PACKAGE = Path(loop.__file__).parent
SMALL = {"preset": "smoke", "train_size": 32, "heldout_size": 8, "hard_size": 3, "easy_size": 3}


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lionkit.client.live.BACKOFF", 0.001)
    monkeypatch.setattr("lionkit.client.live.LONGEST_BACKOFF", 0.01)


@dataclass
class Played:
    """A run on a test server, with the rote student unless another is given."""

    app: Starlette
    name: str = "r"
    student: Any = field(default_factory=rote.RoteStudent)
    finished: dict[str, bytes] = field(default_factory=dict)

    def begin(self, **changes: Any) -> Run:
        return open_aloud(self.name, **{**SMALL, **changes})

    def roles(self, run: Run) -> loop.Roles:
        return loop.Roles(ChatClient(run.config.api, run.store, app=self.app), self.student)

    def go_on(self) -> dict[str, Any]:
        return loop.run_all(saved(self.name), self.roles(saved(self.name)))

    def stopped(self, words: str) -> str:
        """What the run says when it stops. What it had finished by then is kept to be compared."""
        with pytest.raises(LionkitError, match=words) as met:
            self.go_on()
        told = str(met.value)
        assert "\n" not in told
        run = saved(self.name)
        self.finished = {place.path: (run.folder(*place) / "done.json").read_bytes() for place in run.finished()}
        return told

    def finish(self) -> list[dict[str, Any]]:
        """Go on to the end: no stage that was finished is made again, no whole reply was paid twice."""
        rows = self.go_on()["iterations"]
        run = saved(self.name)
        assert len(rows) == run.config.iterations + 1
        for path, before in self.finished.items():
            assert (run.path / path / "done.json").read_bytes() == before
        answers = self.app.state.accounts.answers
        assert max(answers.values()) == 1, "a reply was paid twice"
        return rows


def command(told: str, verb: str, value: Any = "") -> list[str]:
    """The words of the command that a message gives, with the value in its place."""
    [found] = re.findall(rf"`python -m lionkit ({verb} [^`]*)`", told)
    return found.replace("=...", f"={value}").replace("'", "").split()


def obey(words: list[str], status: int = 0) -> str:
    done = CliRunner().invoke(command_line, words)
    if status == 0:
        assert done.exit_code == 0, done.output + str(done.exception)
        return done.output
    assert isinstance(done.exception, LionkitError)
    return str(done.exception)


def role(messages: list[dict[str, str]]) -> str:
    if messages[0]["role"] == "system":
        return "referee"
    return "generator" if "Write one new instruction" in messages[-1]["content"] else "teacher"


@pytest.mark.parametrize(
    ("api", "setting", "value"),
    [
        ({"budget_tokens": 14_000}, "api.budget_tokens", 10**9),
        ({"budget_usd": 0.02, "price_per_million": (1.0, 2.0)}, "api.budget_usd", 99.0),
    ],
)
def test_a_budget_that_was_reached_is_raised(api: dict[str, Any], setting: str, value: Any) -> None:
    played = Played(server.create_app())
    played.begin(api=api)
    told = played.stopped(f"budget is used up.*{setting}=")
    obey(command(told, "set", value))
    played.finish()


def test_a_stage_that_took_too_long_is_given_more_time() -> None:
    played = Played(server.create_app(latency=0.02))
    played.begin(api={"stage_timeout": 0.3, "concurrency": 1})
    told = played.stopped("stage_timeout.*api.stage_timeout=")
    obey(command(told, "set", 100.0))
    obey(["set", "--run", "r", "api.concurrency=32"])
    played.finish()


def test_a_rate_limit_is_lowered_in_the_middle() -> None:
    played = Played(server.create_app(requests_per_minute=6000))
    played.begin(api={"requests_per_minute": 60_000.0, "budget_tokens": 14_000})
    played.stopped("budget")
    obey(["set", "--run", "r", "api.requests_per_minute=6000", "api.budget_tokens=1000000000"])
    played.finish()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """`served(app)` serves it on 127.0.0.1 and returns its address."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda app: stack.enter_context(server.serve(app))


@dataclass
class Live(Played):
    """Asks over the network that the run's address names, as a live run does."""

    def roles(self, run: Run) -> loop.Roles:
        return loop.Roles(ChatClient(run.config.api, run.store), self.student)


def test_a_key_that_was_revoked_is_renewed(served: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    played = Live(server.create_app(key="the-first-key-of-all"))
    played.begin(mode="live", api={"base_url": served(played.app)})
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-that-is-not-it")
    told = played.stopped("refuses the key.*api.api_key_env")
    assert "a-key-that" not in told
    monkeypatch.setenv("MY_KEY", "the-first-key-of-all")
    obey(command(told, "set", "MY_KEY"))
    played.finish()


def test_a_wrong_address_is_mended_before_anything_has_read_it(served: Callable[..., str]) -> None:
    played = Live(server.create_app())
    address = served(played.app)
    played.begin(mode="live", api={"base_url": address.replace("/v1", "/v2"), "max_attempts": 1})
    told = played.stopped("does not exist.*api.base_url=")
    obey(command(told, "set", address))
    played.finish()


def test_a_server_that_moved_and_a_model_that_was_retired_are_followed_by_later_stages() -> None:
    played = Played(server.create_app(models={"answer-key": ()}))
    played.begin()
    loop.score(saved("r"), played.roles(saved("r")), 0)
    played.app.state.models = {"newer": ()}
    told = played.stopped("has no model 'answer-key'.*api.model=")
    refused = obey(command(told, "set", "newer"), status=1)
    assert "was read by evaluation of iteration 0" in refused
    obey(command(refused, "set"))
    played.finish()
    assert saved("r").record(0, "evaluation")["settings"]["api.model"] == "answer-key"


DOWN = (503, {"error": {"message": "overloaded, try later"}})


@pytest.mark.parametrize("who", ["teacher", "referee", "generator"])
@pytest.mark.parametrize("after", [0, 5])
def test_an_outage_in_any_role_is_not_final(who: str, after: int) -> None:
    """Down from its first call, or after some: what was answered is kept, and the rest alone is asked again."""
    down, asked = [True], [0]

    def answer(messages: list[dict[str, str]], **options: Any) -> Any:
        if role(messages) == who:
            asked[0] += 1
            if down[0] and asked[0] > after:
                return DOWN
        return answer_key.reply(messages, **options)

    played = Played(server.create_app(answer))
    played.begin(api={"max_attempts": 2})
    for _ in range(2):
        played.stopped("overloaded|stays open")
    down[0] = False
    rows = played.finish()
    assert [row["undecided"] for row in rows] == [0, 0, 0]


def test_the_stage_that_an_outage_left_open_says_how_many_and_returns_what_it_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    down = [True]

    def answer(messages: list[dict[str, str]], **options: Any) -> Any:
        poor = down[0] and role(messages) == "referee" and hash(messages[-1]["content"]) % 3 == 0
        return DOWN if poor else answer_key.reply(messages, **options)

    played = Played(server.create_app(answer))
    run = played.begin(api={"max_attempts": 1})
    roles = played.roles(run)
    first = loop.score(run, roles, 0)
    assert first["scored"] + first["unscored"] == 8
    assert first["unscored"] > 0
    said = capsys.readouterr().out
    assert f"{first['unscored']} of 8 rows have no answer yet" in said
    assert "`python -m lionkit set --run r missing_share=...`" in said
    assert not run.done(0, "evaluation")
    before, down[0] = played.app.state.accounts.requests, False
    assert loop.score(run, roles, 0)["scored"] == 8
    assert played.app.state.accounts.requests - before <= 2 * first["unscored"]


def test_a_row_that_always_fails_is_left_out_when_the_setting_says_so() -> None:
    asked: list[str] = []

    def answer(messages: list[dict[str, str]], **options: Any) -> Any:
        text = messages[-1]["content"]
        if role(messages) == "teacher" and text not in asked:
            asked.append(text)
        return DOWN if asked[1:2] == [text] else answer_key.reply(messages, **options)

    played = Played(server.create_app(answer))
    played.begin(api={"max_attempts": 1, "concurrency": 1}, iterations=1)
    played.stopped("evaluation of iteration 0 stays open")
    obey(["set", "--run", "r", "missing_share=0.2"])
    played.finish()
    assert saved("r").result(0, "evaluation")["missing"] == 1


def test_an_endpoint_that_often_fails_is_asked_more_often() -> None:
    asked: list[str] = []

    def answer(messages: list[dict[str, str]], **options: Any) -> Any:
        asked.append(str(messages) + options["slot"])
        return DOWN if asked.count(asked[-1]) == 1 else answer_key.reply(messages, **options)

    played = Played(server.create_app(answer))
    played.begin(api={"max_attempts": 1}, iterations=1)
    told = played.stopped("gives no reply.*api.max_attempts=")
    obey(command(told, "set", 3))
    played.finish()


def test_a_slow_endpoint_is_given_longer() -> None:
    played = Played(server.create_app(latency=0.2))
    played.begin(api={"max_attempts": 1, "timeout": 0.05}, iterations=1)
    told = played.stopped("no reply within 0.05 s.*api.timeout=")
    obey(command(told, "set", 20.0))
    played.finish()


def test_an_endpoint_without_batches_is_asked_live() -> None:
    app = server.create_app()
    app.router.routes[:] = [route for route in app.router.routes if "chat" in route.path]  # type: ignore[attr-defined]
    played = Played(app)
    played.begin(api={"batch": True}, iterations=1)
    told = played.stopped("Batch API of .*api.batch=")
    obey(command(told, "set", "false"))
    played.finish()


def test_one_answer_cannot_be_kept_for_validation() -> None:
    told_right: list[str] = []

    def answer(messages: list[dict[str, str]], **options: Any) -> Any:
        text = messages[-1]["content"]
        if role(messages) == "teacher" and (told_right or [text]) != [text]:
            return 400, {"error": {"message": "the prompt was filtered", "code": "content_filter"}}
        told_right[:] = [text] if role(messages) == "teacher" else told_right
        return answer_key.reply(messages, **options)

    played = Played(server.create_app(answer))
    run = played.begin(api={"concurrency": 1}, iterations=1, student={"validation_share": 0.1})
    with pytest.raises(LionkitError, match=r"one answer cannot be .*student.validation_share=") as met:
        loop.imitate(run, played.roles(run), 1)
    obey(command(str(met.value), "set", "none"))
    loop.imitate(saved("r"), played.roles(saved("r")), 1)


def test_a_student_that_is_not_served_there_or_under_its_name_is_asked_for_elsewhere() -> None:
    from lionkit.student import served as student_server

    played, here = Played(server.create_app()), server.create_app(models={"my-student": ()})
    played.begin(iterations=1, student_url="http://127.0.0.1:9/v1")

    def roles(run: Run) -> loop.Roles:
        app = here if run.config.student_url.endswith(":8/v1") else None  # nobody is at the other
        own = student_server.connect(run.config, run.path / "student.sqlite", app=app)
        return loop.Roles(ChatClient(run.config.api, run.store, app=played.app), rote.RoteStudent(), own)

    played.roles = roles  # type: ignore[method-assign]
    told = played.stopped("127.0.0.1:9/v1 gives no reply.*check student_url.*student_url=")
    obey(command(told, "set", "http://127.0.0.1:8/v1"))
    told = played.stopped("no model 'iteration-00'.*my-student.*student_name=")
    obey(command(told, "set", "my-student"))
    played.finish()


def test_answers_that_decline_stop_the_training_until_they_are_allowed() -> None:
    def answer(messages: list[dict[str, str]], **options: Any) -> Any:
        declines = role(messages) == "teacher" and len(messages[-1]["content"]) % 3 == 0
        return "I'm sorry, but I can't help with that." if declines else answer_key.reply(messages, **options)

    class Credulous(rote.RoteStudent):
        def train(self, student: Any, pairs: Any, **options: Any) -> Any:
            return super().train(student, [p for p in pairs if solve(p[0])[1] == p[1]], **options)  # type: ignore[index]

    played = Played(server.create_app(answer), student=Credulous())
    played.begin(iterations=1)
    told = played.stopped(r"answers \d+ decline.*nothing was trained.*useless_share=")
    obey(command(told, "set", 1.0))
    played.finish()


@dataclass
class Generator:
    """A generator that repeats its seed until it is mended; every other role is the answer key's."""

    dull: bool = True

    def __call__(self, messages: list[dict[str, str]], **options: Any) -> Any:
        if self.dull and role(messages) == "generator":
            return messages[-1]["content"].split(">>>\n")[1].split("\n<<<")[0]
        return answer_key.reply(messages, **options)


def test_a_generator_that_was_mended_under_its_name_is_asked_anew() -> None:
    generator = Generator()
    played = Played(server.create_app(generator))
    played.begin()
    told = played.stopped("generation stopped: .*same as seed.*generator_temperature=")
    generator.dull = False
    again = played.stopped("same as seed")  # its dull replies are stored, and were paid for
    assert again == told
    obey(["set", "--run", "r", "generator_draw=1"])
    played.finish()


def test_a_generation_that_falls_short_goes_on_with_what_it_has() -> None:
    made: list[str] = []

    def answer(messages: list[dict[str, str]], **options: Any) -> Any:
        if role(messages) == "generator":
            made.append("")
            if len(made) > 12:
                return Generator()(messages, **options)
        return answer_key.reply(messages, **options)

    played = Played(server.create_app(answer))
    played.begin(hard_size=10, easy_size=10, api={"concurrency": 1})
    told = played.stopped("generation stopped")
    assert "short_generation" in told
    obey(["set", "--run", "r", "short_generation=true"])
    rows = played.finish()
    assert 2 <= rows[2]["train_pool"] < 20


def test_a_generator_that_is_cut_is_given_more_tokens() -> None:
    played = Played(server.create_app())
    played.begin(generator_max_tokens=1)
    told = played.stopped("generation stopped: .*cut.*generator_max_tokens=")
    obey(command(told, "set", 200))
    played.finish()


def test_answers_that_were_cut_are_said_and_the_whole_ones_serve_a_higher_limit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    played = Played(server.create_app())
    run = played.begin(teacher_max_tokens=6, iterations=1)
    loop.imitate(run, played.roles(run), 1)
    said = capsys.readouterr().out
    cut = 32 - run.result(1, "imitation")["usable"]
    assert 0 < cut < 32
    assert f"{32 - cut} of 32 answers can be trained on; most others: " in said
    assert "raise teacher_max_tokens above 6" in said
    refused = obey(["set", "--run", "r", "teacher_max_tokens=100"], status=1)
    obey(command(refused, "fork"))
    played.name = "r-2"
    before = played.app.state.accounts.requests
    loop.imitate(saved("r-2"), played.roles(saved("r-2")), 1)
    assert played.app.state.accounts.requests - before == cut
    assert saved("r-2").result(1, "imitation")["usable"] == 32
    played.finish()


def test_no_hard_instruction_to_start_from_is_met_by_another_tau() -> None:
    played = Played(server.create_app())
    played.begin(tau=9.0)
    told = played.stopped("no hard instruction to start from.*tau=")
    obey(command(told, "set", 1.0))
    played.finish()


def test_a_referee_that_cannot_be_read_stops_at_once_and_another_takes_over_in_a_fork() -> None:
    def answer(messages: list[dict[str, str]], **options: Any) -> Any:
        return answer_key.reply(messages, **options) if "better" in models[-1] else "I like both."

    models: list[str] = [""]
    app = server.create_app(
        lambda messages, **o: answer(messages, **o) if role(messages) == "referee" else answer_key.reply(messages, **o)
    )
    played = Played(app)
    played.begin(judge_model="better judge")
    told = played.stopped("could be scored, most because of.*referee_model=")
    refused = obey(command(told, "set", "better"), status=1)
    obey(command(refused, "fork"))
    models.append("better")
    played.name, played.finished = "r-2", {}
    assert [row["undecided"] for row in played.finish()] == [0, 0, 0]


def test_too_few_seeds_are_said_with_the_number_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text("".join(json.dumps({"instruction": f"Add these numbers: {n}, 3"}) + "\n" for n in range(12)))
    played = Played(server.create_app())
    played.begin(seed_file=seeds, heldout_size=12, iterations=1)
    told = played.stopped("12 instructions cannot be held out of 12.*heldout_size=")
    obey(command(told, "set", 4))
    capsys.readouterr()
    played.finish()
    assert "12 seeds: 4 held out, so 8 to train on, not 32." in capsys.readouterr().out


def test_the_last_iteration_generates_nothing_that_could_fail_it() -> None:
    played = Played(server.create_app(Generator()))
    played.begin(iterations=1)
    assert len(played.finish()) == 2


REAL = {"train_size": 4, "heldout_size": 2, "iterations": 1}


@pytest.fixture
def tiny(tiny_model: Path) -> Played:
    """A run on a tiny model with random weights, trained and asked for real."""
    from lionkit import student

    played = Played(server.create_app(), student=student)
    played.begin(**REAL, student={"model": str(tiny_model), "quantize": "none", "epochs": 1, "max_new_tokens": 4})
    return played


def test_out_of_memory_in_training_is_met_by_fewer_rows_at_once(tiny: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import Trainer

    step = Trainer.training_step

    def full(self: Any, model: Any, inputs: Any, *args: Any) -> Any:
        if len(inputs["input_ids"]) > 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return step(self, model, inputs, *args)

    monkeypatch.setattr(Trainer, "training_step", full)
    told = tiny.stopped("out of memory while training: lower student.device_rows")
    obey(command(told, "set", 1))
    tiny.finish()


def test_out_of_memory_in_answering_is_met_by_a_smaller_batch(tiny: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import GenerationMixin

    prepare = GenerationMixin.prepare_inputs_for_generation

    def full(self: Any, input_ids: Any, **options: Any) -> Any:
        if len(input_ids) > 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return prepare(self, input_ids, **options)

    monkeypatch.setattr(GenerationMixin, "prepare_inputs_for_generation", full)
    told = tiny.stopped("out of memory while answering: lower student.response_batch")
    obey(command(told, "set", 1))
    tiny.finish()


def test_a_loss_that_is_not_finite_is_met_by_a_lower_rate(tiny: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "cross_entropy", lambda x, *a, **k: x.sum(-1) * float("nan"))
        told = tiny.stopped("nothing was saved; lower student.learning_rate")
    obey(command(told, "set", 1e-5))
    tiny.finish()


def test_rows_that_do_not_fit_are_met_by_a_greater_length(tiny: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    obey(["set", "--run", "r", "student.max_length=16"])
    tiny.app.state.answer = lambda messages, **options: (
        messages[-1]["content"][::-1] * 3 if role(messages) == "teacher" else answer_key.reply(messages, **options)
    )
    told = tiny.stopped("nothing was trained.*student.max_length=")
    obey(command(told, "set", 512))
    tiny.finish()


def test_a_student_that_does_not_fit_is_loaded_in_4_bits(tiny: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM

    read = AutoModelForCausalLM.from_pretrained

    def full(path: Any, **options: Any) -> Any:
        if "quantization_config" not in options:
            raise RuntimeError("CUDA out of memory. Tried to allocate 26.00 GiB")
        return read(path, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", full)
    told = tiny.stopped("does not fit on .*student.quantize=")
    obey(command(told, "set", "nf4"))
    tiny.finish()


def test_a_template_that_is_not_there_is_met_by_the_plain_one(tiny: Played) -> None:
    obey(["set", "--run", "r", "student.template=chat"])
    told = tiny.stopped("has no chat template.*student.template=")
    obey(command(told, "set", "plain"))
    tiny.finish()


def test_rows_that_cannot_be_packed_are_padded(tiny: Played, byte_tokenizer: Any, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    network = AutoModelForCausalLM.from_config(AutoConfig.for_model("bloom", **KINDS["bloom"]))
    network.save_pretrained(tmp_path / "bloom")
    byte_tokenizer.save_pretrained(tmp_path / "bloom")
    obey(["set", "--run", "r", f"student.model={tmp_path / 'bloom'}", "student.pack=true"])
    told = tiny.stopped("cannot be packed.*student.pack=")
    obey(command(told, "set", "false"))
    tiny.finish()


def test_a_student_that_is_not_there_is_met_by_another(tiny: Played, tiny_model: Path, tmp_path: Path) -> None:
    obey(["set", "--run", "r", f"student.model={tmp_path / 'nowhere'}"])
    tiny.stopped("there is no model")
    (tmp_path / "nowhere").mkdir()
    told = tiny.stopped("cannot load .*student.model=")
    obey(command(told, "set", tiny_model))
    tiny.finish()


def test_a_student_killed_in_the_middle_of_its_answers_keeps_those_it_gave(tmp_path: Path) -> None:
    class Killed(rote.RoteStudent):
        given = 0

        def respond(self, student: Any, texts: list[str], *, keep: Any = None, **options: Any) -> Any:
            answers = super().respond(student, texts)
            for row, answer in enumerate(answers):
                Killed.given += 1
                keep(row, answer)
                if Killed.given == 5:
                    raise KeyboardInterrupt
            return answers

    played = Played(server.create_app(), student=Killed())
    played.begin(iterations=1)
    with pytest.raises(KeyboardInterrupt):
        played.go_on()
    loop.score(
        saved("r"), loop.Roles(ChatClient(saved("r").config.api, saved("r").store, app=played.app), played.student), 0
    )
    assert Killed.given == 8
    assert not list(saved("r").folder(0, "evaluation").glob(".student-*"))
    played.finish()


MET: dict[str, Callable[..., None] | str] = {
    "student.step_rows": "tests/student/test_ranks.py: several processes, which share a step's rows",
    "student.patience": "a run's settings do not allow it; tests/student/test_train.py meets it in Python",
    "student.validation_share": test_one_answer_cannot_be_kept_for_validation,
    "student.quantize": test_a_student_that_does_not_fit_is_loaded_in_4_bits,
    "student_name": test_a_student_that_is_not_served_there_or_under_its_name_is_asked_for_elsewhere,
    "student_url": test_a_student_that_is_not_served_there_or_under_its_name_is_asked_for_elsewhere,
    "api.batch": test_an_endpoint_without_batches_is_asked_live,
    "api.timeout": test_a_slow_endpoint_is_given_longer,
    "api.max_attempts": test_an_endpoint_that_often_fails_is_asked_more_often,
    "api.budget_usd": test_a_budget_that_was_reached_is_raised,
    "api.budget_tokens": test_a_budget_that_was_reached_is_raised,
    "api.stage_timeout": test_a_stage_that_took_too_long_is_given_more_time,
    "api.api_key_env": test_a_key_that_was_revoked_is_renewed,
    "api.base_url": test_a_wrong_address_is_mended_before_anything_has_read_it,
    "api.model": test_a_server_that_moved_and_a_model_that_was_retired_are_followed_by_later_stages,
    "missing_share": test_the_stage_that_an_outage_left_open_says_how_many_and_returns_what_it_has,
    "useless_share": test_answers_that_decline_stop_the_training_until_they_are_allowed,
    "generator_draw": test_a_generator_that_was_mended_under_its_name_is_asked_anew,
    "generator_max_tokens": test_a_generator_that_is_cut_is_given_more_tokens,
    "generator_temperature": test_a_generator_that_was_mended_under_its_name_is_asked_anew,
    "short_generation": test_a_generation_that_falls_short_goes_on_with_what_it_has,
    "tau": test_no_hard_instruction_to_start_from_is_met_by_another_tau,
    "referee_model": test_a_referee_that_cannot_be_read_stops_at_once_and_another_takes_over_in_a_fork,
    "heldout_size": test_too_few_seeds_are_said_with_the_number_taken,
    "student.device_rows": test_out_of_memory_in_training_is_met_by_fewer_rows_at_once,
    "student.response_batch": test_out_of_memory_in_answering_is_met_by_a_smaller_batch,
    "student.learning_rate": test_a_loss_that_is_not_finite_is_met_by_a_lower_rate,
    "student.max_length": test_rows_that_do_not_fit_are_met_by_a_greater_length,
    "student.template": test_a_template_that_is_not_there_is_met_by_the_plain_one,
    "student.pack": test_rows_that_cannot_be_packed_are_padded,
    "student.model": test_a_student_that_is_not_there_is_met_by_another,
}


def named() -> set[str]:
    """Every setting that some message of the package gives as its remedy."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "setting":
                found |= {c.value for c in ast.walk(node.value) if isinstance(c, ast.Constant) and c.value}
    found |= {setting for _, setting in rounds._STOPS["remedies"].values()}
    return found & set(settings.NAMES)


def test_every_remedy_has_been_followed() -> None:
    assert named() - set(MET) == set()
