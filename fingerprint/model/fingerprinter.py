"""A trained model as its users see it: `Clip` in, `Fingerprint` out.

Row i of a library fingerprint describes the window that begins i * `hop` seconds into the
recording. A query's rows lie `QUERY_SHIFTS` times as dense, so that one of them is at most half
a `query_hop` from the library's grid wherever the query was cut.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fingerprint.config import ModelConfig
from fingerprint.errors import ModelError
from fingerprint.model.checkpoint import Checkpoint, half, read_checkpoint, write_checkpoint
from fingerprint.model.embedder import ConvEmbedder, create_embedder, load_weights
from fingerprint.model.frontend import Frontend
from fingerprint.search.confidence import Calibration
from fingerprint.types import Clip, Fingerprint, Floats

WEIGHTS = Path(__file__).parent / "weights"
DEFAULT_WEIGHTS = WEIGHTS / "default.pt"
QUERY_SHIFTS = 4  # query rows to a library row
BLOCK_ROWS = 240  # library rows embedded at a time; bounds memory, about a minute of audio
SILENCE_RMS = 10 ** (-75 / 20)  # of full scale; windows below it hold nothing to recognise


class Fingerprinter:
    """Front-end and embedder with the id of their checkpoint.

    Build it with `default`, `load` or `create`.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "auto") -> None:
        self.checkpoint = checkpoint
        self.config = checkpoint.config
        self.id = checkpoint.id
        self.calibration = checkpoint.calibration
        self.device = pick_device(device)
        self.frontend = Frontend(self.config.frontend).to(self.device).eval()
        self.embedder = ConvEmbedder(self.config.embedder, self.config.frontend.n_bands)
        load_weights(self.embedder, checkpoint.weights)
        self.embedder.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.card = ""

    @classmethod
    def default(cls, device: str = "auto") -> Self:
        """The model that ships with the package."""
        return cls.load(DEFAULT_WEIGHTS, device)

    @classmethod
    def load(cls, path: Path, device: str = "auto") -> Self:
        """Read a model file, and its model card from the Markdown file beside it.

        Raises:
            ModelError: missing, damaged, or of another format version.
        """
        model = cls(read_checkpoint(path), device)
        card = path.with_suffix(".md")
        model.card = card.read_text(encoding="utf-8") if card.is_file() else ""
        return model

    @classmethod
    def create(cls, config: ModelConfig, seed: int = 0, device: str = "cpu") -> Self:
        """An untrained model."""
        weights = half(create_embedder(config, seed).state_dict())
        return cls(Checkpoint(config, weights, Calibration()), device)

    def save(self, path: Path) -> None:
        """Write the model file."""
        write_checkpoint(self.checkpoint, path)

    def calibrated(self, calibration: Calibration) -> Self:
        """The same model, with the same id, that judges evidence by another calibration."""
        return type(self)(replace(self.checkpoint, calibration=calibration), str(self.device))

    @property
    def sample_rate(self) -> int:
        """Hz of the clips it takes."""
        return self.config.frontend.sample_rate

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.config.embedder.dim

    @property
    def hop(self) -> float:
        """Seconds between a library fingerprint's rows."""
        return self.embedder.stride / self.config.frontend.frame_rate

    @property
    def query_hop(self) -> float:
        """Seconds between a query fingerprint's rows."""
        return self.hop / QUERY_SHIFTS

    @property
    def window(self) -> float:
        """Seconds that a row describes."""
        return self.frontend.samples(self.embedder.window_frames) / self.sample_rate

    def embed(self, clip: Clip) -> Fingerprint:
        """Library rows of a recording; a recording shorter than a window gives one row.

        Raises:
            ValueError: the clip has another sample rate than the model.
        """
        return self.embed_blocks([clip])

    def embed_blocks(self, blocks: Iterable[Clip]) -> Fingerprint:
        """Library rows of a recording given in consecutive blocks, in bounded memory.

        Raises:
            ValueError: a block has another sample rate than the model.
        """
        rows = [self._rows(stretch) for stretch in self._stretches(blocks)]
        vectors = np.concatenate(rows) if rows else np.zeros((0, self.dim), np.float32)
        return Fingerprint(vectors, self.hop)

    @torch.inference_mode()
    def embed_query(self, clip: Clip) -> Fingerprint:
        """Dense rows of a snippet.

        A snippet shorter than a window and a hop is padded on both sides, so that whatever its
        place in a track, one row is within half a `query_hop` of the library's grid.

        Raises:
            ValueError: the clip has another sample rate than the model.
        """
        self._check(clip)
        samples = _at_least(clip.samples, self.frontend.samples(1))
        spectrogram = self.frontend(self._tensor(samples))
        window, stride = self.embedder.window_frames, self.embedder.stride
        missing = max(0, window + stride - 1 - spectrogram.shape[2])
        before = missing // 2
        spectrogram = torch.nn.functional.pad(spectrogram, (before, missing - before))
        step = stride // QUERY_SHIFTS
        count = (spectrogram.shape[2] - window) // step + 1
        vectors = np.zeros((count, self.dim), np.float32)
        for shift in range(QUERY_SHIFTS):
            rows = self.embedder(spectrogram[..., shift * step :])[0].cpu().numpy()
            vectors[shift::QUERY_SHIFTS] = rows[: len(vectors[shift::QUERY_SHIFTS])]
        first = -before * self.config.frontend.hop
        silent = _silent(samples, first, step * self.config.frontend.hop, self._window, count)
        vectors[silent] = 0
        return Fingerprint(vectors, self.query_hop, first / self.sample_rate)

    @property
    def _window(self) -> int:
        return self.frontend.samples(self.embedder.window_frames)

    def _check(self, clip: Clip) -> None:
        if clip.sample_rate != self.sample_rate:
            raise ValueError(f"need a clip at {self.sample_rate} Hz, got {clip.sample_rate} Hz")

    def _tensor(self, samples: Floats) -> Tensor:
        return torch.from_numpy(np.array(samples, np.float32)).to(self.device)[None]

    def _stretches(self, blocks: Iterable[Clip]) -> Iterator["_Stretch"]:
        """Cut blocks into overlapping stretches of `BLOCK_ROWS` rows with their surroundings."""
        row = self.embedder.stride * self.config.frontend.hop  # samples
        halo_rows = -(-self.frontend.halo // self.embedder.stride)
        buffer = np.zeros(0, np.float32)
        origin, done = 0, 0  # row at which the buffer begins; rows embedded so far
        need = (BLOCK_ROWS + halo_rows) * row + self._window
        for block in blocks:
            self._check(block)
            buffer = np.concatenate([buffer, block.samples])
            while len(buffer) >= (done - origin) * row + need:
                yield _Stretch(buffer[: (done - origin) * row + need], done - origin, BLOCK_ROWS)
                done += BLOCK_ROWS
                drop = max(0, done - halo_rows) - origin
                buffer, origin = buffer[drop * row :], origin + drop
        left = (len(buffer) - self._window) // row + 1 - (done - origin)
        if left > 0:
            yield _Stretch(buffer, done - origin, left)
        elif done == 0 and len(buffer):
            yield _Stretch(buffer, 0, 1)

    @torch.inference_mode()
    def _rows(self, stretch: "_Stretch") -> Floats:
        row = self.embedder.stride * self.config.frontend.hop
        samples = _at_least(stretch.samples, self.frontend.samples(1))
        spectrogram = self.frontend(self._tensor(samples))
        first = stretch.first * self.embedder.stride
        frames = (stretch.rows - 1) * self.embedder.stride + self.embedder.window_frames
        cut = spectrogram[..., first : first + frames]
        cut = torch.nn.functional.pad(cut, (0, frames - cut.shape[2]))
        vectors: Floats = self.embedder(cut)[0].cpu().numpy().copy()
        vectors[_silent(samples, stretch.first * row, row, self._window, stretch.rows)] = 0
        return vectors


@dataclass(frozen=True, slots=True, eq=False)
class _Stretch:
    """Samples with surroundings, and which of their rows to embed: `rows` from `first`."""

    samples: Floats
    first: int
    rows: int


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU.

    Raises:
        ModelError: CUDA was asked for and there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError("there is no CUDA device here; use --device cpu")
    return torch.device(name)


def _at_least(samples: Floats, length: int) -> Floats:
    return np.pad(samples, (0, max(0, length - len(samples))))


def _silent(samples: Floats, first: int, step: int, window: int, count: int) -> NDArray[np.bool_]:
    """Which of `count` windows, `step` apart from sample `first`, are silent: (count,) bool."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    begin = np.clip(first + step * np.arange(count), 0, len(samples))
    end = np.clip(first + step * np.arange(count) + window, 0, len(samples))
    mean = (energy[end] - energy[begin]) / np.maximum(end - begin, 1)
    silent: NDArray[np.bool_] = mean < SILENCE_RMS**2
    return silent
