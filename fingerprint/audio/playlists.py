"""Parse playlists: the paths and addresses in M3U, PLS, XSPF, ASX, WPL and CUE."""

import html
import os
import re
from contextlib import suppress

PLAYLIST_SUFFIXES = frozenset({".m3u", ".m3u8", ".pls", ".xspf", ".asx", ".wpl", ".cue"})
_LINE_ENDS = re.compile(r"\r\n|\n|\r")
_PLS_FILE = re.compile(r"(?im)^[ \t]*file\d+[ \t]*=[ \t]*(.+?)[ \t]*\r?$")
_XSPF_LOCATION = re.compile(r"(?is)<location>\s*(.*?)\s*</location>")
_CDATA = re.compile(r"(?s)<!\[CDATA\[(.*?)\]\]>")
_ASX_REFERENCE = re.compile(r"""(?is)<(?:ref|entryref)\s[^>]*?href\s*=\s*["'](.*?)["']""")
_WPL_SOURCE = re.compile(r"""(?is)<media\s[^>]*?src\s*=\s*["'](.*?)["']""")
_CUE_FILE = re.compile(r"""(?im)^[ \t]*file[ \t]+(?:"(.+?)"|(\S+))[ \t]+\w+[ \t]*\r?$""")
_CUE_TRACK = re.compile(r"(?im)^[ \t]*track[ \t]+\d+[ \t]+\w+[ \t]*\r?$")
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
        return _unescaped(_ASX_REFERENCE.findall(text))
    if "<playlist" in head:
        return _unescaped(_XSPF_LOCATION.findall(text))
    if head.startswith("<?wpl") or "<smil" in head:
        return _unescaped(_WPL_SOURCE.findall(text))
    if _CUE_FILE.search(text) and _CUE_TRACK.search(text):
        return [quoted or plain for quoted, plain in _CUE_FILE.findall(text)]
    return None


def _unescaped(found: list[str]) -> list[str]:
    """The texts of XML; in a CDATA section nothing is escaped."""
    return [data[1] if (data := _CDATA.fullmatch(text)) else html.unescape(text) for text in found]


def m3u_entries(text: str) -> list[str]:
    """The lines of an M3U playlist, with or without header, that are not comments."""
    return [line for line in map(str.strip, lines(text)) if line and not line.startswith("#")]


def lines(text: str) -> list[str]:
    """Split at line ends only; `str.splitlines` also splits at characters that names may hold."""
    return _LINE_ENDS.split(text)


def text_of(content: bytes) -> str:
    """Decode a playlist: UTF-16, with a byte order mark or without, else as file names are."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    if b"\0" in content and (text := _unmarked_utf_16(content)):
        return text
    return os.fsdecode(content.removeprefix(b"\xef\xbb\xbf"))


def _unmarked_utf_16(content: bytes) -> str | None:
    """Text in UTF-16 without a byte order mark: it has line ends, or is mostly Latin.

    Read by bytes, `/music` would be the names `/`, `m`, ... separated by null characters.
    """
    for encoding in ("utf-16-le", "utf-16-be"):
        with suppress(UnicodeDecodeError):
            text = content.decode(encoding)
            latin = sum(letter < "\u0100" for letter in text)
            if "\0" not in text and ("\n" in text or 2 * latin > len(text)):
                return text
    return None
