"""Settings: presets survive TOML, bad values are named, the mode follows the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lionkit import config
from lionkit.config import ApiConfig, Config, StudentConfig
from lionkit.errors import ConfigError, DataError
from lionkit.run import open_run, settings


@pytest.mark.parametrize("name", settings.PRESETS)
def test_presets_round_trip(tmp_path: Path, name: str) -> None:
    settings.write_config(tmp_path / "c.toml", settings.preset(name))
    assert settings.read_config(tmp_path / "c.toml") == settings.preset(name)


def test_prices_round_trip(tmp_path: Path) -> None:
    wanted = Config(api=ApiConfig(budget_usd=2.5, price_per_million=(0.15, 0.6)))
    settings.write_config(tmp_path / "c.toml", wanted)
    assert settings.read_config(tmp_path / "c.toml") == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mode = 'demo'", "mode = 'demo': offline, live or replay"),
        ("structured = 'json'", "structured = 'json': auto, on or off"),
        ("taau = 1.0", "taau is not a setting: did you mean tau?"),
        ("[student]\nrank = 0", "rank = 0: at least 1"),
        ("[api]\nbudget_usd = 3.0", "price_per_million"),
        ("[api]\nbase_url = 'localhost:8000'", "http://"),
        ("[api]\nconcurrency = 'many'", "api.concurrency = 'many': a whole number"),
        ("[api]\nbase_url = 5", "api.base_url = 5: a text"),
        ("[api]\ntimeout = 1" + "0" * 400, "api.timeout = 1000000000000"),
        ("[api]\nbase_url = 'http://host:port/v1'", "base_url = 'http://host:port/v1': not an address"),
        ("student_url = 'http://host:0/v1'", "student_url = 'http://host:0/v1': not an address"),
        ("[api]\nprice_per_million = 'ab'", "api.price_per_million = 'ab': two numbers"),
        ("[api]\nprice_per_million = [1]", "api.price_per_million = [1]: two numbers"),
        ("[api]\nbatch = 1", "api.batch = 1: true or false"),
        ("[student]\nlearning_rate = nan", "student.learning_rate = nan: a number"),
        ("student_url = 5", "student_url = 5: a text"),
        ("seed_file = 5", "seed_file = 5: a text"),
        ("iterations = 2.5", "iterations = 2.5: a whole number"),
        ("iterations = true", "iterations = True: a whole number"),
        ("train_size = 10.5", "train_size = 10.5: a whole number"),
        ("teacher_temperature = 'hot'", "teacher_temperature = 'hot': a number"),
        ("teacher_temperature = nan", "teacher_temperature = nan: a number"),
        ("teacher_max_tokens = -5", "teacher_max_tokens = -5: at least 1"),
        ("seed = " + "[" * 9000, "nested too deeply"),
        ("mode = ", "not readable as TOML"),
        ("student = 3", "student = 3: give a dictionary of settings"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(DataError, match="c.toml") as caught:
        settings.read_config(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, "a\0b"):
        with pytest.raises(DataError, match="cannot be read"):
            settings.read_config(path)


def test_a_password_in_an_address_is_refused_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://me:s3cret@host/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    for name, make in {
        "base_url": lambda: ApiConfig(base_url=url),
        "student_url": lambda: Config(student_url=url),
        "OPENAI_BASE_URL": lambda: config.endpoint(ApiConfig()),
    }.items():
        with pytest.raises(ConfigError, match=f"{name} holds an @: put the key in the environment") as refused:
            make()
        assert "s3cret" not in str(refused.value)


def test_an_address_of_the_environment_is_checked_by_the_same_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost:8000/v1")
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL = 'localhost:8000/v1': not an address"):
        config.endpoint(ApiConfig())
    monkeypatch.setenv("OPENAI_BASE_URL", " http://localhost:8000/v1/\n")
    assert config.endpoint(ApiConfig()) == "http://localhost:8000/v1"


def test_mode_follows_the_environment() -> None:
    assert settings.choose_mode({})[0] == "offline"
    assert settings.choose_mode({"OPENAI_API_KEY": "k"})[0] == "live"
    assert settings.choose_mode({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"})[0] == "live"
    assert settings.choose_mode({"OPENAI_API_KEY": "k", "LIONKIT_MODE": "offline"})[0] == "offline"
    assert "k" not in settings.choose_mode({"OPENAI_API_KEY": "k"})[1].split()
    with pytest.raises(ConfigError, match="LIONKIT_MODE=cloud: unknown mode"):
        settings.choose_mode({"LIONKIT_MODE": "cloud"})


def test_unknown_preset() -> None:
    with pytest.raises(ConfigError, match="offline, smoke, live, single_gpu, paper"):
        settings.preset("huge")


def test_student_values() -> None:
    with pytest.raises(ConfigError, match="quantize = 'int8'"):
        StudentConfig(quantize="int8")  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_is_one_that_every_library_takes(seed: int) -> None:
    with pytest.raises(ConfigError, match="seed = "):
        Config(seed=seed)


@pytest.mark.parametrize("student", [{"validation_share": 0.0}, {"validation_share": 1.0}, {"patience": 1},
                                     {"validation_share": 0.1, "patience": 0}])  # fmt: skip
def test_validation_needs_a_share_and_patience_needs_validation(student: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="validation_share = |patience = "):
        StudentConfig(**student)


def test_texts_that_look_like_something_else_stay_texts() -> None:
    told = settings.parse(
        ["api.model=2024-11-20", "judge_model=4.10", "generator_model='7'", "referee_model=none", "tau=2"]
    )
    assert [*told.values()] == ["2024-11-20", "4.10", "7", None, 2]
    words = {"student.quantize": "none", "seeds_by": "none"}
    assert settings.parse([f"{name}={word}" for name, word in words.items()]) == words


def test_a_new_run_takes_what_is_given_as_none() -> None:
    assert settings.preset("offline").student.later_rate
    assert open_run("r", student={"later_rate": None}).config.student.later_rate is None
    assert open_run("live", mode="live", api={"base_url": None}).config.api.base_url == config.OPENAI_URL
    with pytest.raises(ConfigError, match="tau = None: a number"):
        open_run("two", tau=None)


def test_a_key_is_no_name_of_a_variable() -> None:
    with pytest.raises(ConfigError, match="the name of the key's variable") as caught:
        ApiConfig(api_key_env="sk-proj-1234567890abcdef")
    assert "1234567890abcdef" not in str(caught.value)
