"""Is the place that was named the right one? Pure NumPy."""

import numpy as np

from fingerprint.lab.benchmark.metrics import PLACE_TOLERANCE
from fingerprint.types import Floats

SAME = 0.95  # correlation of the waveforms from which two passages are the same sound


def same_sound(passage: Floats, around: Floats) -> bool:
    """Whether a passage (N,) is heard, sample for sample, somewhere in `around` (at least N,).

    The largest normalised cross-correlation over all shifts must reach `SAME`: at most a tenth of
    the energy may differ. So the same loop played again counts, the same chords sung to other
    words do not. It compares the tracks' own waveforms and knows nothing of the model.
    """
    n, total = len(passage), len(around)
    energy = float(np.sum(np.square(passage, dtype=np.float64)))
    if n > total or energy == 0:
        return False
    size = 1 << (total - 1).bit_length()
    spectrum = np.fft.rfft(around, size) * np.conj(np.fft.rfft(passage, size))
    products = np.fft.irfft(spectrum, size)[: total - n + 1]  # no shift wraps around
    running = np.concatenate([[0.0], np.cumsum(np.square(around, dtype=np.float64))])
    energies = running[n:] - running[: total - n + 1]
    audible = energies > 1e-6 * energy
    return bool(np.any(products[audible] >= SAME * np.sqrt(energy * energies[audible])))


def near(offset: float, truth: float) -> bool:
    """Whether an offset is the true one, within the tolerance; both in s."""
    return abs(offset - truth) <= PLACE_TOLERANCE
