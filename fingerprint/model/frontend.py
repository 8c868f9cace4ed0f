"""Front-ends: waveform (B, T) to level-invariant spectrogram (B, bands, F).

A front-end has two parts. *Bands* turn the waveform into band powers: frame i covers the samples
`i * hop : i * hop + n_fft`, nothing is padded, F = (T - n_fft) // hop + 1. *Compression* makes the
powers level-invariant and even in contrast, using only a neighbourhood of `context` seconds, so
that a stretch of a long recording looks the same as the stretch alone but for its edges. That is
what lets an embedder share its work between overlapping windows.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fingerprint._torchaudio import import_torchaudio
from fingerprint.config import FrontendConfig
from fingerprint.model.geometry import frames_in, halo, reach, samples_of

TINY = 1e-20  # power; keeps digital silence finite without touching 16-bit noise (about 1e-10)


class FilterPower(nn.Module):
    """Powers in overlapping triangular bands: (B, T) -> (B, bands, F).

    `filters` (n_fft / 2 + 1, bands) weigh the power spectrum of Hann-windowed frames.
    """

    filters: Tensor
    window: Tensor

    def __init__(self, filters: Tensor, config: FrontendConfig) -> None:
        super().__init__()
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        self.hop = config.hop

    def forward(self, waveform: Tensor) -> Tensor:
        return self.filters @ _power(_spectrum(waveform, self.window, self.hop))


def mel_power(config: FrontendConfig) -> FilterPower:
    """Bands evenly spaced on the mel scale (HTK's formula)."""
    make = import_torchaudio().functional.melscale_fbanks
    return FilterPower(make(*_band_layout(config)), config)


def linear_power(config: FrontendConfig) -> FilterPower:
    """Bands evenly spaced in Hz."""
    make = import_torchaudio().functional.linear_fbanks
    return FilterPower(make(*_band_layout(config)), config)


def _band_layout(config: FrontendConfig) -> tuple[int, float, float, int, int]:
    """The band limits as arguments of torchaudio's filter banks."""
    bins = config.n_fft // 2 + 1
    return bins, config.f_min, config.f_max, config.n_bands, config.sample_rate


class ConstantQPower(nn.Module):
    """Constant-Q powers with librosa's wavelet basis: (B, T) -> (B, bands, F).

    Bands lie evenly in log frequency from `f_min` to `f_max`. The quality factor is the largest
    at which the longest wavelet still fits a frame. (Brown, "Calculation of a constant Q spectral
    transform", JASA 1991; applied in the frequency domain as in Brown and Puckette, JASA 1992.)
    """

    basis: Tensor
    window: Tensor

    def __init__(self, config: FrontendConfig) -> None:
        super().__init__()
        import librosa
        import numpy as np

        frequencies = np.geomspace(config.f_min, config.f_max, config.n_bands + 1)[:-1]
        longest = librosa.filters.wavelet_lengths(freqs=frequencies, sr=config.sample_rate)[0].max()
        wavelets, _ = librosa.filters.wavelet(
            freqs=frequencies,
            sr=config.sample_rate,
            filter_scale=min(1.0, (config.n_fft - 1) / longest),
            pad_fft=False,
        )
        padded = np.zeros((config.n_bands, config.n_fft), dtype=np.complex64)
        before = (config.n_fft - wavelets.shape[1]) // 2
        padded[:, before : before + wavelets.shape[1]] = wavelets
        # Parseval: the inner product with the wavelet, taken over the frame's spectrum.
        basis = np.conj(np.fft.fft(padded, axis=1))[:, : config.n_fft // 2 + 1] / config.n_fft
        self.register_buffer(
            "basis", torch.from_numpy(basis.astype(np.complex64)), persistent=False
        )
        self.register_buffer("window", torch.ones(config.n_fft), persistent=False)
        self.hop = config.hop

    def forward(self, waveform: Tensor) -> Tensor:
        return _power(self.basis @ _spectrum(waveform, self.window, self.hop))


class LogCompression(nn.Module):
    """Log power over a floor relative to the local mean power: (B, bands, F) -> the same."""

    def __init__(self, config: FrontendConfig) -> None:
        super().__init__()
        self.floor = 10 ** (config.floor_db / 10)
        self.reach = reach(config)

    def forward(self, power: Tensor, valid: Tensor) -> Tensor:
        level = _local_mean(power.mean(dim=1), valid, self.reach).unsqueeze(1)  # (B, 1, F)
        return torch.log((power + TINY * self.floor) / (level + TINY) + self.floor)


class PcenCompression(nn.Module):
    """Per-channel energy normalisation: each band over its own recent past.

    Wang et al., "Trainable frontend for robust and far-field keyword spotting", ICASSP 2017, with
    the gain exponent at 1, so that level cancels exactly, and a first-order smoother cut off
    after `context` seconds, so that a frame depends on a bounded past.
    """

    smoother: Tensor

    def __init__(self, config: FrontendConfig) -> None:
        super().__init__()
        frames = max(1, round(config.context * config.frame_rate))
        decay = torch.exp(-5.0 * torch.arange(frames) / frames)
        self.register_buffer("smoother", decay.flip(0).view(1, 1, -1), persistent=False)
        self.floor = 10 ** (config.floor_db / 10)
        self.reach = reach(config)

    def forward(self, power: Tensor, valid: Tensor) -> Tensor:
        level = _local_mean(power.mean(dim=1), valid, self.reach).unsqueeze(1)
        relative = (power / (level + TINY) + self.floor) * valid.unsqueeze(1)
        weight = self._smooth(valid.unsqueeze(1))  # (B, 1, F)
        smooth = self._smooth(relative.flatten(0, 1).unsqueeze(1)).view_as(relative)
        past = smooth / weight.clamp(min=TINY) + self.floor
        compressed: Tensor = (relative / past + 2.0).sqrt() - 2.0**0.5
        return compressed

    def _smooth(self, x: Tensor) -> Tensor:
        return F.conv1d(F.pad(x, (self.smoother.shape[-1] - 1, 0)), self.smoother)


FRONTENDS: dict[str, tuple[Callable[[FrontendConfig], nn.Module], type[nn.Module]]] = {
    "log_mel": (mel_power, LogCompression),
    "pcen": (mel_power, PcenCompression),
    "cqt": (ConstantQPower, LogCompression),
    "stft": (linear_power, LogCompression),
}


class Frontend(nn.Module):
    """Bands, then compression, then even contrast: (B, T) -> (B, bands, F).

    `valid` (B, F), ones and zeros, says which frames exist: the others neither take part in any
    mean nor show (they are zero), as if the recording began and ended there.
    """

    def __init__(self, config: FrontendConfig) -> None:
        super().__init__()
        bands, compression = FRONTENDS[config.kind]
        self.config = config
        self.bands = bands(config)
        self.compression = compression(config)
        self.reach = reach(config)

    def forward(self, waveform: Tensor, valid: Tensor | None = None) -> Tensor:
        with torch.autocast(waveform.device.type, enabled=False):
            power = self.bands(waveform.float())
            if valid is None:
                valid = power.new_ones(power.shape[0], power.shape[2])
            spectrogram: Tensor = self._standardise(self.compression(power, valid), valid)
            return spectrogram

    def _standardise(self, x: Tensor, valid: Tensor) -> Tensor:
        """Zero mean and unit variance over bands and `context` seconds around each frame."""
        mean = _local_mean(x.mean(dim=1), valid, self.reach).unsqueeze(1)  # (B, 1, F)
        square = _local_mean(x.square().mean(dim=1), valid, self.reach).unsqueeze(1)
        deviation = (square - mean.square()).clamp(min=0.01).sqrt()
        return (x - mean) / deviation * valid.unsqueeze(1)

    @property
    def halo(self) -> int:
        """Frames on either side of a stretch that its spectrogram can depend on."""
        return halo(self.config)

    def frames(self, samples: int) -> int:
        """The number of frames of a waveform of `samples` samples."""
        return frames_in(self.config, samples)

    def samples(self, frames: int) -> int:
        """The number of samples that `frames` frames span."""
        return samples_of(self.config, frames)


def _spectrum(waveform: Tensor, window: Tensor, hop: int) -> Tensor:
    """Complex STFT without padding: (B, T) -> (B, n_fft / 2 + 1, F)."""
    return torch.stft(waveform, len(window), hop, window=window, center=False, return_complex=True)


def _power(spectrum: Tensor) -> Tensor:
    """Squared magnitude, without the square root that `abs` takes."""
    return spectrum.real.square() + spectrum.imag.square()


def _local_mean(x: Tensor, valid: Tensor, reach: int) -> Tensor:
    """Mean of the valid frames within `reach` of each frame: (B, F) -> (B, F)."""
    both = torch.stack([x * valid, valid], dim=1)  # (B, 2, F)
    total, count = F.avg_pool1d(both, 2 * reach + 1, stride=1, padding=reach).unbind(dim=1)
    return total / count.clamp(min=1e-6)
