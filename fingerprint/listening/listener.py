"""Recognise a stream of clips without end: the first answer, or all tracks as they play."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Literal

import numpy as np

from fingerprint.scanning import Heard, Scanner, Span
from fingerprint.types import Clip, Match

if TYPE_CHECKING:
    from fingerprint.library.library import Library

LOOKS = (2.0, 3.0, 5.0, 7.0, 10.0)  # s of sound after which recognition is tried
LOOK_EVERY = 5.0  # s between later tries, each with the last 10 s


@dataclass(frozen=True, slots=True)
class Event:
    """A report at `at` (s of sound since the start).

    "heard": `heard` has been recognised; "played": it has ended, and `span` says from when to
    when it played; "lost": the stream has broken off.
    """

    kind: Literal["heard", "played", "lost"]
    at: float
    heard: Match | None = None
    span: Span | None = None


def first_answer(
    clips: Iterable[Clip],
    library: "Library",
    *,
    min_confidence: float | None = None,
    patience: float = 30.0,
) -> tuple[Match | None, float]:
    """The first sure match, or None, and the seconds of sound after which it was found.

    The match has the offset of that moment, as those of `listen` have.

    Queries of growing lengths are searched: clear sound is named after two seconds, doubtful sound
    after up to ten. The last query is searched when the sound ends, however short it is.

    Args:
        clips: consecutive clips at the model's sample rate.
        library: to search.
        min_confidence: of a sure match; None: the default.
        patience: s of sound after which the search is given up.

    >>> match, seconds = first_answer([snippet], library)
    >>> match.track.path.name
    'song2.ogg'
    """
    rate = library.model.sample_rate
    sound, total, looked, looks = np.zeros(0, np.float32), 0.0, 0.0, list(LOOKS)
    for clip in chain(clips, [None]):  # at the end, once more with the rest
        if clip is not None:
            sound = np.concatenate([sound, clip.samples])[-round(LOOKS[-1] * rate) :]
            total += clip.duration
            if total < looks[0] and total < patience:
                continue
            while looks[0] <= total:
                looks = looks[1:] or [looks[0] + LOOK_EVERY]
        if total > looked:
            looked = total
            part = Clip(sound, rate)
            if found := library.identify(part, top=1, min_confidence=min_confidence):
                match, passed = found[0], found[0].rate * part.duration
                repeats = tuple(one + passed for one in match.repeats)
                return replace(match, offset=match.offset + passed, repeats=repeats), total
        if total >= patience:
            break
    return None, total


def listen(
    clips: Iterable[Clip | None], library: "Library", *, min_confidence: float | None = None
) -> Iterator[Event]:
    """Report every track until the clips end; None among the clips is an interruption.

    Args:
        clips: consecutive clips at the model's sample rate.
        library: to search.
        min_confidence: of a sure match; None: the default.

    >>> for event in listen([recording], library):
    ...     track = event.heard.track if event.heard else event.span.match.track
    ...     print(event.kind, track.path.name)
    heard song0.wav
    heard song3.mp3
    played song0.wav
    played song3.mp3
    """
    past = 0.0  # s before the last break
    scanner = Scanner(library, min_confidence=min_confidence)
    for clip in clips:
        if clip is not None:
            yield from _events(scanner.feed(clip), past)
            continue
        yield from _events(scanner.close(), past)
        past += scanner.position
        yield Event("lost", past)
        scanner = Scanner(library, min_confidence=min_confidence)
    yield from _events(scanner.close(), past)


def _events(found: Iterable[Heard | Span], past: float) -> Iterator[Event]:
    for one in found:
        if isinstance(one, Heard):
            yield Event("heard", past + one.at, heard=one.match)
        else:
            shifted = Span(past + one.start, past + one.end, one.match)
            yield Event("played", shifted.end, span=shifted)
