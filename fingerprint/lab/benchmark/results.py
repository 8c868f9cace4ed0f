"""The results of one evaluation: outcomes, what they were measured on, and their figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from fingerprint.lab.benchmark.conditions import Condition
from fingerprint.lab.benchmark.metrics import (
    Bin,
    Outcome,
    Share,
    Summary,
    calibration_error,
    reliability,
    summarise,
    threshold_at,
)


@dataclass(frozen=True)
class Results:
    """The outcomes of one run, in the order of `conditions` and of the queries' numbers."""

    conditions: Sequence[Condition]
    outcomes: Sequence[Outcome]
    split: str
    seed: int
    queries: int  # a condition
    min_confidence: float
    model_id: str
    tracks: int  # in the library
    hours: float  # in the library
    seconds: float  # the run took
    recorded_noise: bool = True  # else synthesised alone, as for a corpus of one's own music
    left_out: tuple[str, ...] = ()  # conditions for which the corpus does not suffice

    @cached_property
    def by_condition(self) -> dict[str, list[Outcome]]:
        """The outcomes of each condition, by its name."""
        groups: dict[str, list[Outcome]] = {c.name: [] for c in self.conditions}
        for outcome in self.outcomes:
            groups[outcome.condition].append(outcome)
        return groups

    @cached_property
    def summaries(self) -> list[Summary]:
        groups = self.by_condition
        return [summarise(name, groups[name], self.min_confidence) for name in groups]

    @cached_property
    def known(self) -> list[Outcome]:
        """Outcomes of queries whose track is in the library."""
        unknown = self._unknown_names
        return [o for o in self.outcomes if o.condition not in unknown]

    @cached_property
    def unknown(self) -> list[Outcome]:
        unknown = self._unknown_names
        return [o for o in self.outcomes if o.condition in unknown]

    def is_unknown(self, summary: Summary) -> bool:
        return summary.condition in self._unknown_names

    @cached_property
    def false_accepts(self) -> Share:
        """Unknown queries that were answered with at least the least confidence."""
        return _accepted(self.unknown, self.min_confidence)

    @cached_property
    def threshold_1_percent(self) -> float:
        """The confidence at which at most 1 % of the unknown queries are answered."""
        return threshold_at([o.confidence for o in self.unknown], 0.01)

    @cached_property
    def right_at_1_percent(self) -> Share:
        """Known queries answered rightly at that confidence."""
        right = [o for o in self.known if o.right]
        return Share(_accepted(right, self.threshold_1_percent).hits, len(self.known))

    @cached_property
    def reliability(self) -> list[Bin]:
        return reliability(self.outcomes)

    @cached_property
    def calibration_error(self) -> float:
        """Expected calibration error over every answer, known and unknown."""
        return calibration_error(self.reliability)

    @property
    def _unknown_names(self) -> set[str]:
        return {c.name for c in self.conditions if c.unknown}


def _accepted(outcomes: Sequence[Outcome], confidence: float) -> Share:
    return Share(sum(bool(o.path) and o.confidence >= confidence for o in outcomes), len(outcomes))
