"""Weights that were published as a difference: target = base + delta, tensor by tensor.

Early LLaMA students (Alpaca, Vicuna, the paper's own Lion-7B) were released so, for the licence's sake. The target
may have more tokens than the base, mostly one for padding. What their rows are relative to is a convention of
the release: Alpaca and Lion first give the base rows that are the mean of its own (`added_rows="mean"`), Vicuna
v0 rows of zeros (`"zero"`). They came as `.bin` files, so these are read too, as plain tensors and without running
what a pickle may hold (`weights_only`); what is written is safetensors.
"""

import json
import pickle
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import load_state_dict_from_file, snapshot_download, split_torch_state_dict_into_shards
from safetensors import SafetensorError
from safetensors.torch import save_file

from lionkit.errors import StudentError, first_line
from lionkit.files import whole_folder, write_text
from lionkit.progress import Progress
from lionkit.student.model import resolve

AddedRows = Literal["mean", "zero"]
"""What a token that the base lacks is relative to: the mean of the base's rows, or nothing."""
SHARD = "1GB"
"""Size of the files that are written: about twice that is held in memory at a time."""
COMPUTED = "rotary_emb.inv_freq"
"""A table that old checkpoints hold and transformers computes: no weight."""


def recover_delta(
    base: str | Path, delta: str | Path, out: Path, *, added_rows: AddedRows = "mean", progress: bool = True
) -> Path:
    """Add a published delta to its base and write the model to `out`, whole or not at all; returns `out`.

    `base` and `delta` are folders or hub ids. Sums are rounded to the delta's type, as when it was made.
    Configuration and tokenizer are the delta's. Raises StudentError, naming the tensor, where the two do not
    fit (names, shapes, types) or a sum is not finite, and LionkitError for the disk.
    """
    if added_rows not in ("mean", "zero"):
        raise StudentError(f"added_rows = {added_rows!r}: mean (Alpaca, Lion) or zero (Vicuna v0)")
    sources = [_folder(model) for model in (base, delta)]
    before, change = (_weights(folder) for folder in sources)
    untold = "tells no vocab_size: give a model in transformers' format"
    _check(before, change, *(_told(folder / "config.json", "vocab_size", int, untold) for folder in sources))
    shapes = {name: tensor.to("meta") for name, tensor in change.items()}
    plan = split_torch_state_dict_into_shards(shapes, max_shard_size=SHARD)
    with whole_folder(out) as work, Progress(len(change), "recovering", "tensors", shown=progress) as bar:
        for file, names in plan.filename_to_tensors.items():
            save_file({n: _sum(n, before[n], change[n], added_rows) for n in names}, work / file, {"format": "pt"})
            bar.update(len(names))
        if plan.is_sharded:
            index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
            write_text(work / "model.safetensors.index.json", json.dumps(index, indent=2))
        for path in sources[1].iterdir():
            if path.suffix in (".json", ".model", ".txt", ".jinja") and not path.name.endswith(".index.json"):
                shutil.copyfile(path, work / path.name)
    return out


def _sum(name: str, base: torch.Tensor, delta: torch.Tensor, added_rows: AddedRows) -> torch.Tensor:
    """base [rows, ...] + delta [rows + added, ...], in float32 and rounded once; see `AddedRows`."""
    start = base.to(delta.dtype).float()  # the delta was taken from the base in this type
    if added := len(delta) - len(base) if delta.dim() else 0:
        row = start.mean(0, keepdim=True).to(delta.dtype).float() * (added_rows == "mean")
        start = torch.cat([start, row.expand(added, -1)])
    total = (start + delta.float()).to(delta.dtype)
    if not total.isfinite().all():
        raise StudentError(f"{name}: base + delta is not finite; a file is damaged, or this is another base's delta")
    return total


def _check(base: dict[str, Any], delta: dict[str, Any], small: int, large: int) -> None:
    """Raise StudentError at the first tensor that does not fit; `small` and `large` are the vocabularies."""
    for name in sorted(base.keys() ^ delta.keys()):
        where, other = ("base", "delta") if name in base else ("delta", "base")
        raise StudentError(f"{name} is in the {where} and not in the {other}: this is another base's delta")
    for name, change in delta.items():
        one, two = tuple(base[name].shape), tuple(change.shape)
        grown = one[:1] == (small,) and two[:1] == (large,) and large > small and one[1:] == two[1:] and len(one) == 2
        if one != two and not grown:
            rule = f"only a vocabulary may grow, from {small} to {large} by the two configurations"
            raise StudentError(f"{name} is {list(one)} in the base and {list(two)} in the delta: {rule}")
        for kind in (base[name].dtype, change.dtype):
            if not kind.is_floating_point or kind.itemsize < 2:
                raise StudentError(f"{name} holds {kind}: weights must be 16 or 32 bits, not quantised")


def _told(path: Path, key: str, kind: type, problem: str) -> Any:
    """What a JSON file says under a key; StudentError with the problem where it says nothing of that kind."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        if isinstance(value := json.loads(path.read_text(encoding="utf-8"))[key], kind):
            return value
    raise StudentError(f"{path} {problem}")


def _folder(model: str | Path) -> Path:
    """The folder of a model; from the hub, with safetensors where it has them and `.bin` files where it has not."""
    name, path = resolve(model)
    if isinstance(path, Path):
        return path
    try:
        for weights in ("model*.safetensors", "pytorch_model*.bin"):
            folder = Path(snapshot_download(name, allow_patterns=["*.json", "*.model", "*.txt", "*.jinja", weights]))
            if any(folder.glob(weights)):
                break
        return folder
    except OSError as error:  # the hub's own errors are such
        remedy = "give a folder, or a hub id and a network"
        raise StudentError(f"cannot fetch {name} ({first_line(error)}): {remedy}") from None


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor by its name, mapped from disk: bytes are read when they are used."""
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise StudentError(f"{folder} holds neither model*.safetensors nor pytorch_model*.bin: give a model's folder")
    found: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            # Before PyTorch 1.6 a .bin was no zip archive, and cannot be mapped.
            read = load_state_dict_from_file(file, "cpu", weights_only=True, mmap=zipfile.is_zipfile(file), safe=False)
            if not isinstance(read, dict) or not all(isinstance(part, torch.Tensor) for part in read.values()):
                raise TypeError("it does not hold tensors by name")
            found |= {str(name): tensor for name, tensor in read.items()}
        except (SafetensorError, pickle.PickleError, RuntimeError, OSError, TypeError, ValueError, EOFError) as error:
            remedy = "fetch it again, or have its owner's program write safetensors"
            raise StudentError(f"{file} cannot be read as weights ({first_line(error)}): {remedy}") from None
    index = folder / f"{files[0].name.split('-')[0].split('.')[0]}{files[0].suffix}.index.json"
    unlisted = "lists no tensors: fetch the model again"
    listed = _told(index, "weight_map", dict, unlisted) if index.is_file() else {}
    if lost := listed.keys() - found.keys():
        raise StudentError(f"{folder} lacks {min(lost)}, which {index.name} lists: fetch the model again")
    return {name: tensor for name, tensor in found.items() if not name.endswith(COMPUTED)}
