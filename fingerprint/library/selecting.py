"""Which tracks are meant by paths, folders, patterns and numbers?"""

from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from fingerprint.library.records import Listed
from fingerprint.library.sync import missing as without_files
from fingerprint.library.writer import absolute


def select(
    listed: Sequence[Listed],
    what: Iterable[str],
    *,
    ids: Collection[int] = (),
    missing: bool = False,
) -> tuple[list[Listed], list[str]]:
    """The tracks that are named, in their order, and the names that mean none.

    A name is a file, a folder with everything in it, or a pattern of `fnmatch`, in which `*`
    stands for slashes too; relative ones begin in the current folder, except for a pattern that
    begins with `*`.
    """
    chosen = {one.id for one in listed if one.id in ids}
    unknown = [f"number {number}" for number in ids if number not in chosen]
    for name in what:
        found = {one.id for one in listed if _means(name, one.track.path)}
        unknown += [] if found else [name]
        chosen |= found
    if missing:
        chosen |= {one.id for one in without_files(listed)}
    return [one for one in listed if one.id in chosen], unknown


def _means(name: str, path: Path) -> bool:
    there = absolute(Path(name))
    if path.is_relative_to(there):
        return True
    pattern = name if name.startswith("*") else str(there)
    return any(letter in name for letter in "*?[") and fnmatchcase(str(path), pattern)
