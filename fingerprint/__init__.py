"""Recognise recorded music from a noisy snippet.

The names below are the public interface. Each is imported when it is first used, so that
`import fingerprint` and the command line's `--help` stay instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fingerprint.audio.decode import load_clip
    from fingerprint.audio.files import find_audio
    from fingerprint.errors import (
        AudioError,
        ConfigError,
        CorpusError,
        FingerprintError,
        LibraryError,
        ModelError,
    )
    from fingerprint.library.indexing import index_files
    from fingerprint.library.library import Library
    from fingerprint.model.fingerprinter import Fingerprinter
    from fingerprint.types import Clip, Fingerprint, Match, Tags, Track

    __version__: str

__all__ = [
    "AudioError",
    "Clip",
    "ConfigError",
    "CorpusError",
    "Fingerprint",
    "FingerprintError",
    "Fingerprinter",
    "Library",
    "LibraryError",
    "Match",
    "ModelError",
    "Tags",
    "Track",
    "find_audio",
    "index_files",
    "load_clip",
]

_HOME = {
    "AudioError": "fingerprint.errors",
    "Clip": "fingerprint.types",
    "ConfigError": "fingerprint.errors",
    "CorpusError": "fingerprint.errors",
    "Fingerprint": "fingerprint.types",
    "FingerprintError": "fingerprint.errors",
    "Fingerprinter": "fingerprint.model.fingerprinter",
    "Library": "fingerprint.library.library",
    "LibraryError": "fingerprint.errors",
    "Match": "fingerprint.types",
    "ModelError": "fingerprint.errors",
    "Tags": "fingerprint.types",
    "Track": "fingerprint.types",
    "find_audio": "fingerprint.audio.files",
    "index_files": "fingerprint.library.indexing",
    "load_clip": "fingerprint.audio.decode",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fingerprint")
    except PackageNotFoundError:  # used from a checkout, without being installed
        return "0+checkout"
