"""Is there anything in a clip that could be recognised? Pure NumPy.

A recording is known by how its spectrum changes. Where nothing changes but by chance there is
nothing to look up, and the nearest neighbour of such a clip is the library's own dullest moment.
"""

from typing import Literal

import numpy as np

from fingerprint.types import Clip, Outline

Nothing = Literal["silence", "hardly any sound", "a steady tone", "steady noise"]

SILENT_RMS = 10 ** (-85 / 20)  # of full scale, without its mean
FRAME = 0.128  # s, without overlap and without a window: so bins of white noise are independent
BAND = 25  # bins
LOWEST = 100.0  # Hz; mains hum and rumble below it say nothing
STEADY = 0.02  # share of the power that changes from frame to frame; of a tone, next to nothing
FAINT = 1e-5  # of the power of the loudest frame; below it a frame has no sound
LEAST_SOUND = 0.4  # s of a clip that have sound: less is a click or a knock
FEWEST = 4  # frames by which a change can be judged
DEVIATIONS = 3.0  # of the estimate; noise that is further from its expectation is not only noise


def nothing_in(clip: Clip) -> Nothing | None:
    """Why a clip cannot be recognised; None if it may hold music.

    A tone is what keeps its spectrum. In stationary Gaussian noise the power of a band of K
    independent bins varies from frame to frame with standard deviation 1 / sqrt(K) of its mean
    (Bartlett, "Periodogram analysis and continuous spectra", Biometrika 1950). What music is mixed
    into noise adds its own changes to that, and is not refused. A clip of less than `FEWEST`
    frames is judged by its level alone.
    """
    if isinstance(clip, Outline):
        return None  # that was looked at where the sound is
    samples = clip.samples.astype(np.float64) - (clip.samples.mean() if len(clip.samples) else 0)
    if not len(samples) or np.sqrt(np.mean(samples**2)) < SILENT_RMS:
        return "silence"
    size = round(FRAME * clip.sample_rate)
    count = len(samples) // size
    if count < FEWEST:
        return None
    spectrum = np.fft.rfft(samples[: count * size].reshape(count, size), axis=1)
    power = (spectrum.real**2 + spectrum.imag**2)[:, round(LOWEST * size / clip.sample_rate) : -1]
    loudness = power.sum(axis=1)
    if np.count_nonzero(loudness > FAINT * loudness.max()) * FRAME < LEAST_SOUND:
        return "hardly any sound"
    bands = power[:, : power.shape[1] // BAND * BAND].reshape(count, -1, BAND).sum(axis=2)
    mean = bands.mean(axis=0)  # (bands,)
    if np.abs(bands - mean).mean(axis=0).sum() < STEADY * mean.sum():
        return "a steady tone"
    variation = np.var(bands / np.maximum(mean, 1e-12 * mean.max()), axis=0, ddof=1) * BAND
    doubt = DEVIATIONS * np.sqrt(2 / (bands.size - len(mean)))  # of the mean of so many variances
    return "steady noise" if abs(float(variation.mean()) - 1) < doubt else None
