"""Fixtures for every test: no key, no endpoint and no user folder leaks in; real records where they are at hand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST = (
    "test_notebooks.py",
    "test_ranks.py",
    "test_live.py",
    "test_model.py",
    "test_train.py",
    "test_lab.py",
    "test_page.py",
)

SIZES = {"vocab_size": 259, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0, "eos_token_id": 2}
HEADS = {"num_attention_heads": 4, "intermediate_size": 64}
KINDS: dict[str, dict[str, Any]] = {
    "llama": SIZES | HEADS | {"num_key_value_heads": 2},
    "mistral": SIZES | HEADS | {"num_key_value_heads": 2, "sliding_window": 24},
    "gemma2": SIZES | HEADS | {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 24},
    "gpt2": SIZES | {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "bloom": SIZES | {"n_layer": 2, "n_head": 4, "tie_word_embeddings": False},
    "mamba": SIZES | {"state_size": 8},
}
"""Small models of several architectures, as transformers' configurations name their sizes."""


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """No key, endpoint or setting of the shell that the tests are started from; where data and caches are stays."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            kept = name in ("LIONKIT_DATA", "LIONKIT_CACHE", "LIONKIT_NO_SKIPS")
            if name.startswith(("OPENAI_", "LIONKIT_")) and not kept:
                patch.delenv(name)
        yield


@pytest.fixture(autouse=True)
def _own_runs(tmp_path: Path) -> Iterator[None]:
    """The runs of each test go to its own folder, and what a command sets for its kernels ends with the test."""
    with mock.patch.dict(os.environ, LIONKIT_RUNS=str(tmp_path / "runs")):
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real instructions and reviews; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("LIONKIT_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the shared records are not at {folder} (set LIONKIT_DATA)")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no process is left with one at the end (`make test` runs several)."""
    items.sort(key=lambda item: next((i for i, name in enumerate(LONGEST) if name in item.nodeid), len(LONGEST)))


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
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the rote student, made once; every test gets a copy of its own."""
    import rote
    from lionkit import loop
    from lionkit.run import open_run

    root = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIONKIT_RUNS", str(root))
        run = open_run("r", preset="smoke")
        loop.run_all(run, rote.roles(run))
    return root / "r"


@pytest.fixture
def finished(_finished: Path) -> Any:
    """The Run `r`: two iterations of the preset `smoke`, whole."""
    from lionkit.run import saved

    root = Path(os.environ["LIONKIT_RUNS"])
    root.mkdir(parents=True, exist_ok=True)
    shutil.copytree(_finished, root / "r")
    return saved("r")


@pytest.fixture
def sdk() -> Iterator[Callable[..., Any]]:
    """`sdk(app, key)`: the official client, without retries, on the app under uvicorn."""
    import openai

    from server import serve

    with ExitStack() as stack:

        def connect(app: Any, key: str = "any") -> openai.OpenAI:
            url = stack.enter_context(serve(app))
            return stack.enter_context(openai.OpenAI(base_url=url, api_key=key, max_retries=0))

        yield connect


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


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Every kind of device that a test of the student should run on."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    return request.param


@pytest.fixture
def tiny_model(_tiny_model: Path) -> Iterator[Path]:
    """Folder of a tiny student. One thread: several would wait for each other longer than they compute."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield _tiny_model
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def _tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a two-layer Llama with random weights and a byte tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    path = tmp_path_factory.mktemp("tiny")
    make_byte_tokenizer().save_pretrained(path)
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=259, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    return path
