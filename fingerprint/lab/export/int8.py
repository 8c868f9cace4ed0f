"""An int8 export of the network: a third of the time, at a cosine above 0.99.

Every convolution of the embedder has int8 activations and 7-bit weights, a scale per channel, and
sums in 32 bits (Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018). Weights have 7 bits because sums of 8-bit products
saturate on processors without VNNI, and the same file must give the same embeddings everywhere. The
front-end stays in floating point. The ranges of the activations are those of music by formula,
clean and in noise, so that the result depends on nothing but the model.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from fingerprint.lab.corpus.generate import generate
from fingerprint.model.embedder import ConvEmbedder, ResidualBlock
from fingerprint.types import Floats

if TYPE_CHECKING:
    from onnx import ModelProto

SONGS = 8  # each clean and in noise
SECONDS = 20.0  # of a song
PERCENTILE = 99.999  # of the activations that their range holds; a few outliers would widen it
SNR_DB = (4.0, -10.0)  # of the first song, of the last


def fold_pools(embedder: ConvEmbedder) -> None:
    """Make one strided convolution of each shortcut's mean and projection: the same function.

    ONNX Runtime takes as long for an int8 mean as for a large convolution.
    """
    for block in embedder.stages:
        assert isinstance(block, ResidualBlock)  # noqa: S101
        step, old = block.pool.kernel_size, block.project
        folded = nn.Conv2d(old.in_channels, old.out_channels, step, step, bias=False)
        with torch.no_grad():
            folded.weight.copy_(old.weight / folded.weight[0, 0].numel())
        block.project = folded
        block.pool = nn.Identity()  # type: ignore[assignment]


def quantise(proto: "ModelProto", choice: Mapping[str, int], sample_rate: int) -> "ModelProto":
    """The same graph with the embedder's convolutions quantised. Needs the package onnx.

    `choice` holds the inputs beside the waveform, with which the ranges are measured.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory(prefix="fingerprint-") as shelf:
        prepared, quantised = Path(shelf) / "prepared.onnx", Path(shelf) / "quantised.onnx"
        level = logging.root.level
        logging.root.setLevel(logging.ERROR)  # it advises to do what has been done
        try:
            quant_pre_process(proto, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                quantised,
                _Music(choice, sample_rate),
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={"CalibPercentile": PERCENTILE},
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=True,
                nodes_to_quantize=_convolutions(onnx.load(prepared)),
            )
        finally:
            logging.root.setLevel(level)
        return onnx.load(quantised)


def _convolutions(proto: "ModelProto") -> list[str]:
    nodes = proto.graph.node
    return [n.name for n in nodes if n.op_type == "Conv" and not n.name.startswith("/frontend/")]


class _Music:
    """The calibration data reader of `quantize_static`."""

    def __init__(self, choice: Mapping[str, int], sample_rate: int) -> None:
        rest = {name: np.array(value) for name, value in choice.items()}
        self._inputs = iter([{"waveform": clip[None], **rest} for clip in _clips(sample_rate)])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._inputs, None)


def _clips(sample_rate: int) -> list[Floats]:
    clips = []
    rng = np.random.default_rng(0)
    for seed, snr_db in enumerate(np.linspace(*SNR_DB, SONGS)):
        song = generate(seed, SECONDS, sample_rate)
        noise = rng.standard_normal(len(song), np.float32)
        clips += [song, song + noise * song.std() * np.float32(10 ** (-snr_db / 20))]
    return clips
