"""Open the model and the library that the options name."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from fingerprint.audio.files import display_name
from fingerprint.errors import LibraryError

if TYPE_CHECKING:
    from fingerprint.library.library import Library
    from fingerprint.model.fingerprinter import Fingerprinter

REMEDY = "learn some music with: fingerprint index FOLDER"


def open_model(file: Path | None, device: str, *, threads: int = 0) -> "Fingerprinter":
    """Load a checkpoint, or the shipped one where no file is named; `threads` as of `load`."""
    from fingerprint.model.fingerprinter import DEFAULT_WEIGHTS, Fingerprinter

    model = Fingerprinter.load(file or DEFAULT_WEIGHTS, device, threads=threads)
    if model.calibration.outdated:
        name = display_name(file) if file else "the shipped model"
        click.echo(
            f"Warning: {name} was calibrated by another version, and its confidences are rough "
            "until it is calibrated again: fingerprint calibrate",
            err=True,
        )
    return model


def open_any(place: Path | str, model: Path | None, device: str) -> "Library":
    """Open a library that is to be searched: in a folder, or on a server.

    Raises:
        LibraryError, ModelError: as `open_library`; or the server is away.
    """
    if isinstance(place, Path):
        return open_library(place, model, device)
    from fingerprint.serving.remote import RemoteLibrary

    # It is asked with what a library is asked with.
    return cast("Library", RemoteLibrary(place, open_model(model, device), token()))


def token() -> str | None:
    """What servers let change a library."""
    return os.environ.get("FINGERPRINT_TOKEN") or None


def open_library(folder: Path, model: Path | None, device: str) -> "Library":
    """Open a library that is to be searched, together with its model.

    Raises:
        LibraryError: there is none, it is empty, or it cannot be used with this model.
        ModelError: the checkpoint cannot be loaded.
    """
    require_library(folder)  # before the seconds that loading the model takes
    from fingerprint.library.library import Library

    library = Library.open(folder, open_model(model, device))
    if not library.info().tracks:
        library.close()
        raise LibraryError(f"the library {display_name(folder)} is empty; {REMEDY}")
    return library


def open_or_create(
    folder: Path, model: Path | None, device: str, profile: str | None = None
) -> "Library":
    """Open a library that is to be changed; in a new or an empty folder make one first.

    Raises:
        LibraryError: the folder holds something else, or a library of another model or profile.
        ModelError: the checkpoint cannot be loaded.
    """
    from fingerprint.library.library import Library

    return Library.create_or_open(folder, open_model(model, device), profile=profile)


def require_library(folder: Path) -> None:
    """Check that there is a library at all.

    Raises:
        LibraryError: the folder does not exist; says how to make a library.
    """
    if not folder.exists():
        raise LibraryError(f"there is no library at {display_name(folder)}; {REMEDY}")
