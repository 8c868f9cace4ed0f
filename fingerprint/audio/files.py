"""Which files are recordings, where they are, and how to name them to a person."""

import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from fingerprint.errors import AudioError

# What libsndfile decodes by itself, and what needs FFmpeg.
# fmt: off
SNDFILE_SUFFIXES = frozenset({
    ".wav", ".wave", ".rf64", ".w64", ".aif", ".aiff", ".aifc", ".au", ".caf",
    ".flac", ".ogg", ".oga", ".opus", ".mp3",
})
FFMPEG_SUFFIXES = frozenset({
    ".aac", ".ac3", ".amr", ".ape", ".dsf", ".m4a", ".m4b", ".mka", ".mp2", ".mpc", ".tta",
    ".weba", ".wma", ".wv",
    ".3gp", ".asf", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts",
    ".ogv", ".webm", ".wmv",
})
# fmt: on
AUDIO_SUFFIXES = SNDFILE_SUFFIXES | FFMPEG_SUFFIXES


def find_audio(paths: Iterable[Path]) -> Iterator[Path]:
    """Every recording in files and folders, each once, in a fixed order.

    A file that is named is taken whatever its suffix. A folder is walked in sorted order, its files
    before its folders; links are followed, but no folder or file is visited twice; hidden entries,
    folders that may not be read and files without one of `AUDIO_SUFFIXES` are left out.

    Raises:
        AudioError: a path does not exist, or is a folder that may not be read.
    """
    seen: set[Path] = set()
    for path in paths:
        try:
            folder = stat.S_ISDIR(path.stat().st_mode)
            if folder:
                os.scandir(path).close()  # may it be read?
        except (OSError, ValueError) as error:  # ValueError: a null character
            raise AudioError(f"cannot read {display_name(path)}: {reason(error)}") from error
        if folder:
            yield from _walk(path, seen)
        elif _is_new(path, seen):
            yield path


def _walk(folder: Path, seen: set[Path]) -> Iterator[Path]:
    if not _is_new(folder, seen):
        return
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:  # such as the lost+found of a drive
        return
    modes = {entry: _mode(entry) for entry in entries}
    for entry in entries:
        known = entry.suffix.lower() in AUDIO_SUFFIXES
        if known and stat.S_ISREG(modes[entry]) and _is_new(entry, seen):
            yield entry
    for entry in entries:
        if stat.S_ISDIR(modes[entry]):
            yield from _walk(entry, seen)


def _mode(path: Path) -> int:
    """What a folder's entry is, through links; 0 for a link to nowhere or in a circle."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _is_new(path: Path, seen: set[Path]) -> bool:
    """Whether the file behind `path` has not been seen yet; it has from now on."""
    resolved = Path(os.path.realpath(path))
    if resolved in seen:
        return False
    seen.add(resolved)
    return True


def reason(error: OSError | ValueError) -> str:
    """The system's words for what went wrong, to stand after a colon."""
    words = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return words[:1].lower() + words[1:]


def display_name(path: Path | str) -> str:
    r"""A path as one printable line: bytes that are not text and control characters as `\x..`."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(
        character.encode("unicode_escape").decode() if is_control(character) else character
        for character in text
    )


def is_control(character: str) -> bool:
    """Whether it breaks the line, moves the cursor or reorders text, instead of showing a glyph."""
    joiner = character in "\u200c\u200d"  # part of the spelling in several scripts
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and not joiner
