"""Validation retrieval: how often one noisy window finds its place among the validation tracks.

Queries are made by the training degradations, but from validation tracks with the noises and
rooms of the test split, so that nothing in them was trained on. Search is exact.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fingerprint.config import DegradeConfig
from fingerprint.model.embedder import ConvEmbedder
from fingerprint.model.frontend import Frontend
from fingerprint.training.batches import Plan
from fingerprint.training.pairs import Material, draw, draw_tracks, finish

SEED = 7
ROUNDS = 16  # batches of one query a track


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """Spectrograms of whole tracks, and of noisy windows with their truth."""

    library: tuple[Tensor, ...]  # per track (1, bands, F)
    queries: Tensor  # (Q, bands, F)
    tracks: Tensor  # (Q,)

    @staticmethod
    def make(material: Material, frontend: Frontend, plan: Plan) -> "Validation":
        """Draw the queries; always the same ones, whatever the training's degradations are."""
        config = DegradeConfig()
        rng, noise_rng = np.random.default_rng(SEED), torch.Generator().manual_seed(SEED)
        count = len(material.music)
        batches = []
        for _ in range(ROUNDS):
            tracks = draw_tracks(material.music, count, rng)
            drawn = draw(material, tracks, plan.length, config.time_offset, rng)
            batches.append(finish(drawn, frontend, plan.geometry, config, noise_rng))
        return Validation(
            library=tuple(frontend(_waveform(material, i)) for i in range(count)),
            queries=torch.cat([b.spectrograms[count:] for b in batches]),
            tracks=torch.cat([b.tracks[count:] for b in batches]),
        )

    @torch.inference_mode()
    def hit_rate(self, embedder: ConvEmbedder) -> float:
        """Share of queries whose nearest library row is of their track."""
        device = next(embedder.parameters()).device
        rows = [embedder(track.to(device))[0] for track in self.library]
        owner = torch.cat([torch.full((len(r),), i) for i, r in enumerate(rows)])
        queries = embedder(self.queries.to(device))[:, 0]
        nearest = (queries @ torch.cat(rows).T).argmax(dim=1).cpu()
        return float((owner[nearest] == self.tracks).float().mean())


def _waveform(material: Material, i: int) -> Tensor:
    return torch.from_numpy(material.music.recording(i).astype(np.float32) / 32_768)[None]
