"""Scan a recording of any length, clip by clip, for everything that plays in it.

Overlapping stretches are recognised one by one; the matches are joined to runs of one track along a
line (`runs`); the cosines along that line show where a run begins and ends (`extent`). Memory is
bounded: only the embeddings of the last minutes are kept.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from fingerprint.audio.confined import stream_clip
from fingerprint.scanning.extent import Extent, extent
from fingerprint.scanning.runs import Run, Runs, Sighting
from fingerprint.scanning.spans import Heard, Span, Weighed, visible, with_gaps
from fingerprint.search import SearchConfig
from fingerprint.types import Clip, Fingerprint, Floats, Match

if TYPE_CHECKING:
    from fingerprint.library.library import Library

STEP_ROWS = 20  # library rows from one stretch to the next, about 5 s
STRETCH_STEPS = 2  # length of a stretch in steps
CANDIDATES = 3  # matches of a stretch; in a cross-fade two of them are right
FAINTEST = 0.01  # confidence from which a match can be part of a run
BACK = 60.0  # s before its first sighting in which a track's start is searched
SETTLED = 120.0  # s after the first sighting of a run at which its start is final
SHORTEST = 2.0  # s of a span; a shorter one holds hardly more than one window
BLOCK = 10.0  # s of a file decoded at a time
KEPT = 600.0  # s of a stream whose embeddings are kept


class Scanner:
    """Takes consecutive clips and returns events: which tracks play, and from when to when.

    `feed` returns the events that a clip makes certain: `Heard` as soon as a track is recognised,
    and a `Span` when it has ended. Spans come in the order of their starts. `close` returns the
    rest. Gaps are left out; `with_gaps` fills them.

    >>> scanner = Scanner(library)
    >>> events = scanner.feed(recording) + scanner.close()
    >>> [event.match.track.path.name for event in events if isinstance(event, Span)]
    ['song0.wav', 'song3.mp3']
    """

    def __init__(self, library: "Library", *, min_confidence: float | None = None) -> None:
        self.library = library
        self.position = 0.0  # s of audio fed so far
        default = SearchConfig().min_confidence
        self._least = default if min_confidence is None else min_confidence
        self._rate = library.model.sample_rate
        self._step = round(STEP_ROWS * library.model.hop * self._rate)  # samples
        self._pending = np.zeros(0, np.float32)
        self._stretch = 0
        self._runs = Runs()
        self._recent = Recent()
        self._ended: list[Weighed] = []

    def feed(self, clip: Clip) -> list[Heard | Span]:
        """Take the next clip, of any length, at the model's sample rate."""
        if clip.sample_rate != self._rate:
            raise ValueError(f"need a clip at {self._rate} Hz, got {clip.sample_rate} Hz")
        self._pending = np.concatenate([self._pending, clip.samples])
        self.position += clip.duration
        events: list[Heard | Span] = []
        while len(self._pending) >= STRETCH_STEPS * self._step:
            events += self._take(Clip(self._pending[: STRETCH_STEPS * self._step], self._rate))
            self._pending = self._pending[self._step :]
            self._stretch += 1
        return events

    def close(self) -> list[Heard | Span]:
        """End the recording; returns the remaining events."""
        events: list[Heard | Span] = []
        if len(self._pending):
            events += self._take(Clip(self._pending, self._rate))
        for run in self._runs.close():
            self._end(run)
        return [*events, *self._released()]

    def _take(self, clip: Clip) -> list[Heard | Span]:
        ended = self._runs.see(self._stretch, self._sightings(clip))
        heard = [event for run in self._runs.open if (event := self._news_of(run)) is not None]
        for run in ended:
            self._end(run)
        return [*heard, *self._released()]

    def _sightings(self, clip: Clip) -> list[Sighting]:
        """The matches of a stretch; other speeds are tried on non-overlapping stretches only."""
        begin = self._stretch * self._step / self._rate
        result = self.library.recognise(
            clip,
            top=CANDIDATES,
            speeds="in doubt" if self._stretch % STRETCH_STEPS == 0 else "as it is",
        )
        if result.query is not None:
            self._recent.add(result.query, begin)
        middle = begin + clip.duration / 2
        return [
            self._sighting(match, middle, match.rate * clip.duration / 2)
            for match in result.at_least(FAINTEST)
        ]

    def _sighting(self, match: Match, at: float, half: float) -> Sighting:
        """A sighting at the middle of a stretch, `half` (s of the track) after its beginning."""
        others = tuple(offset + half for offset in match.repeats)
        return Sighting(self._stretch, at, match.offset + half, match, others)

    def _news_of(self, run: Run) -> Heard | None:
        if run.confidence < self._least:
            return None
        if run.start is None and run.last.at - run.first.at > SETTLED:
            found = self._extent(run)
            run.start = found.start if found else run.first.at
        if run.reported:
            return None
        run.reported = True
        return Heard(run.last.at, self._match(run, run.last.at))

    def _end(self, run: Run) -> None:
        found = self._extent(run) if run.confidence >= self._least else None
        if found is None:
            return
        start = found.start if run.start is None else run.start
        # Windows reach beyond the recording and the track; neither has anything there.
        line = run.line()
        start = max(0.0, -line.place / line.rate, start)
        end = min(self.position, found.end)
        if length := run.last.match.track.duration:  # a library on a server does not say
            end = min(end, (length - line.place) / line.rate)
        if end - start >= SHORTEST:
            span = Span(start, end, self._match(run, start))
            self._ended.append(Weighed(span, found.clearness * span.duration))

    def _match(self, run: Run, at: float) -> Match:
        """The run's match, with the offset at the moment `at` (s)."""
        line = run.line()
        surest = max((s.match for s in run.sightings), key=lambda match: match.confidence)
        place = line.place + line.rate * at
        return replace(surest, offset=place, rate=line.rate, confidence=run.confidence)

    def _extent(self, run: Run) -> Extent | None:
        window = self.library.model.window
        track = self.library.fingerprint(run.last.match.track)
        if track is None:  # it has been removed
            return None
        return extent(
            self._recent.fingerprint(),
            track,
            run.line(),
            window=window,
            sure=(run.first.at - window, run.last.at + window),
            earliest=run.first.at - BACK,
        )

    def _released(self) -> list[Span]:
        """Ended spans that no open run can precede or cover, in order."""
        going_on = [run for run in self._runs.open if run.confidence >= self._least]
        horizon = min((run.first.at - BACK for run in going_on), default=np.inf)
        ready = [one for one in self._ended if one.span.end <= horizon]
        self._ended = [one for one in self._ended if one.span.end > horizon]
        return visible(ready)


def scan(
    source: Path | BinaryIO,
    library: "Library",
    *,
    name: str | None = None,
    min_confidence: float | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
    blocks: Iterable[Clip] | None = None,
) -> Iterator[Span]:
    """Name everything that plays in a recording of any length, and the gaps between.

    `on_progress` gets the seconds scanned so far; `name` stands for the source in errors. `blocks`
    are the decoded clips of the recording, if the caller decodes it.

    >>> for span in scan(path, library):
    ...     print(round(span.start), round(span.end), span.match.track.path.name)
    0 20 song0.wav
    20 40 song3.mp3

    Raises:
        AudioError: the file cannot be read.
    """
    scanner = Scanner(library, min_confidence=min_confidence)
    rate = library.model.sample_rate

    def events() -> Iterator[Heard | Span]:
        decoded = stream_clip(source, rate, block=BLOCK, name=name) if blocks is None else blocks
        for block in decoded:
            yield from scanner.feed(block)
            on_progress(scanner.position)
        yield from scanner.close()

    spans = (event for event in events() if isinstance(event, Span))
    return with_gaps(spans, until=lambda: scanner.position)


class Recent:
    """Dense embeddings of the last `KEPT` seconds on one even grid; zeros where none were added."""

    def __init__(self) -> None:
        self._hop = 1.0  # s
        self._first = 0  # number of the first row kept, from the beginning of the stream
        self._rows: Floats = np.zeros((0, 0), np.float32)

    def fingerprint(self) -> Fingerprint:
        """The rows kept; `start` is in the stream's time."""
        return Fingerprint(self._rows, self._hop, self._first * self._hop)

    def add(self, query: Fingerprint, begin: float) -> None:
        """Add the rows of a stretch that begins at `begin` (s); it may overlap the one before.

        Where two stretches overlap, each keeps the rows farther from its edge, which were computed
        with more of their surroundings.
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
