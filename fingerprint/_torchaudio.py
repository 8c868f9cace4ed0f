"""The one door to torchaudio.

PyPI's torchaudio wheel is linked against CUDA. Beside a CPU-only torch its C++ extension cannot
load; nothing here needs it, so it is then replaced by an empty one before the import is tried
again. A matching pair of wheels imports as it is.
"""

import sys
import types
from importlib import import_module
from typing import Any


def import_torchaudio() -> Any:
    """Import torchaudio, without its C++ extension where that does not load."""
    try:
        return import_module("torchaudio")
    except (OSError, RuntimeError):
        for name in [n for n in sys.modules if n.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules["torchaudio._extension"] = _empty_extension()
        return import_module("torchaudio")


def _empty_extension() -> types.ModuleType:
    module = types.ModuleType("torchaudio._extension")

    def unavailable(function: Any) -> Any:
        def call(*_args: object, **_options: object) -> Any:
            raise RuntimeError(f"{function.__name__} needs torchaudio's C++ extension")

        return call

    vars(module).update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        _check_cuda_version=lambda: None,
        fail_if_no_align=unavailable,
    )
    return module
