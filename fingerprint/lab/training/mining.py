"""Triplet loss with mining inside the batch.

Every embedding of the batch is an anchor. Its positives are the embeddings of the same window of
the other clips of its track (in a batch, all clips of a track are the same place), its negatives
all embeddings of other tracks; other windows of its own track are neither. Distances are squared
Euclidean between unit vectors, 0 to 4. The loss is the mean over the *active* triplets, those that
violate the margin: satisfied ones would only dilute it (Hermans et al., "In defense of the triplet
loss", 2017).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fingerprint.config import INDEXED_DIMS
from fingerprint.lab.training.config import MiningConfig

FAR = 5.0  # beyond every distance


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """The loss of one batch.

    `value` () is what to minimise; `active` the share of mined triplets in violation; `spread` the
    embeddings' standard deviation against that of evenly spread unit vectors: 0 is a collapse.
    """

    value: Tensor
    active: float
    spread: float


def batch_hard(distance: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Hinge of hardest positive against hardest negative (Hermans et al. 2017): (N,)."""
    near = distance.masked_fill(~negative, FAR).amin(dim=1)
    return torch.relu(_hardest_positive(distance, positive) - near + margin)


def semi_hard(distance: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Hinge of hardest positive against the nearest negative beyond it: (N,).

    Schroff et al., "FaceNet", 2015. Where no negative lies beyond the positive, the hardest.
    """
    far = _hardest_positive(distance, positive)
    beyond = negative & (distance > far[:, None])
    nearest_beyond = distance.masked_fill(~beyond, FAR).amin(dim=1)
    nearest = distance.masked_fill(~negative, FAR).amin(dim=1)
    return torch.relu(far - torch.where(beyond.any(dim=1), nearest_beyond, nearest) + margin)


def all_active(distance: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Hinges of all triplets, positive by negative by anchor: (N, N, N) flattened."""
    hinge = torch.relu(distance[:, :, None] - distance[:, None, :] + margin)
    return hinge[positive[:, :, None] & negative[:, None, :]]


def nt_xent(distance: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of each positive against all negatives, softmax of cosines: (P,).

    Chen et al., "A simple framework for contrastive learning", 2020; P pairs of anchor and
    positive. The constant in `cosine = 1 - distance / 2` cancels.
    """
    logits = -distance / (2 * temperature)
    against = logits.masked_fill(~negative, -torch.inf).logsumexp(dim=1)
    anchor, other = torch.nonzero(positive, as_tuple=True)
    pair = logits[anchor, other]
    return torch.logaddexp(pair, against[anchor]) - pair


MINERS: dict[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {
    "batch_hard": batch_hard,
    "semi_hard": semi_hard,
    "all_active": all_active,
}


def triplet_loss(
    embeddings: Tensor,
    tracks: Tensor,
    config: MiningConfig,
    progress: float,
    indexed_dims: int = INDEXED_DIMS,
) -> Loss:
    """Mine the batch and average the active triplets.

    Of longer vectors, the first `indexed_dims` numbers become an embedding of their own: scaled to
    unit length, they are mined on their own, and the loss is the mean of both (Kusupati et al.,
    "Matryoshka representation learning", 2022). Share and spread are those of the whole.

    Args:
        embeddings: unit vectors (C, W, D) of W consecutive windows of C clips.
        tracks: (C,) the track each clip comes from.
        config: which miner, what margin; batch-hard starts as semi-hard, because the hardest
            negatives of an untrained network drive it to a single point (FaceNet, section 3.2).
        progress: 0..1, how far the run has come.
        indexed_dims: the model's Matryoshka dimensions.
    """
    loss = _mined(embeddings, tracks, config, progress)
    if embeddings.shape[2] <= indexed_dims:
        return loss
    part = _mined(F.normalize(embeddings[..., :indexed_dims], dim=2), tracks, config, progress)
    return Loss((loss.value + part.value) / 2, loss.active, loss.spread)


def _mined(embeddings: Tensor, tracks: Tensor, config: MiningConfig, progress: float) -> Loss:
    vectors = embeddings.flatten(0, 1)  # (N, D), N = C W
    distance = (2 - 2 * vectors @ vectors.T).clamp(min=0)
    positive, negative = _relations(tracks, embeddings.shape[1])
    spread = float(vectors.detach().var(dim=0, unbiased=False).sum().sqrt())
    if config.kind == "nt_xent":
        value = nt_xent(distance, positive, negative, config.temperature).mean()
        hinge = batch_hard(distance, positive, negative, config.margin)
        return Loss(value, float((hinge > 0).float().mean()), spread)
    hardness = _hardness(config, progress)
    value = embeddings.new_zeros(())
    active = 0.0
    for kind, weight in ((config.kind, hardness), ("semi_hard", 1 - hardness)):
        if weight > 0:
            hinge = MINERS[kind](distance, positive, negative, config.margin)
            violated = hinge > 0
            value = value + weight * hinge.sum() / violated.sum().clamp(min=1)
            active += weight * float(violated.float().mean()) if len(hinge) else 0.0
    return Loss(value, active, spread)


def _relations(tracks: Tensor, windows: int) -> tuple[Tensor, Tensor]:
    """Which of the C W embeddings are each one's positives and its negatives: two (N, N)."""
    track = tracks.repeat_interleave(windows)
    window = torch.arange(windows, device=tracks.device).repeat(len(tracks))
    same = track[:, None] == track[None, :]
    itself = torch.eye(len(track), dtype=torch.bool, device=tracks.device)
    return same & (window[:, None] == window[None, :]) & ~itself, ~same


def _hardest_positive(distance: Tensor, positive: Tensor) -> Tensor:
    return distance.masked_fill(~positive, 0.0).amax(dim=1)


def _hardness(config: MiningConfig, progress: float) -> float:
    """Weight of the configured miner against semi-hard: 0 before the warm-up, 1 after."""
    if config.kind != "batch_hard":
        return 1.0
    begin, end = config.warm_up
    return min(1.0, max(0.0, (progress - begin) / max(end - begin, 1e-9)))
