"""The triplet loss against its definition, by loops over all triplets."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fingerprint.lab.training.config import MiningConfig
from fingerprint.lab.training.mining import triplet_loss


def embeddings(seed: int, n: int = 12, dim: int = 5) -> Tensor:
    points = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))
    return F.normalize(points.double(), dim=1)


def distances(x: Tensor, anchor: int, tracks: Tensor) -> tuple[list[float], list[float]]:
    """Squared distances from the anchor to its positives and to its negatives."""
    others = [j for j in range(len(x)) if j != anchor]
    far = {j: float((x[anchor] - x[j]).square().sum()) for j in others}
    same = [far[j] for j in others if tracks[j] == tracks[anchor]]
    return same, [far[j] for j in others if tracks[j] != tracks[anchor]]


def by_definition(kind: str, x: Tensor, tracks: Tensor, margin: float) -> tuple[float, float]:
    """Loss and active share, triplet by triplet."""
    hinges = []
    for anchor in range(len(x)):
        positives, negatives = distances(x, anchor, tracks)
        if kind == "all_active":
            pairs = list(itertools.product(positives, negatives))
        else:
            beyond = [d for d in negatives if d > max(positives)]
            chosen = min(beyond) if kind == "semi_hard" and beyond else min(negatives)
            pairs = [(max(positives), chosen)]
        hinges += [max(0.0, p - n + margin) for p, n in pairs]
    active = [h for h in hinges if h > 0]
    return sum(active) / max(1, len(active)), len(active) / len(hinges)


@pytest.mark.parametrize("kind", ["batch_hard", "semi_hard", "all_active"])
@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_the_mean_over_active_triplets_by_definition(kind: str, seed: int) -> None:
    x, tracks = embeddings(seed), torch.arange(6).repeat(2)
    config = MiningConfig(kind=kind, margin=0.4, warm_up=(0.0, 0.0))  # type: ignore[arg-type]
    loss = triplet_loss(x[:, None], tracks, config, progress=1.0)
    value, active = by_definition(kind, x, tracks, 0.4)
    assert float(loss.value) == pytest.approx(value)
    assert loss.active == pytest.approx(active)


def test_several_positives_of_a_track_give_the_hardest_of_them() -> None:
    x, tracks = embeddings(3, n=12), torch.arange(4).repeat(3)
    config = MiningConfig(warm_up=(0.0, 0.0))
    value, _ = by_definition("batch_hard", x, tracks, config.margin)
    assert float(triplet_loss(x[:, None], tracks, config, 1.0).value) == pytest.approx(value)


def test_batch_hard_begins_semi_hard_and_ends_hard() -> None:
    x, tracks = embeddings(1), torch.arange(6).repeat(2)
    config = MiningConfig(warm_up=(0.2, 0.6))
    semi, _ = by_definition("semi_hard", x, tracks, config.margin)
    hard, _ = by_definition("batch_hard", x, tracks, config.margin)
    assert semi < hard
    values = [
        float(triplet_loss(x[:, None], tracks, config, p).value) for p in (0.0, 0.2, 0.4, 0.6, 1.0)
    ]
    assert values == pytest.approx([semi, semi, (semi + hard) / 2, hard, hard])


def test_pairs_of_one_track_are_never_negatives() -> None:
    same_place = F.normalize(torch.ones(4, 3), dim=1)
    loss = triplet_loss(same_place[:, None], torch.zeros(4, dtype=torch.long), MiningConfig(), 1.0)
    assert float(loss.value) == 0.0


def test_a_batch_that_satisfies_the_margin_has_no_loss_and_finite_gradients() -> None:
    x = torch.eye(4).repeat(2, 1).requires_grad_()
    loss = triplet_loss(x[:, None], torch.arange(4).repeat(2), MiningConfig(), 1.0)
    loss.value.backward()  # type: ignore[no-untyped-call]
    assert loss.active == 0.0
    assert x.grad is not None
    assert torch.all(x.grad == 0)


def test_a_gradient_step_pulls_the_positive_and_pushes_the_negative() -> None:
    x = embeddings(0, n=4).requires_grad_()
    tracks = torch.tensor([0, 1, 0, 1])
    config = MiningConfig(margin=3.9, warm_up=(0.0, 0.0))
    before = triplet_loss(x[:, None], tracks, config, 1.0).value
    (gradient,) = torch.autograd.grad(before, x)
    moved = F.normalize(x.detach() - 0.01 * gradient, dim=1)
    assert triplet_loss(moved[:, None], tracks, config, 1.0).value < before


@pytest.mark.parametrize("dims", [128, 32])
def test_matryoshka_dimensions_are_mined_separately_too(dims: int) -> None:
    rng = torch.Generator().manual_seed(3)
    x = F.normalize(torch.randn(6, dims + 40, generator=rng), dim=1)
    tracks = torch.tensor([0, 1, 2, 0, 1, 2])
    config = MiningConfig(warm_up=(0.0, 0.0))

    def one(vectors: Tensor) -> Tensor:
        distance = torch.cdist(vectors, vectors) ** 2
        same = tracks[:, None] == tracks
        far = distance.masked_fill(~same, 0).amax(dim=1)
        near = distance.masked_fill(same, 9).amin(dim=1)
        hinge = torch.relu(far - near + config.margin)
        return hinge.sum() / (hinge > 0).sum()

    expected = (one(x) + one(F.normalize(x[:, :dims], dim=1))) / 2
    loss = triplet_loss(x[:, None], tracks, config, 1.0, dims)
    assert torch.isclose(loss.value, expected, atol=1e-5)


def test_spread_tells_a_collapse_from_an_even_spread() -> None:
    point = F.normalize(torch.ones(8, 16), dim=1)
    even = torch.cat([torch.eye(16), -torch.eye(16)])
    tracks = torch.arange(4).repeat(2)
    assert triplet_loss(point[:, None], tracks, MiningConfig(), 1.0).spread == pytest.approx(
        0.0, abs=1e-3
    )
    assert (
        triplet_loss(even[:, None], torch.arange(16).repeat(2), MiningConfig(), 1.0).spread == 1.0
    )


@pytest.mark.parametrize("kind", ["batch_hard", "semi_hard", "all_active"])
def test_other_windows_of_the_own_track_are_neither_positive_nor_negative(kind: str) -> None:
    x, tracks = embeddings(2, n=24).view(8, 3, 5), torch.arange(4).repeat(2)
    config = MiningConfig(kind=kind, warm_up=(0.0, 0.0))  # type: ignore[arg-type]
    hinges = []
    for clip, window in itertools.product(range(8), range(3)):
        far = (x - x[clip, window]).square().sum(dim=2)  # (8, 3)
        positive = float(far[(clip + 4) % 8, window])
        negatives = far[tracks != tracks[clip]].flatten().tolist()
        beyond = [d for d in negatives if d > positive]
        chosen = {
            "batch_hard": [min(negatives)],
            "semi_hard": [min(beyond or negatives)],
            "all_active": negatives,
        }[kind]
        hinges += [positive - negative + config.margin for negative in chosen]
    active = [hinge for hinge in hinges if hinge > 0]
    value = float(triplet_loss(x, tracks, config, 1.0).value)
    assert value == pytest.approx(sum(active) / len(active))


def test_nt_xent_is_the_cross_entropy_of_the_positive_among_the_negatives() -> None:
    x, tracks = embeddings(4), torch.arange(6).repeat(2)
    config = MiningConfig(kind="nt_xent", temperature=0.1)
    terms = []
    for anchor in range(12):
        cosines = x @ x[anchor] / config.temperature
        rivals = [j for j in range(12) if tracks[j] != tracks[anchor]]
        among = torch.stack([cosines[(anchor + 6) % 12], *cosines[rivals]])
        terms.append(float(-torch.log_softmax(among, dim=0)[0]))
    value = float(triplet_loss(x[:, None], tracks, config, 1.0).value)
    assert value == pytest.approx(sum(terms) / len(terms))
