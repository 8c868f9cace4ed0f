"""A library as one file, and as embeddings for other tools.

The file is a ZIP archive without compression: `library.json`, `tracks.jsonl` with one track a line,
and the codes and spectral peaks of each segment as NumPy arrays. Importing writes to no path that
the archive names. Indices are not in it, because Annoy does not check an index file, so a crafted
one could crash the process; they are built anew from the codes.
"""

import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from fingerprint.audio.files import display_name, quoted, unquoted
from fingerprint.audio.peaks import are_sound
from fingerprint.audio.report import Damage
from fingerprint.config import INDEXED_DIMS, Positive, PositiveInt, Record
from fingerprint.disk import atomic_write, flush
from fingerprint.errors import LibraryError
from fingerprint.library.library import create, holds_something
from fingerprint.library.profiles import profile_of
from fingerprint.library.records import REMOVED, Listed, Meta, SegmentInfo, Spans, Stamp
from fingerprint.library.segments import (
    CODES,
    PEAK_KIND,
    PEAKS,
    Stored,
    open_rows,
    write_segment,
)
from fingerprint.library.snapshot import Snapshot
from fingerprint.library.store import CATALOG, Catalog
from fingerprint.library.writer import absolute, writing
from fingerprint.types import Tags, Track

FORMAT = 4  # format 3 did not list copies
READABLE = (3, FORMAT)
IMPORTING = ".importing"  # of a folder while it is filled
LONGEST_LINE = 1 << 20  # bytes that describe a track
OnProgress = Callable[[int, int], None]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Time = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
Text = Annotated[str, Field(max_length=20_000)]
TAGS = frozenset(Tags.__dataclass_fields__)


class SegmentLine(Record):
    """A segment of the archive."""

    id: PositiveInt
    rows: PositiveInt


class Manifest(Record):
    """What `library.json` says."""

    format: int
    model: Text
    dim: Annotated[int, Field(gt=0, le=65_536)]
    hop: Positive
    profile: Text
    segments: list[SegmentLine]
    indexed_dims: PositiveInt | None = None  # None: the default


class DamageLine(Record):
    """What was lost of a recording."""

    kind: Text
    message: Text
    seconds: Annotated[float, Field(ge=0, le=1e9)]


class CopyLine(Record):
    """A file that holds the same recording."""

    path: Text
    size: Count
    mtime_ns: Time


class TrackLine(Record):
    """A line of `tracks.jsonl`; the bytes of paths are percent-encoded."""

    path: Text
    segment: PositiveInt
    first_row: Count
    rows: PositiveInt
    size: Count
    mtime_ns: Time
    content: Annotated[str, Field(pattern="^([0-9a-f]{2}){0,64}$")]
    duration: Annotated[float, Field(ge=0, le=1e9)]
    added: Annotated[float, Field(ge=-1e12, le=1e12)]
    tags: dict[str, Text]
    damage: tuple[DamageLine, ...] = ()
    copies: tuple[CopyLine, ...] = ()


def export_library(
    folder: Path, file: Path, on_progress: OnProgress = lambda _done, _all: None
) -> None:
    """Write a library, as it is at this moment, to one file; writers need not stop.

    Raises:
        LibraryError: the library is damaged, or the file cannot be written.
    """
    catalog = Catalog(folder)
    try:
        infos, spans, listed, stored = _opened(catalog)
        meta = catalog.meta
        lines = [SegmentLine(id=info.id, rows=info.rows) for info in infos]
        manifest = Manifest(
            format=FORMAT,
            model=meta.model_id,
            dim=meta.dim,
            hop=meta.hop,
            profile=meta.profile.name,
            segments=lines,
            indexed_dims=meta.stored_indexed_dims,
        )
        with _written(file) as new, _new_archive(new) as archive:
            archive.writestr("library.json", manifest.model_dump_json(exclude_none=True))
            with archive.open("tracks.jsonl", "w", force_zip64=True) as stream:
                damage, copies = catalog.damage(), catalog.copies_by_track()
                for info, held in zip(infos, spans, strict=True):
                    for span in held.alive.tolist():
                        one = listed[int(held.owners[span])]
                        place = (info.id, int(held.starts[span]), int(held.rows[span]))
                        line = _line_of(one, place, damage.get(one.id, ()), copies.get(one.id, ()))
                        stream.write(line.model_dump_json().encode() + b"\n")
            for number, (info, array) in enumerate(zip(infos, stored, strict=True)):
                on_progress(number, len(infos))
                for suffix, part in ((CODES, array.codes), (PEAKS, array.peaks)):
                    with archive.open(_member(info.id, suffix), "w", force_zip64=True) as stream:
                        np.lib.format.write_array(stream, part, allow_pickle=False)
    finally:
        catalog.close()


def import_library(
    file: Path, folder: Path, on_progress: OnProgress = lambda _done, _all: None
) -> None:
    """Make a library from a file, in a new or an empty folder; it is complete or not there.

    Raises:
        LibraryError: the file is no exported library or is damaged, or the folder is not empty.
    """
    place = absolute(folder)  # . and .. have no name to make a draft's name of
    inside = (
        place.is_dir()
    )  # it is filled, not replaced: it may be a mount point or the current folder
    if os.path.lexists(place) and (not inside or holds_something(place, but=IMPORTING)):
        raise LibraryError(f"{folder} is not empty: import into a new or an empty folder")
    new = place / IMPORTING if inside else place.with_name(place.name + IMPORTING)
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise LibraryError(f"cannot read {file}: {error.strerror}") from error
    try:
        shutil.rmtree(new, ignore_errors=True)
        _unpack(file, new, on_progress)
        if inside:
            for entry in sorted(new.iterdir(), key=lambda one: one.name == CATALOG):
                entry.replace(place / entry.name)
            flush(place)
        else:
            new.replace(place)
            flush(place.parent)
    except OSError as error:
        raise LibraryError(f"cannot import into {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def export_embeddings(now: Snapshot, catalog: Catalog, file: Path) -> int:
    """Write every track's embeddings for other tools; returns the number of rows.

    `.npz` holds `vectors` (R, dim), `track` (R,) and `time` (R,) in s, and `paths`; `.parquet` has
    a row for each embedding: path, title, artist, time, vector.

    Raises:
        LibraryError: the file cannot be written, or PyArrow is not installed.
    """
    paths, titles, artists, lengths, rows = [], [], [], [], []
    for span, owner in enumerate(now.owners.tolist()):
        listed = catalog.by_id(owner)
        if listed is not None:
            numbers = np.arange(*now.rows.starts[span : span + 2], dtype=np.int64)
            paths.append(display_name(listed.track.path))
            titles.append(listed.track.tags.title)
            artists.append(listed.track.tags.artist)
            lengths.append(len(numbers))
            rows.append(now.vectors(numbers))
    vectors = np.concatenate([np.zeros((0, catalog.meta.dim), np.float32), *rows])
    time = np.concatenate([np.zeros(0), *(np.arange(n) * now.hop for n in lengths)])
    track = np.repeat(np.arange(len(paths)), lengths)
    with _written(file) as new:
        if file.suffix == ".npz":
            with new.open("wb") as stream:
                np.savez(stream, vectors=vectors, track=track, time=time, paths=np.array(paths))
        else:
            columns = {"path": paths, "title": titles, "artist": artists}
            spread = {name: np.array(text)[track] for name, text in columns.items()}
            _write_parquet(new, {**spread, "time": time}, vectors)
    return len(vectors)


def _write_parquet(file: Path, columns: dict[str, Any], vectors: Any) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise LibraryError(
            "Parquet needs PyArrow: pip install 'fingerprint[parquet]', or write a .npz file"
        ) from error
    flat = pyarrow.array(vectors.ravel())
    columns["vector"] = pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    with file.open("wb") as stream:  # PyArrow accepts only names that are valid text
        pyarrow.parquet.write_table(pyarrow.table(columns), stream)


def _opened(
    catalog: Catalog,
) -> tuple[list[SegmentInfo], list[Spans], dict[int, Listed], list[Stored]]:
    """The catalog and the codes of one moment; they stay readable while writers go on."""
    while True:
        infos, spans, listed = catalog.contents()
        try:
            stored = [open_rows(catalog.folder, info, catalog.meta) for info in infos]
            return infos, spans, listed, stored
        except LibraryError:
            if catalog.contents()[0] == infos:  # else a segment was merged meanwhile
                raise


@contextmanager
def _written(file: Path) -> Iterator[Path]:
    """A draft that replaces `file` once it is complete."""
    try:
        with atomic_write(file) as draft:
            yield draft
            flush(draft)
    except OSError as error:
        raise LibraryError(f"cannot write {file}: {error.strerror or error}") from error


@contextmanager
def _new_archive(file: Path) -> Iterator[zipfile.ZipFile]:
    """A ZIP archive without compression; it stays incomplete if the block raises."""
    with file.open("wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        try:
            yield archive
        except BaseException:
            archive.fp = None  # closing it would raise: a member is being written
            raise


def _member(segment: int, suffix: str) -> str:
    return f"segments/{segment:06d}.{suffix}"


def _line_of(
    one: Listed,
    place: tuple[int, int, int],
    damage: tuple[Damage, ...],
    copies: Iterable[tuple[Path, Stamp]],
) -> TrackLine:
    tags = one.track.tags
    segment, first_row, rows = place
    return TrackLine(
        path=quoted(one.track.path),
        segment=segment,
        first_row=first_row,
        rows=rows,
        size=one.stamp.size,
        mtime_ns=one.stamp.mtime_ns,
        content=one.content.hex(),
        duration=one.track.duration,
        added=one.added,
        tags={name: getattr(tags, name) for name in sorted(TAGS)},
        damage=tuple(DamageLine.model_validate(one.as_record()) for one in damage),
        copies=tuple(
            CopyLine(path=quoted(path), size=stamp.size, mtime_ns=stamp.mtime_ns)
            for path, stamp in copies
        ),
    )


def _unpack(file: Path, folder: Path, on_progress: OnProgress) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            manifest = Manifest.model_validate_json(archive.read(_plain(archive, "library.json")))
            if manifest.format not in READABLE:
                raise LibraryError(
                    f"{file} has format {manifest.format}, not {READABLE[0]} or {FORMAT}"
                )
            profile = profile_of(manifest.profile)
            meta = Meta(
                manifest.model,
                manifest.dim,
                manifest.hop,
                profile,
                manifest.indexed_dims or INDEXED_DIMS,
            )
            tracks = sorted(_tracks(archive), key=lambda line: (line.segment, line.first_row))
            _check_places(manifest.segments, tracks)
            _check_paths(tracks)
            create(folder, meta)
            _fill(archive, folder, meta, manifest.segments, tracks, on_progress)
    except (zipfile.BadZipFile, EOFError, KeyError, NotImplementedError, ValueError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise LibraryError(f"{file} is no exported library, or is damaged: {reason}") from error


def _fill(
    archive: zipfile.ZipFile,
    folder: Path,
    meta: Meta,
    segments: list[SegmentLine],
    tracks: list[TrackLine],
    on_progress: OnProgress,
) -> None:
    with writing(folder) as writer:
        for number, info in enumerate(segments):
            on_progress(number, len(segments))
            here = [line for line in tracks if line.segment == info.id]
            if not here:
                continue
            stored = _stored(archive, info, meta)
            edges = {edge for line in here for edge in (line.first_row, line.first_row + line.rows)}
            starts = sorted({0, len(stored), *edges})
            pieces = [stored.part(a, b - a) for a, b in pairwise(starts)]
            segment = write_segment(folder, number + 1, pieces, meta)
            with writer.catalog.transaction():
                owners = {line.first_row: _insert(writer.catalog, line) for line in here}
                held = Spans.of((owners.get(a, REMOVED) for a in starts[:-1]), map(len, pieces))
                writer.catalog.insert_segment(segment, held)


def _check_places(segments: list[SegmentLine], tracks: list[TrackLine]) -> None:
    """Raises ValueError if one of the tracks, in their order, overlaps another or its segment."""
    rows = {segment.id: segment.rows for segment in segments}
    free = dict.fromkeys(rows, 0)
    for line in tracks:
        if line.segment not in rows:
            raise ValueError(f"a track lies in segment {line.segment}, which does not exist")
        if line.first_row < free[line.segment]:
            raise ValueError("a track overlaps another")
        free[line.segment] = line.first_row + line.rows
        if free[line.segment] > rows[line.segment]:
            raise ValueError(f"a track lies beyond segment {line.segment}")


def _tracks(archive: zipfile.ZipFile) -> Iterator[TrackLine]:
    with archive.open(_plain(archive, "tracks.jsonl")) as stream:
        while line := stream.readline(LONGEST_LINE):
            yield TrackLine.model_validate_json(line)


def _check_paths(tracks: Iterable[TrackLine]) -> None:
    """Raises ValueError if a path is listed twice or is not absolute."""
    seen: set[Path] = set()
    for line in tracks:
        for path in map(unquoted, [line.path, *(copy.path for copy in line.copies)]):
            if not path.is_absolute() or "\0" in str(path):
                raise ValueError(f"{display_name(path)[:200]!r} is no absolute path")
            if path in seen:
                raise ValueError(f"{display_name(path)[:200]!r} is listed twice")
            seen.add(path)


def _insert(catalog: Catalog, line: TrackLine) -> int:
    """Add a track to a catalog; returns its id."""
    known = {name: text for name, text in line.tags.items() if name in TAGS}
    number = catalog.insert_track(
        Track(unquoted(line.path), line.duration, Tags(**known)),
        Stamp(line.size, line.mtime_ns),
        bytes.fromhex(line.content),
        added=line.added,
        damage=[Damage.of_record(one.model_dump()) for one in line.damage],
    )
    for one in line.copies:
        catalog.insert_copy(unquoted(one.path), Stamp(one.size, one.mtime_ns), number)
    return number


def _stored(archive: zipfile.ZipFile, info: SegmentLine, meta: Meta) -> Stored:
    """A segment's codes and peaks, from the archive."""
    profile = meta.profile
    codes = (info.rows, profile.width(meta.dim))
    peaks = (info.rows, meta.peaks_kept)
    stored = Stored(
        _array(archive, _member(info.id, CODES), codes, profile.kind),
        _array(archive, _member(info.id, PEAKS), peaks, PEAK_KIND),
    )
    if not are_sound(stored.peaks, meta.peak_block):
        raise ValueError(f"segment {info.id} has peaks where there can be none")
    return stored


def _array(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, int], kind: np.dtype[Any]
) -> NDArray[Any]:
    """An array of the archive; its file must have exactly the length that the shape implies."""
    member = _plain(archive, name)
    header = BytesIO()
    np.lib.format.write_array_header_1_0(
        header,
        {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape},
    )
    length = shape[0] * shape[1] * kind.itemsize
    if member.file_size != len(header.getvalue()) + length:
        raise ValueError(f"{member.filename} has an unexpected length")
    with archive.open(member) as stream:
        if stream.read(len(header.getvalue())) != header.getvalue():
            raise ValueError(f"{member.filename} has an unexpected header")
        array: NDArray[Any] = np.frombuffer(stream.read(length), kind).reshape(shape)
    return array


def _plain(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """A member that is stored without compression: a compressed one could exceed the disk."""
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        raise ValueError(f"{name} is compressed or encrypted")
    return member
