"""What only a CUDA card can show. More tests take a `device` (tests/conftest.py) and run on a card too."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch

from lionkit import student
from lionkit.errors import StudentError
from lionkit.student.train import _arguments

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]
PAIRS = [(f"Say {word}.", word * 2) for word in ("one", "two", "three", "four", "five", "six", "seven", "eight")]
SETTINGS: dict[str, Any] = {
    "rank": 4,
    "learning_rate": 1e-2,
    "batch_size": 4,
    "max_length": 96,
    "epochs": 10,
    "progress": False,
}


def test_the_card_decides_between_bf16_and_fp16(tiny_model: Path) -> None:
    """bf16 assumed on a GPU without it."""
    loaded = student.load(tiny_model)
    native = torch.cuda.get_device_capability()[0] >= 8 or bool(torch.version.hip)
    assert loaded.device.type == "cuda"
    assert loaded.dtype == (torch.bfloat16 if native else torch.float16)
    arguments = _arguments(loaded, tiny_model / "x", False, False, {})
    assert (arguments.bf16, arguments.fp16, arguments.optim) == (native, not native, "paged_adamw_8bit")


def test_training_with_the_paged_optimizer_learns_and_measures_its_peak(tiny_model: Path, tmp_path: Path) -> None:
    report = student.train(student.load(tiny_model), PAIRS, out=tmp_path, **SETTINGS)
    assert report.losses[-1] < 0.7 * report.losses[0]
    assert report.peak_memory == torch.cuda.max_memory_allocated() > 0
    wider = student.train(student.load(tiny_model), PAIRS, out=tmp_path / "2", **(SETTINGS | {"batch_size": 8}))
    assert wider.peak_memory > report.peak_memory


def test_out_of_memory_is_one_line_and_leaves_the_card_free(tiny_model: Path, tmp_path: Path) -> None:
    student.train(student.load(tiny_model), PAIRS, out=tmp_path / "first", **SETTINGS)  # cuBLAS keeps its workspace
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    loaded = student.load(tiny_model)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**26) / total)
    try:
        with pytest.raises(StudentError, match=r"lower student.device_rows \(64; what is learned stays") as caught:
            student.train(
                loaded,
                [("Say it.", "word " * 400)] * 64,
                out=tmp_path,
                **(SETTINGS | {"batch_size": 64, "max_length": 2048}),
            )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "\n" not in str(caught.value)
    del loaded, caught  # a traceback keeps what its frames hold
    gc.collect()
    assert torch.cuda.memory_allocated() <= before + 2**20
    assert student.train(student.load(tiny_model), PAIRS, out=tmp_path, **SETTINGS).steps == 20  # goes on
