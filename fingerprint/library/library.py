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
from fingerprint.library.snapshot import Snapshot, take_snapshot
from fingerprint.library.store import CATALOG, Catalog, LibraryInfo, Meta, create_catalog
from fingerprint.library.writer import LOCK, Writer, locked, writing
from fingerprint.search.confidence import Calibration, Evidence, evidence_of, probability
from fingerprint.search.copies import same_recordings
from fingerprint.search.matcher import rank
from fingerprint.types import Candidate, Clip, Fingerprint, Floats, Match, Track

DEFAULTS = SearchConfig()
COMPARED = 5  # candidates, at least: the evidence for one is how far it is ahead of the others
LONGEST_QUERY = 30.0  # s; of a longer recording the middle is enough


class Embedder(Protocol):
    """What a library needs of a model; `fingerprint.model` has the real one."""

    @property
    def id(self) -> str: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def hop(self) -> float: ...
    @property
    def window(self) -> float: ...
    @property
    def calibration(self) -> Calibration: ...
    def embed(self, clip: Clip, /) -> Fingerprint: ...
    def embed_query(self, clip: Clip, /) -> Fingerprint: ...
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
        cls, path: Path, model: Embedder, *, config: SearchConfig = DEFAULTS
    ) -> Self:
        """Open the library in a folder; in one that is new or empty, make a library first.

        Raises:
            LibraryError: as `open`, or the folder holds something else or cannot be written.
        """
        if not (path / CATALOG).exists():
            _create(path, Meta(model.id, model.dim, model.hop))
        return cls.open(path, model, config=config)

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

    def search(self, clip: Clip, *, top: int) -> list[Finding]:
        """What `identify` decides on, for those who weigh the evidence themselves."""
        query = _query(clip, self.model)
        audible = query.vectors.any(axis=1)
        if not audible.any():
            return []
        config, now = self._config, self._current()
        looked_up = _every(query.vectors, -(-len(query.vectors) // config.looked_up))
        candidates = rank(
            query,
            now.search(looked_up, neighbours=config.neighbours, search_k=config.search_k),
            now.rows,
            now.vectors,
            hop=self.model.hop,
            config=config,
            top=max(top, COMPARED),
        )
        covered = (len(query.vectors) - 1) * query.hop
        copies = same_recordings(
            candidates, now.rows, now.vectors, hop=self.model.hop, seconds=covered
        )
        seconds = float(np.mean(audible)) * min(clip.duration, LONGEST_QUERY)
        evidence = evidence_of(candidates, seconds, copies)
        candidates = [_moved(candidate, self.model.window) for candidate in candidates]
        found = [
            Finding(track, candidate, weight)
            for candidate, weight in zip(candidates, evidence, strict=True)
            if (track := self._catalog.track(int(now.owners[candidate.track]))) is not None
        ]
        return found[:top]

    def writing(self) -> AbstractContextManager[Writer]:
        """Be the library's one writer for a while; see `fingerprint.library.writer.writing`."""
        return writing(self._catalog.folder, trees=self._config.trees)

    def remove(self, paths: Iterable[Path]) -> int:
        """Remove the tracks of these files; returns how many there were.

        Raises:
            LibraryError: another process is writing, or the library cannot be written.
        """
        with self.writing() as writer:
            return writer.remove(paths)

    def _current(self) -> Snapshot:
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


def _create(path: Path, meta: Meta) -> None:
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


def _every(vectors: Floats, step: int) -> Floats:
    """Every `step`th of the vectors (N, D), and zeros, which are not looked up, for the others.

    Neighbouring query windows look alike and find the same rows.
    """
    chosen = np.zeros_like(vectors)
    chosen[::step] = vectors[::step]
    return chosen


def _moved(candidate: Candidate, window: float) -> Candidate:
    """The offset of the query's start rather than that of the window that begins there.

    Windows match where their middles play the same. At a rate other than 1 their beginnings do
    not: a query window of `window` seconds holds rate * window seconds of the track.
    """
    return replace(candidate, offset=candidate.offset - (candidate.rate - 1) * window / 2)


def _query(clip: Clip, model: Embedder) -> Fingerprint:
    """The query's embeddings; of a long recording, those of its middle."""
    excess = clip.duration - LONGEST_QUERY
    if excess <= 0:
        return model.embed_query(clip)
    first = round(excess / 2 * clip.sample_rate)
    last = first + round(LONGEST_QUERY * clip.sample_rate)
    middle = model.embed_query(Clip(clip.samples[first:last], clip.sample_rate))
    return Fingerprint(middle.vectors, middle.hop, middle.start + first / clip.sample_rate)
