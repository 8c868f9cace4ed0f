"""Playing a clip faster or slower."""

import soxr

from fingerprint.types import Clip


def at_speed(clip: Clip, rate: float) -> Clip:
    """The clip played `rate` times as fast, as a tape is: tempo and pitch change together."""
    if rate == 1:
        return clip
    samples = soxr.resample(clip.samples, rate, 1.0, quality="HQ")
    return Clip(samples, clip.sample_rate)
