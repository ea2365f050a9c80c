"""What a student's name stands for, and whether that can be one: read from its small files, before a weight is loaded
and anything is paid."""

import re
import socket
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import StrictDataclassError
from peft import PeftConfig
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils.peft_utils import find_adapter_config_file

from lionkit.errors import StudentError, first_line
from lionkit.sandbox import weights
from lionkit.student.encode import Template, prompt_ids

ODD_JSON = (TypeError, KeyError, AttributeError, IndexError, StrictDataclassError)
"""What transformers and peft raise where a JSON file is well-formed but does not hold what they expect."""
REACH_SECONDS = 5.0
"""How long the hub may take to accept a connection."""
GENERATES = ("CausalLM", "LMHead", "ConditionalGeneration")
"""Parts of the names of classes that write text on from a prompt."""


def resolve(model: str | Path) -> tuple[str, Path | str]:
    """(name for records, where to read): the offline student from its cache, a folder, or a hub id. Without a network,
    a hub id is read from transformers' cache; StudentError where it is not there."""
    if str(model) == weights.NAME:
        return weights.HUB_ID, weights.fetch()
    folder, name = Path(str(model)).expanduser(), str(model)
    if folder.is_dir():
        return str(folder.resolve()), folder
    if isinstance(model, Path) or name.startswith((".", "/", "~")) or name.count("/") != 1:
        what = "one .gguf file is no model to train" if name.endswith(".gguf") else f"there is no model {model}"
        raise _refused(f"{what}: give {weights.NAME}, a hub id (owner/name) or a folder")
    host = urlsplit(constants.ENDPOINT)
    if {host.scheme, "all"} & getproxies().keys():  # which may be the only way there
        return name, name
    try:
        socket.create_connection((host.hostname, host.port or 443), REACH_SECONDS).close()
    except OSError:
        cached = try_to_load_from_cache(name, "config.json")
        if not isinstance(cached, str):
            where = f"is not on this machine, and {host.hostname} cannot be reached"
            raise _refused(f"{name} {where}: connect, or give a folder") from None
        return name, Path(cached).parent
    return name, name


def read(base: str, path: Path | str, template: Literal["auto", "chat", "plain"] = "auto") -> tuple[Any, Any, Template]:
    """(configuration, tokenizer, prompt format) of what `resolve` found. StudentError where it is no student."""
    if template not in ("auto", "chat", "plain"):
        message = f"template = {template!r}: choose one of auto, chat, plain"
        raise StudentError(message, setting="student.template")
    try:
        if find_adapter_config_file(str(path)):
            own = PeftConfig.from_pretrained(str(path)).base_model_name_or_path or "an unnamed model"
            raise _refused(f"{base} is a LoRA adapter of {own}: give its base, or merge it into that first")
        if isinstance(path, Path) and any(path.glob("*.gguf")) and not (path / "config.json").is_file():
            raise _refused(f"{base} has GGUF files alone: give the safetensors model that they were made from")
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, ImportError, RuntimeError, *ODD_JSON) as error:
        remedy = "give a hub id with safetensors and a network, or a folder"
        if "trust_remote_code" in str(error):
            remedy = "no code of a model's repository is run, so name a model that transformers has itself"
        elif "GGUF" in base.upper():
            remedy = "GGUF cannot be trained, so give the safetensors model that it was made from"
        elif "recognize this architecture" in str(error):
            remedy = "update transformers, or name another model"
        raise _refused(f"cannot load {base} ({first_line(error)}): {remedy}") from None
    _require_causal(base, config)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, ImportError, RuntimeError, *ODD_JSON) as error:
        remedy = "put the tokenizer files of the model that it was made from beside it"
        raise _refused(f"cannot load the tokenizer of {base} ({first_line(error)}): {remedy}") from None
    text = config.get_text_config()
    if (getattr(text, "pad_token_id", None) or 0) >= text.vocab_size:
        problem = f"config.json of {base} pads with token {text.pad_token_id}, the model has {text.vocab_size}"
        raise _refused(f"{problem}: set pad_token_id to null there, or to one that it has")
    return config, tokenizer, _fit(base, tokenizer, text.vocab_size, template)


def check(own: Any) -> None:
    """StudentError where the student in these settings (`StudentConfig`) cannot be one, or is too short for them."""
    config, _, _ = read(*resolve(own.model), own.template)
    most, wanted = positions(config), own.max_length + own.max_new_tokens
    if most and wanted > most:
        name = "max_length" if own.max_length > most // 2 else "max_new_tokens"
        fits = max(most - wanted + getattr(own, name), most // 2)
        sizes = f"student.max_length {own.max_length} + student.max_new_tokens {own.max_new_tokens}"
        message = f"{own.model} has {most} positions, fewer than {sizes}: lower student.{name} to {fits}"
        raise StudentError(message, setting=f"student.{name}")


def positions(config: Any) -> int:
    """The longest sequence, in tokens, that a model was made for; 0 where it has no such limit."""
    return max(getattr(config.get_text_config(), "max_position_embeddings", None) or 0, 0)


def turning(config: Any) -> int:
    """The length, in tokens, beyond which LongRoPE (arXiv 2402.13753) turns every row of a batch by other angles, even
    for the sake of one; 0 for other models. What "dynamic" stands for turns at `positions`."""
    rope = getattr(config.get_text_config(), "rope_parameters", None) or {}
    kinds = [kind for kind in (rope, *rope.values()) if isinstance(kind, dict)]  # one, or one for each kind of layer
    return max((k["original_max_position_embeddings"] for k in kinds if k.get("rope_type") == "longrope"), default=0)


def _refused(message: str) -> StudentError:
    return StudentError(message, setting="student.model")


def _require_causal(base: str, config: Any) -> None:
    """Refuse what does not write text on from a prompt, what LoRA on all linear layers does not fit, and weights that
    others have quantised."""
    text, kinds = config.get_text_config(), getattr(config, "architectures", None) or []
    generates = not kinds or any(part in kind for kind in kinds for part in GENERATES)
    if config.is_encoder_decoder or not generates or type(config) not in AutoModelForCausalLM._model_mapping:
        what = kinds[0] if kinds else type(config).__name__
        raise _refused(f"{base} is no causal language model ({what}): name one, such as a chat model")
    states = re.compile("mamba|ssm|lru")
    if not getattr(text, "num_attention_heads", None) or any(states.search(name) for name in text.to_dict()):
        raise _refused(f"{base} is a state-space model ({text.model_type}), which is not covered: name a transformer")
    how = getattr(config, "quantization_config", None)
    method = how.get("quant_method", "") if isinstance(how, dict) else getattr(how, "quant_method", "")
    if how and "bitsandbytes" not in str(method):
        raise _refused(f"{base} is quantised already ({method}): give the 16-bit model that it was made from")


def _fit(base: str, tokenizer: Any, rows: int, template: str) -> Template:
    """The prompt format of a tokenizer for an embedding with so many rows. StudentError where a token that matters has
    no row; its padding token may have none, since it is never used."""
    eos = tokenizer.eos_token_id
    if eos is None:
        raise _refused(f"the tokenizer of {base} has no end-of-sequence token, so no answer would ever end")
    chosen: Template = "chat" if template == "chat" or (template == "auto" and tokenizer.chat_template) else "plain"
    problem = "" if chosen == "plain" or tokenizer.chat_template else f"{base} has no chat template"
    try:
        used = prompt_ids(tokenizer, "x", template="plain" if problem else chosen)
    except Exception as error:  # the template is a program of whoever made the model
        problem = f"the chat template of {base} cannot be used ({first_line(error)})"
    if problem:
        raise StudentError(f"{problem}: set student.template = 'plain'", setting="student.template")
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    for token, number in tokenizer.get_vocab().items():
        if number >= rows and (number in {eos, *used} or number not in special):
            message = f"the tokenizer of {base} has a token {token!r} ({number}), the model only {rows}"
            raise _refused(f"{message}: put the tokenizer beside it that was saved with these weights")
    return chosen
