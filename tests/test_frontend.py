"""Front-ends: physics, invariances, and agreement with librosa."""

import math
from dataclasses import dataclass

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor

from fingerprint.config import FrontendConfig
from fingerprint.model.frontend import FRONTENDS, Frontend, mel_power

RATE = 8_000
KINDS = sorted(FRONTENDS)


def noise(seconds: float = 4.0, seed: int = 0) -> Tensor:
    shape = (1, round(seconds * RATE))
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tone(frequency: float, seconds: float = 2.0) -> Tensor:
    time = torch.arange(round(seconds * RATE)) / RATE
    return 0.1 * torch.sin(2 * math.pi * frequency * time)[None]


def frontend(kind: str) -> Frontend:
    return Frontend(FrontendConfig(kind=kind))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Scale:
    """The frequency of band `i` of `n` between `low` and `high`."""

    low: float = 250.0
    high: float = 3_900.0
    n: int = 128

    def mel(self, i: int) -> float:
        low, high = librosa.hz_to_mel([self.low, self.high], htk=True)
        return float(librosa.mel_to_hz(low + (high - low) * (i + 1) / (self.n + 1), htk=True))

    def linear(self, i: int) -> float:
        return self.low + (self.high - self.low) * (i + 1) / (self.n + 1)

    def log(self, i: int) -> float:
        return self.low * (self.high / self.low) ** (i / self.n)


@pytest.mark.parametrize(
    ("kind", "scale"), [("log_mel", "mel"), ("pcen", "mel"), ("stft", "linear"), ("cqt", "log")]
)
@pytest.mark.parametrize("band", [20, 64, 110])
def test_a_tone_lights_up_its_own_band(kind: str, scale: str, band: int) -> None:
    power = frontend(kind).bands(tone(getattr(Scale(), scale)(band)))[0].mean(dim=1)
    assert int(power.argmax()) == band


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gain_db", [-30.0, 20.0])
def test_level_changes_nothing(kind: str, gain_db: float) -> None:
    model = frontend(kind)
    louder = model(noise() * 10 ** (gain_db / 20))
    assert torch.allclose(louder, model(noise()), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_sixteen_bits_are_enough(kind: str) -> None:
    model = frontend(kind)
    rounded = (noise() * 32_767).round() / 32_767
    cosine = torch.cosine_similarity(model(noise()).flatten(), model(rounded).flatten(), dim=0)
    assert cosine > 0.999


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_frames_is_as_computed_and_nothing_is_padded(kind: str) -> None:
    model = frontend(kind)
    for samples in (1_024, 1_279, 1_280, 8_000):
        assert model(noise()[:, :samples]).shape == (1, 128, model.frames(samples))
    assert model.frames(1_023) == 0
    assert model.samples(model.frames(1_280)) == 1_280


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_rows(kind: str) -> None:
    model = frontend(kind)
    rows = torch.cat([noise(seed=1), noise(seed=2)])
    assert torch.allclose(model(rows)[1:], model(rows[1:]), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_inside_a_long_recording_a_stretch_looks_as_it_does_with_a_halo(kind: str) -> None:
    model = frontend(kind)
    whole = noise(30.0)
    first, frames = 300, 60
    begin = first - model.halo
    stretch = whole[:, begin * 256 : begin * 256 + model.samples(2 * model.halo + frames)]
    inside = model(stretch)[..., model.halo : model.halo + frames]
    # The smoother of PCEN never quite ends; 1 % of a standard deviation is far below any noise.
    assert torch.allclose(inside, model(whole)[..., first : first + frames], atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_masked_frames_are_zero_and_do_not_change_the_others(kind: str) -> None:
    model = frontend(kind)
    part, rest = noise(2.0), 5 * noise(2.0, seed=9)
    frames = model.frames(part.shape[1])
    valid = torch.zeros(1, model.frames(4 * RATE))
    valid[:, :frames] = 1
    masked = model(torch.cat([part, rest], dim=1), valid)
    assert torch.all(masked[..., frames:] == 0)
    assert torch.allclose(masked[..., :frames], model(part), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_silence_is_finite_and_empty(kind: str) -> None:
    assert torch.all(frontend(kind)(torch.zeros(1, RATE)).abs() < 1e-3)


def test_mel_powers_agree_with_librosa() -> None:
    expected = librosa.feature.melspectrogram(
        y=noise()[0].numpy(),
        sr=RATE,
        n_fft=1_024,
        hop_length=256,
        n_mels=128,
        fmin=250,
        fmax=3_900,
        htk=True,
        norm=None,
        center=False,
    )
    ours = mel_power(FrontendConfig())(noise())[0].numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-6)
