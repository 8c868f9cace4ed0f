"""Indexing in bulk: recordings as they get embedded, committed as segments now and then.

A run that is killed loses what it did since the last commit, and a rerun goes on from there.
A recording is known by its sound, not by its file: one that was moved or has new tags keeps its
entry and is not embedded again.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Literal

from fingerprint.audio.files import display_name
from fingerprint.audio.report import Damage
from fingerprint.library.embedding import Failure, Recording, embed_files
from fingerprint.library.identity import twin_among, twin_in_library
from fingerprint.library.library import Library
from fingerprint.library.records import Listed, Stamp
from fingerprint.library.writer import Changes, Copy, Entry, Relabel, Writer, absolute
from fingerprint.types import Floats, Track

BATCH_ROWS = 30_000  # embeddings, about two hours; what a commit waits for
BATCH_SECONDS = 60.0  # since the last commit; so much work a killed run loses

OnDuplicate = Literal["skip", "add", "replace"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `done` of `total` files: added, unchanged, settled or failed."""

    done: int
    total: int
    failed: int
    seconds_of_audio: float
    elapsed: float  # s


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A file with the recording of a track; `exact`: the audio is the same to the last sample."""

    path: Path
    of: Path
    exact: bool


@dataclass(slots=True)
class Report:
    """What a run did. A failed file's reason is a sentence that names it."""

    added: int = 0
    skipped: int = 0  # unchanged since they were indexed
    relabelled: int = 0  # known recordings in files that were moved or have other tags
    duplicates: list[Duplicate] = field(default_factory=list)  # added as well or not, as asked
    failed: list[tuple[Path, str]] = field(default_factory=list)
    damaged: list[tuple[Path, tuple[Damage, ...]]] = field(default_factory=list)  # but indexed
    seconds_of_audio: float = 0.0  # of the added tracks


def index_files(
    library: Library,
    paths: Sequence[Path],
    *,
    jobs: int = 0,
    on_duplicate: OnDuplicate = "add",
    strict: bool = False,
    stream: int | None = None,
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
        on_duplicate: what becomes of a file whose recording another file stands for: it is not
            added, added as a track of its own, or stands for the recording from now on.
        strict: a recording of which something is lost fails, and is not added.
        stream: the number of the audio track, from 1 on, of files that hold several.
        on_progress: is told after every file, and every block of a long one.

    Raises:
        LibraryError: another process is writing, or the disk is full; what was committed stays.
    """
    with library.writing() as writer:
        run = _Run(writer, library, on_duplicate, on_progress, strict=strict)
        recordings = embed_files(
            run.sift(paths),
            library.model,
            jobs=jobs,
            stream=stream,
            wanted=run.is_new,
            on_block=run.tell,
        )
        with closing(recordings):
            try:
                for recording in recordings:
                    run.take(recording)
                run.commit()
            except KeyboardInterrupt:
                run.keep()
                raise
    return run.report


class _Run:
    """One run's state: the changes not yet committed, and the report."""

    def __init__(
        self,
        writer: Writer,
        library: Library,
        on_duplicate: OnDuplicate,
        on_progress: Callable[[Progress], None],
        *,
        strict: bool,
    ) -> None:
        self._writer = writer
        self._library = library
        self._policy = on_duplicate
        self._on_progress = on_progress
        self._strict = strict
        self._begin = self._committed = monotonic()
        self._batch = _Batch()
        self._total = self._settled = 0
        self.report = Report()

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
                reason = f"cannot read {display_name(path)}: {error.strerror}"
                self.report.failed.append((path, reason))
                continue
            if known.get(path) == stamp:
                self.report.skipped += 1
            else:
                changed[path] = stamp
        self._settled = self.report.skipped + len(self.report.failed)
        self.tell()
        return changed

    def is_new(self, path: Path, content: bytes) -> bool:
        """Whether a recording must be embedded: not if a track is to stand for it."""
        return self._same(path, content) is None

    def take(self, result: Recording | Failure) -> None:
        """Prepare what is to become of a file, and commit when there is enough to."""
        if isinstance(result, Failure):
            self.report.failed.append((result.path, result.reason))
        elif result.damage and self._strict:
            lost = "; ".join(one.message for one in result.damage)
            reason = f"cannot use {display_name(result.path)}: {lost}"
            self.report.failed.append((result.path, reason))
        else:
            self._settle(result)
        self._settled += 1
        self.tell()
        overdue = monotonic() - self._committed >= BATCH_SECONDS
        if overdue or self._batch.rows >= BATCH_ROWS:
            self.commit()

    def _settle(self, result: Recording) -> None:
        if result.damage:
            self.report.damaged.append((result.path, result.damage))
        if (same := self._same(result.path, result.content)) is not None:
            self._join(result, same)
        elif result.vectors is not None:
            self._add(result, result.vectors)

    def keep(self) -> None:
        """Make what is done a part of the library."""
        self._writer.apply(self._batch.changes())
        self._batch = _Batch()

    def commit(self) -> None:
        """Keep what is done, and tidy up."""
        self.keep()
        self._writer.merge()
        self._committed = monotonic()

    def _same(self, path: Path, content: bytes) -> Listed | Entry | None:
        """The track that stands for a recording in this file, by its content.

        It is one of this path; or one whose file is gone, so that this is where it went; or any,
        unless copies become tracks of their own.
        """
        known = self._writer.catalog.by_content(content)
        here = [one for one in known if one.track.path == path]
        gone = [one for one in known if not _is_there(one) and one.id not in self._batch.relabels]
        rest: list[Listed | Entry] = [*known, *self._batch.with_content(content)]
        return next(iter([*here, *gone, *(rest if self._policy != "add" else [])]), None)

    def _join(self, new: Recording, same: Listed | Entry) -> None:
        """A file whose recording is that of a track, to the last sample."""
        if isinstance(same, Listed) and (same.track.path == new.path or not _is_there(same)):
            self._batch.relabels[same.id] = Relabel(same.id, new.path, new.stamp, new.tags)
            self.report.relabelled += 1
            return
        self.report.duplicates.append(Duplicate(new.path, same.track.path, exact=True))
        if self._policy == "skip":
            self._batch.copies.append(Copy(new.path, new.stamp, same.track.path))
        elif isinstance(same, Listed):
            self._batch.relabels[same.id] = Relabel(same.id, new.path, new.stamp, new.tags)
            self._batch.copies.append(Copy(same.track.path, same.stamp, new.path))
        else:
            self._batch.replace(same, _entry(new, same.vectors))

    def _add(self, new: Recording, vectors: Floats) -> None:
        """A recording whose content is new; its sound may be known, as another encoding."""
        entry = _entry(new, vectors)
        twin = self._twin(vectors)
        if twin is not None and twin.track.path != new.path:
            exact = twin.content == new.content
            self.report.duplicates.append(Duplicate(new.path, twin.track.path, exact))
            if self._policy == "skip":
                self._batch.copies.append(Copy(new.path, new.stamp, twin.track.path))
                return
            if self._policy == "replace":
                self._batch.replace(twin, entry)
        self._batch.entries[new.path] = entry
        self.report.added += 1
        self.report.seconds_of_audio += new.duration

    def _twin(self, vectors: Floats) -> Listed | Entry | None:
        if (path := twin_among(list(self._batch.entries.values()), vectors)) is not None:
            return self._batch.entries[path]
        if (number := twin_in_library(self._library, vectors)) is None:
            return None
        gone = number in self._batch.relabels or number in self._batch.removed
        return None if gone else self._writer.catalog.by_id(number)

    def tell(self, seconds: float = 0.0) -> None:
        """Report progress; `seconds` have been read of recordings that are not done yet."""
        self._on_progress(
            Progress(
                done=self._settled,
                total=self._total,
                failed=len(self.report.failed),
                seconds_of_audio=self.report.seconds_of_audio + seconds,
                elapsed=monotonic() - self._begin,
            )
        )


class _Batch:
    """Changes that wait to be committed."""

    def __init__(self) -> None:
        self.relabels: dict[int, Relabel] = {}
        self.removed: list[int] = []
        self.entries: dict[Path, Entry] = {}
        self.copies: list[Copy] = []

    @property
    def rows(self) -> int:
        return sum(len(entry.vectors) for entry in self.entries.values())

    def with_content(self, content: bytes) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.content == content]

    def replace(self, old: Listed | Entry, new: Entry) -> None:
        """Let a new track stand for the recording of another one."""
        if isinstance(old, Listed):
            self.removed.append(old.id)
        else:
            del self.entries[old.track.path]
        self.entries[new.track.path] = new
        self.copies.append(Copy(old.track.path, old.stamp, new.track.path))

    def changes(self) -> Changes:
        return Changes(
            tuple(self.relabels.values()),
            tuple(self.removed),
            tuple(self.entries.values()),
            tuple(self.copies),
        )


def _entry(new: Recording, vectors: Floats) -> Entry:
    track = Track(new.path, new.duration, new.tags)
    return Entry(track, new.stamp, vectors, new.content, damage=new.damage)


def _is_there(listed: Listed) -> bool:
    """Whether a track's file is still as it was."""
    try:
        return Stamp.of(listed.track.path) == listed.stamp
    except OSError:
        return False
