"""Training on a two-layer model with random weights: resume, pieces, validation, and every way to stop."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, Trainer

from conftest import KINDS, SIZES
from lionkit import student
from lionkit.errors import LionkitError, StudentError
from lionkit.student import checkpoint, trainer
from lionkit.student.batches import ByLength, collate, keeps_apart, packed, pieces
from lionkit.student.encode import label_audit

PAIRS = [(f"Say {word}.", word * 2) for word in ("one", "two", "three", "four", "five", "six", "seven", "eight")]
SETTINGS: dict[str, Any] = {
    "rank": 4,
    "learning_rate": 1e-2,
    "batch_size": 2,
    "max_length": 96,
    "epochs": 2,
    "dropout": 0.1,
    "gradient_checkpointing": False,
    "progress": False,
}
ADAPTER = "adapter_model.safetensors"


@pytest.fixture
def folder(tiny_model: Path) -> Path:
    return tiny_model


def train(folder: Path, out: Path, **changes: Any) -> Any:
    return student.train(student.load(folder, dtype="float32", device="cpu"), PAIRS, out=out, **(SETTINGS | changes))


KILLED = """
import os, signal, sys
from pathlib import Path
from transformers import TrainerState
from lionkit import student
write = TrainerState.save_to_json
def dies(state, path):  # in the middle of the checkpoint of step 5: weights are there, the state is not
    os.kill(os.getpid(), signal.SIGKILL) if state.global_step == 5 else write(state, path)
TrainerState.save_to_json = dies
sys.path[:0] = [sys.argv[3], str(Path(sys.argv[3]).parent)]
from test_train import train
train(Path(sys.argv[1]), Path(sys.argv[2]), checkpoint_seconds=0.0)
"""


def test_killed_training_resumes_to_the_same_weights(folder: Path, tmp_path: Path, capsys: Any) -> None:
    """Resume that re-wraps and loses the adapter: here it ends with the weights of a training left alone."""
    whole = train(folder, tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, str(folder), str(tmp_path / "killed"), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    died = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    left = tmp_path / "killed" / "checkpoints"
    assert sorted(p.name for p in left.iterdir()) == ["checkpoint-3", "checkpoint-4", "checkpoint-5", "inputs.txt"]
    resumed = train(folder, tmp_path / "killed", checkpoint_seconds=0.0, progress=True)
    assert "Going on from step 4." in capsys.readouterr().out
    assert resumed.losses == whole.losses
    assert len(whole.losses) == whole.steps == 8
    assert (tmp_path / "killed" / ADAPTER).read_bytes() == (tmp_path / "whole" / ADAPTER).read_bytes()
    assert sorted(p.name for p in (tmp_path / "killed").iterdir()) == ["adapter_config.json", ADAPTER]


@pytest.mark.parametrize("change", [{"learning_rate": 2e-2}, {"alpha": 64}, {"dropout": 0.2}])
def test_a_checkpoint_of_other_settings_is_not_resumed(
    folder: Path, tmp_path: Path, monkeypatch: Any, capsys: Any, change: dict[str, float]
) -> None:
    monkeypatch.setattr(sys.modules["lionkit.student.train"], "save_adapter", lambda *a: pytest.fail("cut short"))
    with pytest.raises(pytest.fail.Exception):
        train(folder, tmp_path, checkpoint_seconds=0.0)
    assert (tmp_path / "checkpoints" / "checkpoint-7").is_dir()
    (tmp_path / "checkpoints" / "adapter").mkdir()
    (tmp_path / "checkpoints" / "adapter" / ADAPTER).write_text("left by a kill")
    monkeypatch.undo()
    capsys.readouterr()
    assert train(folder, tmp_path, **change).losses == train(folder, tmp_path / "new", **change).losses
    assert capsys.readouterr().out.count("training begins anew") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter_config.json", ADAPTER, "new"]


@pytest.mark.parametrize("name", [ADAPTER, "optimizer.pt", "scheduler.pt"])
def test_a_damaged_checkpoint_is_passed_over(folder: Path, tmp_path: Path, monkeypatch: Any, name: str) -> None:
    monkeypatch.setattr(sys.modules["lionkit.student.train"], "save_adapter", lambda *a: pytest.fail("cut short"))
    with pytest.raises(pytest.fail.Exception):
        train(folder, tmp_path / "cut", checkpoint_seconds=0.0)
    monkeypatch.undo()
    damaged = tmp_path / "cut" / "checkpoints" / "checkpoint-7" / name
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    assert train(folder, tmp_path / "cut").losses == train(folder, tmp_path / "whole").losses
    assert (tmp_path / "cut" / ADAPTER).read_bytes() == (tmp_path / "whole" / ADAPTER).read_bytes()


def test_training_stopped_in_a_validation_resumes_with_it_and_with_its_patience(
    folder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    options: dict[str, Any] = {
        "validation": [("Say zero.", "nothing at all")],
        "patience": 2,
        "epochs": 30,
        "learning_rate": 5e-2,
        "checkpoint_seconds": 0.0,
    }
    whole = train(folder, tmp_path / "whole", **options)
    assert 3 < len(whole.validation) < 30
    kind = trainer.StudentTrainer
    evaluate, last = kind.evaluate, len(whole.validation)

    def stops(self: Any, *args: Any, **kwargs: Any) -> Any:  # in the validation whose result ends the training
        if self.state.epoch >= last:
            raise KeyboardInterrupt
        return evaluate(self, *args, **kwargs)

    def fails(*args: Any) -> None:  # after it, when all that is left is to write the adapter
        raise KeyboardInterrupt

    for name, place, how in (("evaluate", kind, stops), ("save_adapter", sys.modules["lionkit.student.train"], fails)):
        monkeypatch.setattr(place, name, how)
        with pytest.raises(KeyboardInterrupt):
            train(folder, tmp_path / name, **options)
        monkeypatch.undo()
        resumed = train(folder, tmp_path / name, **options)
        assert (resumed.losses, resumed.validation) == (whole.losses, whole.validation)
        assert (tmp_path / name / ADAPTER).read_bytes() == (tmp_path / "whole" / ADAPTER).read_bytes()


def test_the_loss_is_transformers_own_from_labelled_positions_alone(folder: Path, tmp_path: Path) -> None:
    """Off-by-one mask: a loss shifted by one token would fall all the same."""
    model = student.load(folder, dtype="float32", device="cpu")
    rows, audit = label_audit(model.tokenizer, PAIRS, template=model.template, max_length=96)
    with torch.no_grad():
        expected = float(model.model(**collate(rows)).loss)
    seen: list[int] = []
    model.model.get_output_embeddings().register_forward_hook(lambda layer, args, out: seen.append(out.numel() // 259))
    report = student.train(model, PAIRS, out=tmp_path, **(SETTINGS | {"dropout": 0.0, "batch_size": 8, "epochs": 1}))
    assert report.losses == [pytest.approx(expected, rel=1e-5)]
    assert sum(seen) == audit.supervised < audit.tokens / 2


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradient_checkpointing_computes_layers_twice(folder: Path, tmp_path: Path, checkpointing: bool) -> None:
    model = student.load(folder, dtype="float32", device="cpu")
    calls: list[int] = []
    model.model.model.layers[0].mlp.register_forward_pre_hook(lambda *args: calls.append(1))
    student.train(model, PAIRS, out=tmp_path, **(SETTINGS | {"epochs": 1, "gradient_checkpointing": checkpointing}))
    assert len(calls) == 4 * (1 + checkpointing)


@pytest.mark.parametrize("device_rows", [1, 3])
def test_rows_on_the_device_change_nothing_that_is_learned(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device_rows: int
) -> None:
    seen: list[int] = []
    losses = trainer.StudentTrainer._token_losses
    same: dict[str, Any] = {"batch_size": 6, "dropout": 0.0}
    whole = train(folder, tmp_path / "whole", **same)
    monkeypatch.setattr(
        trainer.StudentTrainer,
        "_token_losses",
        lambda self, model, inputs: seen.append(len(inputs["labels"])) or losses(self, model, inputs),
    )
    parts = train(folder, tmp_path / "parts", device_rows=device_rows, **same)
    assert parts.steps == whole.steps == 4  # eight rows, two epochs: steps of 6 and 2
    assert max(seen) == device_rows
    assert sum(seen) == 16
    assert parts.losses == pytest.approx(whole.losses, rel=1e-4)
    one, two = (load_file(tmp_path / name / ADAPTER) for name in ("whole", "parts"))
    assert all((one[name] - two[name]).norm() < 1e-3 * one[name].norm() for name in one)


def test_a_training_goes_on_with_fewer_rows_on_the_device(
    folder: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """What the error says where memory ran out: it is done, and nothing begins anew."""
    step = Trainer.training_step

    def full(self: Any, model: Any, inputs: Any, count: Any = None) -> torch.Tensor:
        if self.state.global_step == 5 and len(inputs["labels"]) > 1:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return step(self, model, inputs, count)

    monkeypatch.setattr(Trainer, "training_step", full)
    with pytest.raises(StudentError, match=r"lower student.device_rows \(2; what is learned") as caught:
        train(folder, tmp_path, checkpoint_seconds=0.0)
    assert caught.value.setting == "student.device_rows"
    capsys.readouterr()
    report = train(folder, tmp_path, checkpoint_seconds=0.0, device_rows=1, progress=True)
    assert "Going on from step 5." in capsys.readouterr().out
    monkeypatch.undo()
    whole = train(folder, tmp_path / "whole")
    assert report.losses == pytest.approx(whole.losses, rel=0.1)  # dropout draws otherwise in other pieces
    assert report.losses[:5] == whole.losses[:5]


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"device_rows": 1}, "student.gradient_checkpointing"),
        ({"device_rows": 1, "gradient_checkpointing": True}, "student.max_length"),
    ],
)
def test_the_remedy_is_one_that_is_left(
    folder: Path, tmp_path: Path, monkeypatch: Any, changes: dict[str, Any], first: str
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Trainer, "training_step", full)
    with pytest.raises(StudentError, match="out of memory while training: (set|lower) student") as caught:
        train(folder, tmp_path, **changes)
    assert caught.value.setting == first
    assert "device_rows" not in str(caught.value)


def test_the_next_iteration_goes_on_from_the_last_adapter(folder: Path, tmp_path: Path) -> None:
    """Resume that re-wraps and loses the adapter: the next iteration has the same matrices, once, and begins better."""
    first = train(folder, tmp_path / "1", epochs=4)
    loaded = student.load(folder, dtype="float32", adapter=tmp_path / "1")
    second = student.train(loaded, PAIRS, out=tmp_path / "2", **SETTINGS)
    assert second.losses[0] < first.losses[0] - 0.3
    one, two = (load_file(tmp_path / name / ADAPTER) for name in ("1", "2"))
    assert {name: tensor.shape for name, tensor in one.items()} == {name: tensor.shape for name, tensor in two.items()}
    assert not any(torch.equal(one[name], two[name]) for name in one)


def test_validation_keeps_the_best_epoch_and_patience_ends_early(folder: Path, tmp_path: Path) -> None:
    model = student.load(folder, dtype="float32")
    report = student.train(
        model,
        PAIRS,
        out=tmp_path,
        validation=[("Say zero.", "nothing at all")],
        patience=2,
        **(SETTINGS | {"epochs": 30, "learning_rate": 5e-2}),
    )
    assert 2 < len(report.validation) < 30
    losses = [loss for _, loss in report.validation]
    assert min(losses) == losses[-3]  # two epochs without gain, then the end
    again = student.load(folder, dtype="float32", adapter=tmp_path)
    text = [("Say zero.", "nothing at all")]
    kept = [
        student.train(s, text, out=tmp_path / "x", **(SETTINGS | {"dropout": 0.0})).losses[0] for s in (model, again)
    ]
    assert kept == pytest.approx([min(losses)] * 2, rel=0.1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patience": 2}, "with validation rows"),
        ({"patience": 0, "validation": PAIRS}, "at least 1"),
        ({"validation": [("x", "")]}, "validation rows cannot be used: .*no row is left"),
    ],
)
def test_validation_that_cannot_be_is_refused(
    folder: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(StudentError, match=words):
        train(folder, tmp_path, **options)


def test_validation_takes_the_batches_of_training(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    sizes: list[int] = []
    losses = trainer.StudentTrainer._token_losses
    monkeypatch.setattr(
        trainer.StudentTrainer,
        "_token_losses",
        lambda self, model, inputs: sizes.append(len(inputs["labels"])) or losses(self, model, inputs),
    )
    train(folder, tmp_path, validation=PAIRS, epochs=1)
    assert max(sizes) == SETTINGS["batch_size"]


def test_float16_may_skip_steps_and_other_types_may_not() -> None:
    """A GradScaler's first steps overflow by design; its Trainer logs their gradient norm all the same."""
    overseer, state = trainer.Overseer, SimpleNamespace(global_step=1, log_history=[])
    bar = SimpleNamespace(update=lambda *args, **kwargs: None)
    overflow = {"loss": 2.0, "grad_norm": float("inf")}
    half, single = (SimpleNamespace(fp16=fp16) for fp16 in (True, False))
    patient = overseer(bar, 60.0, None, 0)
    for logs in [*[overflow] * 20, {"loss": 2.0, "grad_norm": 1.0}, *[overflow] * 20]:
        patient.on_log(half, state, None, logs=logs)
    with pytest.raises(StudentError, match="the grad_norm is inf at step 1"):
        patient.on_log(half, state, None, logs=overflow)
    with pytest.raises(StudentError, match="the grad_norm is inf at step 1"):
        overseer(bar, 60.0, None, 0).on_log(single, state, None, logs=overflow)
    with pytest.raises(StudentError, match="the loss is nan"):
        overseer(bar, 60.0, None, 0).on_log(half, state, None, logs={"loss": float("nan")})


def test_a_loss_that_is_not_finite_is_never_saved(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Loss NaN: training goes on and the end looks like success."""
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", lambda x, *a, **k: x.sum(-1) * float("nan"))
    with pytest.raises(StudentError, match="loss is nan at step 1: nothing was saved"):
        train(folder, tmp_path)
    assert not (tmp_path / ADAPTER).exists()


def test_weights_that_are_not_finite_are_never_saved(folder: Path, tmp_path: Path) -> None:
    """Adapter with NaN saved as a success."""
    model = student.load(folder, dtype="float32")
    student.train(model, PAIRS, out=tmp_path / "fine", **SETTINGS)
    next(p for n, p in model.model.named_parameters() if "lora_B" in n).data[0, 0] = float("nan")
    with pytest.raises(StudentError, match="1 adapter weights are not finite"):
        checkpoint.save_adapter(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            r"lower student.device_rows \(2; .*true, or lower student.max_length",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), "out of memory"),
        (RuntimeError("could not create a primitive"), "out of memory"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), "out of memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out of memory"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), "the disk is full"),
        (RuntimeError("[enforce fail at inline_container.cc] PytorchStreamWriter failed writing file"), "disk is full"),
    ],
)
def test_a_full_device_or_disk_is_one_line(
    folder: Path, tmp_path: Path, monkeypatch: Any, error: Exception, words: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(Trainer, "training_step", fail)
    with pytest.raises(LionkitError, match=words) as caught:
        train(folder, tmp_path)
    assert "\n" not in str(caught.value)


def test_the_watch_sees_every_loss(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    calls: list[tuple[list[float], list[tuple[int, float]]]] = []
    monkeypatch.setattr(trainer, "SHOW_SECONDS", 0.0)
    report = train(folder, tmp_path, validation=PAIRS[:2], watch=lambda *seen: calls.append(seen))
    assert [len(losses) for losses, _ in calls] == [1, 2, 3, 4, 5, 6, 7, 8, 8]
    assert calls[-1] == (report.losses, report.validation)
    assert [step for step, _ in report.validation] == [4, 8]


def test_every_row_comes_once_and_a_step_begins_with_its_longest() -> None:
    lengths = [(7 * i) % 50 + 1 for i in range(101)]
    orders = [list(ByLength(lengths, 8, 0, lambda epoch=epoch: epoch, blank=3)) for epoch in (0, 1, 1)]
    assert sorted(orders[0]) == list(range(104))
    assert orders[0][-3:] == [101, 102, 103]
    assert orders[1] == orders[2] != orders[0]
    steps = [[lengths[i] for i in orders[0][k : k + 8]] for k in range(0, 96, 8)]
    assert all(step == sorted(step, reverse=True) for step in steps)
    means = [sum(step) / 8 for step in steps]
    assert max(means) < 3 * min(means)  # chance decides what is in a step, not the length


def test_processes_have_equal_parts_of_the_same_steps() -> None:
    lengths = [(7 * i) % 50 + 1 for i in range(101)]
    one, two = ([*ByLength(lengths, 8, 0, lambda: 0, blank=3, parts=parts)] for parts in (1, 2))
    for k in range(0, 104, 8):
        assert sorted(one[k : k + 8]) == sorted(two[k : k + 8])
    longs, shorts = (sum(lengths[i] for k in range(0, 96, 8) for i in two[k + n : k + n + 4]) for n in (0, 4))
    assert 0.9 < longs / shorts < 1.1  # in one piece after the other it was 2.6
    assert sum(i > 100 for i in two[-4:]) == 2  # rows that teach nothing are dealt as well


def test_pieces_of_a_batch_are_narrow_and_lose_nothing() -> None:
    widths = [40, 30, 9, 8, 7, 1]
    mask = torch.tensor([[1] * width + [0] * (40 - width) for width in widths])
    batch = {"input_ids": torch.arange(240).reshape(6, 40), "attention_mask": mask}
    shapes = {
        (6, 32): [(1, 40), (1, 30), (3, 9), (1, 1)],
        (2, 32): [(1, 40), (1, 30), (2, 9), (2, 7)],
        (4, None): [(4, 40), (2, 7)],
        (9, None): [(6, 40)],
    }
    for most, expected in shapes.items():
        parts = pieces(batch, *most)
        assert [tuple(part["input_ids"].shape) for part in parts] == expected
        kept = torch.cat([part["input_ids"][part["attention_mask"] == 1] for part in parts])
        assert torch.equal(kept, batch["input_ids"][mask == 1])


def test_pieces_have_the_gradient_of_the_whole(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = []
    for tokens in (10_000, 40):
        monkeypatch.setattr(sys.modules["lionkit.student.train"], "AT_ONCE", tokens)
        losses = train(folder, tmp_path / str(tokens), batch_size=8, epochs=2, dropout=0.0).losses
        adapters.append((losses, load_file(tmp_path / str(tokens) / ADAPTER)))
    assert adapters[0][0] == pytest.approx(adapters[1][0], rel=1e-5)
    for name, tensor in adapters[0][1].items():
        torch.testing.assert_close(tensor, adapters[1][1][name], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2", "gpt2"])
def test_packed_rows_teach_what_padded_ones_do(
    kind: str, tmp_path: Path, byte_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that see each other: the same rows with positions that go on give other losses."""
    torch.manual_seed(0)
    wide = {"sliding_window": 200} if "sliding_window" in KINDS[kind] else {}  # or responses would not see other rows
    sizes = KINDS[kind] | wide | {name: 0.0 for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop") if kind == "gpt2"}
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes))
    with torch.no_grad():  # random weights of the usual size hardly look at what went before
        for parameter in network.parameters():
            parameter.mul_(3 if parameter.dim() > 1 else 1)
    network.save_pretrained(tmp_path)
    byte_tokenizer.save_pretrained(tmp_path)
    pairs = [("Say a word.", "w" * n) for n in (3, 40, 9, 22)]

    def one_row(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        whole = packed(batch)
        return whole | {"position_ids": torch.arange(whole["input_ids"].shape[1])[None]}

    losses = {}
    for name, pack in (("padded", False), ("packed", True), ("mixed", True)):
        model = student.load(tmp_path, dtype="float32", device="cpu", quantize="none", template="plain")
        if name == "mixed":
            monkeypatch.setattr(trainer, "packed", one_row)
        options: dict[str, Any] = {"epochs": 3, "batch_size": 4, "learning_rate": 1e-2, "max_length": 250}
        losses[name] = student.train(model, pairs, out=tmp_path / name, pack=pack, progress=False, **options).losses
    assert losses["packed"] == pytest.approx(losses["padded"], rel=1e-4)
    assert losses["mixed"] != pytest.approx(losses["padded"], rel=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_offline_student_may_be_packed(student_weights: Path, dtype: Any) -> None:
    assert keeps_apart(student.load(student_weights, dtype=dtype, device="cpu"))


@pytest.mark.parametrize("kind", ["bloom", "opt"])
def test_rows_that_would_see_each_other_are_not_packed(kind: str, tmp_path: Path, byte_tokenizer: Any) -> None:
    """Bloom takes no positions, and OPT's mask does not heed the ones that it takes."""
    sizes = KINDS.get(kind) or SIZES | {"num_attention_heads": 4, "ffn_dim": 64, "word_embed_proj_dim": 32}
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes)).save_pretrained(tmp_path)
    byte_tokenizer.save_pretrained(tmp_path)
    model = student.load(tmp_path, dtype="float32", device="cpu", quantize="none", template="plain")
    with pytest.raises(StudentError, match="cannot be packed: .*; set student.pack = false"):
        student.train(model, [("Say a word.", "word")], out=tmp_path / "out", pack=True)
