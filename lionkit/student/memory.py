"""Memory: the most that a training held, and whether a library's error says that there is none left."""

from __future__ import annotations

import ctypes
import re
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED", "could not create a primitive")
"""What CUDA and Apple's MPS, the CPU's allocator, cuBLAS, and oneDNN say."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a library's error says that the device, or the machine, has no memory left."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)


def reset_peak(device: torch.device) -> None:
    """Have `peak_memory` count from now on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError, AttributeError):  # Linux with glibc; elsewhere the peak is the one since the process began
        ctypes.CDLL(None).malloc_trim(0)  # loading leaves up to 350 MB of freed blocks
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """Most bytes held since the peak was last reset (where it can be): tensors on CUDA, else the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError):  # getrusage would count the process that started this one
        if found := re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text()):
            return int(found[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
