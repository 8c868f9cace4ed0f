"""Assemble the corpus of music, sounds and responses, from Debian packages or one's own music.

python -m fingerprint.lab corpus                        # all of it, about 5 GB of downloads
python -m fingerprint.lab corpus --package lugaru-data  # a few packages only
python -m fingerprint.lab corpus --music ~/Music          # of one's own music instead
python -m fingerprint.lab corpus --add rendered --add generated  # more music to train on
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from fingerprint.audio.files import find_audio
from fingerprint.cli.progress import ProgressLine
from fingerprint.lab.corpus.additions import add_music
from fingerprint.lab.corpus.assemble import Dropped, Step, assemble, assemble_own
from fingerprint.lab.corpus.config import ADDITIONS, AdditionRole, CorpusConfig
from fingerprint.lab.corpus.manifest import CorpusFile
from fingerprint.lab.yaml_files import load_config

PACKAGES = Path(__file__).resolve().parents[1] / "corpus" / "packages.yaml"


@click.command()
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data/corpus"),
    show_default=True,
    help="Where the corpus goes.",
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=PACKAGES,
    show_default="the one in the package",
    help="The list of packages.",
)
@click.option(
    "--package", "packages", multiple=True, metavar="NAME", help="Only this one; may be repeated."
)
@click.option(
    "--add",
    "additions",
    multiple=True,
    type=click.Choice(ADDITIONS),
    help="Leave the corpus as it is and add music to train on; may be repeated.",
)
@click.option(
    "--music",
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR",
    help="Make the corpus of this folder of music instead, which stays where it is.",
)
@click.option("--jobs", type=click.IntRange(min=1), default=os.cpu_count(), help="Processes.")
def main(
    root: Path,
    config_path: Path,
    packages: tuple[str, ...],
    additions: tuple[AdditionRole, ...],
    music: Path | None,
    jobs: int,
) -> None:
    """Download, unpack and sort the corpus, or add to it. Safe to stop and to run again."""
    if sum(map(bool, (packages, additions, music))) > 1:
        raise click.UsageError("--package, --add and --music exclude each other")
    config = load_config(config_path, CorpusConfig)
    with ProgressLine() as line:

        def show(step: Step) -> None:
            text = f"{step.stage} {step.package} {step.number:,}/{step.total:,}"
            line.show(step.number - 1, step.total, text)

        if additions:
            made = [add_music(role, config, root, jobs=jobs, on_step=show) for role in additions]
            table = summary(
                [f for m in made for f in m.files], [d for m in made for d in m.dropped]
            )
        else:
            assembly = (
                assemble_own(list(find_audio([music])), config, root, jobs=jobs, on_step=show)
                if music
                else assemble(config, root, packages=packages, jobs=jobs, on_step=show)
            )
            table = summary(assembly.corpus.files, assembly.dropped)
            for split, rooms in assembly.corpus.rooms.items():
                table.add_row(f"simulated rooms, {split}", str(rooms.count), "")
    Console().print(table)


def summary(files: Sequence[CorpusFile], dropped: Sequence[Dropped]) -> Table:
    """Files and hours of each role, and what was left out."""
    table = Table("role", "files", "hours")
    for role in dict.fromkeys(file.role for file in files):
        seconds = [file.seconds for file in files if file.role == role]
        table.add_row(role, str(len(seconds)), f"{sum(seconds) / 3600:.1f}")
    reasons = Counter(left.reason.split(":")[0].split(" of ")[0] for left in dropped)
    for reason, count in reasons.most_common():
        table.add_row(f"left out: {reason}", str(count), "")
    return table
