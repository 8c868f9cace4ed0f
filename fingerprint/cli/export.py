"""`fingerprint export`: the model as an ONNX file."""

import math
from pathlib import Path

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.options import FILE, model_option


def _onnx_file(_context: click.Context, _parameter: click.Parameter, path: Path) -> Path:
    """Refuse other suffixes: whoever takes OUTPUT for the checkpoint must not lose it."""
    if path.suffix != ".onnx":
        raise click.BadParameter("the name must end in .onnx; name the checkpoint with --model")
    return path


@click.command("export")
@click.argument("output", type=FILE, metavar="OUTPUT.onnx", callback=_onnx_file)
@model_option
def export_command(output: Path, model: Path | None) -> None:
    """Write the model as an ONNX file.

    It takes a waveform and gives embeddings, without torch: the front-end is inside. It is written
    only if ONNX Runtime computes with it what the model computes. Beside the checkpoint and under
    its name, it takes the checkpoint's place on a CPU.
    """
    from fingerprint.model.fingerprinter import DEFAULT_WEIGHTS
    from fingerprint.model.onnx import export_onnx
    from fingerprint.model.onnx_network import digest_of
    from fingerprint.model.torch_network import TorchNetwork

    checkpoint = model or DEFAULT_WEIGHTS
    network = TorchNetwork.load(checkpoint)
    cosine = export_onnx(network, output, source=digest_of(checkpoint))
    size = output.stat().st_size / 1e6
    click.echo(
        f"Exported model {network.about.id[:12]} to {display_name(output)}: {size:.1f} MB, "
        f"cosine to the original at least {math.floor(cosine * 1e6) / 1e6:.6f}"
    )
