"""The model as one ONNX file, waveform in and embeddings out, for programs without torch.

Row i of the output describes the window that begins at frame `first + i * step` of the waveform's
spectrogram; frames before and after the recording are zero. Three numbers choose the rows, and
each has a default, so that the waveform alone gives the rows of a library:

    waveform   (B, T) float32 at the model's sample rate, at least one frame long
    first      int64, default 0: frame at which the first window begins; may be negative
    rows       int64, default 0: how many rows; 0 is all that fit, and at least one
    step       int64, default the stride: frames from a row to the next, a divisor of the stride
    embeddings (B, rows, dim) float32, unit vectors
    lengths    (B, rows) float32, theirs before they were made unit vectors

`Fingerprinter` needs nothing else. For a stretch of a recording with its surroundings it passes
`first` and `rows`; for a query the query's `step`, and a negative `first` if the query is padded.
All rows come from one spectrogram: cutting the waveform for each of a query's shifts would compute
the spectrogram several times, and normalise its beginning differently. The caller sets rows of
silence to zero, as `Fingerprinter` does.

The file's metadata make it self-contained: see `metadata`.
"""

import copy
import warnings
from base64 import b64encode
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fingerprint.errors import ModelError
from fingerprint.lab.corpus.generate import generate
from fingerprint.lab.export.int8 import fold_pools, quantise
from fingerprint.lab.export.spectrum import real_power
from fingerprint.model.fingerprinter import QUERY_SHIFTS, Fingerprinter
from fingerprint.model.geometry import Geometry
from fingerprint.model.onnx_network import FORMAT, OnnxNetwork, write_whole
from fingerprint.model.torch_network import Rows, TorchNetwork
from fingerprint.types import Clip, Floats

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
AGREEMENT = {False: 0.9999, True: 0.99}  # by int8 or not: the least cosine to the model's rows
CHECK_WINDOWS = 6  # length of what the check embeds
CHECK_SONG = 1_000  # seed


def export_onnx(
    network: TorchNetwork, path: Path, *, source: str = "", int8: bool = False
) -> float:
    """Write the model as an ONNX file, whole or not at all; gives the cosine `check_onnx` found.

    Args:
        network: the model.
        path: of the file.
        source: digest of the checkpoint's file, if there is one: then the export takes the
            checkpoint's place wherever it lies beside it.
        int8: quantise the convolutions, as `lab.export.int8` describes.

    Raises:
        ModelError: onnx is missing, the file cannot be written, or what it computes is not what the
            model computes.
    """
    content = to_onnx(network, source=source, int8=int8).SerializeToString()
    cosine = check_onnx(content, network)
    if not cosine > AGREEMENT[int8]:
        raise ModelError(
            f"cannot export to {path}: ONNX Runtime's embeddings would have a cosine to the "
            f"model's of {cosine:.5f} only"
        )
    write_whole(content, path)
    return cosine


def to_onnx(network: TorchNetwork, *, source: str = "", int8: bool = False) -> "ModelProto":
    """The graph with its weights, in half precision where that is exact, and its metadata.

    Raises:
        ModelError: the package onnx is missing.
    """
    onnx = _import("onnx")
    proto = onnx.load_from_string(_trace(network, int8=int8))
    defaults = {"first": 0, "rows": 0, "step": network.embedder.stride}
    if int8:
        proto = quantise(proto, defaults, network.about.config.frontend.sample_rate)
    for name, value in defaults.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), name))
    _store_halves(proto.graph)
    onnx.helper.set_model_props(proto, metadata(network) | {"source": source})
    proto.producer_name = "fingerprint"
    proto.doc_string = __doc__
    onnx.checker.check_model(proto, full_check=True)
    return proto  # type: ignore[no-any-return]


def metadata(network: TorchNetwork) -> dict[str, str]:
    """The model's properties that a program needs beside its graph, as text.

    `config` and `calibration` are the JSON of `ModelConfig` and `Calibration`; of an embedding's
    `dim` dimensions a library indexes the first `indexed_dims`, scaled to unit length; `hop` and
    `window` are in seconds; names that end in `_frames` count frames of `config.frontend.hop`
    samples: from a library row to the next, from a query row to the next, in a window, and on
    either side of a stretch that its rows can depend on. `card` is the model card in Markdown, if
    there is one; `background` is what `network.pack_background` packs, in base 64; `source` the
    SHA-256 of the checkpoint's file.
    """
    model, geometry, about = (
        Fingerprinter(network),
        Geometry.of(network.about.config),
        network.about,
    )
    values = {
        "format": FORMAT,
        "model_id": about.id,
        "config": about.config.model_dump_json(),
        "calibration": about.calibration.model_dump_json(),
        "card": about.card,
        "background": b64encode(about.background).decode("ascii"),
        "sample_rate": model.sample_rate,
        "dim": model.dim,
        "indexed_dims": model.indexed_dims,
        "hop": model.hop,
        "window": model.window,
        "row_frames": geometry.stride,
        "query_row_frames": geometry.stride // QUERY_SHIFTS,
        "window_frames": geometry.window,
        "halo_frames": geometry.halo,
    }
    return {name: str(value) for name, value in values.items()}


def check_onnx(content: bytes, network: TorchNetwork) -> float:
    """Lowest cosine of the file's rows to the model's, of a library and of a query.

    On music by formula in noise, other than that on which `int8.quantise` measures ranges.
    """
    model, export = Fingerprinter(network), Fingerprinter(OnnxNetwork(content, threads=1))
    length = model.geometry.samples(CHECK_WINDOWS * model.geometry.window)
    noise = np.random.default_rng(1).standard_normal(length, np.float32)
    song = generate(CHECK_SONG, length / model.sample_rate, model.sample_rate)
    clip = Clip(song + song.std() * noise, model.sample_rate)
    return min(
        _lowest_cosine(export.embed(clip).vectors, model.embed(clip).vectors),
        _lowest_cosine(export.embed_query(clip).vectors, model.embed_query(clip).vectors),
    )


def _lowest_cosine(rows: Floats, others: Floats) -> float:
    if rows.shape != others.shape:
        return -1.0
    return float(np.sum(rows.astype(np.float64) * others, axis=1).min())


def _trace(network: TorchNetwork, *, int8: bool) -> bytes:
    """ONNX from torch's tracing exporter, which needs no further package and keeps the sizes free.

    Constants are folded only for int8, since folding rounds the weights.
    """
    frontend = copy.deepcopy(network.frontend)
    frontend.bands = real_power(frontend.bands)
    embedder = copy.deepcopy(network.embedder)
    if int8:
        fold_pools(embedder)
    graph = Rows(frontend, embedder).cpu().eval()
    length = frontend.samples(2 * network.embedder.window_frames)
    example = (torch.zeros(2, length), torch.tensor(1), torch.tensor(3), torch.tensor(1))
    content = BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It tells of a newer exporter, and of constants.
        torch.onnx.export(
            graph,
            example,
            content,  # type: ignore[arg-type]  # This exporter takes a file.
            input_names=["waveform", "first", "rows", "step"],
            output_names=["embeddings", "lengths"],
            dynamic_axes={
                "waveform": {0: "B", 1: "T"},
                "embeddings": {0: "B", 1: "N"},
                "lengths": {0: "B", 1: "N"},
            },
            opset_version=OPSET,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            dynamo=False,
        )
    return content.getvalue()


def _store_halves(graph: Any) -> None:
    """Keep each tensor that half precision holds exactly in it, and a cast that widens it."""
    from onnx import TensorProto, helper, numpy_helper

    for tensor in graph.initializer:
        wide = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = wide.astype(np.float16)
        if tensor.data_type != TensorProto.FLOAT or not np.array_equal(half, wide):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        graph.node.insert(0, helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))


def _import(package: str) -> Any:
    from importlib import import_module

    try:
        return import_module(package)
    except ImportError:
        raise ModelError(
            f"exporting a model needs {package}: pip install 'fingerprint[onnx]'"
        ) from None
