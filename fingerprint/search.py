"""How a query is searched for: part of the code, not of a model.

Plain records, unlike those of `config`: a command needs the threshold before anything else, and to
import pydantic takes as long as to answer a query.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Effort:
    """The effort of one search for a query."""

    windows: int  # query windows searched, at most; scores use all windows
    nodes: int  # index nodes inspected, shared by the windows
    candidates: int  # (track, offset) pairs scored


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """The effort of each search, what is tried, and when an answer is given."""

    at_first: Effort = Effort(windows=8, nodes=30_000, candidates=20)
    in_doubt: Effort = Effort(windows=32, nodes=100_000, candidates=50)
    landmarks: int = 150  # candidates taken from landmarks when in doubt
    at_other_speeds: Effort = Effort(windows=6, nodes=8_000, candidates=10)  # at each of them
    neighbours: int = 20  # hits per query window
    rates: tuple[float, float] = (0.8, 1.2)  # speeds tried when the best candidates are refined
    semitones: tuple[float, ...] = (-2.0, -1.0, 1.0, 2.0)  # changes of speed undone when in doubt
    far_semitones: tuple[float, ...] = (-5.5, -4.25, -3.0, 3.0, 4.25)  # when still in doubt
    far_rates: tuple[float, float] = (0.53, 1.47)  # tempos tried when still in doubt
    handicap: float = 0.05  # taken off the score of candidates at another speed
    min_confidence: float = 0.98  # below it the answer is "not in the library"
