"""Options that several commands of the lab share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fingerprint.cli.options import FOLDER

F = TypeVar("F", bound=Callable[..., Any])


def output_option(default: str | None = None) -> Callable[[F], F]:
    """The folder of a command's results; without a default, it has to be given."""
    return click.option(
        "--output",
        type=FOLDER,
        metavar="DIR",
        default=None if default is None else Path(default),
        required=default is None,
        show_default=default is not None,
        help="Folder for everything that the command writes.",
    )
