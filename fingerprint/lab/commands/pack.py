"""Pack the corpus for training on a machine without a network.

python -m fingerprint.lab pack --corpus data/corpus --output data/packs
fingerprint train --packs data/packs
"""

from pathlib import Path

import click

from fingerprint.cli.options import corpus_option
from fingerprint.cli.progress import ProgressLine
from fingerprint.config import FrontendConfig
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.corpus.packs import write_packs
from fingerprint.lab.options import output_option


@click.command()
@corpus_option
@output_option()
@click.option("--megabytes", default=45.0, show_default=True, help="Of a pack, at most.")
@click.option(
    "--longest",
    default=90.0,
    show_default=True,
    help="Seconds kept of a recording; of a rendered one, at most 45.",
)
def main(corpus: Path, output: Path, megabytes: float, longest: float) -> None:
    """Encode training and validation material into folders of a few megabytes."""
    rate = FrontendConfig().sample_rate
    count = seconds = 0.0
    with ProgressLine() as line:
        for stream in write_packs(
            Corpus.open(corpus), output, rate, megabytes=megabytes, longest=longest
        ):
            count += len(stream.lengths)
            seconds += sum(stream.lengths) / rate
            text = f"{stream.name}  {count:,.0f} recordings  {seconds / 3600:.1f} h"
            line.show(1, 1, text, keep=True)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    click.echo(f"{output}: {count:,.0f} recordings, {seconds / 3600:.1f} h, {size / 1e6:.0f} MB")
