"""How alike is a query to music that it is not from? Pure NumPy.

A query of little substance resembles everything a little, a dense one hardly anything. So a score
is worth what it stands out from: how the same query scores at random places of the library, a
cohort of impostors, as in speaker verification (Auckenthaler et al., "Score normalization for
text-independent speaker verification systems", Digital Signal Processing 2000).
"""

import numpy as np

from fingerprint.recognition.alignment import StoredTracks, weights_of
from fingerprint.types import Fingerprint, Floats, Level

PASSAGE = 64  # rows that stay together, about 16 s
PASSAGES = 128  # at most: more do not make the level any more exact
SEED = 0


def sample(stored: StoredTracks) -> Floats:
    """Passages from all over a library, one after the other: (R, D).

    The same library gives the same rows. A small one gives all that it has.
    """
    starts = stored.rows.starts
    total = int(starts[-1]) if len(starts) else 0
    if not total:
        return np.zeros((0, 1), np.float32)
    if total <= PASSAGES * PASSAGE:
        return stored.vectors(np.arange(total))
    # One from each of as many equal parts, so that they never overlap.
    parts = np.linspace(0, total, PASSAGES + 1)
    room = np.diff(parts) - PASSAGE
    begins = parts[:-1] + np.random.default_rng(SEED).random(PASSAGES) * np.maximum(room, 0)
    numbers = begins.astype(np.int64)[:, None] + np.arange(PASSAGE)
    return stored.vectors(numbers.ravel())


def level(background: Floats, query: Fingerprint, *, hop: float) -> Level:
    """Of a query against passages (R, D) of which a row is `hop` seconds long.

    The score at a place is that of the matcher at rate 1: the weighted mean cosine of the query's
    windows, `hop` apart, with consecutive rows. Where the query is longer than half the background,
    only its first windows count.
    """
    step = max(1, round(hop / query.hop))
    weights = weights_of(query)[::step]
    (heard,) = np.nonzero(weights)
    heard = heard[: max(1, len(background) // 2)]
    windows, weights = query.vectors[::step][heard], weights[heard]
    if not len(windows) or not len(background):
        return Level(0.0, 0.0)
    cosines = background @ windows.T  # (R, M)
    places = len(background) - len(windows) + 1
    total = np.zeros(places)
    for i in range(len(windows)):
        total += weights[i] * cosines[i : i + places, i]
    scores = total / weights.sum()
    return Level(float(scores.mean()), float(scores.std()))
