"""Make a set of real recordings at home; docs/evaluation.md says how.

python -m fingerprint.lab cut-recording phone.m4a ~/played --output my-set
fingerprint evaluate --real my-set
"""

from pathlib import Path

import click

from fingerprint.audio.files import display_name, find_audio
from fingerprint.cli.options import FILE
from fingerprint.cli.progress import ProgressLine
from fingerprint.cli.text import clock, counted, one_line
from fingerprint.errors import AudioError
from fingerprint.lab.options import output_option
from fingerprint.lab.real.cutting import Found, Labels, cut_recording


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("recording", type=FILE)
@click.argument("tracks", nargs=-1, required=True, type=click.Path(path_type=Path))
@output_option()
@click.option("--seconds", type=click.FloatRange(1, 60), default=10.0, help="Length of a query.")
@click.option("--gap", type=click.FloatRange(0, 600), default=5.0, help="Seconds between queries.")
@click.option("--device", default="", help="What recorded, for the manifest.")
@click.option("--place", default="", help="Where, for the manifest.")
@click.option("--licence", default="", help="Of the music, for the manifest.")
@click.pass_context
def main(
    ctx: click.Context,
    recording: Path,
    tracks: tuple[Path, ...],
    output: Path,
    seconds: float,
    gap: float,
    device: str,
    place: str,
    licence: str,
) -> None:
    """Find TRACKS in RECORDING, and cut queries of them for `fingerprint evaluate --real`.

    TRACKS are files, or folders of files, in any order. Each is looked for in all of the recording.
    Queries and tracks are added to the set in --output, new or not, so that several recordings can
    make one.

    Exit status: 0 every track was found, 1 some were not.
    """
    files = [path for path in find_audio(tracks) if path.resolve() != recording.resolve()]
    if not files:
        raise AudioError(f"there is no audio in {', '.join(map(display_name, tracks))}")
    with ProgressLine() as line:
        found = cut_recording(
            recording,
            files,
            output,
            seconds=seconds,
            gap=gap,
            labels=Labels(device, place, licence),
            on_progress=line.stage,
        )
    for one in found:
        click.echo(_line(one))
    queries = sum(len(one.passages) for one in found)
    songs = sum(bool(one.passages) for one in found)
    click.echo(
        f"{counted(queries, 'query').replace('querys', 'queries')} of {counted(songs, 'track')}"
        + (f" in {display_name(output)}" if queries else "; nothing was written")
    )
    ctx.exit(0 if songs == len(files) else 1)


def _line(found: Found) -> str:
    name, placed = display_name(found.track), found.placed
    if placed is None or not found.passages:
        return f"{name}: left out, for {one_line(found.why)}"
    first, last = (clock(second) for second in (placed.first, placed.last))
    begin = clock(placed.second_of_recording(placed.first))
    return (
        f"{name}: found from {first} to {last} at {begin} ({placed.on_line} of {placed.blocks} "
        f"blocks agree, by chance with up to {placed.chance:.0e}; drift {1e6 * placed.drift:+.0f} "
        f"ppm): {len(found.passages)} cut, role {found.role}"
    )
