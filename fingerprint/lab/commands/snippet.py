"""Make a noisy phone snippet from a folder of music, to try recognition.

    python -m fingerprint.lab snippet MUSIC --output snippet.wav
    fingerprint identify snippet.wav

One track is drawn and cut at a drawn place; room, noise, microphone and codec are by formula, so
nothing but the music is needed. The same seed and music make the same snippet.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fingerprint.errors import AudioError, FingerprintError

if TYPE_CHECKING:
    from fingerprint.lab.benchmark.material import Material, Rng

SHORTEST_TRACK = 15.0  # s; jingles and sound effects make dull demonstrations


@click.command()
@click.argument("music", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--seconds", type=click.Choice(["5", "10"]), default="10", show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("snippet.wav"),
    show_default=True,
    help="File that the snippet is written to.",
)
def main(music: tuple[Path, ...], seconds: str, seed: int, output: Path) -> None:
    """Make one noisy snippet from a folder of music, and say where it is from."""
    try:
        click.echo(make_snippet(music, f"phone {seconds} s", seed, output))
    except (FingerprintError, OSError) as error:
        raise click.ClickException(str(error)) from error


def make_snippet(music: tuple[Path, ...], name: str, seed: int, output: Path) -> str:
    """Write the snippet; returns a sentence about it."""
    import numpy as np
    import soundfile

    from fingerprint.audio.files import find_audio
    from fingerprint.lab.benchmark.conditions import select
    from fingerprint.lab.benchmark.material import WORKING_RATE
    from fingerprint.lab.benchmark.queries import make_query

    rng = np.random.default_rng(seed)
    paths = [Path(path) for path in rng.permutation([str(path) for path in find_audio(music)])]
    material = next(_usable(paths, rng), None)
    if material is None:
        folders = ", ".join(map(str, music))
        raise AudioError(f"no readable track of {SHORTEST_TRACK:g} s or more in {folders}")
    (condition,) = select([name])
    query = make_query(material, condition, seed=seed, number=0, sample_rate=WORKING_RATE)
    soundfile.write(output, query.clip.samples, WORKING_RATE, "PCM_16")
    return (
        f"{output}: {condition.seconds:g} s of {query.truth.path} from {query.truth.offset:.1f} s "
        f"on, in a room, with noise at {query.snr_db:.0f} dB, through a phone"
    )


def _usable(paths: Iterable[Path], rng: "Rng") -> Iterator["Material"]:
    from fingerprint.lab.benchmark.material import formula_material

    for path in paths:
        with suppress(AudioError):
            material = formula_material(path, rng)
            if material.known.files[0].seconds >= SHORTEST_TRACK:
                yield material
