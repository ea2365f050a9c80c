"""Loading a student: 4-bit NF4 (QLoRA, arXiv 2305.14314) or its own precision, with or without an adapter.

Weights come from safetensors only and no code of a model repository is run. Compute type by device: bfloat16
where the processor or card multiplies it natively, float16 on older cards, else float32.
"""

import logging
import os
import re
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, PeftConfig, PeftModel
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.utils.logging import disable_progress_bar

from lionkit.errors import StudentError, first_line
from lionkit.student.encode import Template
from lionkit.student.named import ODD_JSON, positions, read, resolve

logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)  # it asks for a kernel not used here
Quantize = Literal["nf4", "none"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED", "could not create a primitive")
"""What CUDA and Apple's MPS, the CPU's allocator, cuBLAS, and oneDNN say."""


@dataclass
class Student:
    """A model ready to answer. Training changes `model` in place, so that it answers with the new adapter."""

    model: Any
    tokenizer: Any
    template: Template
    device: torch.device
    base: str
    """Hub id or folder of the weights, as an adapter's configuration names it."""
    path: Path | str
    """Where the weights were read from."""
    quantize: Quantize
    dtype: torch.dtype
    """Type of activations, and of weights that are not quantised."""

    @property
    def adapted(self) -> bool:
        """Whether it carries a LoRA adapter."""
        return hasattr(self.model, "peft_config")

    @property
    def learned(self) -> dict[str, Any]:
        """The adapter's own weights by name, of whatever kind: what training changes."""
        return {name: p for name, p in self.model.named_parameters() if self.adapted and p.requires_grad}

    @property
    def network(self) -> Any:
        """The model without what an adapter wraps around it."""
        return self.model.get_base_model() if self.adapted else self.model

    def require_positions(self, tokens: int, new: int = 0) -> None:
        """StudentError where the model has no positions for so many tokens and as many `new` ones."""
        most, setting = positions(self.model.config), "student.max_new_tokens" if new else "student.max_length"
        if most and tokens + new > most:
            asked = f"{tokens} tokens{f' and {new} new ones' if new else ''}"
            message = f"{asked} are too many for {self.base}, which has {most} positions: lower {setting}"
            raise StudentError(message, setting=setting)


def load(
    model: str | Path,
    *,
    quantize: Quantize = "nf4",
    adapter: str | Path | None = None,
    template: Literal["auto", "chat", "plain"] = "auto",
    device: str = "auto",
    dtype: Dtype = "auto",
) -> Student:
    """Load `model` (`SmolLM2-135M-Instruct`, a hub id or a folder) and, on it, the adapter in a folder.

    Raises StudentError when there is no such model, it cannot be read or quantised, the adapter belongs to another
    base, or an option is none of those it can be.
    """
    for name, value, kind in (("quantize", quantize, Quantize), ("dtype", dtype, Dtype)):
        if value not in get_args(kind):
            raise StudentError(f"{name} = {value!r}: choose one of {', '.join(get_args(kind))}")
    disable_progress_bar()
    place = choose_device(device)
    compute = choose_dtype(place) if dtype == "auto" else getattr(torch, dtype)
    base, path = resolve(model)
    _, tokenizer, chosen = read(base, path, template)
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute
    )
    how: dict[str, Any] = {"quantization_config": nf4} if quantize == "nf4" else {}
    how |= {"dtype": compute, "device_map": {"": place}, "use_safetensors": True, "output_loading_info": True}
    try:
        make: Any = AutoModelForCausalLM.from_pretrained  # its annotation does not know output_loading_info
        network, found = make(path, trust_remote_code=False, **how)
    except (OSError, ValueError, ImportError, RuntimeError, MemoryError, SafetensorError, *ODD_JSON) as error:
        if is_out_of_memory(error):
            remedy = "choose a smaller student.model" if quantize == "nf4" else "set student.quantize = 'nf4'"
            message = f"out of memory while loading: {base} does not fit on {place}; {remedy}"
            setting = "student.model" if quantize == "nf4" else "student.quantize"
            raise StudentError(message, setting=setting) from None
        remedy = "give a hub id with safetensors and a network, or a folder"
        raise StudentError(f"cannot load {base} ({first_line(error)}): {remedy}", setting="student.model") from None
    if missing := sorted(found["missing_keys"]):
        raise StudentError(f"the weights of {base} lack {missing[0]} and {len(missing) - 1} more: fetch them anew")
    if quantize == "nf4":
        _require_quantised(network, base)
        _let_go_of_the_file(network)
    if adapter is not None:
        network = add_adapter(network, Path(adapter).expanduser(), base)
    _avoid_packed_kernel(network)
    network.eval()
    return Student(network, tokenizer, chosen, place, base, path, quantize, compute)


def add_adapter(network: Any, adapter: Path, base: str) -> Any:
    """The model with the LoRA adapter of a folder, trainable. Raises StudentError when it is not this model's."""
    if not (adapter / "adapter_model.safetensors").is_file():
        raise StudentError(f"{adapter} holds no adapter_model.safetensors: run the imitation stage that makes it")
    try:
        config = PeftConfig.from_pretrained(str(adapter))
        if type(config) is not LoraConfig:
            kind = type(config).__name__.removesuffix("Config")
            raise StudentError(f"cannot load the adapter in {adapter}: it is {kind}, not LoRA, so train one here")
        named = config.base_model_name_or_path or ""
        if Path(named).name != Path(base).name:
            raise StudentError(f"the adapter in {adapter} was made for {named}, not for {base}: load that model")
        with warnings.catch_warnings():  # a layer without its weights would answer as the base does
            warnings.filterwarnings("error", "Found missing adapter keys")
            adapted = PeftModel.from_pretrained(network, str(adapter), is_trainable=True)
            with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
                layers = {int(n) for key in file.keys() for n in re.findall(r"\.(\d+)\.", key)[:1]}  # noqa: SIM118
            own = network.config.get_text_config().num_hidden_layers
            if layers and layers != set(range(own)):
                raise StudentError(f"the adapter in {adapter} is for {len(layers)} layers, {base} has {own}")
            return adapted
    except (OSError, ValueError, RuntimeError, *ODD_JSON, SafetensorError, Warning) as error:
        raise StudentError(f"cannot load the adapter in {adapter}: {first_line(error)}") from None


def at_least_one(**numbers: int) -> None:
    """StudentError where one of these is less."""
    for name, number in numbers.items():
        if number < 1:
            raise StudentError(f"{name} = {number}: at least 1")


def choose_device(device: str) -> torch.device:
    """`auto` is CUDA (this process's card under `accelerate launch`), else MPS, else the CPU. StudentError where a
    device that is named is not here."""
    if device == "auto" and torch.cuda.is_available():
        return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
    if device == "auto":
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.empty(1, device=device).item()
        return torch.device(device)
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        raise StudentError(f"device = {device!r} cannot be used here ({first_line(error)}): set it to 'auto'") from None


def choose_dtype(device: torch.device) -> torch.dtype:
    """The fastest type that the device computes in natively and that trains without loss scaling, if any."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "mps":
        return torch.bfloat16 if torch.backends.mps.is_macos_or_newer(14, 0) else torch.float32
    native = torch.cpu.get_capabilities()
    return torch.bfloat16 if native.get("avx512_bf16") or native.get("amx_bf16") else torch.float32


def _avoid_packed_kernel(network: Any) -> None:
    """Keep bitsandbytes from repacking 4-bit weights at the first eval-mode forward on CPUs with AVX512-BF16.

    The packed kernel has no autograd: a model that has answered once would then train on wrong gradients,
    silently. With the flag off the weights stay as they are and every path is differentiable.
    """
    for module in network.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _require_quantised(network: Any, base: str) -> None:
    """StudentError where most weights are as they were: bitsandbytes leaves layers alone that it does not know."""
    head, packed, left = network.get_output_embeddings(), 0, Counter[str]()
    for module in network.modules():
        if isinstance(module, Linear4bit):
            packed += module.in_features * module.out_features
        elif not (module is head or isinstance(module, torch.nn.Embedding)):
            left[type(module).__name__] += sum(p.numel() for p in module.parameters(recurse=False) if p.dim() > 1)
    if left.total() > packed:
        share, kind = left.total() / (left.total() + packed), left.most_common(1)[0][0]
        message = f"{share:.0%} of the weights of {base} cannot be quantised ({kind}): set student.quantize = 'none'"
        raise StudentError(message, setting="student.quantize")


def _let_go_of_the_file(network: Any) -> None:
    """Copy what was not quantised out of the mapped weights' file, which would stay in memory whole for its sake."""
    for parameter in network.parameters():
        if parameter.is_floating_point() and parameter.device.type == "cpu":
            parameter.data = parameter.data.clone()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a library's error says that the device, or the machine, has no memory left."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)
