"""Chromaprint: raw sub-fingerprints by the program `fpcalc`, found again by sliding bit errors.

An answer is sure up to a bit error rate of 0.35, the threshold of Haitsma and Kalker (2002).
"""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .protocol import Best, serve, whole

Codes = NDArray[np.uint32]  # one sub-fingerprint a frame, (frames,)
BITS = 32  # of a sub-fingerprint
TOO_SHORT = "Empty fingerprint"  # fpcalc's message for less than about 2.7 s


@dataclass(frozen=True, slots=True)
class Alignment:
    """A query of which `errors` (0..1) of the bits differ from track `track`, `frame` frames in."""

    track: int
    frame: int
    errors: float


class Chromaprint:
    """Every track's sub-fingerprints end to end."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._path = folder / "codes.npz"
        self._most_errors = float(settings["most_bit_errors"])
        self._names: list[str] = []
        self._tracks: list[Codes] = []
        if self._path.exists():
            saved = np.load(self._path)
            self._names = saved["names"].tolist()
            self._tracks = np.split(saved["codes"], saved["starts"][1:-1])
        self._flatten()

    def _flatten(self) -> None:
        self._codes = np.concatenate([np.zeros(0, np.uint32), *self._tracks])
        self._starts = np.cumsum([0, *map(len, self._tracks)])

    def add(self, name: str, wav: Path) -> None:
        if name not in self._names:
            self._names.append(name)
            self._tracks.append(calculate(wav))

    def save(self) -> None:
        self._flatten()
        with whole(self._path) as draft:
            np.savez(draft, names=self._names, codes=self._codes, starts=self._starts)

    def identify(self, wav: Path) -> Best | None:
        found = best_alignment(calculate(wav), self._codes, self._starts)
        if found is None:
            return None
        sure = found.errors <= self._most_errors
        return Best(self._names[found.track], 1 - found.errors, sure)


def calculate(wav: Path) -> Codes:
    """The sub-fingerprints of a file, about eight a second; none of a sound that is too short.

    Raises:
        OSError: the file cannot be read.
    """
    command = ["fpcalc", "-raw", "-plain", "-length", "0", str(wav)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # Some builds call the end of every file an error, after they have read all of it.
    if not done.stdout and TOO_SHORT not in done.stderr:
        raise OSError(done.stderr.strip())
    return np.array([int(code) for code in done.stdout.split(",") if code.strip()], np.uint32)


def best_alignment(query: Codes, codes: Codes, starts: NDArray[np.int64]) -> Alignment | None:
    """The place with the fewest differing bits, of all where the whole query fits in one track.

    Track i is `codes[starts[i]:starts[i + 1]]`. None if the query is empty or fits nowhere.
    Chromaprint's own service aligns whole recordings; sliding a snippet over every frame and
    taking the least bit error rate is the search of Haitsma and Kalker (2002), without an index.
    """
    shifts = len(codes) - len(query) + 1
    if not len(query) or shifts < 1:
        return None
    errors = np.zeros(shifts, np.int64)
    for i, code in enumerate(query):
        errors += np.bitwise_count(codes[i : i + shifts] ^ code)
    first = np.arange(shifts)
    track = np.searchsorted(starts, first, side="right") - 1  # the last of those that start there
    whole = first + len(query) <= starts[track + 1]
    if not whole.any():
        return None
    best = int(np.argmin(np.where(whole, errors, BITS * len(query) + 1)))
    found = int(track[best])
    return Alignment(found, best - int(starts[found]), int(errors[best]) / (BITS * len(query)))


if __name__ == "__main__":
    serve(Chromaprint)
