"""Join matches of consecutive stretches (sightings) to runs of one track along a line. Pure NumPy.

A track that keeps playing is found in every stretch, at an offset that advances with time; a wrong
match seldom is. So a sighting that continues another one raises the confidence.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fingerprint.scanning.extent import Line
from fingerprint.types import Match

TOLERANCE = 0.4  # s between the offset that a line predicts and that of a sighting
DRIFT = 0.03  # added to it for each second since the last sighting: the error of a rate
PATIENCE = 3  # stretches without a sighting after which a run has ended
SURER = 0.5  # weight of the second surest sighting: stretches overlap by half


@dataclass(frozen=True, slots=True)
class Sighting:
    """A match in the stretch around the moment `at` (s), at `place` (s) of its track.

    `others` (s) are repeats: places of the track that sound the same, any of which may play.
    """

    stretch: int  # number
    at: float  # s
    place: float  # s
    match: Match
    others: tuple[float, ...] = ()


@dataclass(slots=True, eq=False)
class Run:
    """Consecutive sightings of one track along one line.

    `reported`: whether its `Heard` event was returned; `start` (s): where it begins, once final.
    """

    sightings: list[Sighting] = field(default_factory=list)
    reported: bool = False
    start: float | None = None

    @property
    def first(self) -> Sighting:
        return self.sightings[0]

    @property
    def last(self) -> Sighting:
        return self.sightings[-1]

    @property
    def confidence(self) -> float:
        """Confidence that the track plays, 0..1: 1 less the product of the two least doubts.

        More sightings prove no more: a song that resembles a track resembles it throughout.
        """
        least, *others = sorted(max(1 - s.match.confidence, 1e-6) for s in self.sightings)
        return float(1 - least * (others[0] ** SURER if others else 1.0))

    def line(self) -> Line:
        """The line through the sightings.

        The rate is the median over pairs of sightings (Theil 1950, Sen 1968), robust against up to
        a third of outliers; for a short run, it is the rate of its surest sighting.
        """
        at = np.array([s.at for s in self.sightings])
        place = np.array([s.place for s in self.sightings])
        surest = max(self.sightings, key=lambda s: s.match.confidence)
        rate = surest.match.rate
        if len(at) >= PATIENCE:
            first, second = np.triu_indices(len(at), 1)
            slope = (place[second] - place[first]) / (at[second] - at[first])
            measured = float(np.median(slope))
            # The match's own rate is kept unless the line differs by more than the offsets' error.
            rate = rate if abs(measured - rate) * (at[-1] - at[0]) < TOLERANCE / 2 else measured
        return Line(float(np.median(place - rate * at)), rate)

    def continued_by(self, sighting: Sighting) -> Sighting | None:
        """The sighting, at whichever of its places this run predicts; None if at none of them."""
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
    """The runs that have not ended."""

    def __init__(self) -> None:
        self.open: list[Run] = []

    def see(self, stretch: int, sightings: Iterable[Sighting]) -> Sequence[Run]:
        """Add the sightings of a stretch; returns the runs that have ended."""
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
        """End the recording; returns all open runs."""
        ended, self.open = self.open, []
        return ended
