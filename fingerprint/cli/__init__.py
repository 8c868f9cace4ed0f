"""The command line: the only place that prints or exits.

Commands are thin: they read options, call the package and show what it returns. Whatever is slow
to import is imported inside a command, so that `--help` answers at once.

Exit status: 0 all went well, 1 an error, 2 wrong usage, 130 interrupted; `identify`, `scan`
and `listen` give 1 for "not in the library", 2 for an error and 141 if the reader of their output
has left.
"""

import io
import sys

import click

from fingerprint.cli.changes import (
    compact_command,
    import_command,
    merge_command,
    publish_command,
    remove_command,
    sync_command,
    verify_command,
)
from fingerprint.cli.doctor import doctor_command
from fingerprint.cli.duplicates import duplicates_command
from fingerprint.cli.explain import explain_command
from fingerprint.cli.export import export_command
from fingerprint.cli.group import CommandGroup
from fingerprint.cli.identify import identify_command
from fingerprint.cli.index import index_command
from fingerprint.cli.library import info_command, list_command, stats_command
from fingerprint.cli.listen import listen_command
from fingerprint.cli.scan import scan_command
from fingerprint.cli.serve import serve_command

ERROR_STATUS = dict.fromkeys(
    ("identify", "scan", "listen"), 2
)  # of commands whose 1 says something else than "error"
_LAB = "fingerprint.lab.commands"
LAB = {
    "train": (f"{_LAB}.train:train_command", "Train a model as a configuration file says."),
    "calibrate": (f"{_LAB}.calibrate:calibrate_command", "Fit a model's confidence."),
    "evaluate": (
        f"{_LAB}.evaluate:evaluate_command",
        "Measure recognition on degraded or real snippets.",
    ),
}  # the laboratory's commands are named, not imported: the product works without them


def _print_version(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from fingerprint import __version__

        click.echo(f"fingerprint {__version__}")
        ctx.exit()


@click.group(
    cls=CommandGroup,
    lazy=LAB,
    error_status=ERROR_STATUS,
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
main.add_command(publish_command)
main.add_command(duplicates_command)
main.add_command(compact_command)
main.add_command(verify_command)
main.add_command(import_command)
main.add_command(identify_command)
main.add_command(scan_command)
main.add_command(listen_command)
main.add_command(explain_command)
main.add_command(serve_command)
main.add_command(doctor_command)
main.add_command(list_command)
main.add_command(info_command)
main.add_command(stats_command)
main.add_command(export_command)
