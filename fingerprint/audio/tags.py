"""Read the tags of a file. They are untrusted: cleaned of control characters, limited in length."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from tinytag import TinyTag

from fingerprint.audio.files import is_control
from fingerprint.types import Tags

LONGEST = 500  # characters kept of a tag
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def read_tags(source: Path | BinaryIO, metadata: Mapping[str, str] | None = None) -> Tags:
    """Title, artists, album, ISRC and MusicBrainz ids; empty where the file has none.

    `metadata` holds what the decoder found; it is used for containers that TinyTag does not read:
    Matroska, QuickTime, AVI, WavPack and others. Several artists are joined with commas.

    Never raises: without readable tags, a recording is still a recording.
    """
    found = _by_tinytag(source)
    if not metadata or (found.title and found.artist):
        return found
    named = {_plain(key): text for key, text in metadata.items()}
    return Tags(
        title=found.title or _clean(named.get("title")),
        artist=found.artist or _clean(named.get("artist") or named.get("albumartist")),
        album=found.album or _clean(named.get("album")),
        isrc=found.isrc or _clean(named.get("isrc") or named.get("tsrc")),
        musicbrainz_recording=found.musicbrainz_recording
        or _uuid({"id": [named.get("musicbrainztrackid", "")]}, "id"),
        musicbrainz_release=found.musicbrainz_release
        or _uuid({"id": [named.get("musicbrainzalbumid", "")]}, "id"),
    )


def _by_tinytag(source: Path | BinaryIO) -> Tags:
    try:
        if isinstance(source, Path):
            if not source.is_file():  # reading from a pipe would consume it
                return Tags()
            found = TinyTag.get(source, duration=False)
        else:
            source.seek(0)
            found = TinyTag.get(getattr(source, "name", None), file_obj=source, duration=False)
        other = {_plain(key): [str(value) for value in found.other[key]] for key in found.other}
    except Exception:  # untrusted files trigger all kinds of errors in a parser
        return Tags()
    return Tags(
        title=_clean(found.title),
        artist=_clean(", ".join(filter(None, [found.artist, *other.get("artist", [])]))),
        album=_clean(found.album),
        isrc=_clean(next(iter(other.get("isrc", [])), "")),
        # MusicBrainz calls the recording's id "track id"; ID3 has it in a UFID frame (owner, id).
        musicbrainz_recording=_uuid(other, "musicbrainztrackid")
        or _uuid(other, "ufid", owner="http://musicbrainz.org"),
        musicbrainz_release=_uuid(other, "musicbrainzalbumid"),
    )


def _plain(key: str) -> str:
    """Normalise `MUSICBRAINZ_TRACKID`, `MusicBrainz Track Id` and `MusicBrainz/Track Id` alike."""
    return re.sub(r"[^a-z]", "", key.lower())


def _clean(text: str | None) -> str:
    """One line of at most `LONGEST` characters, without control characters."""
    spaced = "".join(" " if is_control(character) else character for character in text or "")
    return " ".join(spaced.split())[:LONGEST].rstrip()


def _uuid(other: dict[str, list[str]], key: str, owner: str = "") -> str:
    for text in other.get(key, []):
        if text.startswith(owner) and (match := UUID.search(text.lower())):
            return match.group()
    return ""
