"""A group of commands that shows errors as one line and loads commands when they are needed."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NoReturn

import click

from fingerprint.cli.text import reason
from fingerprint.errors import FingerprintError

INTERRUPTED = 130  # 128 + SIGINT, as shells count
EXTRAS = {
    "matplotlib": "train",
    "onnx": "onnx",
    "pyroomacoustics": "train",
    "sklearn": "train",
    "tensorboard": "train",
    "torch": "train",
    "torchaudio": "train",
}  # packages that only some installs have, and the extra that brings each


class CommandGroup(click.Group):
    """Commands, some of them named by `module:attribute` and imported when they are run.

    Shows what a user or the machine caused as one line on stderr; bugs keep their traceback.

    Args:
        lazy: name of a command to (`module:attribute`, its line in the list of commands).
        error_status: exit status of errors by command, where it is not 1.
    """

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, tuple[str, str]] | None = None,
        error_status: Mapping[str, int] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(*args, **extra)
        self.lazy, self.error_status = dict(lazy or {}), dict(error_status or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self.lazy])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        command: click.Command = load(self.lazy[cmd_name][0])
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing the lazy ones."""
        rows = []
        for name in self.list_commands(ctx):
            eager = self.commands.get(name)
            rows.append((name, eager.get_short_help_str(100) if eager else self.lazy[name][1]))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*args, **extra)
        except KeyboardInterrupt:
            _interrupted()

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # click ends quietly when the reader of our output has left
        except ModuleNotFoundError as error:
            package = (error.name or "").split(".")[0]
            if package not in EXTRAS:
                raise
            self._fail(ctx, f"this needs {package}: pip install 'fingerprint[{EXTRAS[package]}]'")
        except (FingerprintError, OSError) as error:
            self._fail(ctx, reason(error))
        except KeyboardInterrupt:
            _interrupted()

    def _fail(self, ctx: click.Context, text: str) -> NoReturn:
        click.echo(f"Error: {text}", err=True)
        ctx.exit(self.error_status.get(ctx.invoked_subcommand or "", 1))


def load(place: str) -> Any:
    """Import what `module:attribute` names."""
    module, attribute = place.split(":")
    return getattr(import_module(module), attribute)


def _interrupted() -> NoReturn:
    click.echo("Interrupted.", err=True)
    raise click.exceptions.Exit(INTERRUPTED)
