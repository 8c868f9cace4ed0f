"""Weights between those a run began with and those it ended with.

A run on other degradations learns them and forgets some of what its start knew. A weighted mean of
both keeps most of either (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
The mean of two networks has activations of other levels than either, so the statistics of its batch
normalisation are measured anew (Izmailov et al., "Averaging weights leads to wider optima", 2018).
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fingerprint.config import ModelConfig
from fingerprint.errors import ModelError
from fingerprint.model.checkpoint import Checkpoint, half
from fingerprint.model.embedder import ConvEmbedder, create_embedder, load_weights
from fingerprint.recognition.confidence import Calibration


def blend(
    start: Checkpoint, end: Checkpoint, share: float, batches: Iterable[Tensor]
) -> Checkpoint:
    """The model between two, with `share` of the second.

    Args:
        start: the weights that the run began with.
        end: the weights that it ended with.
        share: 0..1.
        batches: spectrograms (C, bands, F) as in training, to measure the normalisation on.

    Raises:
        ModelError: the models are of other sizes.
    """
    if start.config != end.config:
        raise ModelError("models of other sizes or front-ends cannot be blended")
    mixed = {
        name: torch.lerp(start.weights[name].float(), end.weights[name].float(), share)
        for name in start.weights
    }
    embedder = _embedder(start.config, mixed)
    _normalise(embedder, batches)
    return Checkpoint(start.config, half(embedder.state_dict()), Calibration())


def _embedder(config: ModelConfig, weights: dict[str, Tensor]) -> ConvEmbedder:
    embedder = create_embedder(config, 0)
    load_weights(embedder, weights)
    return embedder


@torch.no_grad()
def _normalise(embedder: ConvEmbedder, batches: Iterable[Tensor]) -> None:
    for module in embedder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain mean over the batches
    embedder.train()
    for spectrograms in batches:
        embedder(spectrograms)
    embedder.eval()
