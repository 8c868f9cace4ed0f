"""Find recordings that are the same although the files differ."""

from collections.abc import Iterator, Sequence

import numpy as np

from fingerprint.lab.corpus.probe import ENVELOPE_RATE, Probe
from fingerprint.types import Floats

LENGTH_TOLERANCE = 3.0  # s between the lengths of two encodings of one recording
LEAST_CORRELATION = 0.99  # of their envelopes
LARGEST_SHIFT = ENVELOPE_RATE  # frames by which one may start later
SHORTEST = 20 * ENVELOPE_RATE  # frames; shorter envelopes are too alike by chance


def duplicate_groups(probes: Sequence[Probe]) -> list[list[int]]:
    """Groups of indices, two or more each and ascending, that hold the same recording.

    The same means equal decoded sound, or nearly equal length and envelopes that correlate by
    `LEAST_CORRELATION`, as those of re-encoded copies do.
    """
    from scipy.cluster.hierarchy import DisjointSet

    sets = DisjointSet(range(len(probes)))
    for a, b in _pairs(probes):
        sets.merge(a, b)
    return [sorted(group) for group in sets.subsets() if len(group) > 1]


def _pairs(probes: Sequence[Probe]) -> Iterator[tuple[int, int]]:
    first: dict[str, int] = {}
    for i, probe in enumerate(probes):
        if (known := first.setdefault(probe.digest, i)) != i:
            yield known, i
    by_length = sorted(
        (i for i in first.values() if len(probes[i].envelope) >= SHORTEST),
        key=lambda i: probes[i].seconds,
    )
    for place, a in enumerate(by_length):
        limit = probes[a].seconds + LENGTH_TOLERANCE
        for b in by_length[place + 1 :]:
            if probes[b].seconds > limit:
                break
            if similarity(probes[a].envelope, probes[b].envelope) >= LEAST_CORRELATION:
                yield a, b


def similarity(a: Sequence[int], b: Sequence[int]) -> float:
    """The best correlation of two envelopes over small shifts, -1 to 1."""
    first, second = _smooth(a), _smooth(b)
    shifts = range(-LARGEST_SHIFT, LARGEST_SHIFT + 1)
    return max(_correlation(first[max(s, 0) :], second[max(-s, 0) :]) for s in shifts)


def _smooth(envelope: Sequence[int]) -> Floats:
    """Summed over a second, so that a shift by part of a frame changes little."""
    frames = np.asarray(envelope, np.float32)
    return np.convolve(frames, np.ones(ENVELOPE_RATE, np.float32), "valid")


def _correlation(a: Floats, b: Floats) -> float:
    length = min(len(a), len(b))
    a, b = a[:length] - a[:length].mean(), b[:length] - b[:length].mean()
    scale = float(np.sqrt(np.sum(a * a) * np.sum(b * b)))
    return float(np.sum(a * b)) / scale if scale > 0 else 0.0
