"""The four records that stages hand to each other, and their JSON Lines files.

`Instruction` (a pool's item), `Response` (what teacher or student answered), `Verdict` (what the referee
said of a pair) and `Candidate` (what the generator proposed, and what became of it). Records are frozen dataclasses
that hold text and numbers only, checked by pydantic. Files are UTF-8 JSON Lines, one record a line, keys in the order
of the fields, written whole or not at all. Other people's formats are read in `pools`.
"""

import dataclasses
import gc
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from lionkit import files
from lionkit.errors import DataError, first_line

STRICT = ConfigDict(strict=True, extra="forbid")
Score = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Number = Annotated[int, Field(ge=0)]
Status = Literal["ok", "truncated", "filtered", "refused", "failed"]
Label = Literal["hard", "easy", "undecided"]


def content_id(*parts: str) -> str:
    """16 hex digits that depend on nothing but the texts, so that equal content has equal ids everywhere."""
    return hashlib.blake2s("\x00".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@dataclass(frozen=True, config=STRICT)
class Instruction:
    """One item of a pool (paper section 3.1: an instruction with an optional input)."""

    instruction: str
    """What to do, in words."""
    input: str = ""
    """What to do it on; empty for most."""
    output: str = ""
    """The answer that came with the file, if any. Never shown to a model as an answer."""
    id: str = ""
    """Unique in its pool; made from the text when it is not given."""
    source: str = "seed"
    """Where it came from: `seed`, `hard` or `easy` (generated from such a seed)."""
    category: str = ""
    """Domain or task family, where known."""
    parent: str = ""
    """Id of the instruction it was generated from."""
    iteration: Number = 0
    """The iteration that generated it; 0 for seeds."""

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", content_id(self.instruction, self.input))

    @property
    def text(self) -> str:
        """Instruction and input as one text: what a model is asked, and what novelty is measured on."""
        return f"{self.instruction}\n{self.input}" if self.input else self.instruction


@dataclass(frozen=True, config=STRICT)
class Response:
    """What teacher or student answered. Only `ok` responses are ever trained on or compared."""

    instruction_id: str
    text: str
    status: Status = "ok"
    reason: str = ""
    """Why the status is not `ok`."""
    model: str = ""
    call_id: str = ""
    """Key of the call in the run's store; empty for a local student."""
    missing: bool = False
    """The endpoint failed to answer (an outage, not its word): asked again when the stage is run again."""


@dataclass(frozen=True, config=STRICT)
class Judgement:
    """One referee reply about one pair, in one order; both scores are None when unscored.

    Scores lie in [1, 10], except in files from elsewhere: there they are as recorded, and a preference is a share of 1.
    """

    teacher: Score | None
    student: Score | None
    reply: str = ""
    """The referee's words, whole."""
    reason: str = ""
    """Why it is unscored; of a scored one from elsewhere, how its record differs from its text."""
    call_id: str = ""
    missing: bool = False
    """As in `Response`."""

    @property
    def scored(self) -> bool:
        return self.teacher is not None and self.student is not None


@dataclass(frozen=True, config=STRICT)
class Verdict:
    """Both judgements of one instruction's pair: teacher's answer in the first seat, then in the second.

    `student_first` is None only for foreign files that asked one order. A pair with an unscored order is
    undecided: it has no gap and enters no mean (averaging a failure mark into a gap is the mistake this avoids).
    """

    instruction_id: str
    teacher_first: Judgement
    student_first: Judgement | None = None
    iteration: Number = 0

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        return (self.teacher_first,) if self.student_first is None else (self.teacher_first, self.student_first)

    @property
    def scored(self) -> bool:
        return all(j.scored for j in self.judgements)

    @property
    def missing(self) -> bool:
        """Whether an order has no answer because the endpoint failed."""
        return any(j.missing for j in self.judgements)

    @property
    def teacher_score(self) -> float:
        """Mean over the orders asked; NaN when undecided."""
        return _mean([j.teacher for j in self.judgements])

    @property
    def student_score(self) -> float:
        """Mean over the orders asked; NaN when undecided."""
        return _mean([j.student for j in self.judgements])

    @property
    def gap(self) -> float:
        """teacher - student, in [-9, 9] of our own; NaN when undecided. Rounded to 6 places, so that 8.1 - 7.1 is 1."""
        return round(self.teacher_score - self.student_score, 6)

    @property
    def reason(self) -> str:
        """Why the pair is undecided, or how its record differs from its text, by order; else empty."""
        orders = zip(("teacher first", "student first"), self.judgements, strict=False)
        return "; ".join(f"{order}: {j.reason or 'unscored'}" for order, j in orders if j.reason or not j.scored)

    def label(self, tau: float) -> Label:
        """`hard` where gap >= tau, `easy` below, `undecided` where an order is unscored (section 3.2)."""
        if not self.scored:
            return "undecided"
        return "hard" if self.gap >= tau else "easy"


def _mean(scores: list[float | None]) -> float:
    known = [s for s in scores if s is not None]
    return sum(known) / len(known) if known and len(known) == len(scores) else float("nan")


@dataclass(frozen=True, config=STRICT)
class Candidate:
    """One proposal of the generator: its text, the seed it was made from, and what became of it."""

    text: str
    """The new instruction after unwrapping; empty when nothing could be taken from the reply."""
    kind: Literal["hard", "easy"]
    seed_id: str
    status: Literal["accepted", "rejected"]
    rule: str = ""
    """Name of the rule that rejected it; empty when accepted."""
    raw: str = ""
    """The generator's reply, whole."""
    nearest: str = ""
    """The most similar text in the cache pool."""
    similarity: float | None = None
    """ROUGE-L F1 to `nearest`, in [0, 1]; None when novelty was not measured."""
    call_id: str = ""
    iteration: Number = 0
    attempt: Number = 0
    instruction_id: str = ""
    """Id of the instruction it became, when accepted."""


class Judged(NamedTuple):
    """A finished comparison, ready for `pools.pool_table`."""

    instructions: list[Instruction]
    teacher: list[Response]
    student: list[Response]
    verdicts: list[Verdict]


Record = TypeVar("Record")


def write_jsonl(path: str | Path, records: Iterable[Any]) -> None:
    """Write records as JSON Lines, atomically. The same records give the same bytes."""
    files.write_text(path, "".join(json.dumps(dataclasses.asdict(r), ensure_ascii=False) + "\n" for r in records))


_reader = cache(TypeAdapter)


def read_jsonl(path: str | Path, kind: type[Record]) -> list[Record]:
    """Read what `write_jsonl` wrote. Raises DataError with file and line for anything else."""
    lines, read = files.read_bytes(path).split(b"\n"), _reader(kind).validate_json  # type: ignore[arg-type]
    collecting = gc.isenabled()
    gc.disable()  # records by the hundred thousand hold no circles, and looking for some takes a third of the time
    try:
        return [read(line) for line in lines if line]
    except ValidationError:
        return [_read_line(path, number, line, kind) for number, line in enumerate(lines, start=1) if line]
    finally:
        if collecting:
            gc.enable()


def _read_line(path: str | Path, number: int, line: bytes, kind: type[Record]) -> Record:
    """One record, which may hold half a surrogate pair; DataError says what is wrong with another line."""
    try:
        reader, text = _reader(kind), line.decode("utf-8", "surrogatepass")  # type: ignore[arg-type]
        if text.encode("utf-8", "replace") != line:  # half a surrogate pair, which pydantic's own parser refuses
            return reader.validate_python(json.loads(text), strict=False)
        return reader.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        told = f"{name} = {first['input']!r:.40}: {first['msg']}" if name else first["msg"]
    except UnicodeDecodeError:
        told = "not UTF-8 text"
    except ValueError as error:  # of json: half a surrogate pair in a line that is broken too
        told = first_line(error)
    raise DataError(path, number, f"not a {kind.__name__} record ({told})") from None
