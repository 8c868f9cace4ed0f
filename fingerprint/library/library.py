"""A library of music in a folder: open it, list its tracks, recognise clips."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from fingerprint.errors import LibraryError
from fingerprint.index.ivf_pq import load_faiss
from fingerprint.library.profiles import STANDARD, profile_of
from fingerprint.library.records import LibraryInfo, Meta
from fingerprint.library.snapshot import Snapshot, take_snapshot
from fingerprint.library.stats import Counts, count
from fingerprint.library.store import CATALOG, Catalog, create_catalog
from fingerprint.library.writer import LOCK, Writer, locked, writing
from fingerprint.recognition.recognise import Result, Speeds, recognise
from fingerprint.recognition.reference import Model
from fingerprint.search import SearchConfig
from fingerprint.types import Clip, Fingerprint, Match, Track

DEFAULTS = SearchConfig()


class Embedder(Model, Protocol):
    """The part of a model that a library uses; `fingerprint.model` has the implementation."""

    @property
    def id(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def indexed_dims(self) -> int: ...
    def begin(self) -> "Embedding": ...


class Embedding(Protocol):
    """Embeds a recording block by block."""

    def take(self, block: Clip, /) -> None: ...
    def end(self) -> Fingerprint: ...


class Library:
    """An open library. It sees what a writer, in this or another process, commits later.

    If another library of the same model takes the place of its folder, that one is used.
    """

    def __init__(self, catalog: Catalog, model: Embedder, config: SearchConfig) -> None:
        self.model = model
        self.config = config
        # Catalog and snapshot are replaced together, so no thread uses two different moments.
        self._taken = (catalog, catalog.version(), take_snapshot(catalog))

    @classmethod
    def open(cls, path: Path, model: Embedder, *, config: SearchConfig = DEFAULTS) -> Self:
        """Open the library in a folder. The files are mapped into memory, not read.

        Raises:
            LibraryError: there is none, or it is damaged, of another format version, or made
                with another model.
        """
        catalog = _open_catalog(path, model)
        try:
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

        `profile` is the name of one of `profiles.PROFILES`; by default that of the library, or
        standard for a new one.

        Raises:
            LibraryError: as `open`, or the folder holds something else or cannot be written, or a
                library of another profile.
        """
        if not (path / CATALOG).exists():
            kind = profile_of(profile or STANDARD.name)
            create(path, Meta(model.id, model.dim, model.hop, kind, model.indexed_dims))
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

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._taken[0].close()

    @property
    def folder(self) -> Path:
        return self._taken[0].folder

    @property
    def meta(self) -> Meta:
        """The model and the profile that the library is made for."""
        return self.catalog.meta

    @property
    def catalog(self) -> Catalog:
        """The catalog of segments and tracks.

        Raises:
            LibraryError: another library has replaced it, and cannot be opened.
        """
        catalog = self._taken[0]
        if catalog.is_replaced():  # the old one is closed when no thread uses it any more
            catalog = _open_catalog(catalog.folder, self.model)
            self._taken = (catalog, catalog.version(), take_snapshot(catalog))
        return catalog

    def tracks(self) -> list[Track]:
        """Every track, in the order of their paths."""
        return self.catalog.tracks()

    def info(self) -> LibraryInfo:
        return self.catalog.info()

    def counts(self) -> Counts:
        """Statistics of the library."""
        return count(self.folder)

    def recognise(
        self,
        clip: Clip,
        *,
        top: int = 5,
        speeds: Speeds = "in doubt",
        parts: bool = False,
    ) -> Result:
        """The tracks that the clip may be from, at any confidence; or why there are none.

        Args:
            clip: at the model's sample rate.
            top: how many tracks at most.
            speeds: whether a doubtful clip is tried at other speeds.
            parts: whether a second track is searched for in the part in which the best one does not
                play.
        """
        return recognise(
            self.snapshot(),
            clip,
            self.model,
            top=top,
            config=self.config,
            speeds=speeds,
            parts=parts,
        )

    def identify(
        self, clip: Clip, *, top: int = 5, min_confidence: float | None = None
    ) -> list[Match]:
        """The tracks that the clip is from, the likeliest first; none if it is of none.

        Args:
            clip: at the model's sample rate.
            top: how many tracks at most.
            min_confidence: the least of a match; None: the default, as of `fingerprint identify`.
                0 gives the best candidates, whatever their confidence.

        >>> best = library.identify(snippet, top=1)[0]
        >>> best.track.path.name, round(best.offset), best.confidence > 0.98
        ('song2.ogg', 6, True)
        """
        least = self.config.min_confidence if min_confidence is None else min_confidence
        return self.recognise(clip, top=top, parts=True).at_least(least)

    def fingerprint(self, track: Track) -> Fingerprint | None:
        """The stored rows of a track; None if it is not in the library."""
        now = self.snapshot()
        number = now.catalog.track_id(track.path)
        (spans,) = np.nonzero(now.owners == number)
        if number is None or not len(spans):
            return None
        rows = np.arange(now.rows.starts[spans[0]], now.rows.starts[spans[0] + 1])
        return Fingerprint(now.vectors(rows), now.hop)

    def writing(self) -> AbstractContextManager[Writer]:
        """Hold the library's writer lock; see `fingerprint.library.writer.writing`."""
        return writing(self.folder)

    def remove(self, paths: Iterable[Path]) -> int:
        """Remove the tracks of these files; returns how many there were.

        Raises:
            LibraryError: another process is writing, or the library cannot be written.
        """
        with self.writing() as writer:
            return writer.remove(paths)

    def snapshot(self) -> Snapshot:
        """The library as it is now: the last one taken, unless a writer has changed it since."""
        catalog = self.catalog
        version, (of, known, last) = catalog.version(), self._taken
        if of is catalog and version != known:
            last = take_snapshot(catalog, last)
            self._taken = (catalog, version, last)
        return last


def _open_catalog(path: Path, model: Embedder) -> Catalog:
    """The catalog of the library in a folder, which must have been made with this model."""
    catalog = Catalog(path)
    if catalog.meta.model_id != model.id:
        catalog.close()
        raise LibraryError(
            f"the library {path} was made with model {catalog.meta.model_id[:12]}, this is "
            f"model {model.id[:12]}: use that model, or index into a new folder"
        )
    if catalog.meta.indexed_dims != model.indexed_dims:
        catalog.close()
        raise LibraryError(
            f"the library {path} indexes {catalog.meta.indexed_dims} dimensions of an embedding, "
            f"this model has {model.indexed_dims} for it: index into a new folder"
        )
    return catalog


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


def holds_something(folder: Path, but: str | tuple[str, ...]) -> bool:
    """Whether there is anything in a folder, except names that begin with `but`.

    That a drive has just been formatted, and has an empty folder for what it may lose, is nothing.
    """
    names = (entry.name for entry in folder.iterdir())
    return any(name != "lost+found" and not name.startswith(but) for name in names)


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
        if holds_something(path, but=(CATALOG, LOCK)):
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
