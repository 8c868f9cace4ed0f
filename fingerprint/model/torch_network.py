"""The model on torch: for CUDA, for models that are being trained, and for the export to ONNX."""

from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fingerprint.config import ModelConfig
from fingerprint.model.checkpoint import Checkpoint, half, read_checkpoint, write_checkpoint
from fingerprint.model.embedder import ConvEmbedder, create_embedder, load_weights
from fingerprint.model.frontend import Frontend
from fingerprint.model.network import About, card_beside
from fingerprint.recognition.confidence import Calibration
from fingerprint.types import Floats

TINY = 1e-12
BLOCK_ROWS = {"cpu": 240, "cuda": 4_096}  # about a minute, and 17 minutes in half a gigabyte


class Rows(nn.Module):
    """Waveforms to the embeddings of chosen windows.

    (B, T), first, rows, step -> unit vectors (B, rows, dim), and their lengths (B, rows) before
    they were made that. This is the graph of the ONNX file too, so the three numbers are tensors.
    `rows` of 0 or less are all that fit, and at least one.
    """

    def __init__(self, frontend: Frontend, embedder: ConvEmbedder) -> None:
        super().__init__()
        self.frontend = frontend
        self.embedder = embedder

    def forward(
        self, waveform: Tensor, first: Tensor, rows: Tensor, step: Tensor
    ) -> tuple[Tensor, Tensor]:
        stride, window = self.embedder.stride, self.embedder.window_frames
        device = waveform.device
        spectrogram = self.frontend(waveform)  # (B, bands, F)
        batch, bands, frames = spectrogram.shape
        fitting = (frames - first - window) // step + 1
        rows = torch.where(rows > 0, rows, fitting.clamp(min=1))
        # The network's own rows are a stride apart: all shifts within a stride are one batch.
        shifts = torch.arange(0, stride, step, device=device)  # type: ignore[call-overload]  # (S,)
        runs = (rows + shifts.shape[0] - 1) // shifts.shape[0]  # rows of each shift
        span = torch.arange((runs - 1) * stride + window, device=device)
        wanted = first + shifts[:, None] + span  # (S, L)
        around = F.pad(spectrogram, (1, 1))  # a frame of zeros stands for all that do not exist
        shifted = around[:, :, (wanted + 1).clamp(min=0).clamp(max=frames + 1)]  # (B, bands, S, L)
        shifted = shifted.transpose(1, 2)
        x = self.embedder.unscaled(shifted.reshape(batch * shifts.shape[0], bands, -1))
        x = x.reshape(batch, shifts.shape[0], -1, x.shape[2]).transpose(1, 2).flatten(1, 2)
        x = x[:, :rows]
        lengths = x.norm(dim=2).clamp(min=TINY)
        return x / lengths.unsqueeze(2), lengths


class TorchNetwork:
    """A checkpoint on a device; a `Network`. Build it with `load` or `create`."""

    suffix = ".pt"

    def __init__(self, checkpoint: Checkpoint, device: str, card: str = "") -> None:
        self.checkpoint = checkpoint
        self.device = device
        self.about = About(
            checkpoint.id, checkpoint.config, checkpoint.calibration, card, checkpoint.background
        )
        config = checkpoint.config
        self.frontend = Frontend(config.frontend).to(device).eval()
        self.embedder = ConvEmbedder(config.embedder, config.frontend.n_bands)
        load_weights(self.embedder, checkpoint.weights)
        self.embedder.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self._rows = Rows(self.frontend, self.embedder).eval()

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> Self:
        """Read a checkpoint, and its model card from the Markdown file beside it.

        Raises:
            ModelError: missing, damaged, or of another format version.
        """
        return cls(read_checkpoint(path), device, card_beside(path))

    @classmethod
    def create(cls, config: ModelConfig, seed: int = 0, device: str = "cpu") -> Self:
        """An untrained model."""
        weights = half(create_embedder(config, seed).state_dict())
        return cls(Checkpoint(config, weights, Calibration()), device)

    @property
    def block_rows(self) -> int:
        return BLOCK_ROWS["cuda" if self.device.startswith("cuda") else "cpu"]

    @torch.inference_mode()
    def rows(self, samples: Floats, *, first: int, count: int, step: int) -> tuple[Floats, Floats]:
        waveform = self._placed(samples)
        where = (torch.tensor(number, device=self.device) for number in (first, count, step))
        embeddings, lengths = self._rows(waveform, *where)
        return embeddings[0].cpu().numpy(), lengths[0].cpu().numpy()

    def save(self, path: Path) -> None:
        write_checkpoint(self.checkpoint, path)

    def _placed(self, samples: Floats) -> Tensor:
        waveform = torch.from_numpy(np.array(samples, np.float32))[None]
        if not self.device.startswith("cuda"):
            return waveform
        return waveform.pin_memory().to(self.device, non_blocking=True)
