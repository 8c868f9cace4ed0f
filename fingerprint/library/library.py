"""A library of music: what is in it, and which of its tracks is this?"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from fingerprint.config import SearchConfig
from fingerprint.errors import LibraryError
from fingerprint.library.asking import Listener, Question, ask, shortened
from fingerprint.library.profiles import PRECISE, profile_of
from fingerprint.library.records import LibraryInfo, Meta
from fingerprint.library.snapshot import Snapshot, take_snapshot
from fingerprint.library.speed import at_its_speed
from fingerprint.library.store import CATALOG, Catalog, create_catalog
from fingerprint.library.writer import LOCK, Writer, locked, writing
from fingerprint.search.confidence import Evidence, probability
from fingerprint.types import Candidate, Clip, Fingerprint, Match, Track

DEFAULTS = SearchConfig()
COMPARED = 5  # candidates, at least: the evidence for one is how far it is ahead of the others


class Embedder(Listener, Protocol):
    """What a library needs of a model; `fingerprint.model` has the real one."""

    @property
    def id(self) -> str: ...
    @property
    def dim(self) -> int: ...
    def embed_blocks(self, blocks: Iterable[Clip], /) -> Fingerprint: ...


@dataclass(frozen=True, slots=True)
class Finding:
    """A track that may be the answer, and what speaks for it."""

    track: Track
    candidate: Candidate
    evidence: Evidence


class Library:
    """An open library. It follows what a writer, here or in another process, commits meanwhile."""

    def __init__(self, catalog: Catalog, model: Embedder, config: SearchConfig) -> None:
        self.model = model
        self._catalog = catalog
        self._config = config
        self._version = catalog.version()
        self._snapshot = take_snapshot(catalog)

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

    def identify(self, clip: Clip, *, top: int = 5) -> list[Match]:
        """The tracks that the clip may be from, the likeliest first, whatever their confidence.

        The clip must have the model's sample rate. Silence has no matches.
        """
        return [
            Match(
                track=found.track,
                offset=found.candidate.offset,
                rate=found.candidate.rate,
                confidence=probability(found.evidence, self.model.calibration),
                score=found.candidate.score,
            )
            for found in self.search(clip, top=top)
        ]

    def search(self, clip: Clip, *, top: int, thorough: bool = False) -> list[Finding]:
        """What `identify` decides on, for those who weigh the evidence themselves.

        With `thorough` the query is heard in every way that is tried on a doubtful one.
        """
        now = self.snapshot()
        part, begin = shortened(clip)
        question = Question(part, self.model, now, self._config)
        answers = ask(question, top=max(top, COMPARED), thorough=thorough)
        candidates = [answer.heard.candidate for answer in answers]
        candidates[:1] = [at_its_speed(question, answer.heard) for answer in answers[:1]]
        found = [
            Finding(track, _began(candidate, begin), answer.evidence)
            for answer, candidate in zip(answers, candidates, strict=True)
            if (track := self._catalog.track(int(now.owners[candidate.track]))) is not None
        ]
        return found[:top]

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
        LibraryError: the folder holds something else or cannot be written.
    """
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
        raise LibraryError(f"{path} is a file, not a folder: name another place") from error
    except OSError as error:
        raise LibraryError(
            f"cannot make a library in {path}: {error.strerror}; name another folder"
        ) from error


def _began(candidate: Candidate, seconds: float) -> Candidate:
    """The candidate for a query that began so much earlier."""
    return replace(candidate, offset=candidate.offset - candidate.rate * seconds)
