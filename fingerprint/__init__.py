"""Recognise recorded music from a noisy snippet.

The names below are the public interface. Each is imported when it is first used, so that
`import fingerprint` and the command line's `--help` stay instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fingerprint.audio.confined import load_clip
    from fingerprint.audio.files import find_audio
    from fingerprint.errors import (
        AudioError,
        CalibrationWarning,
        ConfigError,
        CorpusError,
        FingerprintError,
        LibraryError,
        ModelError,
    )
    from fingerprint.explaining.evidence import Explanation, explain
    from fingerprint.library.indexing import index_files
    from fingerprint.library.library import Library
    from fingerprint.listening.listener import Event, listen
    from fingerprint.model.fingerprinter import Fingerprinter
    from fingerprint.scanning.scanner import Scanner, scan
    from fingerprint.scanning.spans import Heard, Span
    from fingerprint.types import Clip, Fingerprint, Match, Tags, Track

    __version__: str

__all__ = [
    "AudioError",
    "CalibrationWarning",
    "Clip",
    "ConfigError",
    "CorpusError",
    "Event",
    "Explanation",
    "Fingerprint",
    "FingerprintError",
    "Fingerprinter",
    "Heard",
    "Library",
    "LibraryError",
    "Match",
    "ModelError",
    "Scanner",
    "Span",
    "Tags",
    "Track",
    "explain",
    "find_audio",
    "index_files",
    "listen",
    "load_clip",
    "scan",
]

_HOME = {
    "AudioError": "fingerprint.errors",
    "CalibrationWarning": "fingerprint.errors",
    "Clip": "fingerprint.types",
    "ConfigError": "fingerprint.errors",
    "CorpusError": "fingerprint.errors",
    "Event": "fingerprint.listening.listener",
    "Explanation": "fingerprint.explaining.evidence",
    "Fingerprint": "fingerprint.types",
    "FingerprintError": "fingerprint.errors",
    "Fingerprinter": "fingerprint.model.fingerprinter",
    "Heard": "fingerprint.scanning.spans",
    "Library": "fingerprint.library.library",
    "LibraryError": "fingerprint.errors",
    "Match": "fingerprint.types",
    "ModelError": "fingerprint.errors",
    "Scanner": "fingerprint.scanning.scanner",
    "Span": "fingerprint.scanning.spans",
    "Tags": "fingerprint.types",
    "Track": "fingerprint.types",
    "explain": "fingerprint.explaining.evidence",
    "find_audio": "fingerprint.audio.files",
    "index_files": "fingerprint.library.indexing",
    "listen": "fingerprint.listening.listener",
    "load_clip": "fingerprint.audio.confined",
    "scan": "fingerprint.scanning.scanner",
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
