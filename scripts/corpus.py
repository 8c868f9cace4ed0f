"""Assemble the corpus of music, sounds and responses from Debian packages.

python scripts/corpus.py                          # all of it, about 5 GB of downloads
python scripts/corpus.py --package lugaru-data    # a few packages only
"""

import os
from collections import Counter
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fingerprint.config import load_config
from fingerprint.corpus.assemble import Assembly, Step, assemble
from fingerprint.corpus.config import CorpusConfig
from fingerprint.errors import FingerprintError

PROJECT = Path(__file__).resolve().parents[1]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=PROJECT / "data" / "corpus",
    help="Where the corpus goes.  [default: data/corpus]",
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=PROJECT / "configs" / "corpus.yaml",
    help="The list of packages.  [default: configs/corpus.yaml]",
)
@click.option(
    "--package", "packages", multiple=True, metavar="NAME", help="Only this one; may be repeated."
)
@click.option("--jobs", type=click.IntRange(min=1), default=os.cpu_count(), help="Processes.")
def main(root: Path, config_path: Path, packages: tuple[str, ...], jobs: int) -> None:
    """Download, unpack and sort the corpus. Safe to stop and to run again."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    try:
        config = load_config(config_path, CorpusConfig)
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("corpus", total=len(packages or config.packages))

            def show(step: Step) -> None:
                progress.update(
                    bar, completed=step.number - 1, description=f"{step.stage} {step.package}"
                )

            made = assemble(config, root, packages=packages, jobs=jobs, on_step=show)
            progress.update(bar, completed=len(packages or config.packages), description="done")
    except FingerprintError as error:
        raise click.ClickException(str(error)) from error
    Console().print(summary(made))


def summary(made: Assembly) -> Table:
    """Files and hours of each role, simulated rooms, and what was left out."""
    table = Table("role", "files", "hours")
    for role in dict.fromkeys(file.role for file in made.corpus.files):
        files = made.corpus.role(role)
        hours = sum(file.seconds for file in files) / 3600
        table.add_row(role, str(len(files)), f"{hours:.1f}")
    for split, rooms in made.corpus.rooms.items():
        table.add_row(f"simulated rooms, {split}", str(rooms.count), "")
    reasons = Counter(dropped.reason.split(":")[0].split(" of ")[0] for dropped in made.dropped)
    for reason, count in reasons.most_common():
        table.add_row(f"left out: {reason}", str(count), "")
    return table


if __name__ == "__main__":
    main()
