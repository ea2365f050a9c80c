"""What training leaves on disk: checkpoints to resume from, the finished adapter, and errors in plain words.

A checkpoint is the Trainer's own folder. Its `trainer_state.json` is written last, so a folder without a readable
one, or with a damaged file, was cut short and is passed over. No adapter with a value that is not finite is ever
written.
"""

import errno
import hashlib
import json
import os
import pickle
import shutil
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache
from safetensors import SafetensorError
from safetensors.torch import load_file

from lionkit.errors import StudentError
from lionkit.files import disk_error, write_text
from lionkit.student import ranks
from lionkit.student.model import Student, is_out_of_memory


def fingerprint(student: Student, inputs: list[Any]) -> str:
    """A digest of everything that the trained weights depend on: the student, its adapter, and `inputs`."""
    config = student.model.peft_config["default"].to_dict()
    adapter = {name: config[name] for name in ("r", "lora_alpha", "lora_dropout")}
    place = (student.base, student.quantize, student.dtype, student.device.type)  # each device has its own optimizer
    digest = hashlib.blake2s(repr((*place, adapter, inputs)).encode())
    for name, parameter in student.learned.items():
        digest.update(name.encode() + parameter.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def resumable(folder: Path, made_from: str) -> Iterator[str | None]:
    """The newest whole checkpoint in `folder` that was made from the same inputs, or None.

    The folder is removed when the block ends well. The number of processes may differ from the checkpoint's.
    """
    newest = _newest(folder, made_from) if ranks.leads() else None
    yield ranks.from_leader(newest)
    ranks.from_leader()  # until every process is here
    if ranks.leads():
        shutil.rmtree(folder, ignore_errors=True)


def _newest(folder: Path, made_from: str) -> str | None:
    mark = folder / "inputs.txt"
    if not mark.is_file() or mark.read_text() != made_from:
        if any(folder.glob("checkpoint-*")):
            other = "other rows or settings, or on a device of another kind"
            print(f"The checkpoint there was made from {other}: training begins anew.")
        shutil.rmtree(folder, ignore_errors=True)
        write_text(mark, made_from)
    newest_first = sorted(folder.glob("checkpoint-*"), key=lambda path: -int(path.name.split("-")[1]))
    found = next((path for path in newest_first if _is_whole(path)), None)
    if found and (states := len(list(found.glob("rng_state*.pth")))) != ranks.processes():
        told = f"The checkpoint has the random states of {states} processes, there are {ranks.processes()} now"
        print(f"{told}: with dropout, the rest of the training is not the one that was interrupted.")
    return str(found) if found else None


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
        load_file(checkpoint / "adapter_model.safetensors")
        for name in ("optimizer.pt", "scheduler.pt"):
            torch.load(checkpoint / name, map_location="cpu", weights_only=True)
    except (OSError, EOFError, ValueError, RuntimeError, pickle.UnpicklingError, SafetensorError):
        return False
    return True


def save_adapter(student: Student, out: Path) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json` to `out`, each whole or not at all."""
    if broken := [name for name, parameter in student.learned.items() if not parameter.isfinite().all()]:
        message = f"{len(broken)} adapter weights are not finite ({broken[0]}): not saved; lower student.learning_rate"
        raise StudentError(message, setting="student.learning_rate")
    work = out / "checkpoints" / "adapter"  # goes with that folder, also after a kill
    work.mkdir(parents=True, exist_ok=True)
    student.model.save_pretrained(work, save_embedding_layers=False)  # "auto" would ask the hub
    shutil.copymode(work / "adapter_config.json", work / "adapter_model.safetensors")  # safetensors' own mode is 0600
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        os.replace(work / name, out / name)


@contextmanager
def explained(doing: str, remedies: Mapping[str, Any]) -> Iterator[None]:
    """Turn a full device or disk into one StudentError that says what to change, and free the device's memory.

    `remedies` are the settings that need less memory when they are lowered (or, if False, are set), with their
    values; the best one comes first. Those that are True already are no remedy.
    """
    try:
        with ranks.together():
            yield
    except (MemoryError, RuntimeError, OSError, SafetensorError) as error:
        text, setting = str(error), ""
        if is_out_of_memory(error):
            useful = {name: value for name, value in remedies.items() if value is not True}
            said = [f"set {n} = true" if v is False else f"lower {n} ({v})" for n, v in useful.items()]
            remedy = ", or ".join(said) or "use a machine with more memory"
            message = f"out of memory while {doing}: {remedy}; then load the student again"
            setting = next(iter(useful), "")
        elif isinstance(error, OSError):
            message = str(disk_error(error, error.filename or "the checkpoint"))
        elif "os error 28" in text or "PytorchStreamWriter" in text or "unexpected pos" in text:
            message = str(disk_error(OSError(errno.ENOSPC, text), "a checkpoint or the adapter"))
        else:
            raise
        traceback.clear_frames(error.__traceback__)  # or the frames would keep the tensors
        clear_device_cache(garbage_collection=True)
        raise StudentError(message, setting=setting) from None
