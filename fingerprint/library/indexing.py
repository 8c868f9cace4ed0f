"""Indexing in bulk: embed files, and commit their tracks as segments from time to time.

A run that is killed loses the work since its last commit; a rerun continues from there. A recording
is identified by the digest of its decoded audio: if its file was moved or has new tags, it keeps
its entry and is not embedded again.
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

BATCH_ROWS = 30_000  # embeddings, about two hours of audio, after which a run commits
BATCH_SECONDS = 60.0  # after which a run commits; a killed run loses at most this much work

OnDuplicate = Literal["skip", "add", "replace"]


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run. `done` of `total` files are added, unchanged, relabelled or failed."""

    done: int
    total: int
    failed: int
    seconds_of_audio: float
    elapsed: float  # s


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A file with the recording of a track; `exact`: their decoded audio is the same."""

    path: Path
    of: Path
    exact: bool


@dataclass(slots=True)
class Report:
    """The result of a run. The reason of a failed file is a sentence with its name."""

    added: int = 0
    skipped: int = 0  # unchanged since they were indexed
    relabelled: int = 0  # tracks whose file was moved or has other tags
    duplicates: list[Duplicate] = field(default_factory=list)  # added or not: `on_duplicate`
    failed: list[tuple[Path, str]] = field(default_factory=list)
    damaged: list[tuple[Path, tuple[Damage, ...]]] = field(default_factory=list)  # but indexed
    seconds_of_audio: float = 0.0  # of the added tracks

    def followed_by(self, again: "Report", removed: Collection[Path]) -> "Report":
        """The results of two runs; the second was on the copies of the `removed` tracks."""
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
        library: to add to.
        paths: files, not folders.
        jobs: number of decoding processes; 0: decode in this process, without the confinement.
        on_duplicate: whether a file with the recording of another file's track is skipped, added as
            a track of its own, or replaces the other file.
        strict: whether a recording of which sound is lost fails, instead of being added.
        stream: the number of the audio track, from 1 on, of files that hold several.
        on_progress: called after every file, and after every block of a long one.

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
            on_block=run.report_progress,
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
    """The path of a file without symbolic links; None if there is no such file."""
    real = Path(os.path.realpath(path))
    return real if real != path else None


def _are_one(path: Path, other: Path) -> bool:
    """Whether two paths lead to the same file, for example through a link to its folder."""
    return path == other or os.path.realpath(path) == os.path.realpath(other)


class Run:
    """The state of a run: the changes that are not committed yet, and the report.

    `sift` returns the files to embed; `take` and `take_shard` receive the results.
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
        """The files that are new or have changed; the others are counted as skipped or failed."""
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
        self.report_progress()
        return changed

    def is_new(self, path: Path, content: bytes) -> bool:
        """Whether a recording must be embedded; not if an existing track has the same content."""
        return self._same(path, content) is None

    def take(self, result: Recording | Failure) -> None:
        """Add a result to the batch, and commit the batch if it is full or old."""
        self._prepare(result)
        overdue = monotonic() - self._committed >= BATCH_SECONDS
        if overdue or self._batch.rows >= BATCH_ROWS:
            self.commit()

    def take_shard(self, results: Iterable[Recording | Failure]) -> None:
        """Commit the results of several files in one transaction."""
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
        self.report_progress()

    def _settle(self, result: Recording) -> None:
        if result.damage:
            self.report.damaged.append((result.path, result.damage))
        if (same := self._same(result.path, result.content)) is not None:
            self._join(result, same)
        elif result.vectors is not None:
            self._add(result, result.vectors)

    def keep(self) -> None:
        """Commit the batch."""
        self._writer.apply(self._batch.changes())
        self._batch = _Batch()

    def commit(self) -> None:
        """Commit the batch, and merge small segments."""
        self.keep()
        self._writer.merge()
        self._committed = monotonic()

    def _same(self, path: Path, content: bytes) -> Listed | Entry | None:
        """The existing track that this file's recording becomes, by its content digest.

        The track of this path; or one whose file is gone, since the file was moved here; or any
        other, unless duplicates become tracks of their own.
        """
        found = self._writer.catalog.by_content(content)
        known = [one for one in found if not self._batch.is_replaced(one)]
        if self._policy != "add":  # not if the track's file now holds another encoding
            known = [one for one in known if self._batch.path_of(one) not in self._batch.entries]
        free = [one for one in known if not self._batch.is_relabelled(one)]
        here = [one for one in free if _are_one(one.track.path, path)]
        gone = [one for one in free if has_left(one)]
        rest: list[Listed | Entry] = [*known, *self._batch.with_content(content)]
        return next(iter([*here, *gone, *(rest if self._policy != "add" else [])]), None)

    def _join(self, new: Recording, same: Listed | Entry) -> None:
        """Handle a file with the same decoded audio as a track."""
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
        """Handle a recording whose content is new; it may be another encoding of a track."""
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
        """Another track of the same recording, by its content or by its embeddings."""
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
        """Whether a track will still exist, with the same recording, after this batch."""
        replaced = self._batch.is_replaced(known)
        return not replaced and self._batch.path_of(known) not in self._batch.entries

    def report_progress(self, seconds: float = 0.0) -> None:
        """Report progress; `seconds` of unfinished recordings have been read."""
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
    """Changes that are not committed yet."""

    def __init__(self) -> None:
        self.relabels: dict[int, Relabel] = {}
        self.entries: dict[Path, Entry] = {}
        self.copies: dict[Path, Copy] = {}
        self.forgotten: list[Path] = []  # copies whose files do not exist

    @property
    def rows(self) -> int:
        return sum(len(entry.vectors) for entry in self.entries.values())

    def with_content(self, content: bytes) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.content == content]

    def is_replaced(self, known: Listed) -> bool:
        """Whether another track replaces this one."""
        return self.path_of(known) in self.copies

    def add(self, entry: Entry) -> None:
        """Add a track."""
        self.copies.pop(entry.track.path, None)
        self.entries[entry.track.path] = entry

    def relabel(self, known: Listed, new: Recording) -> None:
        """Give a track another file or other tags."""
        self.copies.pop(new.path, None)
        self.relabels[known.id] = Relabel(known.id, new.path, new.stamp, new.tags)

    def is_relabelled(self, known: Listed | Entry) -> bool:
        """Whether the batch gives this track another file already."""
        return isinstance(known, Listed) and known.id in self.relabels

    def path_of(self, known: Listed | Entry) -> Path:
        """The path of a track after this batch."""
        relabel = self.relabels.get(known.id) if isinstance(known, Listed) else None
        return known.track.path if relabel is None else relabel.path

    def stamp_of(self, known: Listed | Entry) -> Stamp:
        """The stamp of that file."""
        relabel = self.relabels.get(known.id) if isinstance(known, Listed) else None
        return known.stamp if relabel is None else relabel.stamp

    def note_copy(self, path: Path, stamp: Stamp, of: Path) -> None:
        """Record a file, and the copies of its own track, as copies of another file."""
        for copy in [copy for copy in self.copies.values() if copy.of == path]:
            self.copies[copy.path] = Copy(copy.path, copy.stamp, of)
        self.copies[path] = Copy(path, stamp, of)

    def replace(self, old: Listed | Entry, new: Entry, *, moved: bool = False) -> None:
        """Replace a track by a new one of the same recording, whose copy its file becomes."""
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
    """Whether a track's file is gone or has changed; False if it only cannot be read."""
    path = known.track.path
    try:
        return Stamp.of(path) != known.stamp
    except OSError:
        return presence(path) is Presence.GONE
