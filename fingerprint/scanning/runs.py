"""Sightings of a track, stretch after stretch, to runs of it along one line. Pure NumPy.

A track that plays on is found in every stretch at a place that moves along with time; a mistake is
not. So sightings that continue each other speak for each other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fingerprint.scanning.extent import Line
from fingerprint.types import Match

TOLERANCE = 0.4  # s between where a line says that the track is and where it is found
DRIFT = 0.03  # share of the time since; what is left of the error of a rate
PATIENCE = 3  # stretches in which a track may go unheard before its run has ended
SURER = 0.5  # weight of a sighting after the first: stretches overlap by half


@dataclass(frozen=True, slots=True)
class Sighting:
    """The track of `match` in the stretch around the moment `at` (s), `place` s into the track.

    `others` (s) are places that sound the same: it may be any of them.
    """

    stretch: int  # number
    at: float  # s
    place: float  # s
    match: Match
    others: tuple[float, ...] = ()


@dataclass(slots=True, eq=False)
class Run:
    """Consecutive sightings of one track along one line.

    `told`: whether it has been announced; `start` (s): where it begins, once that is settled.
    """

    sightings: list[Sighting] = field(default_factory=list)
    told: bool = False
    start: float | None = None

    @property
    def first(self) -> Sighting:
        return self.sightings[0]

    @property
    def last(self) -> Sighting:
        return self.sightings[-1]

    @property
    def confidence(self) -> float:
        """That the track plays, 0..1: the doubts that each sighting leaves, multiplied."""
        weights = np.full(len(self.sightings), SURER)
        weights[int(np.argmax([s.match.confidence for s in self.sightings]))] = 1.0
        doubt = [max(1 - s.match.confidence, 1e-6) for s in self.sightings]
        return float(1 - np.prod(np.power(doubt, weights)))

    def line(self) -> Line:
        """The line through the sightings.

        The rate is the median of those between pairs of sightings (Theil 1950, Sen 1968), which
        a third of strays do not move; of a short run, that of its surest sighting.
        """
        at = np.array([s.at for s in self.sightings])
        place = np.array([s.place for s in self.sightings])
        surest = max(self.sightings, key=lambda s: s.match.confidence)
        rate = surest.match.rate
        if len(at) >= PATIENCE:
            first, second = np.triu_indices(len(at), 1)
            slope = (place[second] - place[first]) / (at[second] - at[first])
            measured = float(np.median(slope))
            # A plain rate stands unless the line leaves it by more than its places' grid.
            rate = rate if abs(measured - rate) * (at[-1] - at[0]) < TOLERANCE / 2 else measured
        return Line(float(np.median(place - rate * at)), rate)

    def continued_by(self, sighting: Sighting) -> Sighting | None:
        """The sighting at the place where this run says that the track must be, or None."""
        last = self.last
        if sighting.match.track.path != last.match.track.path:
            return None
        passed = sighting.at - last.at
        expected = last.place + last.match.rate * passed
        place = min((sighting.place, *sighting.others), key=lambda place: abs(place - expected))
        if abs(place - expected) > TOLERANCE + DRIFT * passed:
            return None
        return replace(sighting, place=place)


class Runs:
    """The runs that are going on."""

    def __init__(self) -> None:
        self.open: list[Run] = []

    def see(self, stretch: int, sightings: Iterable[Sighting]) -> Sequence[Run]:
        """Take what was found in a stretch; returns the runs that have ended by now."""
        for sighting in sightings:
            known = [(run, same) for run in self.open if (same := run.continued_by(sighting))]
            if known:
                run, same = max(known, key=lambda pair: len(pair[0].sightings))
                run.sightings.append(same)
            else:
                self.open.append(Run([sighting]))
        ended = [run for run in self.open if run.last.stretch < stretch - PATIENCE]
        self.open = [run for run in self.open if run not in ended]
        return ended

    def close(self) -> Sequence[Run]:
        """Every run that is left, at the end of the recording."""
        ended, self.open = self.open, []
        return ended
