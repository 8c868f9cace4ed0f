"""What the machine has to offer: processor cores and a GPU. Imports nothing heavy."""

import ctypes
import os
import sys
from functools import cache
from importlib.util import find_spec

from fingerprint.errors import ModelError


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pick_device(name: str) -> str:
    """`auto` is CUDA where there is one, else the CPU.

    Raises:
        ModelError: CUDA was asked for and there is none.
    """
    if name == "auto":
        return "cuda" if _has_cuda() else "cpu"
    if name.startswith("cuda") and not _has_cuda():
        raise ModelError("there is no CUDA device here; use --device cpu")
    return name


@cache
def _has_cuda() -> bool:
    """Asks torch, whose import takes seconds, only where there is a driver to ask about."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    if find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()
