"""Indexing in bulk: recordings as they get embedded, committed as segments now and then.

A run that is killed loses what it did since the last commit, and a rerun goes on from there.
A recording is known by its sound, not by its file: one that was moved or has new tags keeps its
entry and is not embedded again.
"""

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Literal

from fingerprint.audio.files import Presence, display_name, presence
from fingerprint.audio.report import Damage
from fingerprint.library.embedding import Failure, Recording, embed_files
from fingerprint.library.identity import twin_among, twin_in_library
from fingerprint.library.library import Library
from fingerprint.library.records import Listed, Stamp
from fingerprint.library.writer import Changes, Copy, Entry, Relabel, Writer, absolute
from fingerprint.types import Floats, PeakCodes, Track

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

    def followed_by(self, again: "Report", removed: Collection[Path]) -> "Report":
        """What both runs did: the second on files that the first took for copies of `removed`."""
        duplicates = [one for one in self.duplicates if one.of not in removed]
        return replace(
            self,
            added=self.added + again.added,
            relabelled=self.relabelled + again.relabelled,
            duplicates=duplicates + again.duplicates,
            failed=self.failed + again.failed,
            damaged=self.damaged + again.damaged,
            seconds_of_audio=self.seconds_of_audio + again.seconds_of_audio,
        )


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
    and the rest is indexed. On a `KeyboardInterrupt`, what is done is committed first.

    Args:
        library: where to.
        paths: files, not folders.
        jobs: processes that decode; 0 decodes in this one, which spares small jobs the start of
            the processes and scripts the `if __name__ == "__main__":` that they ask for.
        on_duplicate: what to do with a file whose recording is a track of another file: skip it,
            add it as a track of its own, or let it replace the other file.
        strict: a recording of which something is lost fails, and is not added.
        stream: the number of the audio track, from 1 on, of files that hold several.
        on_progress: is told after every file, and every block of a long one.

    Raises:
        LibraryError: another process is writing, or the disk is full; what was committed stays.
    """
    with library.writing() as writer:
        run = Run(writer, library, on_duplicate, on_progress, strict=strict)
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


def _real(path: Path) -> Path | None:
    """The name of a file without links, by which the library may know it; None if it has none."""
    real = Path(os.path.realpath(path))
    return real if real != path else None


def _are_one(path: Path, other: Path) -> bool:
    """Whether two names are those of one file: a folder and a link to it are one."""
    return path == other or os.path.realpath(path) == os.path.realpath(other)


class Run:
    """One run's state: the changes not yet committed, and the report.

    `sift` says which files are to be embedded; `take` and `take_shard` take what becomes of them.
    """

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
        known = self._writer.stamps_of(files)
        links = {path: real for path in files if path not in known and (real := _real(path))}
        elsewhere = self._writer.stamps_of(links.values())
        names = (links[path] if links.get(path) in elsewhere else path for path in files)
        files, known = dict.fromkeys(names), known | elsewhere
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
        self._prepare(result)
        overdue = monotonic() - self._committed >= BATCH_SECONDS
        if overdue or self._batch.rows >= BATCH_ROWS:
            self.commit()

    def take_shard(self, results: Iterable[Recording | Failure]) -> None:
        """Commit what is to become of several files, in one transaction."""
        for result in results:
            self._prepare(result)
        self.commit()

    def _prepare(self, result: Recording | Failure) -> None:
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
        found = self._writer.catalog.by_content(content)
        known = [one for one in found if not self._batch.is_replaced(one)]
        if self._policy != "add":  # where its file holds another encoding now, that one stands
            known = [one for one in known if self._batch.path_of(one) not in self._batch.entries]
        free = [one for one in known if not self._batch.is_relabelled(one)]
        here = [one for one in free if _are_one(one.track.path, path)]
        gone = [one for one in free if has_left(one)]
        rest: list[Listed | Entry] = [*known, *self._batch.with_content(content)]
        return next(iter([*here, *gone, *(rest if self._policy != "add" else [])]), None)

    def _join(self, new: Recording, same: Listed | Entry) -> None:
        """A file whose recording is that of a track, to the last sample."""
        stands = self._batch.path_of(same)
        if stands != new.path and _are_one(stands, new.path):
            self.report.skipped += 1
            return
        free = not self._batch.is_relabelled(same)
        if isinstance(same, Listed) and free and (stands == new.path or has_left(same)):
            self._batch.relabel(same, new)
            self.report.relabelled += 1
            return
        self.report.duplicates.append(Duplicate(new.path, stands, exact=True))
        if self._policy == "skip":
            self._batch.note_copy(new.path, new.stamp, stands)
        elif isinstance(same, Listed):
            stamp = self._batch.stamp_of(same)
            self._batch.relabel(same, new)
            self._batch.note_copy(stands, stamp, new.path)
        else:
            self._batch.replace(same, _entry(new, same.vectors, same.peaks))

    def _add(self, new: Recording, vectors: Floats) -> None:
        """A recording whose content is new; its sound may be known, as another encoding."""
        entry = _entry(new, vectors, new.peaks)
        twin = self._twin(new.content, vectors)
        if twin is not None and (stands := self._batch.path_of(twin)) != new.path:
            moved = not self._batch.is_relabelled(twin) and has_left(twin)
            if not moved:
                exact = twin.content == new.content
                self.report.duplicates.append(Duplicate(new.path, stands, exact))
                if self._policy == "skip":
                    self._batch.note_copy(new.path, new.stamp, stands)
                    return
            if self._policy != "add":
                self._batch.replace(twin, entry, moved=moved)
        self._batch.add(entry)
        self.report.added += 1
        self.report.seconds_of_audio += new.duration

    def _twin(self, content: bytes, vectors: Floats) -> Listed | Entry | None:
        """Another track of the same recording: to the last sample, or by its embeddings."""
        if same := self._batch.with_content(content):
            return same[0]
        for known in self._writer.catalog.by_content(content):
            if self._may_be_twin(known):
                return known
        if (path := twin_among(list(self._batch.entries.values()), vectors)) is not None:
            return self._batch.entries[path]
        if (number := twin_in_library(self._library, vectors)) is None:
            return None
        found = self._writer.catalog.by_id(number)
        return found if found is not None and self._may_be_twin(found) else None

    def _may_be_twin(self, known: Listed) -> bool:
        """Whether a track will be there after this batch, with the recording that it has now."""
        replaced = self._batch.is_replaced(known)
        return not replaced and self._batch.path_of(known) not in self._batch.entries

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
        self.entries: dict[Path, Entry] = {}
        self.copies: dict[Path, Copy] = {}
        self.forgotten: list[Path] = []  # of the copies, in the end: their files are not there

    @property
    def rows(self) -> int:
        return sum(len(entry.vectors) for entry in self.entries.values())

    def with_content(self, content: bytes) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.content == content]

    def is_replaced(self, known: Listed) -> bool:
        """Whether a track will make way for another one."""
        return self.path_of(known) in self.copies

    def add(self, entry: Entry) -> None:
        """Let a file have a track of its own."""
        self.copies.pop(entry.track.path, None)
        self.entries[entry.track.path] = entry

    def relabel(self, known: Listed, new: Recording) -> None:
        """Let a file stand for the recording of a track."""
        self.copies.pop(new.path, None)
        self.relabels[known.id] = Relabel(known.id, new.path, new.stamp, new.tags)

    def is_relabelled(self, known: Listed | Entry) -> bool:
        """Whether it is settled already which file stands for a track."""
        return isinstance(known, Listed) and known.id in self.relabels

    def path_of(self, known: Listed | Entry) -> Path:
        """The file that stands for a track, once this batch is committed."""
        relabel = self.relabels.get(known.id) if isinstance(known, Listed) else None
        return known.track.path if relabel is None else relabel.path

    def stamp_of(self, known: Listed | Entry) -> Stamp:
        """How that file looks."""
        relabel = self.relabels.get(known.id) if isinstance(known, Listed) else None
        return known.stamp if relabel is None else relabel.stamp

    def note_copy(self, path: Path, stamp: Stamp, of: Path) -> None:
        """Let a file be a copy of another one; so are the copies that it had itself."""
        for copy in [copy for copy in self.copies.values() if copy.of == path]:
            self.copies[copy.path] = Copy(copy.path, copy.stamp, of)
        self.copies[path] = Copy(path, stamp, of)

    def replace(self, old: Listed | Entry, new: Entry, *, moved: bool = False) -> None:
        """Let a new track stand for the recording of another one, which becomes its copy."""
        path = self.path_of(old)
        self.entries.pop(path, None)
        self.add(new)
        self.note_copy(path, self.stamp_of(old), new.track.path)
        if moved:
            self.forgotten.append(path)

    def changes(self) -> Changes:
        return Changes(
            relabels=tuple(self.relabels.values()),
            entries=tuple(self.entries.values()),
            copies=tuple(self.copies.values()),
            forgotten=tuple(path for path in self.forgotten if path in self.copies),
        )


def _entry(new: Recording, vectors: Floats, peaks: PeakCodes | None) -> Entry:
    track = Track(new.path, new.duration, new.tags)
    return Entry(track, new.stamp, vectors, new.content, peaks=peaks, damage=new.damage)


def has_left(known: Listed | Entry) -> bool:
    """Whether a track's file is gone, or holds something else; not if it just cannot be read."""
    path = known.track.path
    try:
        return Stamp.of(path) != known.stamp
    except OSError:
        return presence(path) is Presence.GONE
