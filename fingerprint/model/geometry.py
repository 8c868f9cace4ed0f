"""Window, stride and frame sizes that follow from a model's configuration. Imports nothing heavy.

Frame i of a spectrogram covers the samples `i * hop : i * hop + n_fft`; an embedding describes a
window of frames; the windows of a track's rows begin a stride apart.
"""

from dataclasses import dataclass
from typing import Self

from fingerprint.config import EmbedderConfig, FrontendConfig, ModelConfig

STEM_KERNEL = (4, 4)  # bands, frames
STEM_STRIDE = (4, 2)
HALVINGS = 2  # stages, from the first on, that halve time


@dataclass(frozen=True, slots=True)
class Geometry:
    """The windows of one model's rows."""

    config: ModelConfig
    stride: int  # frames
    window: int  # frames
    halo: int  # frames

    @classmethod
    def of(cls, config: ModelConfig) -> Self:
        return cls(config, *stride_and_window(config.embedder), halo(config.frontend))

    @property
    def hop(self) -> int:
        """Samples from a frame to the next."""
        return self.config.frontend.hop

    def frames(self, samples: int) -> int:
        """The number of frames of a waveform."""
        return frames_in(self.config.frontend, samples)

    def samples(self, frames: int) -> int:
        """The number of samples that frames span."""
        return samples_of(self.config.frontend, frames)


def frames_in(config: FrontendConfig, samples: int) -> int:
    """The number of frames of a waveform."""
    return max(0, (samples - config.n_fft) // config.hop + 1)


def samples_of(config: FrontendConfig, frames: int) -> int:
    """The number of samples that frames span."""
    return (frames - 1) * config.hop + config.n_fft


def reach(config: FrontendConfig) -> int:
    """Frames on either side that `context` seconds cover."""
    return max(1, round(config.context / 2 * config.frame_rate))


def halo(config: FrontendConfig) -> int:
    """Frames on either side of a stretch on which its spectrogram can depend."""
    return 4 * reach(config)


def stride_and_window(config: EmbedderConfig) -> tuple[int, int]:
    """Frames from one window to the next, and frames of a window, computed back from the head."""
    stride, window = 1, config.head_frames
    for stage in reversed(range(len(config.widths))):
        if stage < HALVINGS:
            stride, window = 2 * stride, 2 * (window + 2) + 1
    return stride * STEM_STRIDE[1], (window - 1) * STEM_STRIDE[1] + STEM_KERNEL[1]


def bands_left(config: EmbedderConfig, n_bands: int) -> int:
    """Bands of the trunk's output: the stem takes four at a time, each stage halves them."""
    bands = (n_bands - STEM_KERNEL[0]) // STEM_STRIDE[0] + 1
    for _ in config.widths:
        bands = (bands + 1) // 2
    return bands
