"""lionkit: adversarial distillation of a closed teacher into an open student, step by step in notebooks."""

import logging
import os
from importlib import import_module
from typing import Any

__version__ = "0.1.0"
_ELSEWHERE = {"compare": "lionkit.run.compare", "filters": "lionkit.generator"}
"""What is offered here and lives in a room, which is only opened when it is asked for."""

# Heard before torch is loaded only, and by every process that is started from here; what is set already stays.
# oneDNN, and PyTorch's layer over it, keep a compiled product for each shape of a batch, up to 1,024 each: rows of
# mixed length fill memory with them, step after step.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
os.environ.setdefault("LRU_CACHE_CAPACITY", "64")
# How often a thread of libgomp looks whether the others are done before it sleeps: by default so long that training
# beside a busy program takes several times as long. With 1,000 it takes as long there as if they slept at once, and
# alone hardly longer than by default (docs/measurements.md).
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# On CPUs with bfloat16 it warns of a kernel that it lacks; lionkit does not use it, since it has no gradients.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module 'lionkit' has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE[name]), name)
