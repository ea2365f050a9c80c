"""The fast layers give what the layers they stand in for give, and leave no trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoHaConfig, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

from lionkit.errors import StudentError
from lionkit.student.dense import dense
from lionkit.student.model import _avoid_packed_kernel, add_adapter

IDS = torch.arange(3, 27).reshape(4, 6)
HOWS: list[dict[str, Any]] = [
    {},
    {"lora_dropout": 0.5},
    {"lora_bias": True, "target_modules": ["q_proj"]},
    {"target_modules": ["q_proj", "lm_head"]},
    {"target_modules": ["q_proj", "lm_head"], "lora_dropout": 0.5},
    {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
]
"""LoRA as this program makes it, and as others do."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama with random weights, drawn large enough to matter."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=96,
        attention_bias=True,
        initializer_range=0.2,
    )
    path = tmp_path_factory.mktemp("tiny")
    LlamaForCausalLM(config).save_pretrained(path)
    return path


def adapted(folder: Path, **how: Any) -> Any:
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    base = AutoModelForCausalLM.from_pretrained(folder, quantization_config=nf4, dtype=torch.float32, device_map="cpu")
    _avoid_packed_kernel(base)
    torch.manual_seed(0)
    config = LoraConfig(**{"r": 4, "target_modules": "all-linear", "init_lora_weights": False, **how})
    model = get_peft_model(base, config).train()
    if how.get("modules_to_save"):
        model.get_output_embeddings().modules_to_save["default"].weight.data.mul_(-1)
    return model


@pytest.mark.parametrize("how", ["cut", "foreign", "[]", "{}", '{"r": "2"}', '{"base_model_name_or_path": 5}'])
def test_an_adapter_that_is_damaged_or_foreign_is_refused(folder: Path, tmp_path: Path, how: str) -> None:
    """peft only warns of tensors it does not find: the student would be blank."""
    model = LlamaForCausalLM.from_pretrained(folder)
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text()) | {"base_model_name_or_path": str(folder)}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    add_adapter(LlamaForCausalLM.from_pretrained(folder), tmp_path, str(folder))
    weights = tmp_path / "adapter_model.safetensors"
    if how == "cut":
        weights.write_bytes(weights.read_bytes()[:-9])
    elif how == "foreign":
        save_file({f"other.{name}": tensor for name, tensor in load_file(weights).items()}, weights)
    else:
        change = json.loads(how)
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings | change if change else change))
    with pytest.raises(StudentError, match="cannot load the adapter in|was made for") as refused:
        add_adapter(LlamaForCausalLM.from_pretrained(folder), tmp_path, str(folder))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("config", [IA3Config(feedforward_modules=[]), LoHaConfig()])
def test_an_adapter_of_another_kind_is_refused(folder: Path, tmp_path: Path, config: Any) -> None:
    config.target_modules, config.base_model_name_or_path = ["q_proj"], str(folder)
    get_peft_model(LlamaForCausalLM.from_pretrained(folder), config).save_pretrained(tmp_path)
    with pytest.raises(StudentError, match=r"cannot load the adapter in .*: it is (IA3|LoHa), not LoRA"):
        add_adapter(LlamaForCausalLM.from_pretrained(folder), tmp_path, str(folder))


@pytest.mark.parametrize("layers", [1, 3])
def test_an_adapter_for_more_or_fewer_layers_is_refused(folder: Path, tmp_path: Path, layers: int) -> None:
    """A folder of the same name is not the same base; layers without an adapter would answer as the base does."""
    adapted(folder).save_pretrained(tmp_path)
    other = LlamaForCausalLM(LlamaConfig.from_pretrained(folder, num_hidden_layers=layers))
    with pytest.raises(StudentError, match=f"for 2 layers, .* has {layers}|cannot load the adapter"):
        add_adapter(other, tmp_path, str(folder))


def loss_and_gradients(model: Any) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss = model(input_ids=IDS, labels=IDS).loss
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("how", "count"), zip(HOWS, (28, 28, 6, 6, 6, 5), strict=True))  # 28: 7 layers, A and B, twice
def test_loss_and_gradients_are_those_of_bitsandbytes_and_peft(folder: Path, how: dict[str, Any], count: int) -> None:
    model = adapted(folder, **how)
    torch.manual_seed(1)  # the same dropout twice
    loss, gradients = loss_and_gradients(model)
    torch.manual_seed(1)
    with dense(model, torch.float32):
        fast_loss, fast_gradients = loss_and_gradients(model)
    assert fast_loss == pytest.approx(loss, rel=1e-5)
    assert len(gradients) == count
    assert gradients.keys() == fast_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(fast_gradients[name], gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("how", HOWS)
def test_responses_are_the_same_and_no_layer_stays_changed(folder: Path, how: dict[str, Any]) -> None:
    model = adapted(folder, **how).eval()
    options = {"input_ids": IDS, "max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": 95}
    with torch.no_grad():
        slow = model.generate(**options)
        with dense(model, torch.float32):
            fast = model.generate(**options)
            assert any("forward" in vars(layer) for layer in model.modules())
    assert torch.equal(slow, fast)
    assert not any("forward" in vars(layer) for layer in model.modules())


def test_a_replaced_adapter_is_seen_inside_the_block(folder: Path) -> None:
    model = adapted(folder)
    with dense(model, torch.float32):
        before = model(input_ids=IDS).logits
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data = torch.zeros_like(parameter)  # as loading a checkpoint does
        after = model(input_ids=IDS).logits
    with model.disable_adapter():
        plain = model(input_ids=IDS).logits
    assert not torch.allclose(before, plain)
    torch.testing.assert_close(after, plain, rtol=1e-4, atol=1e-5)
