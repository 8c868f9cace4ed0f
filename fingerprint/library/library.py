"""A library of music: what is in it, and which of its tracks is this?"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from fingerprint.config import SearchConfig
from fingerprint.errors import LibraryError
from fingerprint.index.ivf_pq import load_faiss
from fingerprint.library.profiles import PRECISE, profile_of
from fingerprint.library.records import LibraryInfo, Meta
from fingerprint.library.snapshot import Snapshot, take_snapshot
from fingerprint.library.store import CATALOG, Catalog, create_catalog
from fingerprint.library.writer import LOCK, Writer, locked, writing
from fingerprint.recognition.cohort import sample
from fingerprint.recognition.confidence import Evidence, probability
from fingerprint.recognition.query import (
    Listener,
    Question,
    Speeds,
    ask,
    at_its_earliest,
    shortened,
)
from fingerprint.recognition.speed import at_its_speed
from fingerprint.types import Candidate, Clip, Fingerprint, Floats, Match, Track

DEFAULTS = SearchConfig()
COMPARED = 5  # candidates, at least: the evidence for one is how far it is ahead of the others


class Embedder(Listener, Protocol):
    """What a library needs of a model; `fingerprint.model` has the real one."""

    @property
    def id(self) -> str: ...
    @property
    def dim(self) -> int: ...
    def begin(self) -> "Embedding": ...


class Embedding(Protocol):
    """A recording on its way to library rows."""

    def take(self, block: Clip, /) -> None: ...
    def end(self) -> Fingerprint: ...


@dataclass(frozen=True, slots=True)
class Finding:
    """A track that may be the answer, and what speaks for it."""

    track: Track
    candidate: Candidate
    evidence: Evidence
    repeats: tuple[float, ...] = ()  # s, later offsets at which the track sounds the same


class Library:
    """An open library. It follows what a writer, here or in another process, commits meanwhile."""

    def __init__(self, catalog: Catalog, model: Embedder, config: SearchConfig) -> None:
        self.model = model
        self._catalog = catalog
        self._config = config
        self._version = catalog.version()
        self._snapshot = take_snapshot(catalog)
        self._sampled: tuple[Snapshot, Floats] | None = None

    @classmethod
    def open(cls, path: Path, model: Embedder, *, config: SearchConfig = DEFAULTS) -> Self:
        """Open the library in a folder. The files are mapped into memory, not read.

        Raises:
            LibraryError: there is none, or it is damaged, of another format version, or made
                with another model.
        """
        catalog = Catalog(path)
        try:
            if catalog.meta.model_id != model.id:
                raise LibraryError(
                    f"the library {path} was made with model {catalog.meta.model_id[:12]}, this is "
                    f"model {model.id[:12]}: use that model, or index into a new folder"
                )
            return cls(catalog, model, config)
        except BaseException:
            catalog.close()
            raise

    @classmethod
    def create_or_open(
        cls,
        path: Path,
        model: Embedder,
        *,
        profile: str | None = None,
        config: SearchConfig = DEFAULTS,
    ) -> Self:
        """Open the library in a folder; in one that is new or empty, make a library first.

        `profile` names one of `profiles.PROFILES`, precise where none is named.

        Raises:
            LibraryError: as `open`, or the folder holds something else or cannot be written, or a
                library of another profile.
        """
        if not (path / CATALOG).exists():
            kind = profile_of(profile or PRECISE.name)
            create(path, Meta(model.id, model.dim, model.hop, kind))
        library = cls.open(path, model, config=config)
        if profile not in (None, library.meta.profile.name):
            library.close()
            raise LibraryError(
                f"the library {path} has the profile {library.meta.profile.name}, not {profile}: "
                "index into a new folder"
            )
        return library

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._catalog.close()

    @property
    def folder(self) -> Path:
        return self._catalog.folder

    @property
    def meta(self) -> Meta:
        """The model and the profile that it is made for."""
        return self._catalog.meta

    @property
    def catalog(self) -> Catalog:
        """What it says of segments and tracks, for those who look after the library."""
        return self._catalog

    def tracks(self) -> list[Track]:
        """Every track, in the order of their paths."""
        return self._catalog.tracks()

    def info(self) -> LibraryInfo:
        return self._catalog.info()

    def identify(
        self,
        clip: Clip,
        *,
        top: int = 5,
        query: Fingerprint | None = None,
        speeds: Speeds = "in doubt",
    ) -> list[Match]:
        """The tracks that the clip may be from, the likeliest first, whatever their confidence.

        Where there is nothing to recognise, as in silence, a tone or white noise, there are none.

        Args:
            clip: at the model's sample rate.
            top: how many tracks at most.
            query: the clip's rows by `embed_query`, if they are at hand.
            speeds: when the clip is heard at other speeds, too.

        >>> best = library.identify(snippet, top=1)[0]
        >>> best.track.path.name, round(best.offset), best.confidence > 0.98
        ('song2.ogg', 6, True)
        """
        return [
            Match(
                track=found.track,
                offset=found.candidate.offset,
                rate=found.candidate.rate,
                confidence=probability(found.evidence, self.model.calibration),
                score=found.candidate.score,
                repeats=found.repeats,
            )
            for found in self.search(clip, top=top, query=query, speeds=speeds)
        ]

    def search(
        self,
        clip: Clip,
        *,
        top: int,
        query: Fingerprint | None = None,
        speeds: Speeds = "in doubt",
    ) -> list[Finding]:
        """What `identify` decides on, for those who weigh the evidence themselves."""
        now = self.snapshot()
        part, begin = shortened(clip)
        own = query if part is clip else None
        question = Question(part, self.model, now, self._background(now), self._config, own)
        answers = ask(question, top=max(top, COMPARED), speeds=speeds)
        candidates = [answer.heard.candidate for answer in answers]
        repeated: list[tuple[float, ...]] = [() for _ in candidates]
        if answers:
            place = at_its_speed(question, answers[0].heard)
            candidates[0], later = at_its_earliest(question, place)
            repeated[0] = tuple(offset - place.rate * begin for offset in later)
        found = [
            Finding(track, _began(candidate, begin), answer.evidence, repeats)
            for answer, candidate, repeats in zip(answers, candidates, repeated, strict=True)
            if (track := self._catalog.track(int(now.owners[candidate.track]))) is not None
        ]
        return found[:top]

    def fingerprint(self, track: Track) -> Fingerprint | None:
        """The stored rows of a track; None if it is not in the library."""
        now = self.snapshot()
        number = self._catalog.track_id(track.path)
        (spans,) = np.nonzero(now.owners == number)
        if number is None or not len(spans):
            return None
        rows = np.arange(now.rows.starts[spans[0]], now.rows.starts[spans[0] + 1])
        return Fingerprint(now.vectors(rows), now.hop)

    def _background(self, now: Snapshot) -> Floats:
        """Random passages of the library; read once as long as it does not change."""
        if self._sampled is None or self._sampled[0] is not now:
            self._sampled = (now, sample(now.rows, now.vectors))
        return self._sampled[1]

    def writing(self) -> AbstractContextManager[Writer]:
        """Be the library's one writer for a while; see `fingerprint.library.writer.writing`."""
        return writing(self._catalog.folder)

    def remove(self, paths: Iterable[Path]) -> int:
        """Remove the tracks of these files; returns how many there were.

        Raises:
            LibraryError: another process is writing, or the library cannot be written.
        """
        with self.writing() as writer:
            return writer.remove(paths)

    def snapshot(self) -> Snapshot:
        """The library as it is now: the last one taken, unless a writer has changed it since."""
        version = self._catalog.version()
        if version != self._version:
            self._snapshot = take_snapshot(self._catalog, self._snapshot)
            self._version = version
        return self._snapshot


def library_info(path: Path) -> LibraryInfo:
    """A library in numbers, without its model.

    Raises:
        LibraryError: there is none, or it is damaged or of another format version.
    """
    catalog = Catalog(path)
    try:
        return catalog.info()
    finally:
        catalog.close()


def create(path: Path, meta: Meta) -> None:
    """Make an empty library in a new or an empty folder.

    Raises:
        LibraryError: the folder holds something else or cannot be written, or the profile needs
            faiss, which is not installed.
    """
    if meta.profile.index == "faiss":
        load_faiss()  # before hours of work
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(not entry.name.startswith((CATALOG, LOCK)) for entry in path.iterdir()):
            raise LibraryError(
                f"{path} holds other files and is not a fingerprint library: "
                "name a new or an empty folder"
            )
        with locked(path):
            if not (path / CATALOG).exists():
                create_catalog(path, meta)
    except FileExistsError as error:
        what = (
            "is a file, not a folder" if path.exists() else "is a link to nowhere: is a drive off?"
        )
        raise LibraryError(f"{path} {what}: name another place") from error
    except OSError as error:
        raise LibraryError(
            f"cannot make a library in {path}: {error.strerror}; name another folder"
        ) from error


def _began(candidate: Candidate, seconds: float) -> Candidate:
    """The candidate for a query that began so much earlier."""
    return replace(candidate, offset=candidate.offset - candidate.rate * seconds)
