"""A query: a clip, what it is recognised with, and what several steps need of it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import soxr

from fingerprint.recognition.cohort import level
from fingerprint.recognition.reference import Model, Reference
from fingerprint.recognition.verification import Null, Template, null_of, template_of
from fingerprint.search import SearchConfig
from fingerprint.types import Candidate, Clip, Fingerprint, Level, Outline


def at_speed(clip: Clip, rate: float) -> Clip:
    """The clip played `rate` times as fast, like a tape: tempo and pitch change together."""
    if rate == 1:
        return clip
    if isinstance(clip, Outline):
        return clip.at_speed(1 / rate)
    samples = soxr.resample(clip.samples, rate, 1.0, quality="HQ")
    return Clip(samples, clip.sample_rate)


@dataclass(frozen=True, eq=False)
class Query:
    """A clip, its dense embeddings `rows`, and what it is recognised with.

    What several steps of recognition need is computed once.
    """

    clip: Clip
    rows: Fingerprint
    model: Model
    reference: Reference
    config: SearchConfig

    @cached_property
    def level(self) -> Level:
        """Mean and spread of the query's scores in the cohort of the reference."""
        return level(self.reference.cohort, self.rows, hop=self.reference.hop)

    @cached_property
    def null(self) -> Null:
        """How well random peaks of the reference fit; that hardly depends on the query's speed."""
        return null_of(self.template(1.0), self.reference)

    def share_inside(self, candidate: Candidate) -> float:
        """The share of the clip, 0 to 1, that is within the candidate's track by its line."""
        first, last = self.reference.rows.starts[candidate.track : candidate.track + 2]
        end = (last - first - 1) * self.reference.hop + self.model.window
        length = candidate.rate * self.clip.duration
        inside = min(candidate.offset + length, end) - max(candidate.offset, 0.0)
        return float(np.clip(inside / length, 0, 1))

    def near(self, speed: float) -> float:
        """The speed itself; of an outline, the nearest speed that it was made with."""
        if not isinstance(self.clip, Outline):
            return speed
        return min((1.0, *self.clip.others), key=lambda one: abs(one - speed))

    def template(self, speed: float) -> Template:
        """The spectrogram, with the change of speed undone, in which peaks are looked up."""
        if speed not in self._templates:
            self._templates[speed] = template_of(at_speed(self.clip, 1 / speed))
        return self._templates[speed]

    @cached_property
    def _templates(self) -> dict[float, Template]:
        return {}
