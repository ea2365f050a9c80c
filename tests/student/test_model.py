"""The student on real weights: gradients that are right, training that can be trusted, responses that come back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from conftest import HEADS, KINDS, SIZES, make_byte_tokenizer
from lionkit import student
from lionkit.errors import StudentError
from lionkit.sandbox.families import seeds, solve
from lionkit.student.dense import dense
from lionkit.student.model import choose_device, choose_dtype

train_module = sys.modules["lionkit.student.train"]  # the package's name `train` is the function
TEXTS = [i.text for i in seeds(16, 3)]
PAIRS = [(text, solve(text)[1]) for text in TEXTS]  # type: ignore[index]
Trained = tuple[student.Student, Path, Any]
SETTINGS: dict[str, Any] = {
    "rank": 4,
    "learning_rate": 1e-3,
    "batch_size": 4,
    "max_length": 96,
    "epochs": 2,
    "gradient_checkpointing": False,
    "progress": False,
}


@pytest.fixture(scope="module")
def trained(student_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A student that has answered, then been trained, and its adapter."""
    model, out = student.load(student_weights), tmp_path_factory.mktemp("adapter")
    student.respond(model, TEXTS[:2], max_new_tokens=4, progress=False)
    report = student.train(model, PAIRS, out=out, seed=1, **SETTINGS)
    return model, out, report


def test_training_learns_and_saves_finite_weights(trained: Trained) -> None:
    _, out, report = trained
    assert report.audit.rows == 16
    assert report.steps == len(report.losses) == 8
    assert sum(report.losses[-2:]) < 0.7 * sum(report.losses[:2])
    tensors = load_file(out / "adapter_model.safetensors")
    assert tensors
    assert all(torch.isfinite(t).all() for t in tensors.values())
    assert sorted(p.name for p in out.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_same_inputs_same_adapter(trained: Trained, student_weights: Path, tmp_path: Path) -> None:
    _, out, report = trained
    again = student.train(student.load(student_weights), PAIRS, out=str(tmp_path), seed=1, **SETTINGS)
    assert again.losses == report.losses  # whether or not the student has answered before
    assert (tmp_path / "adapter_model.safetensors").read_bytes() == (out / "adapter_model.safetensors").read_bytes()


def test_adapter_answers_the_same_in_a_new_process(trained: Trained, student_weights: Path) -> None:
    model, out, _ = trained
    here = student.respond(model, TEXTS[:4], max_new_tokens=8, progress=False)
    code = (
        "import json, sys; from pathlib import Path; from lionkit import student\n"
        "m = student.load(sys.argv[1], adapter=Path(sys.argv[2]))\n"
        "print(json.dumps(student.respond(m, json.loads(sys.argv[3]), max_new_tokens=8, progress=False)))"
    )
    command = [sys.executable, "-c", code, str(student_weights), str(out), json.dumps(TEXTS[:4])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ})
    assert json.loads(done.stdout.splitlines()[-1]) == [list(answer) for answer in here]


def lora_gradients(model: Any, tokenizer: Any) -> dict[str, torch.Tensor]:
    """Gradients of every LoRA matrix for one row, by its name, without lionkit's own fast layers."""
    row = student.encode(tokenizer, *PAIRS[0], template="chat", max_length=96)
    assert row is not None
    model.zero_grad()
    ids, labels = (torch.tensor([values], device=model.device) for values in (row.input_ids, row.labels))
    model(input_ids=ids, labels=labels).loss.backward()
    return {n: p.grad.float().clone() for n, p in model.named_parameters() if "lora_" in n and p.grad is not None}


def worst_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Largest relative distance between two sets of gradients; infinite where one is missing."""
    if one.keys() != other.keys():
        return float("inf")
    pairs = [(one[name], other[name]) for name in one if other[name].norm() > 0]
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


def with_lora(base: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    return model.train()


def dequantised(weights: Path, device: str) -> Any:
    """The same model with ordinary linear layers that hold the decoded 4-bit weights."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    packed, plain = (
        student.load(weights, quantize=q, dtype="float32", device=device).model
        for q in ("nf4", "none")  # type: ignore[arg-type]
    )
    layers = dict(plain.named_modules())
    for name, layer in packed.named_modules():
        if isinstance(layer, Linear4bit):
            layers[name].weight.data = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    return plain


@pytest.mark.parametrize("cured", [True, False])
def test_gradients_agree_with_dequantised_weights_after_generating(
    student_weights: Path, cured: bool, device: str
) -> None:
    """A 4-bit model that has answered once trains on wrong gradients (bitsandbytes' packed kernel on CPUs)."""
    from bitsandbytes.nn import Linear4bit

    if not cured and not (device == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16")):
        return  # this device does not show the fault that the cure is for
    loaded = student.load(student_weights, dtype="float32", device=device)
    for layer in loaded.model.modules():
        if isinstance(layer, Linear4bit) and not cured:
            layer.support_avx512bf16_for_cpu = True
    reference = lora_gradients(with_lora(dequantised(student_weights, device)), loaded.tokenizer)
    model = with_lora(loaded.model)
    if cured:
        assert worst_difference(lora_gradients(model, loaded.tokenizer), reference) < 0.05
        with dense(model, torch.float32):  # what training really goes through on a CPU
            assert worst_difference(lora_gradients(model, loaded.tokenizer), reference) < 0.05
        states = [layer.weight.quant_state for layer in model.modules() if isinstance(layer, Linear4bit)]
        assert all(state.quant_type == "nf4" and state.nested for state in states)  # nested: double quantisation
    with torch.no_grad():
        model.eval().generate(input_ids=torch.tensor([[1, 9690, 198]], device=model.device), max_new_tokens=2)
    after = worst_difference(lora_gradients(model.train(), loaded.tokenizer), reference)
    assert (after < 0.05) == cured


def test_nothing_to_learn_from_is_refused(student_weights: Path, tmp_path: Path) -> None:
    """All labels -100, so that the loss is 0 or NaN: refused before the first step."""
    model = student.load(student_weights)
    with pytest.raises(StudentError, match="no row is left"):
        student.train(model, [("x", "")], out=tmp_path, **SETTINGS)
    for name in ("rank", "epochs", "batch_size", "max_length"):
        with pytest.raises(StudentError, match=f"{name} = 0: at least 1"):
            student.train(model, PAIRS, out=tmp_path, **SETTINGS | {name: 0})
    assert not (tmp_path / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("name", ["no/such/model/here", "nothing", "./missing", 5, None])
def test_a_model_that_is_not_there_is_one_line(name: Any) -> None:
    with pytest.raises(StudentError, match="there is no model") as caught:
        student.load(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("cut", "cannot load "),
        ("narrow", "cannot load "),
        ("[]", "cannot load "),
        ("lacking", "lack .* and 1 more"),
        ("endless", "no end-of-sequence token"),
        ("template", "chat template of .* cannot be used"),
    ],
)
def test_a_damaged_model_is_one_line(tiny_model: Path, tmp_path: Path, how: str, words: str) -> None:
    """A tensor that is not there would be drawn at random, and the student would answer with it."""
    shutil.copytree(tiny_model, tmp_path, dirs_exist_ok=True)
    weights, settings, tokens = (tmp_path / n for n in ("model.safetensors", "config.json", "tokenizer_config.json"))
    if how == "cut":
        weights.write_bytes(weights.read_bytes()[:-99])
    elif how == "narrow":
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"hidden_size": 32}))
    elif how == "[]":
        settings.write_text(how)
    elif how == "lacking":
        tensors = load_file(weights)
        del tensors["model.norm.weight"], tensors["lm_head.weight"]
        save_file(tensors, weights, {"format": "pt"})
    elif how == "endless":
        tokens.write_text(json.dumps(json.loads(tokens.read_text()) | {"eos_token": None, "pad_token": None}))
    else:
        (tmp_path / "chat_template.jinja").write_text("{{ 1 / 0 }}")
    with pytest.raises(StudentError, match=words) as caught:
        student.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("option", "value"), [("dtype", "fp16"), ("quantize", "int8"), ("template", "x")])
def test_an_option_that_is_none_is_one_line(tiny_model: Path, option: str, value: str) -> None:
    with pytest.raises(StudentError, match=f"{option} = '{value}': choose one of "):
        student.load(tiny_model, **{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "meta", "", 5, None])
def test_a_device_that_is_not_here_is_one_line(tiny_model: Path, device: Any) -> None:
    with pytest.raises(StudentError, match=f"device = {device!r} cannot be used here .*: set it to 'auto'") as caught:
        student.load(tiny_model, device=device)
    assert "\n" not in str(caught.value)


def test_a_folder_may_be_given_as_text(trained: Trained, student_weights: Path) -> None:
    model, out, _ = trained
    again = student.load(str(student_weights), adapter=str(out))
    assert student.respond(again, ["a"], max_new_tokens=4, progress=False) == student.respond(
        model, ["a"], max_new_tokens=4, progress=False
    )


@pytest.mark.parametrize(
    ("kind", "part"), [("falcon", "100% .*FalconLinear"), ("mixtral", "8.% .*MixtralExperts"), ("gpt2", "")]
)
def test_what_is_not_quantised_is_refused(tmp_path: Path, kind: str, part: str) -> None:
    """bitsandbytes packs plain linear layers alone, and says nothing of the others."""
    sizes = (KINDS["gpt2"] if kind == "gpt2" else SIZES | HEADS) | {"num_local_experts": 4}
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes)).save_pretrained(tmp_path)
    make_byte_tokenizer().save_pretrained(tmp_path)
    student.load(tmp_path, quantize="none", device="cpu")
    if not part:
        student.load(tmp_path, device="cpu")
        return
    with pytest.raises(StudentError, match=f"{part}.*: set student.quantize = 'none'"):
        student.load(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("cuda", "mps", "rank", "expected"),
    [(True, False, "", "cuda:0"), (True, True, "3", "cuda:3"), (False, True, "", "mps"), (False, False, "1", "cpu")],
)
def test_the_device_is_the_fastest_there_is(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, rank: str, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert choose_device("auto") == torch.device(expected)
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("native", [True, False])
def test_the_type_is_one_that_the_device_computes_in(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    """Bf16 assumed on a GPU without it: a card that only emulates bfloat16 gets float16, other devices float32."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: native)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native, "avx512_f": True})
    chosen = [choose_dtype(torch.device(kind)) for kind in ("cuda", "mps", "cpu")]
    assert chosen == ([torch.bfloat16] * 3 if native else [torch.float16, torch.float32, torch.float32])


@pytest.mark.parametrize("kind", ["cpu", "mps", "cuda"])
def test_the_paged_optimizer_is_for_cuda_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    monkeypatch.setattr(train_module, "TrainingArguments", SimpleNamespace)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        fake: Any = SimpleNamespace(device=torch.device(kind), dtype=dtype)
        arguments = train_module._arguments(fake, tmp_path, False, True, {})
        on_card = kind == "cuda"
        assert arguments.optim == ("paged_adamw_8bit" if on_card else "adamw_torch")
        assert (arguments.fp16, arguments.bf16) == (
            on_card and dtype == torch.float16,
            on_card and dtype == torch.bfloat16,
        )
        assert arguments.use_cpu == (kind == "cpu")


def test_the_first_import_says_nothing() -> None:
    """bitsandbytes warns on some CPUs of a kernel that lionkit does not use."""
    said = subprocess.run([sys.executable, "-c", "import lionkit.student"], capture_output=True, text=True)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
