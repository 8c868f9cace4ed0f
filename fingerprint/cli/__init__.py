"""The command line: the only place that prints or exits.

Commands are thin: they read options, call the package and show what it returns. A command's module
is imported when the command runs, and slow imports are inside its functions, so that `--help`
answers at once.

Exit status: 0 all went well, 1 an error, 2 wrong usage, 130 interrupted (143 by SIGTERM, 129 by
SIGHUP); `identify`, `scan` and `listen` give 1 for "not in the library", 2 for an error and 141 if
the reader of their output has left.
"""

import io
import sys

import click

from fingerprint.cli.group import CommandGroup

ERROR_STATUS = dict.fromkeys(
    ("identify", "scan", "listen"), 2
)  # of commands whose status 1 means something else than "error"
_LAB = "fingerprint.lab.commands"
COMMANDS = {  # name: where the command is, and its line in the list of commands
    "add": ("fingerprint.cli.index:index_command", "Learn the recordings in files and folders."),
    "calibrate": (f"{_LAB}.calibrate:calibrate_command", "Fit the confidence of a trained model."),
    "compact": (
        "fingerprint.cli.compact:compact_command",
        "Drop removed tracks' rows, and merge small segments.",
    ),
    "doctor": (
        "fingerprint.cli.doctor:doctor_command",
        "Check what recognition needs, and say how to fix it.",
    ),
    "duplicates": (
        "fingerprint.cli.duplicates:duplicates_command",
        "Find the same recordings in the library.",
    ),
    "evaluate": (
        f"{_LAB}.evaluate:evaluate_command",
        "Measure recognition on degraded or real snippets.",
    ),
    "explain": ("fingerprint.cli.explain:explain_command", "Show the evidence for an answer."),
    "export": (
        "fingerprint.cli.export:export_command",
        "Write the library, its embeddings or the model as one file.",
    ),
    "identify": (
        "fingerprint.cli.identify:identify_command",
        "Name the recording that a snippet is from.",
    ),
    "import": (
        "fingerprint.cli.import_:import_command",
        "Make a library from a file that `export` wrote.",
    ),
    "index": ("fingerprint.cli.index:index_command", "Learn the recordings in files and folders."),
    "info": ("fingerprint.cli.info:info_command", "Describe the library or the model."),
    "list": ("fingerprint.cli.list:list_command", "List the tracks of the library."),
    "listen": ("fingerprint.cli.listen:listen_command", "Name what plays now."),
    "merge": (
        "fingerprint.cli.merge:merge_command",
        "Add the tracks of other libraries.",
    ),
    "publish": (
        "fingerprint.cli.publish:publish_command",
        "Point the alias NAME to this library in Milvus.",
    ),
    "remove": (
        "fingerprint.cli.remove:remove_command",
        "Forget tracks; their files are left alone.",
    ),
    "scan": (
        "fingerprint.cli.scan:scan_command",
        "Name everything that plays in long recordings.",
    ),
    "serve": (
        "fingerprint.cli.serve:serve_command",
        "Serve the library: a page that listens, and an HTTP API.",
    ),
    "stats": (
        "fingerprint.cli.stats:stats_command",
        "Count the tracks, files and bytes of the library.",
    ),
    "sync": ("fingerprint.cli.sync:sync_command", "Make the library equal to folders."),
    "train": (f"{_LAB}.train:train_command", "Train a model from a recipe."),
    "verify": ("fingerprint.cli.verify:verify_command", "Check every byte of the library."),
}  # a command's module is imported when it runs: the product works without the lab


def _print_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from fingerprint import __version__

        click.echo(f"fingerprint {__version__}")
        ctx.exit()


@click.group(
    cls=CommandGroup,
    lazy=COMMANDS,
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
            stream.reconfigure(errors="replace")  # for characters that its encoding lacks
