"""What a scan says: which stretch of the recording is which track. Plain records."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from fingerprint.types import Match

LEAST_GAP = 1.0  # s; shorter gaps between tracks are not worth a line
HIDDEN = 0.5  # share of a span; one that others cover so far is an echo of theirs


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` to `end` (s into the recording) plays `match`, or nothing that is known (None).

    The match's `offset` is the second of the track that plays at `start`. Spans of tracks overlap
    where one is faded into the next.
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
    """At the moment `at` (s) it has become sure that `match` plays; its `offset` is for `at`."""

    at: float  # s
    match: Match


@dataclass(frozen=True, slots=True)
class Weighed:
    """A span and how much speaks for it: seconds times cosine above strangers."""

    span: Span
    weight: float


def visible(spans: Iterable[Weighed]) -> list[Span]:
    """Spans that weightier ones do not cover, in the order of their starts."""
    kept: list[Span] = []
    for span in (one.span for one in sorted(spans, key=lambda one: -one.weight)):
        covered = sum(max(0.0, min(span.end, k.end) - max(span.start, k.start)) for k in kept)
        if covered <= HIDDEN * span.duration:
            kept.append(span)
    return sorted(kept, key=lambda span: span.start)


def with_gaps(spans: Iterable[Span], *, until: Callable[[], float]) -> Iterator[Span]:
    """Spans in the order of their starts, and between them what is unknown.

    `until` tells, after the last span, where the recording ends (s).
    """
    reached = 0.0
    for span in spans:
        if span.start - reached >= LEAST_GAP:
            yield Span(reached, span.start, None)
        yield span
        reached = max(reached, span.end)
    if until() - reached >= LEAST_GAP:
        yield Span(reached, until(), None)
