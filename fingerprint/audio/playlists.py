"""Parse playlists: the paths and addresses in M3U, PLS, XSPF and ASX."""

import html
import os
import re

_LINE_ENDS = re.compile(r"\r\n|\n|\r")
_PLS_FILE = re.compile(r"(?im)^[ \t]*file\d+[ \t]*=[ \t]*(.+?)[ \t]*\r?$")
_XSPF_LOCATION = re.compile(r"(?is)<location>\s*(.*?)\s*</location>")
_ASX_REFERENCE = re.compile(r"""(?is)<(?:ref|entryref)\s[^>]*?href\s*=\s*["'](.*?)["']""")
_HEAD = 2_000  # characters by which the format is detected


def entries(text: str) -> list[str] | None:
    """The paths and addresses in a playlist, as they are written; None if it is not a playlist.

    >>> entries("[playlist]\\nFile1=http://host/live.mp3\\nTitle1=Radio\\n")
    ['http://host/live.mp3']
    >>> entries("a song.mp3\\n") is None
    True
    """
    head = text[:_HEAD].lstrip().lower()
    if head.startswith("#extm3u"):
        return m3u_entries(text)
    if head.startswith("[playlist]"):
        return _PLS_FILE.findall(text)
    if "<asx" in head:
        return [html.unescape(found) for found in _ASX_REFERENCE.findall(text)]
    if "<playlist" in head:
        return [html.unescape(found) for found in _XSPF_LOCATION.findall(text)]
    return None


def m3u_entries(text: str) -> list[str]:
    """The lines of an M3U playlist, with or without header, that are not comments."""
    return [line for line in map(str.strip, lines(text)) if line and not line.startswith("#")]


def lines(text: str) -> list[str]:
    """Split at line ends only; `str.splitlines` also splits at characters that names may hold."""
    return _LINE_ENDS.split(text)


def text_of(content: bytes) -> str:
    """Decode a playlist: UTF-16 with a byte order mark, else as file names are decoded."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    return os.fsdecode(content.removeprefix(b"\xef\xbb\xbf"))
