"""The conv embedder: spectrogram (B, bands, F) to unit vectors (B, N, dim).

The trunk is convolutional in time without padding, so a long spectrogram gives the embeddings of
all its overlapping windows in one pass, each the same as from its window alone. A window is
`window_frames` long; windows begin every `stride` frames.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fingerprint.config import EmbedderConfig, ModelConfig
from fingerprint.errors import ModelError
from fingerprint.model.geometry import (
    HALVINGS,
    STEM_KERNEL,
    STEM_STRIDE,
    bands_left,
    stride_and_window,
)


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut (He et al., CVPR 2016), unpadded in time.

    With `halve_time` both convolutions span 3 frames and the first steps by 2:
    (B, C, bands, F) -> (B, C', bands', (F - 3) // 2 - 1). Without it both span 1 frame and F stays.
    """

    def __init__(self, channels: int, width: int, *, halve_bands: bool, halve_time: bool) -> None:
        super().__init__()
        span = 3 if halve_time else 1
        step = (2 if halve_bands else 1, 2 if halve_time else 1)
        self.first = nn.Conv2d(channels, width, (3, span), step, padding=(1, 0), bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, (3, span), padding=(1, 0), bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        self.pool = nn.AvgPool2d(step)
        self.halves = step != (1, 1)  # else there is nothing to pool
        self.project = nn.Conv2d(channels, width, 1, bias=False)
        self.trim = 1 if halve_time else 0

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))  # (B, width, bands', F')
        shortcut = self.project(self.pool(x) if self.halves else x)
        # The shortcut keeps the frames at the centre of what the convolutions saw.
        shortcut = shortcut[..., self.trim : self.trim + y.shape[-1]]
        return F.relu(y + shortcut)


class ConvEmbedder(nn.Module):
    """Stem, stages, linear head over `head_frames` trunk outputs, L2 normalisation.

    Args:
        config: sizes.
        n_bands: bands of the spectrogram.
    """

    def __init__(self, config: EmbedderConfig, n_bands: int) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Sequential(
            nn.Conv2d(1, config.stem, STEM_KERNEL, STEM_STRIDE, bias=False),
            nn.BatchNorm2d(config.stem),
            nn.ReLU(),
        )
        self.stages = nn.Sequential(*_blocks(config))
        bands = bands_left(config, n_bands)
        self.head = nn.Conv1d(config.widths[-1] * bands, config.dim, config.head_frames)
        self.stride, self.window_frames = stride_and_window(config)

    def forward(self, spectrogram: Tensor) -> Tensor:
        return F.normalize(self.unscaled(spectrogram), dim=2)

    def unscaled(self, spectrogram: Tensor) -> Tensor:
        """The vectors before they are scaled to unit length: (B, N, dim).

        No loss trains their length, the clearness. It is greater where the features of the music
        add up, and smaller where noise leaves few of them.
        """
        x = self.stages(self.stem(spectrogram.unsqueeze(1)))  # (B, C, bands', N + head_frames - 1)
        vectors: Tensor = self.head(x.flatten(1, 2))  # (B, dim, N)
        return vectors.float().transpose(1, 2)


def create_embedder(config: ModelConfig, seed: int) -> ConvEmbedder:
    """An untrained embedder, the same for the same seed, leaving torch's own random state alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ConvEmbedder(config.embedder, config.frontend.n_bands)


def load_weights(embedder: nn.Module, weights: dict[str, Tensor]) -> None:
    """Fill an embedder with a checkpoint's weights, which are of half precision.

    Raises:
        ModelError: they are of another embedder.
    """
    own = embedder.state_dict()
    floating = {name for name, tensor in own.items() if tensor.is_floating_point()}
    if floating != set(weights) or any(own[n].shape != weights[n].shape for n in floating):
        raise ModelError("the model's weights do not fit its configuration; the file is damaged")
    embedder.load_state_dict({n: t.float() for n, t in weights.items()}, strict=False)


def _blocks(config: EmbedderConfig) -> list[ResidualBlock]:
    """The first block of a stage halves bands, and time in the first two stages."""
    blocks = []
    channels = config.stem
    for stage, width in enumerate(config.widths):
        for block in range(config.depth):
            first = block == 0
            blocks.append(
                ResidualBlock(
                    channels, width, halve_bands=first, halve_time=first and stage < HALVINGS
                )
            )
            channels = width
    return blocks
