"""The result of a scan: spans of the recording, each with its track. Plain records."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from fingerprint.types import Match

LEAST_GAP = 1.0  # s; shorter gaps between tracks are not reported
HIDDEN = 0.5  # share of a span from which spans that cover it hide it


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` to `end` (s into the recording), `match` plays; None: nothing in the library.

    The match's `offset` is the second of the track that plays at `start`. Spans overlap in a
    cross-fade.
    """

    start: float  # s
    end: float  # s
    match: Match | None

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Heard:
    """The event that `match` is recognised, at the moment `at` (s); its `offset` is for `at`."""

    at: float  # s
    match: Match


@dataclass(frozen=True, slots=True)
class Weighed:
    """A span and its weight: seconds times the cosine above that of other music."""

    span: Span
    weight: float


def visible(spans: Iterable[Weighed]) -> list[Span]:
    """Spans that spans of greater weight do not cover, in the order of their starts."""
    kept: list[Span] = []
    for span in (one.span for one in sorted(spans, key=lambda one: -one.weight)):
        covered = sum(max(0.0, min(span.end, k.end) - max(span.start, k.start)) for k in kept)
        if covered <= HIDDEN * span.duration:
            kept.append(span)
    return sorted(kept, key=lambda span: span.start)


def with_gaps(spans: Iterable[Span], *, until: Callable[[], float]) -> Iterator[Span]:
    """Spans in the order of their starts, with a span without match for each gap.

    `until` returns, after the last span, where the recording ends (s).
    """
    reached = 0.0
    for span in spans:
        if span.start - reached >= LEAST_GAP:
            yield Span(reached, span.start, None)
        yield span
        reached = max(reached, span.end)
    if until() - reached >= LEAST_GAP:
        yield Span(reached, until(), None)
