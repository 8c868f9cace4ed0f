"""Open the model and the library that a command's options name."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fingerprint.audio.files import display_name
from fingerprint.errors import LibraryError
from fingerprint.milvus.address import Address

if TYPE_CHECKING:
    from fingerprint.library.library import Library
    from fingerprint.library.store import Catalog
    from fingerprint.library.writer import Writer
    from fingerprint.model.fingerprinter import Fingerprinter

REMEDY = "learn some music with: fingerprint index FOLDER"


def open_model(
    file: Path | None, device: str, *, threads: int = 0, warn: bool = True
) -> "Fingerprinter":
    """Load a model file, by default the shipped model; the rest as in `Fingerprinter.load`."""
    from fingerprint.model.fingerprinter import DEFAULT_WEIGHTS, Fingerprinter

    return Fingerprinter.load(file or DEFAULT_WEIGHTS, device, threads=threads, warn=warn)


def open_any(place: Path | Address | str, model: Path | None, device: str) -> "Library":
    """Open a library for queries: in a folder, in Milvus, or on a server.

    Raises:
        LibraryError, ModelError: as `open_library`; or the server cannot be reached.
    """
    if not isinstance(place, str):
        return open_library(place, model, device)
    from fingerprint.serving.remote import RemoteLibrary

    # It has the methods that commands use of a `Library`.
    return cast("Library", RemoteLibrary(place, open_model(model, device), token()))


def token() -> str | None:
    """The token that a server wants for changes, from FINGERPRINT_TOKEN; None if not set."""
    return os.environ.get("FINGERPRINT_TOKEN") or None


def open_library(place: Path | Address, model: Path | None, device: str) -> "Library":
    """Open a library for queries, together with its model.

    Raises:
        LibraryError: there is none, it is empty, or it cannot be used with this model.
        ModelError: the checkpoint cannot be loaded.
    """
    require_library(place)  # before the seconds that loading the model takes
    library = open_with(place, open_model(model, device))
    if not len(library.snapshot().rows):
        library.close()
        raise LibraryError(f"the library {display_name(str(place))} is empty; {REMEDY}")
    return library


def open_with(place: Path | Address, model: "Fingerprinter") -> "Library":
    """Open a library, which may be empty.

    Raises:
        LibraryError: there is none, or it cannot be used with this model.
    """
    if isinstance(place, Address):
        from fingerprint.milvus.library import MilvusLibrary

        return MilvusLibrary.at(place, model)
    from fingerprint.library.library import Library

    return Library.open(place, model)


def open_or_create(
    place: Path | Address, model: Path | None, device: str, profile: str | None = None
) -> "Library":
    """Open a library for changes; create it if there is none.

    Raises:
        LibraryError: the place holds something else, or a library of another model or profile.
        ModelError: the checkpoint cannot be loaded.
    """
    if isinstance(place, Address):
        from fingerprint.milvus.library import MilvusLibrary

        return MilvusLibrary.create_or_open_at(place, open_model(model, device), profile=profile)
    from fingerprint.library.library import Library

    return Library.create_or_open(place, open_model(model, device), profile=profile)


@contextmanager
def catalog_at(place: Path | Address) -> "Iterator[Catalog]":
    """Open a library's catalog, without its model.

    Raises:
        LibraryError: there is none, it is damaged, or the server cannot be reached.
    """
    if isinstance(place, Address):
        from fingerprint.milvus.library import opened

        with opened(place) as found:
            yield cast("Catalog", found)  # it has the methods that commands use of a `Catalog`
        return
    from fingerprint.library.store import Catalog

    with closing(Catalog(place)) as catalog:
        yield catalog


@contextmanager
def writing_at(place: Path | Address) -> "Iterator[Writer]":
    """Change a library without its model.

    Raises:
        LibraryError: there is none, another process writes to it, or the server cannot be reached.
    """
    if isinstance(place, Address):
        from fingerprint.milvus.library import opened, writing_with

        with opened(place) as catalog, writing_with(catalog) as writer:
            yield writer
        return
    from fingerprint.library.writer import writing

    with writing(place) as writer:
        yield writer


def require_library(place: Path | Address) -> None:
    """Check that a library's folder exists; a library in Milvus is checked when it is opened.

    Raises:
        LibraryError: the folder does not exist; the message says how to make a library.
    """
    if isinstance(place, Path) and not place.exists():
        raise LibraryError(f"there is no library at {display_name(place)}; {REMEDY}")
