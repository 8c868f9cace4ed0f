"""Validation retrieval: how often a noisy snippet finds its track among the validation tracks.

A snippet is as long as a window and a hop, the shortest that is not padded; each of its
`QUERY_SHIFTS` windows is compared with every library row. Half of the snippets have the default
degradations, half those of phones that record small loudspeakers in noisy places. Tracks are those
of the validation split, noises and rooms those of the test split: training uses none of them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fingerprint.lab.training.config import DegradeConfig
from fingerprint.lab.training.pairs import Material, Studio, draw, finish, geometry
from fingerprint.lab.training.sounds import draw_tracks
from fingerprint.model.embedder import ConvEmbedder
from fingerprint.model.fingerprinter import QUERY_SHIFTS
from fingerprint.model.frontend import Frontend

SEED = 7
ROUNDS = 16  # batches of one query a track, of either kind
PHONE = DegradeConfig(
    time_offset=0.1,
    device=0.3,
    loudspeaker=0.8,
    loudspeaker_cut=(300.0, 1_500.0),
    room=0.9,
    noise=1.0,
    noise_room=0.7,
    noise_tilt_db=(-4.0, 1.0),
    snr_db=(-15.0, 5.0),
    clip=0.3,
    codec=0.5,
    speed=0.0,
    band_cut=0.0,
    time_cut=0.0,
    short=0.0,
)


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """Spectrograms of whole tracks, and of noisy snippets with their truth."""

    library: tuple[Tensor, ...]  # per track (1, bands, F)
    queries: Tensor  # (Q, bands, F)
    tracks: Tensor  # (Q,)

    @staticmethod
    def make(material: Material, frontend: Frontend, embedder: ConvEmbedder) -> "Validation":
        """Draw the queries; always the same ones, whatever the training's degradations are."""
        device = next(embedder.parameters()).device
        studio = Studio.of(material, device)
        frontend = frontend.to(device)
        count = len(material.music)
        batches = []
        for config in (DegradeConfig(), PHONE):
            where = geometry(frontend, embedder, 2, config)
            length = frontend.samples(where.frames)
            rng = torch.Generator(device).manual_seed(SEED)
            for _ in range(ROUNDS):
                tracks = draw_tracks(studio.music, count, rng)
                drawn = draw(studio, tracks, length, config, rng)
                batches.append(finish(drawn, frontend, where, config, rng))
        return Validation(
            library=tuple(frontend(_waveform(material, i).to(device)) for i in range(count)),
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
        return float((owner[nearest] == self.tracks.cpu()).float().mean())


def _waveform(material: Material, i: int) -> Tensor:
    return torch.from_numpy(material.music.recording(i).astype(np.float32) / 32_768)[None]
