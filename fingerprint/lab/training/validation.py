"""Validation retrieval: how often a noisy snippet finds its track among the validation tracks.

A snippet is as long as a window and a hop, the shortest that is not padded; each of its
`QUERY_SHIFTS` windows is compared with every library row. Snippets are made by the default
degradations, but from validation tracks with the noises and rooms of the test split, so that
nothing in them was trained on.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fingerprint.config import DegradeConfig
from fingerprint.lab.training.pairs import Material, draw, draw_tracks, finish, geometry
from fingerprint.model.embedder import ConvEmbedder
from fingerprint.model.fingerprinter import QUERY_SHIFTS
from fingerprint.model.frontend import Frontend

SEED = 7
ROUNDS = 64  # batches of one query a track


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """Spectrograms of whole tracks, and of noisy snippets with their truth."""

    library: tuple[Tensor, ...]  # per track (1, bands, F)
    queries: Tensor  # (Q, bands, F)
    tracks: Tensor  # (Q,)

    @staticmethod
    def make(material: Material, frontend: Frontend, embedder: ConvEmbedder) -> "Validation":
        """Draw the queries; always the same ones, whatever the training's degradations are."""
        config = DegradeConfig()
        where = geometry(frontend, embedder, 2, config)
        length = frontend.samples(where.frames)
        rng, noise_rng = np.random.default_rng(SEED), torch.Generator().manual_seed(SEED)
        count = len(material.music)
        batches = []
        for _ in range(ROUNDS):
            tracks = draw_tracks(material.music, count, rng)
            drawn = draw(material, tracks, length, config, rng)
            batches.append(finish(drawn, frontend, where, config, noise_rng))
        return Validation(
            library=tuple(frontend(_waveform(material, i)) for i in range(count)),
            queries=torch.cat([b.spectrograms[count:] for b in batches]),
            tracks=torch.cat([b.tracks[count:] for b in batches]),
        )

    @torch.inference_mode()
    def hit_rate(self, embedder: ConvEmbedder) -> float:
        """Share of queries whose nearest library row, to any of their windows, is theirs."""
        device = next(embedder.parameters()).device
        rows = [embedder(track.to(device))[0] for track in self.library]
        owner = torch.cat([torch.full((len(r),), i) for i, r in enumerate(rows)])
        library = torch.cat(rows).T
        step = embedder.stride // QUERY_SHIFTS
        cosines = torch.stack(  # (QUERY_SHIFTS, Q, R)
            [
                embedder(self.queries[..., shift * step :].to(device))[:, 0] @ library
                for shift in range(QUERY_SHIFTS)
            ]
        )
        nearest = cosines.amax(dim=0).argmax(dim=1).cpu()
        return float((owner[nearest] == self.tracks).float().mean())


def _waveform(material: Material, i: int) -> Tensor:
    return torch.from_numpy(material.music.recording(i).astype(np.float32) / 32_768)[None]
