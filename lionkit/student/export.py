"""A trained student for others to use: merged 16-bit weights, the adapter beside them, a model card, and GGUF.

The adapter is merged into a 16-bit reload of the base, never into the 4-bit weights it was trained on: those are
rounded already, and a merge would round the adapter away with them. GGUF is written by llama.cpp's own
converter where that is at hand. Nothing is uploaded, and quantised exports are not covered.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from lionkit.errors import StudentError, first_line
from lionkit.files import whole_folder, write_text
from lionkit.student import card
from lionkit.student.checkpoint import explained
from lionkit.student.encode import PLAIN, prompt_ids
from lionkit.student.model import Student, load, resolve

Dtype = Literal["auto", "float16", "bfloat16"]
CONVERTER = "convert_hf_to_gguf.py"
GET_CONVERTER = (
    f"no GGUF: {CONVERTER} is not at hand; clone github.com/ggml-org/llama.cpp, install its requirements, and set "
    "LLAMA_CPP to that folder"
)


@dataclass(frozen=True)
class Export:
    """What was written. Printing it says what it is."""

    folder: Path
    base: str
    """The base as published: a hub id, or the last part of a folder's name."""
    dtype: str
    tensors: int
    gguf: Path | None
    """None where there was no converter."""

    def __str__(self) -> str:
        merged = f"{self.folder}: {self.tensors} tensors, the adapter merged into a {self.dtype} reload of {self.base}"
        lines = [f"{merged} (not into 4-bit weights)", f"{self.folder / 'adapter'}: the adapter on its own"]
        return "\n".join([*lines, f"{self.gguf}: for llama.cpp" if self.gguf else GET_CONVERTER])


def export_student(
    model: str | Path,
    adapter: Path,
    out: Path,
    *,
    gguf: str | Path | None = None,
    provenance: Mapping[str, Any] | None = None,
    dtype: Dtype = "auto",
    template: Literal["auto", "chat", "plain"] = "auto",
    base: str = "",
) -> Export:
    """Write the model with its adapter merged to `out`, whole or not at all, and the adapter to `out/adapter`.

    `gguf` is llama.cpp's folder or its converter; without it LLAMA_CPP and PATH are searched. `provenance` is what
    the card tells of the run (see `card.write`). `auto` keeps the base's own 16-bit type, and float16 for others.
    `base` is the hub id to name where `model` is a folder. A student trained on the plain format gets that as its
    chat template, so that servers prompt it as it was taught. Raises StudentError (no such model or adapter, the
    adapter is another base's, a weight is not finite, the converter failed) and LionkitError (disk).
    """
    converter = find_converter(gguf)
    kind = _choose(model, dtype)
    remedy = "the merge needs all weights in 16 bits; use a machine with more memory"
    # The folder first, so that one that is taken is said before minutes of loading.
    with explained("merging", remedy), whole_folder(out) as work:
        student = load(model, quantize="none", adapter=adapter, template=template, device="cpu", dtype=kind)
        name = base or (Path(student.base).name if Path(student.base).is_absolute() else student.base)
        merged = student.model.merge_and_unload()
        tensors = merged.state_dict()
        if broken := [key for key, tensor in tensors.items() if not tensor.isfinite().all()]:
            remedy = "export as bfloat16, which has float32's range" if kind == "float16" else "train it again"
            raise StudentError(
                f"{len(broken)} merged tensors are not finite ({broken[0]}): nothing was written; {remedy}"
            )
        merged.save_pretrained(work)
        _tokenizer(student).save_pretrained(work)
        _copy_adapter(adapter, work / "adapter", name)
        told = dict(provenance or {})
        if "config" in told:  # `auto` says nothing to whoever prompts it
            told["config"] = told["config"] | {"student": told["config"]["student"] | {"template": student.template}}
        card.write(work / "README.md", name, told, dtype=kind)
        card.write(work / "adapter" / "README.md", name, told, dtype="")
    made = _convert(out, converter, kind) if converter else None
    return Export(out, name, kind, len(tensors), made)


def _choose(model: str | Path, dtype: Dtype) -> Literal["float16", "bfloat16"]:
    from transformers import AutoConfig

    if dtype not in ("auto", "float16", "bfloat16"):
        raise StudentError(f"dtype {dtype!r} is not one to export in: choose auto, float16 or bfloat16")
    try:
        own = AutoConfig.from_pretrained(resolve(model)[1], trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise StudentError(f"cannot read the configuration of {model}: {first_line(error)}") from None
    if getattr(own, "quantization_config", None):
        raise StudentError(
            f"{model} is quantised itself, and a merge would round the adapter away: name its 16-bit base"
        )
    return dtype if dtype != "auto" else "bfloat16" if own.dtype == torch.bfloat16 else "float16"


def _tokenizer(student: Student) -> Any:
    """The base's tokenizer as it came (loading for training sets padding), with the format it was taught."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(student.path, trust_remote_code=False)
    if student.template == "plain":
        begins = prompt_ids(tokenizer, "x", template="plain")[0] == tokenizer.bos_token_id
        turn = PLAIN.replace("{}", "{{ message['content'] }}")
        tokenizer.chat_template = (
            ("{{ bos_token }}" if begins else "")
            + "{% for message in messages %}{% if message['role'] == 'user' %}" + turn
            + "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
        )  # fmt: skip
    return tokenizer


def _copy_adapter(adapter: Path, out: Path, base: str) -> None:
    """The adapter with its base by the published name: a folder of this machine means nothing elsewhere."""
    out.mkdir()
    shutil.copyfile(adapter / "adapter_model.safetensors", out / "adapter_model.safetensors")
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    write_text(out / "adapter_config.json", json.dumps(config | {"base_model_name_or_path": base}, indent=2) + "\n")


def find_converter(gguf: str | Path | None = None) -> Path | None:
    """llama.cpp's converter: `gguf` (it, or its folder), else LLAMA_CPP, else PATH; None where it is nowhere.

    Raises StudentError where a place was named and it is not there.
    """
    named = gguf or os.environ.get("LLAMA_CPP")
    if not named:
        found = shutil.which(CONVERTER)
        return Path(found) if found else None
    place = Path(named).expanduser()
    script = place / CONVERTER if place.is_dir() else place
    if not script.is_file():
        raise StudentError(f"{script} is not there: give llama.cpp's folder, or its {CONVERTER}")
    return script


def _convert(folder: Path, converter: Path, kind: str) -> Path:
    """Have llama.cpp write a GGUF file of the merged weights' own precision into the folder."""
    out, work = (folder / f"{prefix}model-{kind}.gguf" for prefix in ("", "."))
    short = {"float16": "f16", "bfloat16": "bf16"}[kind]
    command = [sys.executable, str(converter), str(folder), "--outfile", str(work), "--outtype", short]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode or not work.is_file():
            said = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1][:200]
            raise StudentError(f"{converter.name} wrote no GGUF ({said}): the merged weights are whole in {folder}")
        os.replace(work, out)
    finally:
        work.unlink(missing_ok=True)
    return out
