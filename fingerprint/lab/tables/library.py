"""The cost of changing and growing a library, with generated tracks.

    python -m fingerprint.lab bench-library                 # 10,000 tracks of 10 s each
    python -m fingerprint.lab bench-library --rows 900      # of four minutes: 8 GB, and hours

1. A track is added to a large library and removed again: how long until a reader that is open all
   the while finds it, and no longer finds it; and that no other file was touched.
2. Query time with the same tracks in 1, 10 and 200 segments, before and after compaction.
3. Size on disk before and after half of the tracks are removed and the library is compacted.
"""

import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import click

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from fingerprint.cli.text import counted
from fingerprint.errors import LibraryError
from fingerprint.lab.report_format import markdown_head, markdown_row
from fingerprint.lab.robustness.scenario import HOP, ask, embeddings, path_of
from fingerprint.library.library import create, library_info
from fingerprint.library.profiles import PROFILES
from fingerprint.library.records import Meta, Stamp
from fingerprint.library.snapshot import Snapshot, take_snapshot
from fingerprint.library.store import CATALOG, Catalog
from fingerprint.library.writer import LOCK, Entry, writing
from fingerprint.types import Track

DIM = 128
BATCH = 5_000  # tracks of a commit
QUERIES = 15
EXCERPT = 12  # rows of a query: three seconds and a window


@dataclass(frozen=True, slots=True)
class Options:
    """Size of the library that is measured."""

    tracks: int
    rows: int  # of a track, a quarter second each
    profile: str


@click.command()
@click.option("--tracks", type=click.IntRange(min=10), default=10_000, show_default=True)
@click.option("--rows", type=click.IntRange(min=1), default=40, help="Of a track, 0.25 s each.")
@click.option("--profile", type=click.Choice(list(PROFILES)), default="standard", show_default=True)
def main(tracks: int, rows: int, profile: str) -> None:
    """What changing and growing a library costs. Exit status 1 if a reader was wrong."""
    options = Options(tracks, rows, profile)
    with tempfile.TemporaryDirectory(prefix="fingerprint-") as base:
        right = _change(Path(base) / "large", options)
        _segments(Path(base), options)
    sys.exit(0 if right else 1)


def _change(folder: Path, options: Options) -> bool:
    """Add and remove one track of a large library."""
    _make(folder, options, options.tracks, BATCH)
    with writing(folder) as writer:
        writer.compact()
    info = library_info(folder)
    click.echo(
        f"- {info.tracks:,} tracks, {info.hours:,.1f} h in {info.segments} segments of the profile "
        f"{info.profile}: {info.bytes / 1e6:,.1f} MB, {info.bytes / 1e3 / info.hours:,.0f} kB/h"
    )
    number = options.tracks
    reader = Catalog(folder)
    now = take_snapshot(reader)
    _seconds(now, number // 2, options.rows)  # warm
    before = _files(folder)
    begin = perf_counter()
    with writing(folder) as writer:
        writer.add([_entry(number, options.rows)])
    written = perf_counter() - begin
    now = take_snapshot(reader, now)
    found = _found(now, reader, number, options.rows)
    seen = perf_counter() - begin
    untouched = _untouched(before, _files(folder))
    click.echo(
        f"- one track added: committed after {1000 * written:.0f} ms, in a reader's answer after "
        f"{1000 * seen:.0f} ms; {'no' if untouched else 'SOME'} other file touched"
    )
    before = _files(folder)
    begin = perf_counter()
    with writing(folder) as writer:
        writer.remove([path_of(number // 2)])
    now = take_snapshot(reader, now)
    gone = not _found(now, reader, number // 2, options.rows)
    seen = perf_counter() - begin
    still = _untouched(before, _files(folder))
    click.echo(
        f"- one track removed: in no answer after {1000 * seen:.0f} ms; "
        f"{'no' if still else 'SOME'} other file touched"
    )
    reader.close()
    return found and untouched and gone and still


def _segments(base: Path, options: Options) -> None:
    """Queries of the same tracks in several numbers of segments; then half of them go."""
    tracks = options.tracks // 5
    titles = (
        f"{tracks:,} tracks", "open", f"query, median of {QUERIES}", "compact",
        "then: open", "query", "size",
    )  # fmt: skip
    click.echo("\n" + markdown_head(titles))
    for count in (1, 10, 200):
        folder = base / f"in-{count}"
        _make(folder, options, tracks, -(-tracks // count))
        opened, queried = _timed(folder, tracks, options.rows)
        begin = perf_counter()
        with writing(folder) as writer:
            writer.compact()
        compacted = perf_counter() - begin
        size = library_info(folder).bytes / 1e6
        again, later = _timed(folder, tracks, options.rows)
        cells = (
            counted(count, "segment"), f"{opened:.0f} ms", f"{queried:.1f} ms",
            f"{compacted:.1f} s", f"{again:.0f} ms", f"{later:.1f} ms", f"{size:.1f} MB",
        )  # fmt: skip
        click.echo(markdown_row(cells))
    sizes = [library_info(folder).bytes / 1e6]
    with writing(folder) as writer:
        writer.remove(path_of(number) for number in range(0, tracks, 2))
        sizes.append(library_info(folder).bytes / 1e6)
        writer.compact()
    sizes.append(library_info(folder).bytes / 1e6)
    on_disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    click.echo(
        f"\n- half removed: {sizes[0]:.1f} MB before, {sizes[1]:.1f} MB with the removed rows, "
        f"{sizes[2]:.1f} MB compacted ({on_disk:.1f} MB on disk)"
    )


def _make(folder: Path, options: Options, tracks: int, batch: int) -> None:
    create(folder, Meta("bench", DIM, HOP, PROFILES[options.profile]))
    with writing(folder) as writer:
        for first in range(0, tracks, batch):
            numbers = range(first, min(first + batch, tracks))
            writer.add([_entry(number, options.rows) for number in numbers])


def _entry(number: int, rows: int) -> Entry:
    track = Track(path_of(number), rows * HOP)
    return Entry(track, Stamp(number, number), embeddings(number, rows, DIM))


def _timed(folder: Path, tracks: int, rows: int) -> tuple[float, float]:
    """Milliseconds to open the library, and for a query."""
    begin = perf_counter()
    catalog = Catalog(folder)
    now = take_snapshot(catalog)
    opened = perf_counter() - begin
    numbers = np.random.default_rng(1).integers(0, tracks, QUERIES).tolist()
    times = [_seconds(now, number, rows) for number in numbers]
    catalog.close()
    return 1000 * opened, 1000 * statistics.median(times)


def _seconds(now: Snapshot, number: int, rows: int) -> float:
    excerpt = embeddings(number, rows, DIM)[20 : 20 + EXCERPT]
    begin = perf_counter()
    ask(now, excerpt)
    return perf_counter() - begin


def _found(now: Snapshot, catalog: Catalog, number: int, rows: int) -> bool:
    """Whether an excerpt of the track is answered with it."""
    best = ask(now, embeddings(number, rows, DIM)[20 : 20 + EXCERPT])
    if best is None:
        raise LibraryError("the library gives no answer at all")
    track = catalog.track(int(now.owners[best.track]))
    return track is not None and track.path == path_of(number) and best.score > 0.5


def _files(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What tells whether a file was touched, of all but the catalog and the lock."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith((CATALOG, LOCK)):
            status = path.stat()
            found[path.name] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def _untouched(
    before: dict[str, tuple[int, int, int]], after: dict[str, tuple[int, int, int]]
) -> bool:
    return all(after.get(name) == about for name, about in before.items())
