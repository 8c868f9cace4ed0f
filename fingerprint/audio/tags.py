"""What a file says about its recording. Tags are strangers' text: cleaned and capped."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from tinytag import TinyTag

from fingerprint.audio.files import is_control
from fingerprint.types import Tags

LONGEST = 500  # characters of a tag that are kept
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def read_tags(source: Path | BinaryIO, metadata: Mapping[str, str] | None = None) -> Tags:
    """Title, artists, album, ISRC and MusicBrainz ids; empty where the file says nothing.

    `metadata` is what the decoder found in containers that TinyTag does not read: Matroska,
    QuickTime, AVI, WavPack and others.

    Never raises: a recording with damaged tags, or of a kind whose tags cannot be read, is still a
    recording. Several artists are joined with commas.
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
            if not source.is_file():  # a pipe would be emptied
                return Tags()
            found = TinyTag.get(source, duration=False)
        else:
            source.seek(0)
            found = TinyTag.get(getattr(source, "name", None), file_obj=source, duration=False)
        other = {_plain(key): [str(value) for value in found.other[key]] for key in found.other}
    except Exception:  # a stranger's file finds every bug of a parser
        return Tags()
    return Tags(
        title=_clean(found.title),
        artist=_clean(", ".join(filter(None, [found.artist, *other.get("artist", [])]))),
        album=_clean(found.album),
        isrc=_clean(next(iter(other.get("isrc", [])), "")),
        # The recording's id is called the track's; ID3 keeps it in a frame of owner and id.
        musicbrainz_recording=_uuid(other, "musicbrainztrackid")
        or _uuid(other, "ufid", owner="http://musicbrainz.org"),
        musicbrainz_release=_uuid(other, "musicbrainzalbumid"),
    )


def _plain(key: str) -> str:
    """One name for `MUSICBRAINZ_TRACKID`, `MusicBrainz Track Id` and `MusicBrainz/Track Id`."""
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
