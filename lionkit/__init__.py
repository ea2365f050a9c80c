"""lionkit: adversarial distillation of a closed teacher into an open student, step by step in notebooks."""

import logging
from importlib import import_module
from typing import Any

__version__ = "0.1.0"
_ELSEWHERE = {"compare": "lionkit.run.compare", "filters": "lionkit.generator"}
"""What is offered here and lives in a room, which is only opened when it is asked for."""

# On CPUs with bfloat16 it warns of a kernel that it lacks; lionkit does not use it, since it has no gradients.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module 'lionkit' has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE[name]), name)
