"""A recording of any length, clip by clip, to what plays in it, in memory that stays flat.

Overlapping stretches are asked for one by one; what is found in them is joined to runs of a track
along a line (`runs`); and where a run begins and ends is read off the cosines along that line
(`extent`). The fingerprints of the last minutes are all that is kept.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from fingerprint.audio.decode import stream_clip
from fingerprint.config import SearchConfig
from fingerprint.scanning.extent import Extent, extent
from fingerprint.scanning.recent import Recent
from fingerprint.scanning.runs import Run, Runs, Sighting
from fingerprint.scanning.spans import Heard, Span, Weighed, visible, with_gaps
from fingerprint.types import Clip, Match

if TYPE_CHECKING:
    from fingerprint.library.library import Library

STEP_ROWS = 20  # library rows from a stretch to the next, about 5 s
ASKED = 2  # steps that a stretch is long
CANDIDATES = 3  # of a stretch; in a cross-fade two of them are right
FAINTEST = 0.01  # confidence from which a candidate can be part of a run
BACK = 60.0  # s before its first sighting in which a track's start is looked for
SETTLED = 120.0  # s from the first sighting of a run until its start is settled
SHORTEST = 2.0  # s; a shorter span holds hardly more than one window
BLOCK = 10.0  # s of a file that are decoded at a time


class Scanner:
    """Takes consecutive clips and tells what it has become sure of.

    `feed` returns what has become certain with a clip: `Heard` as soon as a track is recognised,
    and a `Span` when it has ended. Spans come in the order of their starts. `close` returns the
    rest. Gaps are left out; `with_gaps` fills them.

    >>> scanner = Scanner(library)
    >>> events = scanner.feed(recording) + scanner.close()
    >>> [event.match.track.path.name for event in events if isinstance(event, Span)]
    ['song0.wav', 'song3.mp3']
    """

    def __init__(self, library: "Library", *, min_confidence: float | None = None) -> None:
        self.library = library
        self.position = 0.0  # s that have been taken in
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
        while len(self._pending) >= ASKED * self._step:
            events += self._take(Clip(self._pending[: ASKED * self._step], self._rate))
            self._pending = self._pending[self._step :]
            self._stretch += 1
        return events

    def close(self) -> list[Heard | Span]:
        """The recording has ended: what is left to tell."""
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
        """What is found in a stretch. At other speeds, only every stretch that is all new."""
        begin = self._stretch * self._step / self._rate
        result = self.library.recognise(
            clip,
            top=CANDIDATES,
            speeds="in doubt" if self._stretch % ASKED == 0 else "as it is",
        )
        if result.query is not None:
            self._recent.add(result.query, begin)
        middle = begin + clip.duration / 2
        return [
            self._sighting(match, middle, match.rate * clip.duration / 2)
            for match in result.at_least(FAINTEST)
        ]

    def _sighting(self, match: Match, at: float, half: float) -> Sighting:
        """In the middle of a stretch, `half` (s of the track) after its beginning."""
        others = tuple(offset + half for offset in match.repeats)
        return Sighting(self._stretch, at, match.offset + half, match, others)

    def _news_of(self, run: Run) -> Heard | None:
        if run.confidence < self._least:
            return None
        if run.start is None and run.last.at - run.first.at > SETTLED:
            found = self._extent(run)
            run.start = found.start if found else run.first.at
        if run.told:
            return None
        run.told = True
        return Heard(run.last.at, self._match(run, run.last.at))

    def _end(self, run: Run) -> None:
        found = self._extent(run) if run.confidence >= self._least else None
        if found is None:
            return
        start = found.start if run.start is None else run.start
        if found.end - start >= SHORTEST:
            span = Span(start, found.end, self._match(run, start))
            self._ended.append(Weighed(span, found.clearness * span.duration))

    def _match(self, run: Run, at: float) -> Match:
        """The match as of the moment `at` (s)."""
        line = run.line()
        surest = max((s.match for s in run.sightings), key=lambda match: match.confidence)
        place = line.place + line.rate * at
        return replace(surest, offset=place, rate=line.rate, confidence=run.confidence)

    def _extent(self, run: Run) -> Extent | None:
        window = self.library.model.window
        track = self.library.fingerprint(run.last.match.track)
        if track is None:  # removed meanwhile
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
        """Spans that nothing still going on can come before or hide, in order."""
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
) -> Iterator[Span]:
    """Name everything that plays in a recording of any length, and the gaps between.

    `on_progress` is told the second that has been reached; `name` stands for the source in errors.

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
        for block in stream_clip(source, rate, block=BLOCK, name=name):
            yield from scanner.feed(block)
            on_progress(scanner.position)
        yield from scanner.close()

    spans = (event for event in events() if isinstance(event, Span))
    return with_gaps(spans, until=lambda: scanner.position)
