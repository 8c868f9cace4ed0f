"""A click group that imports a command when it runs and shows errors as one line."""

import errno
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

import click

from fingerprint.cli.progress import discard, note
from fingerprint.cli.text import error_line, one_line
from fingerprint.errors import CalibrationWarning, FingerprintError

INTERRUPTED = 130  # 128 + SIGINT, as shells count; 143 and 129 after SIGTERM and SIGHUP
READER_LEFT = 141  # 128 + SIGPIPE; of commands whose 1 means something else than "error"
EXTRAS = {
    "PIL": "serve",
    "cryptography": "serve",
    "fastapi": "serve",
    "httptools": "serve",
    "hypothesis": "dev",
    "matplotlib": "train",
    "onnx": "onnx",
    "prometheus_client": "serve",
    "pyroomacoustics": "train",
    "segno": "serve",
    "sklearn": "train",
    "starlette": "serve",
    "tensorboard": "train",
    "torch": "train",
    "torchaudio": "train",
    "uvicorn": "serve",
    "websockets": "serve",
}  # packages that only some installs have, and the extra that brings each


class Stopped(KeyboardInterrupt):
    """The process is to end: `kill`, `docker stop`, a terminal that is closed.

    Like Ctrl-C, it lets commands keep what is done and delete their temporary files.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class CommandGroup(click.Group):
    """Commands that are imported when they run.

    Errors caused by the user or the machine are shown as one line on stderr; bugs keep their
    traceback.

    Args:
        lazy: by the command's name, `module:attribute` and its line in the list of commands.
        error_status: exit status of errors by command, where it is not 1.
    """

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, tuple[str, str]],
        error_status: Mapping[str, int] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(*args, **extra)
        self.lazy, self.error_status = dict(lazy), dict(error_status or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self.lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.lazy and cmd_name not in self.commands:
            self.add_command(load(self.lazy[cmd_name][0]), cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.lazy[name][1]) for name in self.list_commands(ctx)])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line, even with closed standard streams, and exit with its status.

        As in click, `standalone_mode=False` returns the status instead and raises errors.
        """
        run = partial(super().main, args, prog_name, complete_var, standalone_mode=False, **extra)
        if not standalone_mode:
            return run()
        open_standard_streams()
        status: Any
        try:
            with stopping(), warnings_as_lines():
                status = run()
        except click.ClickException as error:
            _show(error)
            status = error.exit_code
        except click.Abort as error:  # an interrupt at the very end
            note("Interrupted.")
            status = _status_after(error)
        except OSError as error:  # help could not be written
            discard(sys.stdout)
            note(f"Error: {error_line(error)}")
            status = 1
        sys.exit(status if isinstance(status, int) else 0)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*args, **extra)
        except BrokenPipeError:
            _reader_left(1)
        except KeyboardInterrupt as error:
            _interrupted(error)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return self._invoke(ctx)
        except BrokenPipeError:
            _reader_left(READER_LEFT if ctx.invoked_subcommand in self.error_status else 1)
        except ModuleNotFoundError as error:
            package = (error.name or "").split(".")[0]
            if package not in EXTRAS:
                raise
            self._fail(ctx, f"this needs {package}: pip install 'fingerprint[{EXTRAS[package]}]'")
        except MemoryError:
            self._fail(ctx, "there is not enough memory")
        except (FingerprintError, OSError) as error:
            self._fail(ctx, error_line(error))
        except KeyboardInterrupt as error:
            _interrupted(error)

    def _invoke(self, ctx: click.Context) -> Any:
        """Run the command; a failure to clean up after an interrupt is that interrupt."""
        try:
            return super().invoke(ctx)
        except click.exceptions.Exit:
            raise
        except Exception as error:
            if _follows_interrupt(error):
                raise KeyboardInterrupt from error
            raise

    def _fail(self, ctx: click.Context, text: str) -> NoReturn:
        try:
            sys.stdout.flush()
        except OSError:  # a full disk: the rest of the output is lost, too
            discard(sys.stdout)
        note(f"Error: {text}")
        ctx.exit(self.error_status.get(ctx.invoked_subcommand or "", 1))


def open_standard_streams() -> None:
    """Open the null device for a closed standard input, output or error.

    Otherwise the next file opened, such as the library, would get that stream's number, and output
    would be written into it.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def load(place: str) -> Any:
    """Import the attribute that `module:attribute` names."""
    module, attribute = place.split(":")
    return getattr(import_module(module), attribute)


def _show(error: click.ClickException) -> None:
    """Show a usage error, with the correct usage."""
    try:
        error.show()
    except OSError:
        discard(sys.stderr)


def _reader_left(status: int) -> NoReturn:
    """Exit quietly: the reader of the output has closed it, as `head` does."""
    discard(sys.stdout)
    raise click.exceptions.Exit(status)


def _follows_interrupt(error: BaseException) -> bool:
    cause = error.__context__
    return cause is not None and (isinstance(cause, KeyboardInterrupt) or _follows_interrupt(cause))


def _interrupted(error: KeyboardInterrupt) -> NoReturn:
    note("Interrupted.")
    raise click.exceptions.Exit(_status_after(error))


def _status_after(error: BaseException | None) -> int:
    """The exit status of an interrupt, as shells count."""
    while error is not None:
        if isinstance(error, Stopped):
            return 128 + error.number
        error = error.__cause__ or error.__context__
    return INTERRUPTED


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Show each of the package's own warnings once, as a line on stderr."""
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, CalibrationWarning):
            others(message, category, *place, **more)
        elif (line := f"Warning: {one_line(str(message))}") not in shown:
            shown.add(line)
            note(line)

    with warnings.catch_warnings():
        others, warnings.showwarning = warnings.showwarning, show
        warnings.simplefilter("always", CalibrationWarning)
        yield


@contextmanager
def stopping() -> Iterator[None]:
    """Raise `Stopped` on SIGTERM and SIGHUP, where they would kill; a second one does kill."""

    def stop(number: int, _frame: object) -> NoReturn:
        signal.signal(number, signal.SIG_DFL)
        raise Stopped(number)

    names = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    changed = [one for one in numbers if signal.getsignal(one) == signal.SIG_DFL]  # not by nohup
    try:
        with suppress(ValueError):  # not in the main thread
            for number in changed:
                signal.signal(number, stop)
        yield
    finally:
        with suppress(ValueError):
            for number in changed:
                signal.signal(number, signal.SIG_DFL)
