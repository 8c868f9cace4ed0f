"""What a `Fingerprinter` asks of a network, and what it knows of the model behind it.

There are two networks: `onnx_network` runs on ONNX Runtime and is what `identify` and `index` use
on a CPU; `torch_network` runs on torch, for CUDA, for training and for what trains.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fingerprint.config import ModelConfig
from fingerprint.recognition.confidence import Calibration
from fingerprint.types import Floats


@dataclass(frozen=True, slots=True)
class About:
    """A model but for its weights. `id` is a digest of configuration and weights.

    `background` is what `model.background` packs; empty where there is none.
    """

    id: str
    config: ModelConfig
    calibration: Calibration
    card: str = ""  # Markdown
    background: bytes = b""


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
        """Of the files that `save` writes."""
        ...

    @property
    def block_rows(self) -> int:
        """How many rows of a long recording to ask for at a time; bounds memory."""
        ...

    def rows(self, samples: Floats, *, first: int, count: int, step: int) -> tuple[Floats, Floats]:
        """Embeddings of windows of a waveform (T,), which is a frame long at least.

        Unit vectors (count, dim), and their lengths (count,) before they were made that. The first
        window begins `first` frames into the waveform's spectrogram, the others `step` frames
        apart, a divisor of the stride. Frames before and after the waveform are zero.
        """
        ...

    def save(self, path: Path) -> None:
        """Write the model file, whole or not at all."""
        ...
