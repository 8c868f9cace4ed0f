"""Which files are recordings, where they are, and how to name them to a person."""

import os
import stat
import unicodedata
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path

from fingerprint.audio.formats import AUDIO_SUFFIXES
from fingerprint.errors import AudioError


def find_audio(paths: Iterable[Path], seen: set[Hashable] | None = None) -> Iterator[Path]:
    """Every recording in files and folders, each once, in a fixed order.

    A file that is named is taken whatever its suffix. A folder is walked in sorted order, its files
    before its folders; links are followed, but no folder or file is visited twice; hidden entries,
    folders that may not be read and files without one of `AUDIO_SUFFIXES` are left out. `seen`
    takes what was visited from one call to the next.

    Raises:
        AudioError: a path does not exist, or is a folder that may not be read.
    """
    seen = set() if seen is None else seen
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


def _walk(folder: Path, seen: set[Hashable]) -> Iterator[Path]:
    """Without recursion: folders may lie deeper than Python's stack."""
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        try:
            if not _is_new(folder, seen):
                continue
            entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        except OSError:  # such as the lost+found of a drive, or a path that is too long
            continue
        modes = {entry: _mode(entry) for entry in entries}
        for entry in entries:
            known = entry.suffix.lower() in AUDIO_SUFFIXES and not _is_typescript(entry)
            if known and stat.S_ISREG(modes[entry]) and _is_new(entry, seen):
                yield entry
        waiting += [entry for entry in reversed(entries) if stat.S_ISDIR(modes[entry])]


def _is_typescript(path: Path) -> bool:
    """Whether a .ts is a program's source: a broadcast's packets begin with G."""
    if path.suffix.lower() != ".ts":
        return False
    try:
        with path.open("rb") as file:
            head = file.read(189)
    except OSError:
        return False
    return not (head[:1] == b"G" or head[4:5] == b"G")


def _mode(path: Path) -> int:
    """What a folder's entry is, through links; 0 for a link to nowhere or in a circle."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _is_new(path: Path, seen: set[Hashable]) -> bool:
    """Whether the file or folder behind `path` has not been seen yet; it has from now on.

    A folder is known by its number: to resolve the links of every path of a deep tree takes long.
    """
    status = path.stat()
    found: Hashable = (status.st_dev, status.st_ino)
    if not stat.S_ISDIR(status.st_mode) or not status.st_ino:
        found = os.path.realpath(path)
    if found in seen:
        return False
    seen.add(found)
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
