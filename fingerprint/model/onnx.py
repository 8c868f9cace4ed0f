"""The model as one ONNX file, waveform in and embeddings out, for programs without torch.

Row i of the output describes the window that begins at frame `first + i * step` of the waveform's
spectrogram; frames before and after the recording are zero. Three numbers choose the rows, and
each has a default, so that the waveform alone gives the rows of a library:

    waveform   (B, T) float32 at the model's sample rate, at least one frame long
    first      int64, default 0: frame at which the first window begins; may be negative
    rows       int64, default 0: how many rows; 0 is all that fit, and at least one
    step       int64, default the stride: frames from a row to the next, a divisor of the stride
    embeddings (B, rows, dim) float32, unit vectors

That is all that `Fingerprinter` asks of torch. A stretch of a recording with its surroundings takes
`first` and `rows`; a query takes the query's `step`, and a negative `first` where it is padded. All
rows come from one spectrogram: cutting the waveform anew for each of a query's shifts would compute
it several times over, and normalise its beginning differently. Rows of silence are the caller's to
set to zero, as they are in `Fingerprinter`.

The file's metadata make it self-contained: see `metadata`.
"""

import copy
import os
import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fingerprint.errors import ModelError
from fingerprint.model.fingerprinter import QUERY_SHIFTS, Fingerprinter
from fingerprint.model.onnx_bands import real_power
from fingerprint.types import Clip, Floats

if TYPE_CHECKING:
    from onnx import ModelProto

FORMAT = 1
OPSET = 18
AGREEMENT = 0.9999  # cosine to the torch model's rows, at least
CHECK_WINDOWS = 6  # length of the noise that the check embeds


class OnnxGraph(nn.Module):
    """What the ONNX file computes: (B, T), first, rows, step -> (B, rows, dim)."""

    def __init__(self, model: Fingerprinter) -> None:
        super().__init__()
        self.frontend = copy.deepcopy(model.frontend)
        self.frontend.bands = real_power(self.frontend.bands)
        self.embedder = copy.deepcopy(model.embedder)
        self.cpu().eval()

    def forward(self, waveform: Tensor, first: Tensor, rows: Tensor, step: Tensor) -> Tensor:
        stride, window = self.embedder.stride, self.embedder.window_frames
        spectrogram = self.frontend(waveform)  # (B, bands, F)
        batch, bands, frames = spectrogram.shape
        fitting = (frames - first - window) // step + 1
        rows = torch.where(rows > 0, rows, fitting.clamp(min=1))
        # The network's own rows are a stride apart: run it once for each shift within a stride.
        shifts = torch.arange(0, stride, step)  # type: ignore[call-overload]  # (S,)
        runs = (rows + shifts.shape[0] - 1) // shifts.shape[0]  # rows of each shift
        wanted = first + shifts[:, None] + torch.arange((runs - 1) * stride + window)  # (S, L)
        around = F.pad(spectrogram, (1, 1))  # a frame of zeros stands for all that do not exist
        shifted = around[:, :, (wanted + 1).clamp(min=0).clamp(max=frames + 1)]  # (B, bands, S, L)
        shifted = shifted.transpose(1, 2)
        x = self.embedder(shifted.reshape(batch * shifts.shape[0], bands, -1))  # (B * S, runs, dim)
        x = x.reshape(batch, shifts.shape[0], -1, x.shape[2]).transpose(1, 2).flatten(1, 2)
        embeddings: Tensor = x[:, :rows]
        return embeddings


def export_onnx(model: Fingerprinter, path: Path) -> float:
    """Write the model as an ONNX file, whole or not at all; gives the cosine `check_onnx` found.

    Raises:
        ModelError: onnx or onnxruntime is missing, the file cannot be written, or what it computes
            is not what the model computes.
    """
    content = to_onnx(model).SerializeToString()
    cosine = check_onnx(content, model)
    if not cosine > AGREEMENT:
        raise ModelError(
            f"cannot export to {path}: ONNX Runtime's embeddings would have a cosine to the "
            f"model's of {cosine:.5f} only"
        )
    part = path.with_name(path.name + f".part{os.getpid()}")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ModelError(f"cannot write the model {path}: {error.strerror or error}") from error
    return cosine


def to_onnx(model: Fingerprinter) -> "ModelProto":
    """The graph with its weights, in half precision where that is exact, and its metadata.

    Raises:
        ModelError: the package onnx is missing.
    """
    onnx = _import("onnx")
    proto = onnx.load_from_string(_trace(OnnxGraph(model)))
    _store_halves(proto.graph)
    for name, value in {"first": 0, "rows": 0, "step": model.embedder.stride}.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), name))
    onnx.helper.set_model_props(proto, metadata(model))
    proto.producer_name = "fingerprint"
    proto.doc_string = __doc__
    onnx.checker.check_model(proto, full_check=True)
    return proto  # type: ignore[no-any-return]


def metadata(model: Fingerprinter) -> dict[str, str]:
    """What a program has to know of the model beside its graph, as text.

    `config` and `calibration` are the JSON of `ModelConfig` and `Calibration`; `hop` and `window`
    are in seconds; names that end in `_frames` count frames of `config.frontend.hop` samples:
    from a library row to the next, from a query row to the next, in a window, and on either side of
    a stretch that its rows can depend on. `card` is the model card in Markdown, if there is one.
    """
    stride = model.embedder.stride
    values = {
        "format": FORMAT,
        "model_id": model.id,
        "config": model.config.model_dump_json(),
        "calibration": model.calibration.model_dump_json(),
        "card": model.card,
        "sample_rate": model.sample_rate,
        "dim": model.dim,
        "hop": model.hop,
        "window": model.window,
        "row_frames": stride,
        "query_row_frames": stride // QUERY_SHIFTS,
        "window_frames": model.embedder.window_frames,
        "halo_frames": model.frontend.halo,
    }
    return {name: str(value) for name, value in values.items()}


def check_onnx(content: bytes, model: Fingerprinter) -> float:
    """Lowest cosine of the file's rows to the model's, of a library and of a query, on noise.

    Raises:
        ModelError: the package onnxruntime is missing.
    """
    runtime = _import("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # It warns of inputs that have a default.
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    length = model.frontend.samples(CHECK_WINDOWS * model.embedder.window_frames)
    noise = 0.1 * np.random.default_rng(0).standard_normal(length, np.float32)
    clip = Clip(noise, model.sample_rate)
    library, query = model.embed(clip).vectors, model.embed_query(clip).vectors
    step = np.array(model.embedder.stride // QUERY_SHIFTS)
    return min(
        _lowest_cosine(session.run(None, {"waveform": noise[None]})[0][0], library),
        _lowest_cosine(session.run(None, {"waveform": noise[None], "step": step})[0][0], query),
    )


def _lowest_cosine(rows: Floats, others: Floats) -> float:
    if rows.shape != others.shape:
        return -1.0
    return float(np.sum(rows.astype(np.float64) * others, axis=1).min())


def _trace(graph: OnnxGraph) -> bytes:
    """ONNX from torch's tracing exporter, which needs no further package and keeps the sizes free.

    The weights stay as they are: nothing is folded into them, which would make them inexact.
    """
    length = graph.frontend.samples(2 * graph.embedder.window_frames)
    example = (torch.zeros(2, length), torch.tensor(1), torch.tensor(3), torch.tensor(1))
    content = BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It tells of a newer exporter, and of constants.
        torch.onnx.export(
            graph,
            example,
            content,  # type: ignore[arg-type]  # This exporter takes a file.
            input_names=["waveform", "first", "rows", "step"],
            output_names=["embeddings"],
            dynamic_axes={"waveform": {0: "B", 1: "T"}, "embeddings": {0: "B", 1: "N"}},
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
