"""Signal check: reject silence, clicks, steady tones and steady noise as queries. Pure NumPy.

A recording is recognised by how its spectrum changes. If it only changes by chance, there is
nothing to search for, and the nearest neighbour of such a clip is the least varied passage of the
library.
"""

from typing import Literal

import numpy as np

from fingerprint.types import Clip, Outline

Nothing = Literal["silence", "hardly any sound", "a steady tone", "steady noise"]

SILENT_RMS = 10 ** (-85 / 20)  # of full scale, without its mean
FRAME = 0.128  # s, without overlap or window function, so that bins of white noise are independent
BAND = 25  # bins
LOWEST = 100.0  # Hz; mains hum and rumble below it are ignored
STEADY = 0.02  # share of the power that changes from frame to frame, below which it is a tone
FAINT = 1e-5  # of the power of the loudest frame; below it a frame is silent
LEAST_SOUND = 0.4  # s of sound that a clip needs: less is a click or a knock
FEWEST = 4  # frames needed to judge a change
DEVIATIONS = 3.0  # standard errors within which the variance is that of noise


def nothing_in(clip: Clip) -> Nothing | None:
    """Why a clip cannot be recognised; None if it may hold music.

    A tone keeps its spectrum. In stationary Gaussian noise the power of a band of K independent
    bins varies from frame to frame with standard deviation 1 / sqrt(K) of its mean (Bartlett,
    "Periodogram analysis and continuous spectra", Biometrika 1950); music mixed into noise varies
    more, and passes. A clip of fewer than `FEWEST` frames is only checked for its level.
    """
    if isinstance(clip, Outline):
        return None  # the client has checked the sound
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
    doubt = DEVIATIONS * np.sqrt(2 / (bands.size - len(mean)))  # of the mean of these variances
    return "steady noise" if abs(float(variation.mean()) - 1) < doubt else None
