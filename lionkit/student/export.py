"""A trained student for others to use: merged 16-bit weights, the adapter beside them, a model card, and GGUF.

The adapter is merged into a 16-bit reload of the base, never into the 4-bit weights it was trained on: those are
rounded already, and a merge would round the adapter away with them. GGUF is written by llama.cpp's own
converter where that is at hand, with a Modelfile for Ollama. Nothing is uploaded; quantised exports are not covered.
"""

import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from transformers import GenerationConfig

from lionkit.errors import StudentError
from lionkit.files import whole_folder, write_text
from lionkit.student import card
from lionkit.student.checkpoint import explained
from lionkit.student.encode import PLAIN, PROBE, Template, prompt_ids
from lionkit.student.model import Student, load
from lionkit.student.named import read, resolve

Dtype = Literal["auto", "float16", "bfloat16"]
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PLAIN_CHAT = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    + PLAIN.replace("{}", "{{ message['content'] }}")
    + "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
"""The plain format as a chat template."""
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
    gguf: Path | None
    """None where there was no converter."""

    def __str__(self) -> str:
        count = sum(len(list(safe_open(file, "pt").keys())) for file in self.folder.glob("model*.safetensors"))
        merged = f"{self.folder}: {count} tensors, the adapter merged into a {self.dtype} reload of {self.base}"
        lines = [f"{merged} (not into 4-bit weights)", f"{self.folder / 'adapter'}: the adapter on its own"]
        ready = f"{self.gguf}: for llama.cpp, and with the Modelfile for Ollama"
        return "\n".join([*lines, ready if self.gguf else GET_CONVERTER])


def export_student(
    model: str | Path,
    adapter: str | Path,
    out: str | Path,
    *,
    gguf: str | Path | None = None,
    provenance: Mapping[str, Any] | None = None,
    dtype: Dtype = "auto",
    template: Literal["auto", "chat", "plain"] = "auto",
    base: str = "",
) -> Export:
    """Write the model with its adapter merged to `out`, whole or not at all, and the adapter to `out/adapter`.

    Where `out` holds this export already, only its GGUF is written, if that is missing. `gguf` is llama.cpp's folder
    or its converter; without it LLAMA_CPP and PATH are searched. `provenance` is what the card tells of the run (see
    `card.write`). `dtype="auto"` keeps the base's own 16-bit type, and is float16 for others. `base` is the hub id to
    name where `model` is a folder. A student trained on the plain format gets that as its chat template, so that
    servers prompt it as it was taught; its base's penalties and sampling, which `respond` leaves out, stay behind.
    Raises StudentError (no such model or adapter, the adapter is another base's, a weight is not finite, the converter
    failed) and LionkitError (disk, or something else is in `out`).
    """
    adapter, out, converter = Path(adapter), Path(out), find_converter(gguf)
    source, path = resolve(model)
    own, tokenizer, chosen = read(source, path, template)
    kind = _choose(path, own, dtype)
    name = base or (Path(source).name if Path(source).is_absolute() else source)
    if not _is_there(out, adapter, name, kind, chosen):
        # The folder first, so that one that is taken is said before minutes of loading.
        with explained("merging, which needs all weights in 16 bits", {}), whole_folder(out) as work:
            student = load(model, quantize="none", adapter=adapter, template=template, device="cpu", dtype=kind)
            _write_merged(student, work, kind)
            _copy_adapter(adapter, work / "adapter", name)
            for folder, merged in ((work, kind), (work / "adapter", "")):
                card.write(folder / "README.md", name, provenance or {}, dtype=merged, template=student.template)
    made = _convert(out, converter, kind) if converter else None
    if made:
        write_text(out / "Modelfile", _modelfile(made.name, tokenizer, chosen))
    return Export(out, name, kind, made)


def _choose(path: Path | str, own: Any, dtype: Dtype) -> Literal["float16", "bfloat16"]:
    if dtype not in ("auto", "float16", "bfloat16"):
        raise StudentError(f"dtype {dtype!r} is not one to export in: choose auto, float16 or bfloat16")
    if getattr(own, "quantization_config", None):
        raise StudentError(f"{path} is quantised itself, and a merge would lose the adapter: name its 16-bit base")
    return dtype if dtype != "auto" else "bfloat16" if own.dtype == torch.bfloat16 else "float16"


def _is_there(out: Path, adapter: Path, base: str, dtype: str, template: Template) -> bool:
    """Whether `out` holds the same adapter merged into the same base in the same type, with the same template."""
    try:
        named = json.loads((out / "adapter" / CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"]
        stored = json.loads((out / "config.json").read_text(encoding="utf-8"))["dtype"]
        plain = PLAIN_CHAT in (out / "chat_template.jinja").read_text(encoding="utf-8")
        same = (named, stored, plain) == (base, dtype, template == "plain") and any(out.glob("model*.safetensors"))
        return same and filecmp.cmp(adapter / WEIGHTS, out / "adapter" / WEIGHTS, False)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_merged(student: Student, out: Path, dtype: str) -> None:
    """The weights with the adapter merged, and the base's tokenizer with the format that the student was taught."""
    merged = student.model.merge_and_unload()
    if broken := [name for name, tensor in merged.state_dict().items() if not tensor.isfinite().all()]:
        remedy = "export as bfloat16, which has float32's range" if dtype == "float16" else "train it again"
        raise StudentError(f"{len(broken)} merged tensors are not finite ({broken[0]}): nothing was written; {remedy}")
    ends = merged.generation_config.eos_token_id
    merged.generation_config = GenerationConfig(eos_token_id=ends, bos_token_id=student.tokenizer.bos_token_id)
    merged.save_pretrained(out)
    tokenizer = student.tokenizer
    if student.template == "plain":
        begins = prompt_ids(tokenizer, "x", template="plain")[0] == tokenizer.bos_token_id
        tokenizer.chat_template = ("{{ bos_token }}" if begins else "") + PLAIN_CHAT
    tokenizer.save_pretrained(out)


def _copy_adapter(adapter: Path, out: Path, base: str) -> None:
    """The adapter with its base by the published name: a folder of this machine means nothing elsewhere."""
    out.mkdir()
    shutil.copyfile(adapter / WEIGHTS, out / WEIGHTS)
    config = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    write_text(out / CONFIG, json.dumps(config | {"base_model_name_or_path": base}, indent=2) + "\n")


def find_converter(gguf: str | Path | None = None) -> Path | None:
    """llama.cpp's converter: `gguf` (it, or its folder), else LLAMA_CPP, else PATH; None where it is nowhere.

    Raises StudentError where a place was named and it is not there.
    """
    named = gguf or os.environ.get("LLAMA_CPP") or shutil.which(CONVERTER)
    if not named:
        return None
    place = Path(named).expanduser()
    script = place / CONVERTER if place.is_dir() else place
    if not script.is_file():
        raise StudentError(f"{script} is not there: give llama.cpp's folder, or its {CONVERTER}")
    return script


def _modelfile(gguf: str, tokenizer: Any, template: Template) -> str:
    """Ollama's recipe (https://docs.ollama.com/modelfile): the prompt that the student was taught, and where it ends.

    A beginning-of-sequence token that the tokenizer puts before every text is left to llama.cpp, which does so too."""
    ids = prompt_ids(tokenizer, PROBE, template=template)
    if tokenizer("x")["input_ids"][:1] == ids[:1] == [tokenizer.bos_token_id]:
        del ids[0]
    before, _, after = tokenizer.decode(ids).partition(PROBE)
    prompt = f"{before}{{{{ .Prompt }}}}{after}{{{{ .Response }}}}{tokenizer.eos_token}"
    stop = f'PARAMETER stop "{tokenizer.eos_token}"\nPARAMETER temperature 0\nPARAMETER repeat_penalty 1\n'
    return f'FROM ./{gguf}\nTEMPLATE """{prompt}"""\n{stop}'


def _convert(folder: Path, converter: Path, kind: str) -> Path:
    """Have llama.cpp write a GGUF file of the merged weights' own precision into the folder, unless it is there."""
    out, work = (folder / f"{prefix}model-{kind}.gguf" for prefix in ("", "."))
    if out.is_file():
        return out
    short = {"float16": "f16", "bfloat16": "bf16"}[kind]
    command = [sys.executable, str(converter), str(folder), "--outfile", str(work), "--outtype", short]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode or not work.is_file():
            said = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1][:200]
            lacking = re.search(r"No module named '(\w+)", done.stderr)
            remedy = f"install the package {lacking[1]} and export again" if lacking else "export again once it can"
            whole = f"the merged weights are whole in {folder}"
            raise StudentError(f"{converter.name} wrote no GGUF ({said}): {whole} and stay; {remedy}")
        os.replace(work, out)
    finally:
        work.unlink(missing_ok=True)
    return out
