"""Queries against a library that grows: time, memory, disk and top-1 by the number of tracks.

    python -m fingerprint.lab bench-growth --tracks 1000 --tracks 10000
    python -m fingerprint.lab bench-growth --tracks 1000000 --seconds 100 --profile large

The library holds every training, validation and test track and, up to each number, made-up ones;
it is kept and grows from run to run. A made-up track is the sum of stretches of two real tracks,
one of them played backwards (`world.made_up`), with the peaks of a third, in which low and high are
exchanged: as like its neighbours as real rows are, but like no real track.

The queries are phone snippets of 5 s of validation tracks, and of tracks that are in no library.
The first answer of a new process is timed with the library's files in the memory of the system
(warm) and without them (cold).

The figures are kept in the output folder, `growth.jsonl`; the table has a column for each size that
was measured with this model.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import soundfile

from fingerprint.audio.peaks import EMPTY, HEIGHT, joined
from fingerprint.cli.options import corpus_option, jobs_option
from fingerprint.cli.progress import note
from fingerprint.disk import atomic_write
from fingerprint.lab.benchmark.conditions import select
from fingerprint.lab.benchmark.material import Material
from fingerprint.lab.benchmark.queries import Query, make_query
from fingerprint.lab.benchmark.run import KNOWN_ROLES, index_corpus
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.options import output_option
from fingerprint.lab.report_format import markdown_table
from fingerprint.lab.tables.world import CACHE, made_up, mapped, private
from fingerprint.library.library import Library
from fingerprint.library.merge import merge_library
from fingerprint.library.profiles import PROFILES, REFERENCE
from fingerprint.library.records import REMOVED, Spans, Stamp
from fingerprint.library.segments import Stored, write_segment
from fingerprint.library.snapshot import take_snapshot
from fingerprint.library.store import Catalog
from fingerprint.library.writer import Entry, Writer, stored_of
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.types import Floats, PeakCodes, Track

KNOWN, UNKNOWN = "phone 5 s", "unknown phone 5 s"
UNCHANGED = Stamp(0, 0)
FIGURES = "growth.jsonl"


@click.command()
@corpus_option
@click.option("--tracks", type=click.IntRange(min=600), multiple=True, default=(1_000, 10_000))
@click.option("--seconds", type=click.FloatRange(min=5), help="Of made-up tracks; else as real.")
@click.option("--queries", "count", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--profile", type=click.Choice(list(PROFILES)), default="standard", show_default=True)
@output_option(str(CACHE))
@jobs_option
def main(
    corpus: Path,
    tracks: tuple[int, ...],
    seconds: float | None,
    count: int,
    profile: str,
    output: Path,
    jobs: int,
) -> None:
    """Tabulate what a query costs as the library grows."""
    model = Fingerprinter.default("cpu", threads=1)
    reference, folder = output / REFERENCE.name, output / f"library-{profile}"
    Library.create_or_open(reference, model, profile=REFERENCE.name).close()
    index_corpus(Corpus.open(corpus), KNOWN_ROLES, model, reference, jobs, lambda _now: None)
    for total in sorted(tracks):
        with Library.create_or_open(folder, model, profile=profile) as library:
            if not library.info().tracks:
                merge_library(library, reference)
            fill(library, reference, total, seconds)
            info = library.info()
        # In a process of its own, so that its memory is that of queries alone.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
            found = apart.submit(measure, folder, corpus, count).result()
        warm, cold = (first_answer(folder, corpus, cold=cold) for cold in (False, True))
        note(f"{info.tracks:,} tracks are measured")
        rows = {
            "": f"{info.tracks:,} tracks, `{profile}`",
            "hours": f"{info.hours:,.0f}",
            "segments": f"{info.segments}",
            "on disk": f"{info.bytes / 1e9:.2f} GB",
            "an hour of music": f"{info.bytes / info.hours / 1e3:,.0f} kB",
            "top-1": f"{100 * found.right:.1f} %",
            "answered and right": f"{100 * found.answered:.1f} %",
            "unknown queries answered": f"{100 * found.false:.1f} %",
            "phone query, median and 95th percentile": milliseconds(found.known),
            "unknown query, median and 95th percentile": milliseconds(found.unknown),
            "private memory": f"{found.own:,.0f} MB",
            "mapped files beside it, which the system may free": f"{found.mapped:,.0f} MB",
            "`fingerprint identify`, files cached; not cached": f"{warm:.2f}; {cold:.2f} s",
            "one track added, until an open reader has it": f"{added(folder, model):.2f} s",
        }
        save(output / FIGURES, Measured(model.id, info.tracks, rows))
    click.echo(table(output / FIGURES, model.id))


@dataclass(frozen=True, slots=True)
class Measured:
    """A column of the table: what was measured, under its titles."""

    model: str
    tracks: int
    rows: dict[str, str]


def milliseconds(seconds: tuple[float, float]) -> str:
    """Two times, in milliseconds."""
    return ", ".join(f"{1e3 * value:.0f}" for value in seconds) + " ms"


def load(path: Path) -> list[Measured]:
    """What was measured so far; nothing, if there is no such file."""
    if not path.exists():
        return []
    return [Measured(**json.loads(line)) for line in path.read_text().splitlines()]


def save(path: Path, column: Measured) -> None:
    """Keep what was measured, in the place of an earlier measurement of the same."""
    title = column.rows[""]
    others = [one for one in load(path) if (one.model, one.rows[""]) != (column.model, title)]
    with atomic_write(path) as draft:
        draft.write_text("".join(json.dumps(asdict(one)) + "\n" for one in [*others, column]))


def table(path: Path, model: str) -> str:
    """All that was measured with a model, from the smallest library to the largest."""
    columns = sorted((one for one in load(path) if one.model == model), key=lambda one: one.tracks)
    head, *titles = columns[-1].rows
    return markdown_table(
        [head, *(one.rows[head] for one in columns)],
        ([title, *(one.rows[title] for one in columns)] for title in titles),
    )


def fill(library: Library, reference: Path, total: int, seconds: float | None) -> None:
    """Add made-up tracks, of `seconds` each or as long as real ones, until there are `total`."""
    meta = library.meta
    vectors, peaks = real_tracks(reference, library.meta.profile.step)
    first = library.info().tracks
    names = (Path(f"/made-up/{number:07d}") for number in range(first, total))
    rows = None if seconds is None else max(1, round(seconds / meta.row_hop))
    tracks: list[Track] = []
    pieces: list[Stored] = []
    held = 0  # rows
    with library.writing() as writer:
        for path, (some, sharp) in zip(
            names, made_up_tracks(vectors, peaks, rows, first), strict=False
        ):
            tracks.append(Track(path, len(some) * meta.row_hop))
            entry = Entry(tracks[-1], UNCHANGED, some, step=meta.profile.step, peaks=sharp)
            pieces.append(stored_of(entry, meta))
            held += len(pieces[-1])
            if held > 0.99 * meta.full_rows:
                append(writer, tracks, pieces)
                tracks, pieces, held = [], [], 0
        append(writer, tracks, pieces)
        writer.merge()


def append(writer: Writer, tracks: list[Track], pieces: list[Stored]) -> None:
    """One more segment. As codes, so that a full one of some hundred thousand tracks fits."""
    if not tracks:
        return
    catalog = writer.catalog
    segment = write_segment(catalog.folder, catalog.next_segment(), pieces, catalog.meta)
    with catalog.transaction():
        owners = [catalog.insert_track(track, UNCHANGED, b"", added=0.0) for track in tracks]
        catalog.insert_segment(segment, Spans.of(owners, map(len, pieces)))


def real_tracks(reference: Path, step: int) -> tuple[list[Floats], list[PeakCodes]]:
    """Of every track of the reference library: each `step`th embedding, and the peaks with it."""
    catalog = Catalog(reference)
    try:
        now = take_snapshot(catalog)
        starts = now.rows.starts.tolist()
        spans = [np.arange(*starts[i : i + 2]) for i in np.flatnonzero(now.owners != REMOVED)]
        vectors = [now.vectors(rows[::step]) for rows in spans]
        return vectors, [joined(now.peaks(rows), step, now.block) for rows in spans]
    finally:
        catalog.close()


def made_up_tracks(
    vectors: Sequence[Floats], peaks: Sequence[PeakCodes], rows: int | None, seed: int
) -> Iterator[tuple[Floats, PeakCodes]]:
    """Made-up tracks without end, of `rows` rows each or as long as real ones."""
    rng = np.random.default_rng(seed)
    parts: list[Floats] = []
    for made in made_up(vectors, sys.maxsize, seed):
        parts.append(made.astype(np.float16))
        if rows is not None and sum(map(len, parts)) < rows:
            continue
        whole = np.concatenate(parts)[:rows]
        parts = []
        yield whole, mirrored(peaks[int(rng.integers(len(peaks)))], len(whole), rng)


def mirrored(peaks: PeakCodes, rows: int, rng: np.random.Generator) -> PeakCodes:
    """`rows` rows of peaks from a random row on, wrapping around, with low and high exchanged."""
    codes = peaks[(int(rng.integers(len(peaks))) + np.arange(rows)) % len(peaks)]
    top = np.uint16(HEIGHT - 1)
    return np.sort(np.where(codes == EMPTY, EMPTY, codes - (codes & 255) + top - (codes & 255)), 1)


@dataclass(frozen=True, slots=True)
class Figures:
    """Results of the queries: shares, seconds (median, 95th percentile), and MB."""

    right: float
    answered: float  # and right
    false: float  # unknown ones that were answered
    known: tuple[float, float]
    unknown: tuple[float, float]
    own: float
    mapped: float


def measure(folder: Path, corpus: Path, count: int) -> Figures:
    """Query a library in this process; each query runs once before it is timed."""
    model = Fingerprinter.default("cpu", threads=1)
    known, unknown = (queries(corpus, name, count, model.sample_rate) for name in (KNOWN, UNKNOWN))
    right: list[bool] = []
    answered: list[bool] = []
    false: list[bool] = []
    times: tuple[list[float], list[float]] = ([], [])
    with Library.open(folder, model) as library:
        least = library.config.min_confidence
        for number, query in enumerate([*known, *unknown]):
            library.recognise(query.clip)
            begin = time.perf_counter()
            best = next(iter(library.recognise(query.clip).matches), None)
            times[number >= count].append(time.perf_counter() - begin)
            sure = best is not None and best.confidence >= least
            if number < count:
                right.append(best is not None and best.track.path == query.truth.path)
                answered.append(sure and right[-1])
            else:
                false.append(sure)
    (a, b), (c, d) = (np.quantile(some, (0.5, 0.95)).tolist() for some in times)
    first, second, third = (float(np.mean(some)) for some in (right, answered, false))
    return Figures(first, second, third, (a, b), (c, d), private(), mapped())


def queries(corpus: Path, name: str, count: int, rate: int) -> list[Query]:
    """Queries of a condition; unknown ones are cut from the test split."""
    (condition,) = select([name])
    material = Material.load(Corpus.open(corpus), "test" if condition.unknown else "validation")
    return [
        make_query(material, condition, seed=3, number=i, sample_rate=rate) for i in range(count)
    ]


def first_answer(folder: Path, corpus: Path, *, cold: bool) -> float:
    """Seconds that `fingerprint identify` takes; cold: without the library's files in memory."""
    program = shutil.which("fingerprint") or "fingerprint"
    with TemporaryDirectory(prefix="fingerprint-") as place:
        (query,) = queries(corpus, KNOWN, 1, 8_000)
        snippet = Path(place) / "snippet.wav"
        soundfile.write(snippet, query.clip.samples, query.clip.sample_rate)
        command = [program, "identify", str(snippet), "--library", str(folder)]
        subprocess.run(command, check=False, capture_output=True)
        if cold:
            forget(folder)
        begin = time.perf_counter()
        subprocess.run(command, check=False, capture_output=True)
        return time.perf_counter() - begin


def forget(folder: Path) -> None:
    """Let the system drop what it holds of a library's files in memory."""
    for path in folder.rglob("*"):
        if path.is_file():
            number = os.open(path, os.O_RDONLY)
            os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(number)


def added(folder: Path, model: Fingerprinter) -> float:
    """Seconds until a new track is in an open reader's library; it is removed again."""
    with Library.open(folder, model) as library:
        rng = np.random.default_rng()
        rows = rng.standard_normal((400, model.dim)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        path = Path("/made-up/one-more")
        begin = time.perf_counter()
        with library.writing() as writer:
            writer.add([Entry(Track(path, 100.0), Stamp(0, 0), rows)])
            writer.merge()
        library.snapshot()
        seconds = time.perf_counter() - begin
        library.remove([path])
    return seconds
