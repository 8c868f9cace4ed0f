"""The command line: the only place that prints or exits.

Commands are thin: they read options, call the package and show what it returns. Whatever is slow
to import is imported inside a command, so that `--help` answers at once.

Exit status: 0 all went well, 1 an error, 2 wrong usage, 130 interrupted; `identify`, `scan`
and `listen` give 1 for "not in the library" and 2 for an error.
"""

import io
import sys
from typing import Any, NoReturn

import click

from fingerprint.cli.calibrate import calibrate_command
from fingerprint.cli.changes import (
    compact_command,
    import_command,
    merge_command,
    remove_command,
    sync_command,
    verify_command,
)
from fingerprint.cli.duplicates import duplicates_command
from fingerprint.cli.evaluate import evaluate_command
from fingerprint.cli.explain import explain_command
from fingerprint.cli.export import export_command
from fingerprint.cli.identify import identify_command
from fingerprint.cli.index import index_command
from fingerprint.cli.library import info_command, list_command, stats_command
from fingerprint.cli.listen import listen_command
from fingerprint.cli.scan import scan_command
from fingerprint.cli.text import reason
from fingerprint.cli.train import train_command
from fingerprint.errors import FingerprintError

INTERRUPTED = 130  # 128 + SIGINT, as shells count
ERROR_STATUS = dict.fromkeys(
    ("identify", "scan", "listen"), 2
)  # of commands whose 1 says something else than "error"


class Boundary(click.Group):
    """Shows what a user or the machine caused as one line on stderr; bugs keep their traceback."""

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
        except (FingerprintError, OSError) as error:
            click.echo(f"Error: {reason(error)}", err=True)
            ctx.exit(ERROR_STATUS.get(ctx.invoked_subcommand or "", 1))
        except KeyboardInterrupt:
            _interrupted()


def _interrupted() -> NoReturn:
    click.echo("Interrupted.", err=True)
    raise click.exceptions.Exit(INTERRUPTED)


def _print_version(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from fingerprint import __version__

        click.echo(f"fingerprint {__version__}")
        ctx.exit()


@click.group(
    cls=Boundary,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Recognise recorded music from a noisy snippet.

    \b
    fingerprint index ~/Music         learn the recordings of a folder
    fingerprint identify snippet.wav  name the recording a snippet was taken from
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a title that the terminal lacks letters for


main.add_command(index_command)
main.add_command(index_command, "add")
main.add_command(sync_command)
main.add_command(remove_command)
main.add_command(merge_command)
main.add_command(duplicates_command)
main.add_command(compact_command)
main.add_command(verify_command)
main.add_command(import_command)
main.add_command(identify_command)
main.add_command(scan_command)
main.add_command(listen_command)
main.add_command(explain_command)
main.add_command(list_command)
main.add_command(info_command)
main.add_command(stats_command)
main.add_command(train_command)
main.add_command(calibrate_command)
main.add_command(evaluate_command)
main.add_command(export_command)
