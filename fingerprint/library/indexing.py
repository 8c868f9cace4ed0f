"""Indexing in bulk: files decoded in parallel, embedded here, committed as segments now and then.

A run that is killed loses what it did since the last commit, and a rerun goes on from there.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from fingerprint.audio.decode import stream_clip
from fingerprint.audio.files import display_name
from fingerprint.errors import AudioError
from fingerprint.library.decoding import Decoded, Outcome, Undecodable, decode_all
from fingerprint.library.library import Embedder, Library
from fingerprint.library.store import Stamp
from fingerprint.library.writer import Entry, Writer, absolute
from fingerprint.types import Clip, Fingerprint, Track

BATCH_ROWS = 30_000  # embeddings, about two hours; what a commit waits for
BATCH_SECONDS = 60.0  # since the last commit; so much work a killed run loses
SHORTEST = 0.5  # s; there is nothing to recognise in less


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `done` of `total` files: added, unchanged or failed."""

    done: int
    total: int
    failed: int
    seconds_of_audio: float
    elapsed: float  # s


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did. A failed file's reason is a sentence that names it."""

    added: int
    skipped: int  # unchanged since they were indexed
    failed: list[tuple[Path, str]]
    seconds_of_audio: float  # of the added tracks


def index_files(
    library: Library,
    paths: Sequence[Path],
    *,
    jobs: int = 0,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Report:
    """Add recordings to a library; those that have not changed since are skipped.

    A changed file's new recording replaces the old one. A file that cannot be read is reported
    and the rest is indexed. A `KeyboardInterrupt` keeps what is done, then goes its way.

    Args:
        library: where to.
        paths: files, not folders.
        jobs: processes that decode; 0 decodes in this one, which spares small jobs the start of
            the processes and scripts the `if __name__ == "__main__":` that they ask for.
        on_progress: is told after every file, and every block of a long one.

    Raises:
        LibraryError: another process is writing, or the disk is full; what was committed stays.
    """
    with library.writing() as writer:
        run = _Run(writer, library.model, on_progress)
        changed = run.sift(paths)
        decoded = decode_all(changed, library.model.sample_rate, jobs=jobs)
        with closing(decoded):
            try:
                for path, outcome in decoded:
                    run.take(path, changed[path], outcome)
                run.commit()
            except KeyboardInterrupt:
                run.keep()
                raise
    return Report(run.added, run.skipped, run.failed, run.seconds)


class _Run:
    """One run's state: the tracks not yet committed, and the counts."""

    def __init__(
        self, writer: Writer, model: Embedder, on_progress: Callable[[Progress], None]
    ) -> None:
        self._writer = writer
        self._model = model
        self._on_progress = on_progress
        self._begin = self._committed = monotonic()
        self._batch: list[Entry] = []
        self._total = 0
        self.added = 0
        self.skipped = 0
        self.failed: list[tuple[Path, str]] = []
        self.seconds = 0.0

    def sift(self, paths: Iterable[Path]) -> dict[Path, Stamp]:
        """The files that are new or have changed; the others are done with."""
        files = dict.fromkeys(map(absolute, paths))
        known = self._writer.stamps()
        changed: dict[Path, Stamp] = {}
        self._total = len(files)
        for path in files:
            try:
                stamp = Stamp.of(path)
            except OSError as error:
                self._fail(path, f"cannot read {display_name(path)}: {error.strerror}")
                continue
            if known.get(path) == stamp:
                self.skipped += 1
            else:
                changed[path] = stamp
        self._tell()
        return changed

    def take(self, path: Path, stamp: Stamp, outcome: Outcome) -> None:
        """Embed a decoded file, and commit when there is enough to."""
        try:
            entry = self._entry(path, stamp, outcome)
        except AudioError as error:
            self._fail(path, str(error))
        else:
            self._batch.append(entry)
            self.added += 1
            self.seconds += entry.track.duration
        self._tell()
        rows = sum(len(entry.vectors) for entry in self._batch)
        if rows >= BATCH_ROWS or monotonic() - self._committed >= BATCH_SECONDS:
            self.commit()

    def keep(self) -> None:
        """Make what is done a part of the library."""
        self._writer.add(self._batch)
        self._batch = []

    def commit(self) -> None:
        """Keep what is done, and tidy up."""
        self.keep()
        self._writer.merge()
        self._committed = monotonic()

    def _entry(self, path: Path, stamp: Stamp, outcome: Outcome) -> Entry:
        """Raises AudioError if there is nothing to recognise in it."""
        if isinstance(outcome, Undecodable):
            raise AudioError(outcome.reason)
        fingerprint, duration = self._embedded(path, outcome)
        name = display_name(path)
        if duration < SHORTEST or not len(fingerprint.vectors):
            raise AudioError(
                f"cannot use {name}: it lasts {duration:.2f} s, too short to recognise"
            )
        if not fingerprint.vectors.any():
            raise AudioError(f"cannot use {name}: it is silent throughout")
        return Entry(Track(path, duration, outcome.tags), stamp, fingerprint.vectors)

    def _embedded(self, path: Path, decoded: Decoded) -> tuple[Fingerprint, float]:
        """The embeddings of a recording, streamed if it is long, and its duration (s)."""
        if decoded.clip is not None:
            return self._model.embed(decoded.clip), decoded.clip.duration
        lengths: list[float] = []

        def heard(blocks: Iterable[Clip]) -> Iterator[Clip]:
            for block in blocks:
                lengths.append(block.duration)
                self._tell(sum(lengths))
                yield block

        blocks = heard(stream_clip(path, self._model.sample_rate))
        return self._model.embed_blocks(blocks), sum(lengths)

    def _fail(self, path: Path, reason: str) -> None:
        self.failed.append((path, reason))

    def _tell(self, seconds: float = 0.0) -> None:
        failed = len(self.failed)
        self._on_progress(
            Progress(
                done=self.added + self.skipped + failed,
                total=self._total,
                failed=failed,
                seconds_of_audio=self.seconds + seconds,
                elapsed=monotonic() - self._begin,
            )
        )
