"""Select tracks by paths, folders, patterns and ids."""

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path

from fingerprint.audio.objects import path_of
from fingerprint.library.records import Listed
from fingerprint.library.sync import missing as without_files
from fingerprint.library.writer import absolute


@dataclass(frozen=True, slots=True)
class Selected:
    """The selected tracks and copies, the names that match none, and how many files patterns match.

    Copies are files that another file's track stands for.
    """

    tracks: list[Listed]
    unknown: list[str]
    copies: list[Path] = field(default_factory=list)
    patterns: dict[str, int] = field(default_factory=dict)  # number of files that each one matches


def select(
    listed: Sequence[Listed],
    what: Iterable[str],
    *,
    ids: Collection[int] = (),
    missing: bool = False,
) -> tuple[list[Listed], list[str]]:
    """As `select_all`, without copies: the selected tracks, and the names that match none."""
    found = select_all(listed, (), what, ids=ids, missing=missing)
    return found.tracks, found.unknown


def select_all(
    listed: Sequence[Listed],
    copies: Collection[Path],
    what: Iterable[str],
    *,
    ids: Collection[int] = (),
    missing: bool = False,
) -> Selected:
    """The tracks and copies that the names match, in the catalog's order.

    A name is a file, a folder with everything in it, or a pattern of `fnmatch`, in which `*`
    stands for slashes too; relative ones begin in the current folder, except for a pattern that
    begins with `*`. A name that is a file's or a folder's, in the library or on the disk, is
    never taken for a pattern. A link and its target are one.
    """
    chosen = {one.id for one in listed if one.id in ids}
    unknown = [f"number {number}" for number in ids if number not in chosen]
    known = {one.track.path for one in listed} | set(copies)
    paths: set[Path] = set()
    patterns: dict[str, int] = {}
    for name in what:
        if not name:  # not the current folder, which a `Path` would make of it
            unknown.append("an empty name")
            continue
        there = absolute(path_of(name))
        found = {path for path in known if path.is_relative_to(there)}
        if not found and os.path.lexists(there):
            found = {path for path in known if _is_real(path, os.path.realpath(there))}
        if not found and _is_pattern(name) and not os.path.lexists(there):
            pattern = name if name.startswith("*") else _rooted(name)
            found = {path for path in known if fnmatchcase(str(path), pattern)}
            patterns[name] = len(found)
        unknown += [] if found else [name]
        paths |= found
    if missing:
        chosen |= {one.id for one in without_files(listed)}
    return Selected(
        [one for one in listed if one.id in chosen or one.track.path in paths],
        unknown,
        sorted(path for path in copies if path in paths),
        patterns,
    )


def _is_real(path: Path, real: str) -> bool:
    """Whether a file is `real` or lies in it, under whatever links."""
    return Path(os.path.realpath(path)).is_relative_to(real)


def _is_pattern(name: str) -> bool:
    return any(letter in name for letter in "*?[")


def _rooted(pattern: str) -> str:
    """A pattern from the root; the current folder's name, whatever it is, means itself."""
    return os.path.normpath(os.path.join(escape(os.getcwd()), pattern))  # noqa: PTH109, PTH118 - no path
