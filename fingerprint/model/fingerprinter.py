"""A trained model: `Clip` in, `Fingerprint` out.

Row i of a track's fingerprint describes the window that begins i * `hop` seconds into it. A query's
rows are `QUERY_SHIFTS` times as dense, so wherever the query was cut, one of them is at most half a
`query_hop` away from a row of the track.
"""

import math
import warnings
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fingerprint.audio.files import display_name
from fingerprint.config import ModelConfig
from fingerprint.errors import CalibrationWarning, ModelError
from fingerprint.machine import available_cores, pick_device
from fingerprint.model.geometry import Geometry
from fingerprint.model.network import Network, unpack_background
from fingerprint.recognition.confidence import Calibration
from fingerprint.types import Background, Clip, Fingerprint, Floats

WEIGHTS = Path(__file__).parent / "weights"
DEFAULT_WEIGHTS = WEIGHTS / "default.pt"  # with default.onnx, its twin, beside it
QUERY_SHIFTS = 4  # query rows per library row
QUERY_ROWS = 2 * QUERY_SHIFTS  # minimum rows of a query: some libraries keep every second row
SILENCE_RMS = 10 ** (-85 / 20)  # of full scale; windows below it count as silent


class Fingerprinter:
    """A network with padding, silence detection, and embedding of long recordings in blocks.

    Build it with `default`, `load` or `create`.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.geometry = Geometry.of(self.config)

    @classmethod
    def default(cls, device: str = "auto", *, threads: int = 0) -> Self:
        """The model that ships with the package."""
        return cls.load(DEFAULT_WEIGHTS, device, threads=threads)

    @classmethod
    def load(cls, path: Path, device: str = "auto", *, threads: int = 0, warn: bool = True) -> Self:
        """Read a model file: a checkpoint (.pt) or an export (.onnx).

        An export runs on the CPU, on ONNX Runtime. A checkpoint runs on torch; but on the CPU its
        export is used instead, if one of the same name lies beside it and was made from it.

        A model that was calibrated on other features than those of this version is used with the
        default calibration, and a `CalibrationWarning` says so.

        Args:
            path: the file.
            device: "cpu", "cuda", or "auto": CUDA if there is a GPU.
            threads: threads of one call on the CPU; 0: the number of cores.
            warn: emit that warning; False if the model is loaded to be calibrated, or again.

        Raises:
            ModelError: missing, damaged, of another format version, or not for that device.
        """
        target = "cpu" if path.suffix == ".onnx" and device == "auto" else pick_device(device)
        model = cls(_open(path, target, threads or available_cores()))
        if warn and model.calibration.outdated:
            name = "the shipped model" if path == DEFAULT_WEIGHTS else display_name(path)
            warnings.warn(
                f"{name} was calibrated by another version, and its confidences are rough until it "
                "is calibrated again: fingerprint calibrate",
                CalibrationWarning,
                stacklevel=2,
            )
        return model

    @classmethod
    def create(cls, config: ModelConfig, seed: int = 0, device: str = "cpu") -> Self:
        """An untrained model, on torch."""
        from fingerprint.model.torch_network import TorchNetwork

        return cls(TorchNetwork.create(config, seed, device))

    def save(self, path: Path) -> None:
        """Write the model file: a checkpoint or an ONNX file, as the network is."""
        self.network.save(path)

    @property
    def id(self) -> str:
        """Digest of configuration and weights; a library stores that of its model."""
        return self.network.about.id

    @property
    def config(self) -> ModelConfig:
        return self.network.about.config

    @property
    def calibration(self) -> Calibration:
        return self.network.about.calibration

    @cached_property
    def background(self) -> Background | None:
        """Passages of other music, for cohorts of small libraries; None if the model has none.

        Raises:
            ModelError: it is damaged.
        """
        packed = self.network.about.background
        return unpack_background(packed, self.hop) if packed else None

    @property
    def card(self) -> str:
        """The model card in Markdown, if there is one."""
        return self.network.about.card

    @property
    def sample_rate(self) -> int:
        """Hz of the clips it takes."""
        return self.config.frontend.sample_rate

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.config.embedder.dim

    @property
    def indexed_dims(self) -> int:
        """Matryoshka dimensions: how many of an embedding, the first ones, a library indexes."""
        return min(self.dim, self.config.embedder.indexed_dims)

    @property
    def hop(self) -> float:
        """Seconds between a library fingerprint's rows."""
        return self.geometry.stride / self.config.frontend.frame_rate

    @property
    def query_hop(self) -> float:
        """Seconds between a query fingerprint's rows."""
        return self.hop / QUERY_SHIFTS

    @property
    def window(self) -> float:
        """Seconds of audio that a row describes."""
        return self._window / self.sample_rate

    def embed(self, clip: Clip) -> Fingerprint:
        """The rows of a track, a `hop` apart; a recording shorter than a window gives one row.

        Raises:
            ValueError: the clip has another sample rate than the model.
        """
        embedding = self.begin()
        embedding.take(clip)
        return embedding.end()

    def begin(self) -> "Embedding":
        """Begin to embed a recording that comes in consecutive blocks."""
        return Embedding(self)

    def embed_query(self, clip: Clip) -> Fingerprint:
        """The rows of a query, a `query_hop` apart.

        A query shorter than a window gives the rows of all windows that hold the whole of it,
        including the one that begins with it, which is the only row of an equally short track.
        There are at least `QUERY_ROWS`, so that one row is within half a `query_hop` of a row of
        the track.

        Raises:
            ValueError: the clip has another sample rate than the model.
        """
        self._check(clip)
        where = self.geometry
        samples = _at_least(clip.samples, where.samples(1))
        frames = where.frames(len(samples))
        step = where.stride // QUERY_SHIFTS
        before = max(0, where.window - frames) // step  # rows of windows that begin earlier
        count = before + 1 + max(0, frames - where.window) // step
        if count < QUERY_ROWS:
            before, count = before + (QUERY_ROWS - count) // 2, QUERY_ROWS
        vectors, clearness = self._rows(samples, -before * step, step, count)
        start = -before * step * where.hop / self.sample_rate
        return Fingerprint(vectors, self.query_hop, start, clearness)

    @property
    def _window(self) -> int:
        return self.geometry.samples(self.geometry.window)

    def _check(self, clip: Clip) -> None:
        if clip.sample_rate != self.sample_rate:
            raise ValueError(f"need a clip at {self.sample_rate} Hz, got {clip.sample_rate} Hz")

    def _rows(self, samples: Floats, first: int, step: int, count: int) -> tuple[Floats, Floats]:
        """Rows (count, dim) from frame `first` on, `step` frames apart, and clearness (count,).

        Rows of silence are zero.
        """
        rows, lengths = self.network.rows(samples, first=first, count=count, step=step)
        vectors = np.array(rows, order="C")
        hop = self.geometry.hop
        vectors[_silent(samples, first * hop, step * hop, self._window, count)] = 0
        return vectors, lengths


class Embedding:
    """Embeds a recording block by block; memory is bounded but for the rows.

    Samples are embedded in overlapping stretches: `block_rows` rows with their surroundings.
    """

    def __init__(self, model: Fingerprinter) -> None:
        where = model.geometry
        self._model = model
        self._row = where.stride * where.hop  # samples
        self._halo_rows = -(-where.halo // where.stride)
        self._buffer = np.zeros(0, np.float32)
        self._origin = self._done = 0  # row at which the buffer begins; rows embedded so far
        self._parts: list[tuple[Floats, Floats]] = []

    def take(self, block: Clip) -> None:
        """Add the next block of the recording and embed all complete stretches.

        Raises:
            ValueError: the block has another sample rate than the model.
        """
        self._model._check(block)
        self._buffer = np.concatenate([self._buffer, block.samples])
        most = self._model.network.block_rows
        need = (most + self._halo_rows) * self._row + self._model._window
        while len(self._buffer) >= (end := (self._done - self._origin) * self._row + need):
            self._embed(self._buffer[:end], most)
            drop = max(0, self._done - self._halo_rows) - self._origin
            self._buffer, self._origin = self._buffer[drop * self._row :], self._origin + drop

    def end(self) -> Fingerprint:
        """End the recording; returns its rows."""
        begun = self._done - self._origin
        left = (len(self._buffer) - self._model._window) // self._row + 1 - begun
        if left > 0 or (self._done == 0 and len(self._buffer)):
            self._embed(self._buffer, max(left, 1))
        none = np.zeros((0, self._model.dim), np.float32), np.zeros(0, np.float32)
        vectors, clearness = map(np.concatenate, zip(*self._parts or [none], strict=True))
        return Fingerprint(vectors, self._model.hop, clearness=clearness)

    def _embed(self, samples: Floats, count: int) -> None:
        """The next `count` rows, from samples that begin at row `origin`."""
        where = self._model.geometry
        samples = _at_least(samples, where.samples(1))
        first = (self._done - self._origin) * where.stride
        self._parts.append(self._model._rows(samples, first, where.stride, count))
        self._done += count


def _open(path: Path, device: str, threads: int) -> Network:
    """Load the network from a file."""
    from fingerprint.model.onnx_network import OnnxNetwork

    if path.suffix == OnnxNetwork.suffix:
        if device != "cpu":
            raise ModelError(f"{path} runs on the CPU only: for {device} name the checkpoint (.pt)")
        return OnnxNetwork.load(path, threads=threads)
    if device == "cpu" and (twin := _twin(path, threads)):
        return twin
    try:
        import torch

        from fingerprint.model.torch_network import TorchNetwork
    except ImportError as error:
        raise ModelError(
            f"{path} needs {error.name}, which is not installed: pip install fingerprint, or name "
            "a model that `fingerprint export` has made"
        ) from error
    if device == "cpu":
        torch.set_num_threads(threads)
    return TorchNetwork.load(path, device)


def _twin(path: Path, threads: int) -> Network | None:
    """The export beside a checkpoint; None if there is none, or it was made from another one."""
    from fingerprint.model.onnx_network import OnnxNetwork, digest_of

    export = path.with_suffix(OnnxNetwork.suffix)
    if not export.is_file():
        return None
    network = OnnxNetwork.load(export, threads=threads)
    return network if network.source == digest_of(path) else None


def _at_least(samples: Floats, length: int) -> Floats:
    return np.pad(samples, (0, max(0, length - len(samples))))


def _silent(samples: Floats, first: int, step: int, window: int, count: int) -> NDArray[np.bool_]:
    """Which of `count` windows, `step` apart from sample `first`, are silent: (count,) bool."""
    grid = math.gcd(first, step, window)  # samples; windows begin and end on it
    whole = np.pad(samples, (0, -len(samples) % grid)).reshape(-1, grid)
    energy = np.concatenate([[0.0], np.einsum("ij,ij->i", whole, whole).cumsum(dtype=np.float64)])
    begin = np.clip(first + step * np.arange(count), 0, len(samples))
    end = np.clip(first + step * np.arange(count) + window, 0, len(samples))
    total = energy[-(-end // grid)] - energy[-(-begin // grid)]
    silent: NDArray[np.bool_] = total < SILENCE_RMS**2 * np.maximum(end - begin, 1)
    return silent
