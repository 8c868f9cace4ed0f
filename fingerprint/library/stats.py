"""Statistics of a library: tracks, kinds of files, bytes, dead rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fingerprint.library.records import LibraryInfo, Listed
from fingerprint.library.store import Catalog


@dataclass(frozen=True, slots=True)
class Counts:
    """Statistics of a library; `removed_share`: the share of stored rows that are dead."""

    tracks: int
    hours: float
    artists: int
    albums: int
    kinds: dict[str, int]  # tracks by the suffix of their files, the most frequent first
    copies: int  # files recorded as copies of a track
    profile: str
    segments: int
    bytes: int
    bytes_per_hour: int
    removed_share: float


def count(folder: Path) -> Counts:
    """Raises LibraryError if there is no library, or it is damaged or of another format."""
    catalog = Catalog(folder)
    try:
        infos, spans, listed = catalog.contents()
        info, copies = catalog.info(), len(catalog.copies())
    finally:
        catalog.close()
    stored = sum(segment.rows for segment in infos)
    alive = sum(held.living for held in spans)
    return counted(info, list(listed.values()), copies, alive=alive, stored=stored)


def counted(
    info: LibraryInfo, listed: Sequence[Listed], copies: int, *, alive: int, stored: int
) -> Counts:
    """Statistics from catalog entries; `alive` of the `stored` rows belong to a track."""
    kinds = Counter(one.track.path.suffix.lower() or "none" for one in listed)
    every = [one.track.tags for one in listed]
    return Counts(
        tracks=info.tracks,
        hours=round(info.hours, 4),
        artists=len({tags.artist for tags in every} - {""}),
        albums=len({(tags.artist, tags.album) for tags in every if tags.album}),
        kinds=dict(kinds.most_common()),
        copies=copies,
        profile=info.profile,
        segments=info.segments,
        bytes=info.bytes,
        bytes_per_hour=round(info.bytes / info.hours) if info.hours else 0,
        removed_share=round(1 - alive / stored, 4) if stored else 0.0,
    )
