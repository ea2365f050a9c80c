"""A student that learns by rote, and roles with it: the loop without a model, for tests of what stages promise."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lionkit import loop
from lionkit.client import ChatClient
from lionkit.run import Run
from lionkit.sandbox import answer_key, app
from lionkit.sandbox.families import solve


@dataclass
class RoteReport:
    rows: int
    losses: tuple[float, ...] = (1.0,)
    peak_memory: int = 2**30

    def counts(self) -> dict[str, Any]:
        return {"rows": self.rows}


@dataclass
class RoteAnswer:
    text: str
    cut: bool = False


@dataclass
class RoteStudent:
    """Stands for the `student` module: its weights are the list of families it was trained on."""

    calls: list[str] = field(default_factory=list)
    loaded: list[Path | None] = field(default_factory=list)
    interrupted: bool = False

    def load(self, model: str, *, adapter: Path | None, **options: Any) -> set[str]:
        self.loaded.append(adapter)
        return set() if adapter is None else set(json.loads((adapter / "adapter_model.safetensors").read_text()))

    def train(self, student: set[str], pairs: list[tuple[str, str]], *, out: Path, **options: Any) -> RoteReport:
        self.calls.append("train")
        for text, answer in pairs:
            family, right = solve(text) or pytest.fail("trained on what the key does not know")
            assert answer == right
            if family.name[0] in "cfop":  # learns about half of the families
                student.add(family.name)
        if self.interrupted:
            raise KeyboardInterrupt
        out.mkdir(parents=True, exist_ok=True)
        (out / "adapter_model.safetensors").write_text(json.dumps(sorted(student)))
        return RoteReport(len(pairs))

    def respond(self, student: set[str], texts: list[str], **options: Any) -> list[RoteAnswer]:
        self.calls.append("respond")
        known = [solve(text) for text in texts]
        return [RoteAnswer(k[1]) if k and k[0].name in student else RoteAnswer("no idea", cut=True) for k in known]


def roles(run: Run, **faults: Any) -> loop.Roles:
    return loop.Roles(ChatClient(run.config.api, run.store, app=app.create_app(**faults)), RoteStudent())


@dataclass
class Asked:
    """Roles whose endpoint counts what it is asked: `asked.texts` are the last messages of all calls."""

    run: Run
    texts: list[str] = field(default_factory=list)

    @property
    def roles(self) -> loop.Roles:
        def reply(messages: list[dict[str, str]], **options: Any) -> str:
            self.texts.append(messages[-1]["content"])
            return answer_key.reply(messages, **options)

        return roles(self.run, answer=reply)
