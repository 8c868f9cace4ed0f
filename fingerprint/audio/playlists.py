"""Playlists: what M3U, PLS, XSPF and ASX name, in their order."""

import html
import os
import re

_LINE_ENDS = re.compile(r"\r\n|\n|\r")
_PLS_FILE = re.compile(r"(?im)^[ \t]*file\d+[ \t]*=[ \t]*(.+?)[ \t]*\r?$")
_XSPF_LOCATION = re.compile(r"(?is)<location>\s*(.*?)\s*</location>")
_ASX_REFERENCE = re.compile(r"""(?is)<(?:ref|entryref)\s[^>]*?href\s*=\s*["'](.*?)["']""")
_HEAD = 2_000  # characters in which a list says what it is


def entries(text: str) -> list[str] | None:
    """What a playlist names: paths and addresses as they are written; None if it is none.

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
    """The lines of an M3U list, with or without its header, that are no comments."""
    return [line for line in map(str.strip, lines(text)) if line and not line.startswith("#")]


def lines(text: str) -> list[str]:
    """Lines as files have them: names may hold what Unicode takes for the end of a line."""
    return _LINE_ENDS.split(text)


def text_of(content: bytes) -> str:
    """A list as text; bytes that are not text stay what they are, as in names of files."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    return os.fsdecode(content.removeprefix(b"\xef\xbb\xbf"))
