"""Progress on stderr: a live line on a terminal, an occasional plain line elsewhere."""

import os
import sys
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Protocol, Self, TextIO

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PLAIN_EVERY = 30.0  # s between lines where nothing can be redrawn


class Staged(Protocol):
    """The progress of a stage of long work."""

    @property
    def stage(self) -> str: ...
    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...


class ProgressLine:
    """A progress bar with a text and the time left.

    A context manager; the bar disappears when it closes.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live: Progress | None = None
        self._task: TaskID | None = None
        self._last_plain = monotonic()

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._live = Progress(
                BarColumn(bar_width=24),
                TextColumn("{task.fields[text]}", markup=False),
                TimeRemainingColumn(compact=True),
                console=Console(stderr=True),
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bar from the terminal; later calls show nothing."""
        live, self._live, self._quiet = self._live, None, True
        if live is not None:
            with suppress(OSError):
                live.stop()

    def show(self, done: float, total: float, text: str, *, keep: bool = False) -> None:
        """Show `text` beside a bar at `done` of `total`; `keep` leaves it as a line of its own."""
        if self._quiet:
            return
        if self._live is None:
            self._plain(text, keep=keep)
            return
        with suppress(OSError):  # the terminal has been closed, which is no reason to stop
            if self._task is None:
                self._task = self._live.add_task("", total=total, text=text)
            self._live.update(self._task, completed=done, total=total, text=text)
            if keep:
                self._live.console.print(text, markup=False, highlight=False)

    def stage(self, now: Staged) -> None:
        """Show the progress of a stage of long work."""
        self.show(now.done, now.total, f"{now.stage} {now.done:,}/{now.total:,}")

    def _plain(self, text: str, *, keep: bool) -> None:
        now = monotonic()
        if keep or now - self._last_plain >= PLAIN_EVERY:
            self._last_plain = now
            note(text)


def note(text: str) -> None:
    """Print a line on stderr; if stderr cannot be written, print nothing."""
    try:
        click.echo(text, err=True)
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Redirect a broken stream to the null device, so that Python's final flush succeeds."""
    with suppress(OSError, ValueError):  # ValueError: not a file, as in tests
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
