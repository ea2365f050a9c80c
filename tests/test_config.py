"""Settings: presets survive TOML, bad values are named, the mode follows the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from lionkit import config
from lionkit.config import ApiConfig, Config, StudentConfig
from lionkit.errors import ConfigError, DataError


@pytest.mark.parametrize("name", config.PRESETS)
def test_presets_round_trip(tmp_path: Path, name: str) -> None:
    config.write_config(tmp_path / "c.toml", config.preset(name))
    assert config.read_config(tmp_path / "c.toml") == config.preset(name)


def test_prices_round_trip(tmp_path: Path) -> None:
    wanted = Config(api=ApiConfig(budget_usd=2.5, price_per_million=(0.15, 0.6)))
    config.write_config(tmp_path / "c.toml", wanted)
    assert config.read_config(tmp_path / "c.toml") == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mode = 'demo'", "mode = 'demo': offline, live or replay"),
        ("structured = 'json'", "structured = 'json': auto, on or off"),
        ("taau = 1.0", "taau is not a setting"),
        ("[student]\nrank = 0", "rank = 0: at least 1"),
        ("[api]\nbudget_usd = 3.0", "price_per_million"),
        ("[api]\nbase_url = 'localhost:8000'", "http://"),
        ("[api]\nconcurrency = 'many'", "wrong type"),
        ("mode = ", "not readable as TOML"),
        ("student = 3", "must be a table"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(DataError, match="c.toml") as caught:
        config.read_config(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mode_follows_the_environment() -> None:
    assert config.choose_mode({})[0] == "offline"
    assert config.choose_mode({"OPENAI_API_KEY": "k"})[0] == "live"
    assert config.choose_mode({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"})[0] == "live"
    assert config.choose_mode({"OPENAI_API_KEY": "k", "LIONKIT_MODE": "offline"})[0] == "offline"
    assert "k" not in config.choose_mode({"OPENAI_API_KEY": "k"})[1].split()
    with pytest.raises(ConfigError, match="LIONKIT_MODE=cloud: unknown mode"):
        config.choose_mode({"LIONKIT_MODE": "cloud"})


def test_unknown_preset() -> None:
    with pytest.raises(ConfigError, match="offline, smoke, single_gpu, paper"):
        config.preset("huge")


def test_student_values() -> None:
    with pytest.raises(ConfigError, match="quantize = 'int8'"):
        StudentConfig(quantize="int8")  # type: ignore[arg-type]
