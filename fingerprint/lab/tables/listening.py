"""Hours of sound through the scanner: its share of a core at real time, and memory hour by hour.

    python -m fingerprint.lab bench-listening runs/benchmarks/library-standard --hours 24

What plays are the validation tracks, one after the other in random order with noise at 10 dB; every
other one is played backwards, which no library knows. `listen --continuous` and `scan` do the same
work. Memory is private memory: pages of the library, which the system can take back, do not count.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from fingerprint.cli.options import corpus_option
from fingerprint.lab.corpus import Corpus, load_recordings
from fingerprint.lab.corpus.probe import FULL_SCALE
from fingerprint.lab.report_format import markdown_head, markdown_row
from fingerprint.lab.tables.world import private
from fingerprint.library.library import Library
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.scanning import Scanner, Span
from fingerprint.types import Clip

BLOCK = 1.0  # s that are fed at a time
NOISE = 10 ** (-10 / 20)
HOUR = 3_600.0  # s


@click.command()
@click.argument("library", type=click.Path(path_type=Path))
@corpus_option
@click.option("--hours", type=click.FloatRange(min=0.1), default=24.0, show_default=True)
def main(library: Path, corpus: Path, hours: float) -> None:
    """Print a row for every hour."""
    model = Fingerprinter.default("cpu", threads=1)
    with Library.open(library, model) as opened:
        click.echo(f"{opened.info().tracks:,} tracks\n")
        click.echo(markdown_head(("hour", "tracks named", "share of a core %", "MB"), left=0))
        scanner, named, hour = Scanner(opened), 0, 1
        begin = time.process_time()
        for block in programme(Corpus.open(corpus), model.sample_rate):
            named += sum(isinstance(event, Span) for event in scanner.feed(block))
            if scanner.position < min(hour, hours) * HOUR:
                continue
            share = 100 * (time.process_time() - begin) / scanner.position
            cells = (f"{min(hour, hours):g}", str(named), f"{share:.1f}", f"{private():,.0f}")
            click.echo(markdown_row(cells))
            hour += 1
            if scanner.position >= hours * HOUR:
                return


def programme(corpus: Corpus, rate: int) -> Iterator[Clip]:
    """Blocks of a programme without end."""
    recordings = load_recordings(corpus, "validation", rate)
    rng = np.random.default_rng(0)
    while True:
        for turn, number in enumerate(rng.permutation(len(recordings))):
            samples = recordings.recording(int(number)).astype(np.float32) / FULL_SCALE
            samples = samples[:: -1 if turn % 2 else 1]
            level = NOISE * float(np.sqrt(np.mean(samples**2)))
            for first in range(0, len(samples), round(BLOCK * rate)):
                block = samples[first : first + round(BLOCK * rate)]
                noise = level * rng.standard_normal(len(block), dtype=np.float32)
                yield Clip(block + noise, rate)
