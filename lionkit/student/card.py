"""The model card of an exported student: how it was made, by which teacher, how to ask it, how it scored.

Written by huggingface_hub from `card.txt`. Only what is listed here is told: settings of the method and of training,
versions, counts, scores. Folders of the user's machine, addresses and keys are not part of it, and every value is
escaped, since names and messages may come from a model or a stranger's file.
"""

import re
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from lionkit.files import write_text
from lionkit.student.encode import Template

PAPER = "2305.12870"
METHOD = (
    "seed train_size heldout_size iterations hard_size easy_size tau novelty "
    "teacher_temperature referee_temperature generator_temperature"
).split()
TRAINING = "quantize template rank alpha dropout learning_rate epochs step_rows max_length".split()
SCORES = "iteration train_pool cache_pool hard easy undecided relative_score exact_match".split()
LICENSES = {"HuggingFaceTB/SmolLM2-135M-Instruct": "apache-2.0"}
"""Licences known for certain; of any other base the card says to look."""


def write(path: Path, base: str, provenance: Mapping[str, Any], *, dtype: str, template: Template) -> None:
    """Write the card. `dtype` is that of merged weights; empty for an adapter on its own. `template` is the prompt
    format that the student was taught: its settings may say `auto`, which says nothing to whoever prompts it.

    `provenance` may hold `iteration`, `config` (`config.to_dict`), `run` (a run's provenance.json), `iterations`
    (the rows of `loop.summarise`); what is not there is left out.
    """
    config, run = provenance.get("config", {}), provenance.get("run", {})
    training = config.get("student", {}) | {"template": template}
    on_hub = bool(re.fullmatch(r"[\w.-]+/[\w.-]+", base))
    data = ModelCardData(
        base_model=base if on_hub else None,
        base_model_relation=("finetune" if dtype else "adapter") if on_hub else None,
        library_name="transformers" if dtype else "peft",
        license=LICENSES.get(base),
        pipeline_tag="text-generation",
        tags=["lionkit", "adversarial-distillation", f"arxiv:{PAPER}", *([] if dtype else ["lora"])],
    )
    roles = {role: config.get(f"{role}_model") for role in ("referee", "generator", "judge")}
    told = {
        "iteration": provenance.get("iteration"),
        "teacher": config.get("api", {}).get("model"),
        "others": {role: model for role, model in roles.items() if model},
        "rows": provenance.get("iterations", []),
        "settings": {name: config[name] for name in METHOD if name in config},
        "training": {name: training[name] for name in TRAINING if name in training},
        "versions": run.get("versions", {}) | {name: run[name] for name in ("python", "revision") if name in run},
    }
    fixed = {"base": base, "paper": PAPER, "dtype": dtype, "scores": SCORES, "known": base in LICENSES}
    form = str(Path(__file__).with_name("card.txt"))
    card = ModelCard.from_template(data, template_path=form, text=text, cell=_cell, **fixed, **told)
    write_text(path, f"{card}\n")


def _cell(column: str, value: Any) -> str:
    shown = "-" if value is None else f"{value:.1%}" if column in ("relative_score", "exact_match") else value
    return text(shown)


def text(value: Any) -> str:
    """A value as harmless Markdown on one line; of a folder of this machine only its last part."""
    said = " ".join(str(value).split())[:200]
    if said.startswith(("/", "~", ".")) or PureWindowsPath(said).drive:
        said = PureWindowsPath(said).name
    return re.sub(r"[^\w .,/%+-]", lambda found: f"&#{ord(found[0])};", said)
