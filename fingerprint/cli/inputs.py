"""The inputs of commands: files, standard input, lists and playlists of files."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes, urlsplit

from fingerprint.audio.files import display_name, without_password
from fingerprint.audio.playlists import (
    PLAYLIST_SUFFIXES,
    entries,
    lines,
    m3u_entries,
    text_of,
)
from fingerprint.cli.options import STDIN
from fingerprint.errors import AudioError

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def recording(name: str) -> Path | BinaryIO:
    """The file of that name, or standard input for "-".

    Raises:
        AudioError: it is a folder, a playlist, an address on the network, or a terminal.
    """
    if name == STDIN:
        return standard_input()
    path = local(name)
    if path.is_dir():
        raise AudioError(f"{display_name(name)} is a folder; name the files in it")
    if path.suffix.lower() in PLAYLIST_SUFFIXES and path.is_file():
        raise AudioError(f"{display_name(name)} is a playlist; name the files in it")
    return path


def local(name: str) -> Path:
    """The path of a name or of a file:// address; other addresses are refused.

    Raises:
        AudioError: it is an address; or it is empty, as an unset shell variable, which `Path` would
            take for the current folder.
    """
    if not name:
        raise AudioError("one of the names is empty; the current folder is called .")
    path = Path(next(_spellings(name)))
    if _ADDRESS.match(name) and name[:5].lower() != "file:" and not path.exists():
        raise AudioError(
            f"{display_name(without_password(name))} is an address, not a file: save it first, or "
            "let `fingerprint listen --url` follow it"
        )
    return path


def standard_input() -> BinaryIO:
    """Standard input; raises AudioError if it is a terminal."""
    if sys.stdin.isatty():
        raise AudioError("standard input is a terminal; send audio into it, as in: ... < FILE")
    return sys.stdin.buffer


def spoken(name: str) -> str:
    """The name of a recording in messages."""
    return "standard input" if name == STDIN else display_name(without_password(name))


def listed(file: Path | None) -> list[str]:
    """The names in a list, one a line or separated by null characters, or in a playlist.

    Names in a playlist are relative to its folder, others to the current folder; if there is no
    such file, it is the other way round. A line that begins with # is a comment, unless there is
    such a file.

    Raises:
        AudioError: it is not text. A line of a recording, say, might be a single slash.
    """
    if file is None:
        return []
    by_pipe = str(file) == STDIN
    text = text_of(sys.stdin.buffer.read() if by_pipe else file.read_bytes())
    if "\0\0" in text or text.startswith("\0"):  # no name is empty
        raise AudioError(f"{spoken(str(file))} is no list of names, nor a playlist")
    names = m3u_entries(text) if file.suffix.lower() in (".m3u", ".m3u8") else entries(text)
    here, beside = Path(), Path() if by_pipe else file.parent
    if names is not None:
        return [_meant(name, (beside, here)) for name in names]
    if text.endswith("\0") or ("\0" in text and "\n" not in text):
        return [_meant(name, (here, beside)) for name in text.split("\0") if name]
    found = ((name, _meant(name, (here, beside))) for name in lines(text) if name.strip())
    return [path for name, path in found if name[0] != "#" or os.path.lexists(path)]


def _meant(name: str, places: tuple[Path, Path]) -> str:
    """The first spelling of a name that exists as a file, or else the name itself."""
    if _ADDRESS.match(name) and not name.lower().startswith("file:"):
        return name
    paths = [str(place / spelling) for spelling in _spellings(name) for place in places]
    return next((path for path in paths if os.path.lexists(path)), paths[0])


def _spellings(name: str) -> Iterator[str]:
    """Spellings of a name: as it is, and as playlists of other systems may encode it."""
    if name.lower().startswith("file:"):
        yield os.fsdecode(unquote_to_bytes(urlsplit(name).path))
        return
    yield name
    yield os.fsdecode(unquote_to_bytes(os.fsencode(name)))
    yield name.replace("\\", "/")
    yield os.fsencode(name).decode("latin-1").replace("\\", "/")
