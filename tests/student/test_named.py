"""Whether a model can be a student is said in one line, from its small files alone."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from lionkit.config import StudentConfig
from lionkit.errors import StudentError
from lionkit.student import check, load, respond
from lionkit.student.encode import prompt_ids
from lionkit.student.named import resolve


@pytest.fixture
def model(_tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(_tiny_model, tmp_path / "model"))


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def own(model: Path, **changes: Any) -> StudentConfig:
    return StudentConfig(**{"model": str(model), "max_length": 96, "max_new_tokens": 32, **changes})


def wrong(model: Path, **changes: Any) -> str:
    with pytest.raises(StudentError) as caught:
        check(own(model, **changes))
    assert "\n" not in str(caught.value)
    assert caught.value.setting.startswith("student.")
    return str(caught.value)


def test_lengths_are_held_against_the_models_positions(model: Path) -> None:
    check(own(model, max_length=1024, max_new_tokens=512))
    said = wrong(model, max_length=1900, max_new_tokens=512)
    assert said.endswith("has 2048 positions, fewer than student.max_length 1900 + student.max_new_tokens 512: "
                         "lower student.max_length to 1536")  # fmt: skip
    student = load(model, quantize="none", device="cpu")
    with pytest.raises(StudentError, match=r"2048 positions: lower student\.max_new_tokens"):
        respond(student, ["hi"], max_new_tokens=2048, progress=False)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"architectures": ["LlamaForSequenceClassification"]}, "no causal language model"),
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, "causal"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "no causal language model"),
        ({"model_type": "mamba", "architectures": ["MambaForCausalLM"]}, "state-space"),
        ({"model_type": "recurrent_gemma", "architectures": ["RecurrentGemmaForCausalLM"]}, "state-space"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised already"),
        ({"model_type": "not_yet_known"}, "update transformers"),
        ({"pad_token_id": 259}, "pads with token 259, the model has 259: set pad_token_id to null"),
        ({"num_attention_heads": 3}, "cannot load"),
        ({"max_position_embeddings": None}, "cannot load"),
    ],
)
def test_an_architecture_that_does_not_fit_is_named(model: Path, values: dict[str, Any], said: str) -> None:
    change(model / "config.json", **values)
    assert said in wrong(model)


def test_folders_of_another_kind_are_named(model: Path) -> None:
    (model / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "a/base"}))
    assert "is a LoRA adapter of a/base" in wrong(model)
    (model / "adapter_config.json").unlink()
    for file in model.glob("tokenizer*"):
        file.rename(model / f"other-{file.name}")
    assert "cannot load the tokenizer" in wrong(model)
    (model / "config.json").rename(model / "weights.gguf")
    assert "GGUF files alone" in wrong(model)
    assert "one .gguf file is no model" in wrong(model / "weights.gguf")


def test_a_token_without_a_row_is_named_unless_it_is_padding(model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(model)
    asked = load(model, quantize="none", device="cpu")
    assert len(respond(asked, ["hi", "a longer one"], max_new_tokens=4, progress=False)) == 2
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})  # as Gemma has, never used
    tokenizer.save_pretrained(model)
    check(own(model))
    tokenizer.add_tokens(["plainword"])
    tokenizer.save_pretrained(model)
    assert "'plainword' (261), the model only 259" in wrong(model)


TEMPLATES = {
    "parts": "{% for m in messages %}{% for c in m['content'] %}{{ c['text'] }}{% endfor %}{% endfor %}>",
    "user alone": "{% if messages[1:] %}{{ raise_exception('no') }}{% endif %}{{ messages[0]['content'] }}>",
    "drops the user": "{{ messages[0]['content'] if messages[0]['role'] == 'system' else '' }}",
    "date": "{{ strftime_now('%d %b %Y') }} {{ messages[-1]['content'] }}>",
}


@pytest.mark.parametrize(
    ("name", "prompt"), [("parts", "Sort.>"), ("user alone", "Sort.>"), ("date", "01 Jan 2026 Sort.>")]
)
def test_the_instruction_comes_out_of_any_template_and_no_date_does(
    byte_tokenizer: Any, name: str, prompt: str
) -> None:
    byte_tokenizer.chat_template = TEMPLATES[name]
    try:
        assert byte_tokenizer.decode(prompt_ids(byte_tokenizer, "Sort.", template="chat")) == prompt
    finally:
        byte_tokenizer.chat_template = None


def test_a_template_that_leaves_the_instruction_out_is_refused(model: Path) -> None:
    (model / "chat_template.jinja").write_text(TEMPLATES["drops the user"])
    assert "leaves the instruction out): set student.template = 'plain'" in wrong(model)
    check(own(model, template="plain"))


def test_a_hub_model_without_a_network_is_one_line_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    assert "cannot be reached: connect, or give a folder" in wrong("nobody/nothing-here")  # type: ignore[arg-type]


def test_the_hub_may_be_reached_through_a_proxy_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    assert resolve("nobody/nothing-here") == ("nobody/nothing-here", "nobody/nothing-here")
