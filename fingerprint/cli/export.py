"""`fingerprint export`: the library as one file, its embeddings, or the model as an ONNX file."""

import math
from pathlib import Path

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.group import load
from fingerprint.cli.opening import open_library, require_library
from fingerprint.cli.options import FILE, former_flag, library_option, model_option
from fingerprint.cli.progress import ProgressLine
from fingerprint.cli.text import counted

EXPORT_ONNX = "fingerprint.lab.export.onnx:export_onnx"  # named: the product imports no lab
SUFFIXES = (".fplib", ".npz", ".parquet", ".onnx")


def _known(_context: click.Context, _parameter: click.Parameter, path: Path) -> Path:
    """Refuse other suffixes: a user who names the checkpoint as OUTPUT must not lose it."""
    if path.suffix not in SUFFIXES:
        raise click.BadParameter(
            f"the name must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, which says what "
            "is written; name the checkpoint with --model"
        )
    return path


@click.command("export")
@click.argument("output", type=FILE, metavar="OUTPUT", callback=_known)
@library_option
@model_option
@click.option(
    "--int8",
    is_flag=True,
    help="Write an int8 model: a third of the time, cosines of 0.99 and more.",
)
@former_flag("--eight-bit", "--int8")
def export_command(
    output: Path, library: Path, model: Path | None, int8: bool, eight_bit: bool
) -> None:
    """Write the library, its embeddings or the model as one file.

    \b
    OUTPUT.fplib    the library, for `import` on any machine
    OUTPUT.npz      the library's embeddings as NumPy arrays
    OUTPUT.parquet  the library's embeddings as a table
    OUTPUT.onnx     the model: waveform to embeddings, without torch

    The model is written only if its embeddings in ONNX Runtime are those of the checkpoint. If it
    lies beside the checkpoint under the same name, it is used instead of it on a CPU.
    """
    if output.suffix == ".onnx":
        _export_model(output, model, int8=int8 or eight_bit)
    elif output.suffix == ".fplib":
        _export_library(output, library)
    else:
        _export_embeddings(output, library, model)


def _export_library(output: Path, library: Path) -> None:
    require_library(library)
    from fingerprint.library.exchange import export_library

    with ProgressLine() as line:
        export_library(library, output, lambda n, of: line.show(n, of, f"{n:,}/{of:,} segments"))
    size = output.stat().st_size / 1e6
    click.echo(f"Exported {display_name(library)} to {display_name(output)}: {size:,.1f} MB")


def _export_embeddings(output: Path, library: Path, model: Path | None) -> None:
    from fingerprint.library.exchange import export_embeddings

    with open_library(library, model, "cpu") as opened:
        rows = export_embeddings(opened.snapshot(), opened.catalog, output)
    click.echo(f"Exported {counted(rows, 'embedding')} to {display_name(output)}")


def _export_model(output: Path, model: Path | None, *, int8: bool) -> None:
    from fingerprint.model.fingerprinter import DEFAULT_WEIGHTS
    from fingerprint.model.onnx_network import digest_of
    from fingerprint.model.torch_network import TorchNetwork

    checkpoint = model or DEFAULT_WEIGHTS
    network = TorchNetwork.load(checkpoint)
    export_onnx = load(EXPORT_ONNX)
    cosine = export_onnx(network, output, source=digest_of(checkpoint), int8=int8)
    size = output.stat().st_size / 1e6
    click.echo(
        f"Exported model {network.about.id[:12]} to {display_name(output)}: {size:.1f} MB, "
        f"cosine to the original at least {math.floor(cosine * 1e6) / 1e6:.6f}"
    )
