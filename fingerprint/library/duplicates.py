"""Groups of tracks that are the same recording, and the best copy in each."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fingerprint.audio.files import Presence, presence
from fingerprint.library.identity import twins_in
from fingerprint.library.library import Library
from fingerprint.library.records import REMOVED, Listed

EQUAL_LENGTH = 1.0  # s; between copies whose lengths differ by less, the bit rate decides


@dataclass(frozen=True, slots=True)
class Version:
    """A file with the recording; `track_id` is None if the catalog lists it as a copy."""

    path: Path
    track_id: int | None
    duration: float  # s
    bytes: int
    exact: bool  # its decoded audio equals that of the best one
    same_file: bool = False  # one file with an earlier one: a hard link, or mounted twice

    @property
    def bit_rate(self) -> float:
        """Bits a second, container and pictures included."""
        return 8 * self.bytes / max(self.duration, 1e-3)


@dataclass(frozen=True, slots=True)
class Group:
    """The same recording in several files, the best first; `cosine`: the least between any two."""

    versions: tuple[Version, ...]
    cosine: float


def find_duplicates(
    library: Library, on_progress: Callable[[int, int], None] = lambda _done, _all: None
) -> list[Group]:
    """Groups of tracks that sound the same from end to end, with the files listed as their copies.

    The best copy is the longest, and of those about as long the one with the highest bit rate.
    """
    now = library.snapshot()
    tracks = {one.id: one for one in library.catalog.listed()}
    spans = [(n, o) for n, o in enumerate(now.owners.tolist()) if o != REMOVED and o in tracks]
    leader = {owner: owner for _, owner in spans}
    cosines: dict[int, float] = {}
    for done, (span, owner) in enumerate(spans):
        on_progress(done, len(spans))
        rows = np.arange(*now.rows.starts[span : span + 2], dtype=np.int64)
        for twin in twins_in(now, now.vectors(rows), step=1):
            other = int(now.owners[twin.track])
            if other != owner and other in leader:
                one, two = sorted((_leader(leader, owner), _leader(leader, other)))
                least = min(twin.cosine, cosines.get(one, 1), cosines.get(two, 1))
                leader[two] = one
                cosines[one] = least
    return _groups(tracks, leader, cosines, library.catalog.copies())


def _leader(leader: dict[int, int], one: int) -> int:
    while leader[one] != one:
        one = leader[one]
    return one


def _groups(
    tracks: dict[int, Listed],
    leader: dict[int, int],
    cosines: dict[int, float],
    copies: dict[Path, int],
) -> list[Group]:
    members: dict[int, list[Listed]] = {}
    for owner in leader:
        members.setdefault(_leader(leader, owner), []).append(tracks[owner])
    noted: dict[int, list[Path]] = {}
    for path, owner in copies.items():
        if owner in leader and presence(path) is not Presence.GONE:
            noted.setdefault(_leader(leader, owner), []).append(path)
    groups = []
    for head, listed in members.items():
        if len(listed) + len(noted.get(head, ())) > 1:
            versions = _ranked(listed, noted.get(head, []))
            groups.append(Group(versions, cosines.get(head, 1.0)))
    return sorted(groups, key=lambda group: group.versions[0].path)


def _ranked(listed: list[Listed], noted: list[Path]) -> tuple[Version, ...]:
    longest = max(one.track.duration for one in listed)

    def rank(one: Listed) -> tuple[bool, float, float]:
        short = one.track.duration < longest - EQUAL_LENGTH
        return short, -one.stamp.size / max(one.track.duration, 1e-3), one.added

    best, *others = sorted(listed, key=rank)
    versions = [
        Version(
            one.track.path,
            one.id,
            one.track.duration,
            one.stamp.size,
            one is best or (bool(one.content) and one.content == best.content),
        )
        for one in (best, *others)
    ]
    # The catalog has no duration and tags of a copy, only its path and its size.
    length = best.track.duration
    copies = (Version(path, None, length, _size(path), exact=False) for path in noted)
    return _names_of_one_file((*versions, *copies))


def _names_of_one_file(versions: tuple[Version, ...]) -> tuple[Version, ...]:
    """Mark files that are the same file as an earlier one: deleting one may delete them all."""
    seen: set[tuple[int, int]] = set()
    found = []
    for version in versions:
        status = _status(version.path)
        file = None if status is None or not status.st_ino else (status.st_dev, status.st_ino)
        found.append(replace(version, same_file=file in seen))
        seen |= {file} if file else set()
    return tuple(found)


def _size(path: Path) -> int:
    status = _status(path)
    return status.st_size if status else 0


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
