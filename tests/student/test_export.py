"""The way out (merged weights, adapter, card, GGUF) and in (published deltas), on a tiny model with random weights."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from lionkit import student
from lionkit.__main__ import app
from lionkit.config import to_dict
from lionkit.errors import LionkitError, StageMissing, StudentError
from lionkit.run import open_run
from lionkit.run.settings import preset
from lionkit.student import card, export
from lionkit.student.encode import PLAIN, prompt_ids
from lionkit.student.named import resolve

IDS = torch.tensor([[5, 70, 71, 9, 200, 31, 8, 77]])
FILES = [
    "README.md",
    "adapter",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
]


@pytest.fixture(scope="module")
def adapter(_tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter trained on the 4-bit model, large enough to change its answers."""
    out = tmp_path_factory.mktemp("made") / "adapter"
    pairs = [(f"Say {word}.", word * 2) for word in ("one", "two", "three", "four")]
    options = {"rank": 4, "learning_rate": 3e-2, "batch_size": 2, "max_length": 96, "epochs": 4, "progress": False}
    student.train(student.load(_tiny_model, device="cpu", dtype="float32"), pairs, out=out, **options)  # type: ignore[arg-type]
    return out


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def read(folder: Path) -> torch.Tensor:
    return logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-3), ("bfloat16", 2e-2)])
def test_merged_weights_answer_as_the_adapted_model(
    tiny_model: Path, adapter: Path, tmp_path: Path, dtype: Any, tolerance: float
) -> None:
    made = student.export_student(tiny_model, adapter, tmp_path / "new" / "out", dtype=dtype)
    adapted = logits(student.load(tiny_model, adapter=adapter, quantize="none", dtype="float32", device="cpu").model)
    plain = logits(student.load(tiny_model, quantize="none", dtype="float32", device="cpu").model)
    merged = read(made.folder)
    assert (adapted - plain).abs().max() > 20 * tolerance  # the adapter matters
    assert (merged - adapted).abs().max() < tolerance
    assert {t.dtype for t in load_file(made.folder / "model.safetensors").values()} == {getattr(torch, dtype)}
    assert json.loads((made.folder / "config.json").read_text())["dtype"] == dtype
    assert sorted(p.name for p in made.folder.iterdir()) == FILES
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["out"]


def test_an_export_answers_as_it_did_here_without_its_bases_penalties(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    base = tmp_path / tiny_model.name
    shutil.copytree(tiny_model, base)
    own = {"eos_token_id": [2, 70], "repetition_penalty": 1.1, "no_repeat_ngram_size": 2, "do_sample": True}
    (base / "generation_config.json").write_text(json.dumps(own))
    made = student.export_student(base, str(adapter), str(tmp_path / "out"))
    written = json.loads((made.folder / "generation_config.json").read_text())
    del written["transformers_version"]
    assert written == {"bos_token_id": 1, "eos_token_id": [2, 70]}


def test_a_merge_into_four_bits_would_lose_what_was_learnt(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    """The mistake that is avoided: it ends ten times as far from the adapted model."""
    made = student.export_student(tiny_model, adapter, tmp_path / "out")
    adapted = logits(student.load(tiny_model, adapter=adapter, quantize="none", dtype="float32", device="cpu").model)
    packed = student.load(tiny_model, adapter=adapter, quantize="nf4", dtype="float32", device="cpu").model
    with pytest.warns(UserWarning, match="4-bit"):
        wrong = logits(packed.merge_and_unload())
    assert (wrong - adapted).abs().max() > 10 * (read(made.folder) - adapted).abs().max()
    assert "merged into a float16 reload of" in str(made)
    assert "(not into 4-bit weights)" in str(made)


def test_a_base_that_is_quantised_itself_is_refused(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    """A merge into 4-bit weights, by the back door: such a folder loads in 4 bits whatever is asked for."""
    quantised = tmp_path / "base"
    student.load(tiny_model, device="cpu").model.save_pretrained(quantised)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(quantised)
    for dtype in ("auto", "float16"):
        with pytest.raises(StudentError, match="is quantised itself"):
            student.export_student(quantised, adapter, tmp_path / "out", dtype=dtype)  # type: ignore[arg-type]


def test_the_published_adapter_names_its_base_and_no_folder_of_this_machine(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    made = student.export_student(tiny_model, adapter, tmp_path / "out", base="someone/tiny")
    config = json.loads((made.folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "someone/tiny"
    copied = (made.folder / "adapter" / "adapter_model.safetensors").read_bytes()
    assert copied == (adapter / "adapter_model.safetensors").read_bytes()
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(tiny_model)
    unnamed = student.export_student(tiny_model, adapter, tmp_path / "unnamed")
    assert unnamed.base == tiny_model.name
    for path in [*made.folder.rglob("*"), *unnamed.folder.rglob("*")]:
        assert path.is_dir() or str(tiny_model.parent).encode() not in path.read_bytes(), path


def test_the_plain_format_becomes_the_chat_template(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    """A server then prompts the student with the very ids that it was trained on."""
    made = student.export_student(
        tiny_model, adapter, tmp_path / "out", provenance={"config": to_dict(preset("offline"))}
    )
    told = (made.folder / "README.md").read_text()
    assert "\n- template: plain\n" in told  # its settings said auto
    assert "trained on a plain format without a system message" in told
    assert "Without one, a template" not in told
    tokenizer = AutoTokenizer.from_pretrained(made.folder)
    messages = [{"role": "system", "content": ""}, {"role": "user", "content": "Add 1 and 2.\n3"}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ids == prompt_ids(tokenizer, "Add 1 and 2.\n3", template="plain")
    opening, *rest = tokenizer.decode(ids).split("\n\n", 1)
    assert opening == PLAIN.split("\n\n")[0]
    assert rest == ["### Instruction:\nAdd 1 and 2.\n3\n\n### Response:\n"]
    assert tokenizer.padding_side == AutoTokenizer.from_pretrained(tiny_model).padding_side


def test_a_weight_that_is_not_finite_is_named_and_nothing_is_left(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "adapter"
    shutil.copytree(adapter, broken)
    tensors = load_file(broken / "adapter_model.safetensors")
    name = next(n for n in tensors if "layers.1.mlp.up_proj.lora_B" in n)
    tensors[name][0, 0] = 1e6  # finite, but more than float16 holds
    save_file(tensors, broken / "adapter_model.safetensors")
    with pytest.raises(
        StudentError, match=r"layers\.1\.mlp\.up_proj\.weight.* nothing was written; export as bfloat16"
    ):
        student.export_student(tiny_model, broken, tmp_path / "out", dtype="float16")
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]
    student.export_student(tiny_model, broken, tmp_path / "out", dtype="bfloat16")


def test_anothers_adapter_and_unknown_types_are_refused(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "adapter"
    shutil.copytree(adapter, foreign)
    config = json.loads((foreign / "adapter_config.json").read_text()) | {"base_model_name_or_path": "meta/other-7b"}
    (foreign / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(StudentError, match="was made for meta/other-7b, not for"):
        student.export_student(tiny_model, foreign, tmp_path / "out")
    with pytest.raises(StudentError, match="'int8' is not one to export in"):
        student.export_student(tiny_model, adapter, tmp_path / "out", dtype="int8")  # type: ignore[arg-type]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    with pytest.raises(LionkitError, match="there already"):
        student.export_student(tiny_model, adapter, tmp_path / "out")


FULL = {
    "python": OSError(28, "No space left on device"),
    "safetensors": RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
}


@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
def test_a_full_disk_leaves_nothing(
    tiny_model: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(export, "_copy_adapter", full)  # weights and tokenizer are written by then
    with pytest.raises(LionkitError, match="the disk is full, .*out was not written"):
        student.export_student(tiny_model, adapter, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


CONVERTER = """
import argparse, json, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--outfile", type=pathlib.Path)
parser.add_argument("--outtype", choices=["f32", "f16", "bf16", "q8_0", "tq1_0", "tq2_0", "auto"], default="auto")
parser.add_argument("model", nargs="?")
args = parser.parse_args()
names = sorted(p.name for p in pathlib.Path(args.model).iterdir())
args.outfile.write_text(json.dumps([args.outtype, names]))
"""


def test_gguf_is_left_to_llama_cpps_converter(
    tiny_model: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in that takes the real one's arguments; the real one is not run here."""
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    without = student.export_student(tiny_model, adapter, tmp_path / "without")
    assert without.gguf is None
    assert "no GGUF: convert_hf_to_gguf.py is not at hand; clone github.com/ggml-org/llama.cpp" in str(without)
    script = tmp_path / "convert_hf_to_gguf.py"
    script.write_text(CONVERTER)
    script.chmod(0o755)
    assert export.find_converter() == script
    monkeypatch.setenv("LLAMA_CPP", str(tmp_path))
    made = student.export_student(tiny_model, adapter, tmp_path / "out", dtype="bfloat16")
    assert made.gguf == tmp_path / "out" / "model-bfloat16.gguf"
    assert json.loads(made.gguf.read_text()) == ["bf16", FILES]
    assert sorted(p.name for p in made.folder.iterdir()) == sorted([*FILES, "Modelfile", "model-bfloat16.gguf"])
    recipe = (made.folder / "Modelfile").read_text()
    assert recipe.startswith('FROM ./model-bfloat16.gguf\nTEMPLATE """Below is an instruction')
    assert "### Instruction:\n{{ .Prompt }}\n\n### Response:\n{{ .Response }}<eos>" in recipe
    assert recipe.endswith('PARAMETER stop "<eos>"\nPARAMETER temperature 0\nPARAMETER repeat_penalty 1\n')


def test_ollama_asks_in_the_chat_format_too() -> None:
    _, tokenizer, template = export.read(*resolve("SmolLM2-135M-Instruct"))
    assert export._modelfile("m.gguf", tokenizer, template).splitlines()[1:6] == [
        'TEMPLATE """<|im_start|>system',
        "<|im_end|>",
        "<|im_start|>user",
        "{{ .Prompt }}<|im_end|>",
        "<|im_start|>assistant",
    ]


def test_a_converter_that_fails_or_is_not_there(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(StudentError, match=r"convert_hf_to_gguf.py is not there: give llama.cpp's folder"):
        student.export_student(tiny_model, adapter, tmp_path / "out", gguf=tmp_path)
    assert list(tmp_path.iterdir()) == []
    script = tmp_path / "bad.py"
    script.write_text("import sys; open(sys.argv[3], 'w').write('half'); sys.exit('first\\nModel X is not supported')")
    with pytest.raises(StudentError, match=r"bad.py wrote no GGUF \(Model X is not supported\): .* whole in") as caught:
        student.export_student(tiny_model, adapter, tmp_path / "out", gguf=script)
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == FILES


def test_a_gguf_that_failed_is_tried_again_without_merging_again(
    tiny_model: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, out = tmp_path / "convert_hf_to_gguf.py", tmp_path / "out"
    script.write_text("import sentencepiece_of_nowhere")
    with pytest.raises(StudentError, match="install the package sentencepiece_of_nowhere and export again$"):
        student.export_student(tiny_model, adapter, out, gguf=script)
    script.write_text(CONVERTER)  # as after `pip install`
    monkeypatch.setattr(export, "load", lambda *a, **k: pytest.fail("merged again"))
    made = student.export_student(tiny_model, adapter, out, gguf=script)
    assert made.gguf == out / "model-float16.gguf"
    assert "21 tensors, the adapter merged into a float16 reload" in str(made)
    script.write_text("raise SystemExit('converted again')")
    assert student.export_student(tiny_model, adapter, out, gguf=script) == made
    for other in ({"dtype": "bfloat16"}, {"base": "someone/else"}):
        with pytest.raises(LionkitError, match="there already"):
            student.export_student(tiny_model, adapter, out, gguf=script, **other)  # type: ignore[arg-type]
    for name in ("chat_template.jinja", "model.safetensors"):
        kept = (out / name).read_bytes()
        (out / name).rename(out / "elsewhere")
        with pytest.raises(LionkitError, match="there already"):
            student.export_student(tiny_model, adapter, out, gguf=script)
        (out / name).write_bytes(kept)


def test_weights_have_the_mode_of_other_new_files(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    """safetensors writes 0600, which a server under another account cannot read."""
    (tmp_path / "usual").touch()
    out = student.export_student(tiny_model, adapter, tmp_path / "out").folder
    sources = publish(tmp_path / "base", weights(8, 1), 8), publish(tmp_path / "delta", weights(8, 2), 8)
    total = student.recover_delta(*sources, tmp_path / "sum", progress=False)
    made = [*adapter.iterdir(), *(p for p in [*out.rglob("*"), *total.iterdir()] if p.is_file())]
    assert len([p for p in made if p.suffix == ".safetensors"]) == 4
    assert {p.stat().st_mode for p in made} == {(tmp_path / "usual").stat().st_mode}


def test_the_command_line(tiny_model: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "mine.json").write_text("[]")
    own = str(tmp_path / "mine.json")
    run = open_run("r", preset="smoke", student={"model": str(tiny_model)}, seed_file=own)
    with pytest.raises(StageMissing, match="imitation of iteration 1 is not done"):
        CliRunner().invoke(app, ["export-student", str(tmp_path / "out"), "--run", "r"], catch_exceptions=False)
    shutil.copytree(adapter, run.folder(1, "imitation") / "adapter")
    (run.folder(1, "imitation") / "done.json").write_text('{"inputs": {}, "files": {}, "result": {}}')
    command = ["export-student", str(tmp_path / "out"), "--run", "r", "--iteration", "1", "--base", "someone/tiny"]
    said = CliRunner().invoke(app, command, catch_exceptions=False)
    assert said.exit_code == 0
    assert "tensors, the adapter merged into a float16 reload of someone/tiny (not into 4-bit weights)" in said.output
    card = (tmp_path / "out" / "README.md").read_text()
    assert (
        "someone/tiny, trained by adversarial distillation (arXiv 2305.12870) with lionkit after iteration 1." in card
    )
    assert "- seed: 0" in card
    assert not re.search(rf"mine.json|{tmp_path}", card)
    back = CliRunner().invoke(app, ["recover", str(tiny_model), str(tmp_path / "out"), str(tmp_path / "sum")])
    assert back.exit_code == 0
    total = load_file(tmp_path / "sum" / "model.safetensors")["model.norm.weight"]
    assert torch.equal(total, torch.full((64,), 2.0, dtype=torch.float16))


def told(**config: Any) -> dict[str, Any]:
    row = {"iteration": 0, "train_pool": 0, "cache_pool": 240, "hard": 240, "easy": 0, "undecided": 0}
    rows = [row | {"relative_score": 0.153, "exact_match": 0.0}, row | {"iteration": 1, "relative_score": None}]
    run = {"seed": 0, "python": "3.11.7", "machine": "Linux", "revision": "abc", "versions": {"torch": "2.13.0"}}
    return {"iteration": 1, "config": to_dict(preset("offline")) | config, "run": run, "iterations": rows}


def test_the_card_tells_how_the_student_was_made(tmp_path: Path) -> None:
    base = "HuggingFaceTB/SmolLM2-135M-Instruct"
    card.write(tmp_path / "README.md", base, told(), dtype="float16", template="chat")
    text = (tmp_path / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "base_model": base,
        "base_model_relation": "finetune",
        "library_name": "transformers",
        "license": "apache-2.0",
        "pipeline_tag": "text-generation",
        "tags": ["lionkit", "adversarial-distillation", "arxiv:2305.12870"],
    }
    assert f"{base}, trained by adversarial distillation (arXiv 2305.12870) with lionkit after iteration 1." in body
    assert "rules for sixteen families of instructions, no language model" in body
    assert "merged into a float16 reload of the base, not into 4-bit weights" in body
    assert "| 0 | 0 | 240 | 240 | 0 | 0 | 15.3% | 0.0% |\n| 1 | 0 | 240 | 240 | 0 | 0 | - | - |" in body
    assert "- rank: 16\n" in body
    assert "It was trained with an empty system message" in body
    assert 'messages = [{"role": "system", "content": ""}, {"role": "user", ' in body
    assert "- torch: 2.13.0\n" in body
    assert "## Limits" in body
    card.write(tmp_path / "adapter.md", "tiny", {}, dtype="", template="chat")
    front = (tmp_path / "adapter.md").read_text().split("---\n")[1]
    assert {"library_name": "peft"}.items() <= yaml.safe_load(front).items()
    assert not {"license", "base_model"} & yaml.safe_load(front).keys()


def test_the_card_holds_no_folder_no_address_and_no_markup(tmp_path: Path) -> None:
    api = {"model": "/home/me/models/<img src=x>|`boss`[a](http://evil)\n# Great", "base_url": "http://10.0.0.7/v1"}
    settings = {"api": api, "seed_file": "/home/me/secret/seeds.json", "judge_model": "C:\\Users\\me\\judge"}
    card.write(tmp_path / "README.md", "/home/me/base", told(**settings), dtype="float16", template="chat")
    text = (tmp_path / "README.md").read_text()
    assert not re.search(r"/home|secret|Users|10\.0\.0|API_KEY|<img|\]\(|`boss|\n# Great", text)
    assert "judge judge" in text
    yaml.safe_load(text.split("---\n")[1])


# Deltas


def weights(rows: int, seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Multiples of 1/8, so that sums and differences are exact."""
    torch.manual_seed(seed)
    shapes = {
        "model.embed_tokens.weight": (rows, 4),
        "model.layers.0.mlp.up_proj.weight": (6, 4),
        "model.norm.weight": (4,),
        "lm_head.weight": (rows, 4),
    }
    return {name: (torch.randint(-64, 64, shape) / 8).to(dtype) for name, shape in shapes.items()}


def publish(folder: Path, tensors: dict[str, torch.Tensor], rows: int, kind: str = "safetensors") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": rows}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"of": folder.name}))
    if "bin" in kind:  # PyTorch's format was no zip archive before 1.6
        torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=kind == "bin")
    else:
        save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("kind", ["safetensors", "bin", "old bin"])
def test_base_and_delta_make_the_target(tmp_path: Path, kind: str) -> None:
    base, target = weights(8, 1), weights(8, 2)
    delta = {name: target[name] - base[name] for name in base}
    base["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(2)  # computed, and not in newer files
    sources = publish(tmp_path / "base", base, 8), publish(tmp_path / "delta", delta, 8, kind)
    out = student.recover_delta(*sources, tmp_path / "out", progress=False)
    found = load_file(out / "model.safetensors")
    assert found.keys() == target.keys()
    assert all(torch.equal(found[name], target[name]) for name in target)
    assert json.loads((out / "tokenizer_config.json").read_text()) == {"of": "delta"}
    assert sorted(p.name for p in out.iterdir()) == ["config.json", "model.safetensors", "tokenizer_config.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "delta", "out"]


@pytest.mark.parametrize("added_rows", ["mean", "zero"])
def test_a_vocabulary_that_grew(tmp_path: Path, added_rows: Any) -> None:
    """Alpaca and Lion put the mean of the base's rows where a token is new, Vicuna v0 zeros."""
    base, target = weights(8, 1), weights(9, 2)
    start = dict(base)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        row = base[name].mean(0, keepdim=True) if added_rows == "mean" else torch.zeros(1, 4)
        start[name] = torch.cat([base[name], row])
    delta = {name: target[name] - start[name] for name in target}
    sources = publish(tmp_path / "base", base, 8), publish(tmp_path / "delta", delta, 9)
    out = student.recover_delta(*sources, tmp_path / "out", added_rows=added_rows, progress=False)
    found = load_file(out / "model.safetensors")
    assert all(torch.equal(found[name], target[name]) for name in target)
    assert found["lm_head.weight"].shape == (9, 4)


def test_literal_sums_are_rounded_to_the_deltas_type(tmp_path: Path) -> None:
    base = {"model.norm.weight": torch.tensor([1.0, 0.1, -2.5, 2048.0])}
    delta = {"model.norm.weight": torch.tensor([0.5, 0.2, 2.5, 1.0], dtype=torch.float16)}
    sources = publish(tmp_path / "base", base, 8), publish(tmp_path / "delta", delta, 8)
    out = student.recover_delta(*sources, tmp_path / "out", progress=False)
    found = load_file(out / "model.safetensors")["model.norm.weight"]
    assert found.dtype == torch.float16
    assert found.tolist() == [1.5, 0.2998046875, 0.0, 2048.0]


def test_shards_are_written_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lionkit.student.delta.SHARD", 200)
    base, target = weights(8, 1), weights(8, 2)
    delta = {name: target[name] - base[name] for name in base}
    sources = publish(tmp_path / "base", base, 8), publish(tmp_path / "delta", delta, 8)
    out = student.recover_delta(*sources, tmp_path / "out", progress=False)
    index = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) == 3
    assert all(torch.equal(load_file(out / index[name])[name], target[name]) for name in target)
    again = student.recover_delta(out, sources[1], tmp_path / "again", progress=False)  # sharded files are read too
    (out / index["lm_head.weight"]).unlink()
    with pytest.raises(StudentError, match=r"lacks lm_head.weight, which model.safetensors.index.json lists"):
        student.recover_delta(out, sources[1], tmp_path / "no", progress=False)
    assert (again / "model.safetensors.index.json").is_file()


def spoil(tensors: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    name = "model.layers.0.mlp.up_proj.weight"
    if how == "missing":
        del tensors[name]
    elif how == "shape":
        tensors[name] = torch.zeros(6, 5)
    elif how == "rows":  # grown, but no vocabulary
        tensors[name] = torch.zeros(8, 4)
    elif how == "nan":
        tensors[name][2, 3] = float("nan")
    elif how == "type":
        tensors[name] = torch.zeros(6, 4, dtype=torch.int8)
    return tensors


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", r"up_proj.weight is in the base and not in the delta"),
        ("shape", r"up_proj.weight is \[6, 4\] in the base and \[6, 5\] in the delta"),
        ("rows", r"up_proj.weight is \[6, 4\] in the base and \[8, 4\] .* only a vocabulary may grow, from 8 to 9"),
        ("nan", r"up_proj.weight: base \+ delta is not finite"),
        ("type", r"up_proj.weight holds torch.int8"),
    ],
)
def test_a_delta_that_does_not_fit_names_the_tensor(tmp_path: Path, how: str, words: str) -> None:
    publish(tmp_path / "base", weights(8, 1), 8)
    publish(tmp_path / "delta", spoil(weights(9, 2), how), 9)
    with pytest.raises(StudentError, match=words):
        student.recover_delta(tmp_path / "base", tmp_path / "delta", tmp_path / "out", progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "delta"]


class Harmful:
    def __reduce__(self) -> Any:
        return os.system, ("echo harm > harm.txt",)


def test_files_that_are_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    publish(tmp_path / "base", weights(8, 1), 8)
    publish(tmp_path / "delta", {"x": Harmful()}, 8, "bin")  # type: ignore[dict-item]
    with pytest.raises(StudentError, match=r"pytorch_model.bin cannot be read as weights .*: fetch it again"):
        student.recover_delta("./base", "./delta", tmp_path / "out", progress=False)
    (tmp_path / "delta" / "pytorch_model.bin").unlink()
    with pytest.raises(StudentError, match="holds neither model"):
        student.recover_delta("./base", "./delta", tmp_path / "out", progress=False)
    (tmp_path / "base" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(StudentError, match=r"model.safetensors cannot be read as weights"):
        student.recover_delta("./base", "./delta", tmp_path / "out", progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "delta"]


@pytest.mark.parametrize("held", [[1, 2], {"x": 5}, torch.ones(2)])
def test_a_bin_file_of_anything_else_is_named(tmp_path: Path, held: Any) -> None:
    sources = publish(tmp_path / "base", weights(8, 1), 8), publish(tmp_path / "delta", held, 8, "bin")
    with pytest.raises(StudentError, match=r"pytorch_model.bin cannot be read as weights \(it does not hold tensors"):
        student.recover_delta(*sources, tmp_path / "out", progress=False)


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"weight_map": []}'])
def test_an_index_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    sources = publish(tmp_path / "base", weights(8, 1), 8), publish(tmp_path / "delta", weights(8, 2), 8)
    (sources[0] / "model.safetensors.index.json").write_text(text)
    with pytest.raises(StudentError, match=r"model.safetensors.index.json lists no tensors"):
        student.recover_delta(*sources, tmp_path / "out", progress=False)


def test_a_full_disk_leaves_no_recovered_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lionkit.student.delta.save_file", full)
    sources = publish(tmp_path / "base", weights(8, 1), 8), publish(tmp_path / "delta", weights(8, 2), 8)
    with pytest.raises(LionkitError, match="the disk is full, .*out was not written"):
        student.recover_delta(*sources, tmp_path / "out", progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "delta"]
