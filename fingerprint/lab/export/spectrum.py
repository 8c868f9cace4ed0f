"""Band powers without complex numbers: convolutions and matrix products of real tensors.

ONNX has no complex tensors, and ONNX Runtime's own STFT takes longer than the network. The modules
here compute what those of `frontend` do, waveform (B, T) to powers (B, bands, F), to rounding.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fingerprint.model.frontend import ConstantQPower, FilterPower


class KernelPower(nn.Module):
    """`ConstantQPower` as one convolution with its wavelets."""

    kernels: Tensor

    def __init__(self, bands: ConstantQPower) -> None:
        super().__init__()
        basis = bands.basis.to("cpu", torch.complex128)
        n_fft = len(bands.window)
        samples, bins = torch.arange(n_fft), torch.arange(basis.shape[1])
        wavelets = basis @ _turns(torch.outer(bins, samples) / n_fft)  # (bands, n_fft)
        kernels = torch.cat([wavelets.real, wavelets.imag]).unsqueeze(1)
        self.register_buffer("kernels", kernels.float())
        self.hop = bands.hop

    def forward(self, waveform: Tensor) -> Tensor:
        squares = F.conv1d(waveform.unsqueeze(1), self.kernels, stride=self.hop).square()
        real, imaginary = squares.chunk(2, dim=1)
        return real + imaginary


class FourierPower(nn.Module):
    """`FilterPower` with the Fourier transform in two steps of about sqrt(n_fft) terms each.

    Sample n = p * Q + q and bin k = j + P * i with n_fft = P * Q give

        X[k] = sum_q exp(-2 pi i k q / n_fft) * sum_p exp(-2 pi i j p / P) * window[n] * x[n].

    (Cooley and Tukey, "An algorithm for the machine calculation of complex Fourier series", 1965.)
    The inner sum is a strided convolution with a group for each q, the outer one a matrix for each
    j. A real signal needs j up to P / 2 only: bins k and n_fft - k have the same power.
    """

    inner: Tensor
    outer: Tensor
    filters: Tensor

    def __init__(self, bands: FilterPower) -> None:
        super().__init__()
        n_fft = len(bands.window)
        self.phases = _phases(n_fft, bands.hop)  # Q
        self.hop = bands.hop
        terms = n_fft // self.phases  # P
        j, p = torch.arange(terms // 2 + 1), torch.arange(terms)
        i = q = torch.arange(self.phases)
        bins = j[:, None] + terms * i  # (J, Q)
        window = bands.window.cpu().double().view(terms, self.phases).T  # (Q, P)

        inner = _turns(torch.outer(j, p) / terms) * window[:, None]  # (Q, J, P)
        inner = torch.stack([inner.real, inner.imag], dim=1)  # (Q, 2, J, P)
        self.register_buffer("inner", inner.reshape(-1, 1, terms).float())

        turns = _turns(bins[..., None] * q / n_fft)  # (J, Q out, Q in)
        real = torch.stack([turns.real, -turns.imag], dim=-1)  # (J, Q out, Q in, 2)
        imaginary = torch.stack([turns.imag, turns.real], dim=-1)
        outer = torch.stack([real, imaginary], dim=1)  # (J, 2, Q out, Q in, 2)
        self.register_buffer("outer", outer.reshape(len(j), 2 * len(q), 2 * len(q)).float())

        bins = torch.minimum(bins, n_fft - bins).flatten()
        filters = bands.filters.cpu() / torch.bincount(bins)  # Some bins occur twice.
        self.register_buffer("filters", filters[:, bins].contiguous())

    def forward(self, waveform: Tensor) -> Tensor:
        # Every size is spelt out: the exporter takes inferred ones for constants.
        batch, steps, phases = waveform.shape[0], waveform.shape[1] // self.phases, self.phases
        x = waveform[:, : steps * phases].reshape(batch, steps, phases).transpose(1, 2)
        x = F.conv1d(x, self.inner, stride=self.hop // phases, groups=phases)
        frames, turns = x.shape[2], self.outer.shape[0]  # F, J
        x = x.reshape(batch, 2 * phases, turns, frames).transpose(1, 2)
        x = (self.outer @ x).square().reshape(batch, turns, 2, phases, frames).sum(dim=2)
        return torch.matmul(self.filters, x.reshape(batch, turns * phases, frames))


def _turns(fraction: Tensor) -> Tensor:
    """Unit complex numbers at `fraction` turns clockwise."""
    return torch.exp(-2j * math.pi * fraction.double())


def _phases(n_fft: int, hop: int) -> int:
    """The largest Q up to sqrt(n_fft) that divides both."""
    common = math.gcd(n_fft, hop)
    return max(q for q in range(1, math.isqrt(n_fft) + 1) if common % q == 0)


REAL: dict[type[nn.Module], Callable[..., nn.Module]] = {
    ConstantQPower: KernelPower,
    FilterPower: FourierPower,
}


def real_power(bands: nn.Module) -> nn.Module:
    """The first part of a front-end in real numbers."""
    return REAL[type(bands)](bands)
