"""The model card of an exported student: how it was made, by which teacher, how it scored, and what it is not.

Follows the Hugging Face hub's format (YAML, then Markdown). Only what is listed here is told: settings of the
method and of training, versions, counts, scores. Folders of the user's machine, addresses and keys are not
part of it, and every value is escaped, since names and messages may come from a model or a stranger's file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from lionkit.files import write_text

PAPER = "2305.12870"
METHOD = ("seed", "train_size", "heldout_size", "iterations", "hard_size", "easy_size", "tau", "novelty",
          "teacher_temperature", "referee_temperature", "generator_temperature")  # fmt: skip
TRAINING = ("quantize", "template", "rank", "alpha", "dropout", "learning_rate", "epochs", "batch_size", "accumulation",
            "max_length")  # fmt: skip
LICENSES = {"HuggingFaceTB/SmolLM2-135M-Instruct": "apache-2.0"}
"""Licences known for certain; of any other base the card says to look."""
SCORES = ("iteration", "train_pool", "cache_pool", "hard", "easy", "undecided", "relative_score", "exact_match")


def write(path: Path, base: str, provenance: Mapping[str, Any], *, dtype: str) -> None:
    """Write the card. `dtype` is that of merged weights; empty for an adapter on its own.

    `provenance` may hold `iteration`, `config` (`config.to_dict`), `run` (a run's provenance.json), `iterations`
    (the rows of `loop.summarise`); what is not there is left out.
    """
    config, run = provenance.get("config", {}), provenance.get("run", {})
    parts = [
        f"---\n{_front_matter(base, adapter=not dtype)}\n---",
        f"# A student of {text(base)}",
        _made(base, config, provenance.get("iteration"), dtype),
        *_table("## Scores by iteration", SCORES, provenance.get("iterations", []), _SCORES_NOTE),
        *_list("## Settings", {k: config[k] for k in METHOD if k in config}),
        *_list("## Training", {k: config["student"][k] for k in TRAINING if k in config.get("student", {})}),
        *_list("## Made with", {**run.get("versions", {}), **{k: run[k] for k in ("python", "revision") if k in run}}),
        _limits(base),
    ]
    write_text(path, "\n\n".join(parts) + "\n")


def _front_matter(base: str, *, adapter: bool) -> str:
    from huggingface_hub import ModelCardData

    on_hub = bool(re.fullmatch(r"[\w.-]+/[\w.-]+", base))
    return ModelCardData(
        base_model=base if on_hub else None,
        base_model_relation=("adapter" if adapter else "finetune") if on_hub else None,
        library_name="peft" if adapter else "transformers",
        license=LICENSES.get(base),
        pipeline_tag="text-generation",
        tags=["lionkit", "adversarial-distillation", f"arxiv:{PAPER}", *(["lora"] if adapter else [])],
    ).to_yaml()


def _made(base: str, config: Mapping[str, Any], iteration: Any, dtype: str) -> str:
    teacher = config.get("api", {}).get("model", "")
    roles = {"referee": config.get("referee_model"), "generator": config.get("generator_model"),
             "judge": config.get("judge_model")}  # fmt: skip
    others = "".join(f", {role} {text(model)}" for role, model in roles.items() if model)
    if teacher == "answer-key":
        taught = "Its teacher was lionkit's answer key: rules for sixteen families of instructions, no language model."
    else:
        taught = f"Its teacher was {text(teacher)}{others}." if teacher else "Its teacher is not recorded."
    form = (
        f"The LoRA adapter is merged into a {dtype} reload of the base, not into 4-bit weights; `adapter/` is it alone."
        if dtype
        else "This is the LoRA adapter alone: load it on its base, or serve it with vLLM."
    )
    trained = f"trained by adversarial distillation (arXiv {PAPER})"
    after = f" after iteration {text(iteration)}" if iteration is not None else ""
    return f"{text(base)}, {trained} with lionkit{after}.\n{taught} {form}"


_SCORES_NOTE = (
    "On held-out instructions; iteration 0 is the base. Relative score: the student's total over the teacher's, "
    "both orders, under the run's judge. Measured with the base as it was in training (see `quantize`): on 16-bit "
    "weights some answers differ."
)


def _limits(base: str) -> str:
    known = "" if base in LICENSES else " The base's licence is not known to lionkit: look it up before you publish."
    return (
        "## Limits\n\nIt imitates its teacher, mistakes included, on the kinds of instructions it was taught. The "
        "scores come from one run under one judge and say nothing about other tasks, safety or bias. No person checked "
        "them. "
        f"The base's licence and the terms of the teacher's provider apply.{known}"
    )


def _list(title: str, values: Mapping[str, Any]) -> list[str]:
    return [title + "\n\n" + "\n".join(f"- {text(k)}: {text(v)}" for k, v in values.items())] if values else []


def _table(title: str, columns: tuple[str, ...], rows: Any, note: str) -> list[str]:
    if not rows:
        return []
    cells = [columns, ["---"] * len(columns), *([text(_score(c, row.get(c))) for c in columns] for row in rows)]
    return ["\n".join([title, "", *(f"| {' | '.join(line)} |" for line in cells), "", note])]


def _score(column: str, value: Any) -> Any:
    return "-" if value is None else f"{value:.1%}" if column in ("relative_score", "exact_match") else value


def text(value: Any) -> str:
    """A value as harmless Markdown on one line; of a folder of this machine only its last part."""
    said = " ".join(str(value).split())[:200]
    if said.startswith(("/", "~", ".")) or PureWindowsPath(said).drive:
        said = PureWindowsPath(said).name
    return re.sub(r"[^\w .,/%+-]", lambda found: f"&#{ord(found[0])};", said)
