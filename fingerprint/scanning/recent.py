"""The fingerprints of the last minutes of a stream, on one even grid. Pure NumPy."""

import numpy as np

from fingerprint.types import Fingerprint, Floats

KEPT = 600.0  # s


class Recent:
    """Dense rows of what has been heard lately; rows of zeros where nothing was given."""

    def __init__(self) -> None:
        self._hop = 1.0  # s
        self._first = 0  # number of the first row that is kept, from the beginning of the stream
        self._rows: Floats = np.zeros((0, 0), np.float32)

    def fingerprint(self) -> Fingerprint:
        """What is kept; its `start` is in the stream's time."""
        return Fingerprint(self._rows, self._hop, self._first * self._hop)

    def add(self, query: Fingerprint, begin: float) -> None:
        """Take the rows of a stretch that begins at `begin` (s); it may overlap the one before.

        Where two stretches overlap, each keeps the rows that are farther from its edge, for those
        have heard more of what is around them.
        """
        if not len(self._rows):
            self._hop = query.hop
            self._first = round((begin + query.start) / query.hop)
            self._rows = query.vectors
            return
        at = round((begin + query.start) / self._hop) - self._first
        shared = max(0, len(self._rows) - at)  # rows that both have
        at += shared // 2
        kept = self._rows[:at]
        gap = np.zeros((at - len(kept), kept.shape[1]), np.float32)
        rows = np.concatenate([kept, gap, query.vectors[shared // 2 :]])
        excess = max(0, len(rows) - round(KEPT / self._hop))
        self._rows, self._first = rows[excess:], self._first + excess
