"""Fixtures for every test: no key, no endpoint and no user folder leaks in; real records where they are at hand."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test starts without key or endpoint, and its runs go to its own folder."""
    for name in list(os.environ):
        if name.startswith("OPENAI_") or name in ("LIONKIT_MODE", "LIONKIT_PRESET"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LIONKIT_RUNS", str(tmp_path / "runs"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real instructions and reviews; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("LIONKIT_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the shared records are not at {folder} (set LIONKIT_DATA)")
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Where LIONKIT_NO_SKIPS is set (CI), a skip that the machine could have avoided is a failure."""
    report = yield
    if report.skipped and os.environ.get("LIONKIT_NO_SKIPS") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if item.get_closest_marker("gpu") is None and "shared records" not in reason:
            report.outcome, report.longrepr = "failed", f"skipped where skips are forbidden: {reason}"
    return report


@pytest.fixture(scope="session")
def student_weights() -> Path:
    """Folder of SmolLM2-135M-Instruct, fetched once into the user's cache; without a network such tests skip."""
    from lionkit.errors import StudentError
    from lionkit.sandbox import weights

    try:
        return weights.fetch()
    except StudentError as error:
        pytest.skip(str(error))


def make_byte_tokenizer() -> Any:
    """One token a byte, without a chat template: nothing to download."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    symbols = ["<pad>", "<bos>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(symbols)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")


@pytest.fixture(scope="session")
def byte_tokenizer() -> Any:
    """Its 259 ids start with pad, bos and eos."""
    return make_byte_tokenizer()
