"""Text for terminals: printable names, times, durations, percentages, error messages."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import click

from fingerprint.answers import REPLACEMENT
from fingerprint.audio.files import display_name, is_control
from fingerprint.cli.progress import note
from fingerprint.errors import FingerprintError

if TYPE_CHECKING:
    from fingerprint.audio.report import Damage
    from fingerprint.library.sync import Kept
    from fingerprint.types import Track


def printable(text: str) -> str:
    """Replace characters that must not reach a terminal: control codes, undecodable bytes."""
    return "".join(REPLACEMENT if is_control(letter) else letter for letter in text)


def one_line(text: str) -> str:
    """Printable text without line breaks, for an error message."""
    return printable(" ".join(text.split()))


def error_line(error: FingerprintError | OSError) -> str:
    """The message of an error, with the file it concerns, on one printable line."""
    if isinstance(error, FingerprintError):
        return one_line(str(error))
    where = f"{display_name(error.filename)}: " if error.filename else ""
    if not where and isinstance(error, FileNotFoundError) and not _has_current_folder():
        return "the current folder does not exist any more; change to another one"
    return one_line(f"{where}{error.strerror or error}")


def _has_current_folder() -> bool:
    try:
        return bool(os.getcwd())  # noqa: PTH109 - it only asks whether there is one
    except OSError:
        return False


def track_name(track: "Track") -> str:
    """Artist and title; where the tags give no title, the path."""
    if not track.tags.title:
        return display_name(track.path)
    return printable(" - ".join(filter(None, (track.tags.artist, track.tags.title))))


def warn(name: str, damage: "Iterable[Damage]") -> None:
    """Print on stderr which sound of a recording was lost in decoding."""
    for one in damage:
        click.echo(f"warning: {one_line(f'{name}: {one.message}')}", err=True)


def lost(name: str, damage: "Iterable[Damage]") -> str:
    """The error message for a damaged recording under `--strict`."""
    return one_line(f"cannot use {name}: {'; '.join(one.message for one in damage)}")


def show_kept(kept: "list[Kept]", remedy: str) -> None:
    """Print in which folders tracks were kept, why, and how to remove them."""
    from fingerprint.audio.files import Presence

    whys = {
        Presence.GONE: f"the files are gone, but so are most; {remedy}",
        Presence.EMPTIED: f"the folder is empty or gone, as if its drive were not there; {remedy}",
        Presence.UNREACHABLE: "it cannot be read, or is a link to nowhere",
    }
    folders = Counter((one.path.parent, whys[one.presence]) for one in kept)
    for (folder, why), number in folders.items():
        note(f"kept: {counted(number, 'track')} of {display_name(folder)}: {why}")


def show_record(record: Mapping[str, object]) -> None:
    """Print names and values as two columns; numbers with commas."""
    width = max(map(len, record))
    for name, value in record.items():
        text = f"{value:,}" if isinstance(value, int | float) else str(value)
        click.echo(f"{name.replace('_', ' '):<{width}}  {printable(text)}")


def clock(seconds: float) -> str:
    """Minutes and seconds, `m:ss.s`; negative if a query begins before its track."""
    tenths = round(abs(seconds) * 10)
    sign = "-" if seconds < 0 and tenths else ""
    return f"{sign}{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def length(seconds: float) -> str:
    """A duration in hours, or in minutes below one hour."""
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def percent(probability: float) -> str:
    """Percent with one decimal; never 100 %, because no estimate is certain."""
    return f"{min(100 * probability, 99.9):.1f} %"


def counted(number: int, noun: str) -> str:
    """`1 track`, `2 tracks`, `1,234 tracks`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
