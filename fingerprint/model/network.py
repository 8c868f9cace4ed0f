"""The interface between a `Fingerprinter` and the network that runs its model.

There are two networks: `onnx_network` runs on ONNX Runtime, and `identify` and `index` use it on a
CPU; `torch_network` runs on torch, for CUDA and for training.
"""

import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fingerprint.config import ModelConfig
from fingerprint.disk import npy_header
from fingerprint.errors import ModelError
from fingerprint.index.quantisation import decode, encode
from fingerprint.recognition.confidence import Calibration
from fingerprint.types import Background, Floats

BACKGROUND_BITS = 4  # a dimension of an embedding: a background then takes some 300 kB


@dataclass(frozen=True, slots=True)
class About:
    """A model without its weights. `id` is a digest of configuration and weights.

    `background` is a packed background (see `recognition.cohort`); empty if there is none.
    """

    id: str
    config: ModelConfig
    calibration: Calibration
    card: str = ""  # Markdown
    background: bytes = b""


def card_beside(path: Path) -> str:
    """The model card in the Markdown file beside a model file; "" if there is none."""
    card = path.with_suffix(".md")
    return card.read_text(encoding="utf-8") if card.is_file() else ""


class Network(Protocol):
    """Front-end and embedder as one function."""

    @property
    def about(self) -> About: ...

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        ...

    @property
    def suffix(self) -> str:
        """Suffix of the files that `save` writes."""
        ...

    @property
    def block_rows(self) -> int:
        """Rows of a long recording computed at a time; bounds memory."""
        ...

    def rows(self, samples: Floats, *, first: int, count: int, step: int) -> tuple[Floats, Floats]:
        """Embeddings of windows of a waveform (T,), which is at least a frame long.

        Returns unit vectors (count, dim) and their lengths (count,) before normalisation. The first
        window begins `first` frames into the waveform's spectrogram, the next ones `step` frames
        apart, a divisor of the stride. Frames before and after the waveform are zero.
        """
        ...

    def save(self, path: Path) -> None:
        """Write the model file, whole or not at all."""
        ...


def pack_background(background: Background) -> bytes:
    """The background as bytes."""
    file = BytesIO()
    passages, rows, dim = background.vectors.shape
    codes = encode(background.vectors.reshape(-1, dim), BACKGROUND_BITS).reshape(passages, rows, -1)
    np.savez(file, codes=codes, peaks=background.peaks, dim=dim)
    return file.getvalue()


def unpack_background(content: bytes, hop: float) -> Background:
    """The background in bytes of `pack_background`, for a model with a hop of `hop` (s).

    Raises:
        ModelError: the bytes are damaged.
    """
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            names = ("codes", "peaks", "dim")
            codes, peaks, dim = (_array(archive.read(f"{name}.npy")) for name in names)
        passages, rows, width = codes.shape
        vectors = decode(codes.reshape(-1, width), BACKGROUND_BITS, int(dim))
        vectors = vectors.reshape(passages, rows, int(dim))
        return Background(vectors, peaks.reshape(passages, rows, -1), hop)
    except Exception as error:  # of any type: damaged zip files raise many
        raise ModelError("the model's background is damaged") from error


def _array(content: bytes) -> NDArray[Any]:
    """The array in a NumPy file's content, read as threads may do it at the same time."""
    header = npy_header(content)
    if header is None:
        raise ValueError("it does not begin with the header of an array")
    kind, shape, begin = header
    return np.frombuffer(content, kind, offset=begin).reshape(shape).copy()
