"""Options that several commands share, each with one name, one default and one help text."""

from collections.abc import Callable
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import click

from fingerprint.cli.progress import note
from fingerprint.errors import LibraryError
from fingerprint.machine import available_cores
from fingerprint.milvus.address import Address, is_address
from fingerprint.search import SearchConfig

F = TypeVar("F", bound=Callable[..., Any])
FOLDER = click.Path(file_okay=False, path_type=Path)
LIBRARY = click.Path(file_okay=False, readable=False, path_type=Path)  # `doctor` says more
FILE = click.Path(dir_okay=False, path_type=Path)
STDIN = "-"  # in place of a file


def default_library() -> Path:
    """The folder of the user's own library, the default of --library.

    Raises:
        LibraryError: the user has no home folder, as in a container or a service.
    """
    import platformdirs

    try:
        folder = platformdirs.user_data_path("fingerprint") / "library"
    except (RuntimeError, KeyError):
        folder = Path("~")
    if not folder.is_absolute():  # "~/.local/...": "~" could not be expanded
        raise LibraryError("there is no home folder for a library: name one with --library DIR")
    return folder


class Finite(click.FloatRange):
    """A range of numbers that excludes "nan"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class LibraryPlace(click.ParamType[Any]):
    """A folder (Path) or, if allowed, a server's address (str) or one in Milvus (Address)."""

    name = "library"

    def __init__(self, *, servers: bool, milvus: bool) -> None:
        self._servers, self._milvus = servers, milvus

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and is_address(value):
            return self._in_milvus(value, param, ctx)
        if not isinstance(value, str) or not value.lower().startswith(("http://", "https://")):
            return LIBRARY.convert(value, param, ctx)
        if not self._servers:
            self.fail("this needs the library's own folder, not a server.", param, ctx)
        return value

    def _in_milvus(
        self, text: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        if not self._milvus:
            self.fail("this needs a library in a folder, not one in Milvus.", param, ctx)
        try:
            return Address.parse(text)
        except LibraryError as error:
            self.fail(f"{error}.", param, ctx)


_library_option = partial(
    click.option,
    "--library",
    envvar="FINGERPRINT_LIBRARY",
    default=default_library,
    show_default="in the user's data folder",
    show_envvar=True,
)
library_option = _library_option(
    type=LibraryPlace(servers=False, milvus=False), metavar="DIR", help="Folder of the library."
)
library_or_milvus_option = _library_option(
    type=LibraryPlace(servers=False, milvus=True),
    metavar="DIR|URL",
    help="Folder of the library, or its address in Milvus, as milvus://host:19530/music.",
)
library_or_server_option = _library_option(
    type=LibraryPlace(servers=True, milvus=True),
    metavar="DIR|URL",
    help="Folder of the library, or the address of a server that has it, as https://host:8765 or "
    "milvus://host:19530/music.",
)
model_option = click.option(
    "--model",
    type=FILE,
    envvar="FINGERPRINT_MODEL",
    show_default="the one that ships with the package",
    show_envvar=True,
    help="File of the model that makes the fingerprints: a checkpoint (.pt) or an export (.onnx).",
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Device that runs the model; auto: a GPU if there is one.",
)
jobs_option = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    default=available_cores,
    show_default="all cores",
    help="Worker processes.",
)
RENAMED = {"precise": "standard", "balanced": "compact"}  # profiles, until the next version


def former_flag(old: str, new: str) -> Callable[[F], F]:
    """A hidden flag for the former name of another one; warns if it is given."""

    def warn(_context: click.Context, _parameter: click.Parameter, given: bool) -> bool:
        if given:
            note(f"Warning: {old} is now {new}.")
        return given

    return click.option(
        old, is_flag=True, hidden=True, callback=warn, help=f"The former name of {new}."
    )


class ProfileName(click.Choice[str]):
    """The name of a profile; a former name is accepted, with a warning."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in RENAMED:
            note(f"Warning: the profile {value} is gone: {RENAMED[value]} is made instead.")
        return super().convert(RENAMED.get(value, value), param, ctx)


profile_option = click.option(
    "--profile",
    type=ProfileName(["standard", "large", "compact"]),
    show_default="standard, or what the library has",
    help="How a new library stores recordings: large is for a hundred thousand tracks and "
    "more; compact takes the least space and the most time.",
)
duplicate_option = click.option(
    "--on-duplicate",
    type=click.Choice(["skip", "add", "replace"]),
    default="add",
    show_default=True,
    help="What to do with a file whose recording is in the library already: leave it out, "
    "add it as a track of its own, or replace the old one.",
)
corpus_option = click.option(
    "--corpus",
    type=FOLDER,
    metavar="DIR",
    default=Path("data/corpus"),
    show_default=True,
    help="Folder of the assembled corpus.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a line instead of a table."
)
strict_option = click.option(
    "--strict", is_flag=True, help="Treat a recording of which sound is lost as an error."
)
stream_option = click.option(
    "--stream",
    type=click.IntRange(min=1),
    metavar="N",
    show_default="the default one, or the first that is not silent",
    help="Take the N-th audio track of files that hold several.",
)
min_confidence_option = click.option(
    "--min-confidence",
    type=Finite(0, 1),
    metavar="P",
    default=SearchConfig().min_confidence,
    show_default=True,
    help="Below this probability a candidate is no match; 0 lists the best "
    "candidates at any confidence.",
)
