"""A made-up recording through the scanner: what plays, from when to when, in flat memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from library_world import RATE, Toy, add, song, stocked

from fingerprint.library.library import Library
from fingerprint.scanning import Heard, Scanner, Span, scan
from fingerprint.types import Clip, Floats

LENGTH = 55.0  # s of the songs in the library


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with stocked(tmp_path_factory.mktemp("library"), range(8), seconds=LENGTH) as opened:
        yield opened


def part(seed: int, start: float, seconds: float) -> Floats:
    return song(seed, LENGTH)[round(start * RATE) : round((start + seconds) * RATE)]


def hiss(seconds: float) -> Floats:
    """Noise that gusts, so that it is not refused as steady."""
    rng = np.random.default_rng(3)
    noise = 0.1 * rng.standard_normal(round(seconds * RATE))
    gusts = 1.2 + np.sin(2 * np.pi * np.arange(len(noise)) / RATE / 0.7)
    return (noise * gusts).astype(np.float32)


def programme() -> Floats:
    """20 s of hiss, 40 s of song 3, 5 s of cross-fade, 35 s of song 7, silence, an unknown song."""
    fade = np.linspace(0, 1, 5 * RATE, dtype=np.float32)
    first, second = part(3, 10, 45), part(7, 2, 40)
    first[-5 * RATE :] *= np.sqrt(1 - fade)
    second[: 5 * RATE] *= np.sqrt(fade)
    both = first[-5 * RATE :] + second[: 5 * RATE]
    quiet = np.zeros(15 * RATE, np.float32)
    unknown = song(99, 30.0)
    return np.concatenate([hiss(20), first[: -5 * RATE], both, second[5 * RATE :], quiet, unknown])


def names(spans: list[Span]) -> list[str]:
    return [span.match.track.path.stem if span.match else "?" for span in spans]


def test_a_scan_names_what_plays_and_when(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "programme.wav"
    soundfile.write(path, programme(), RATE)
    reached: list[float] = []
    spans = list(scan(path, library, on_progress=reached.append))
    assert names(spans) == ["?", "0003", "0007", "?"]
    first, second = spans[1], spans[2]
    assert first.start == pytest.approx(20, abs=1)
    assert first.end == pytest.approx(62.5, abs=2.5)
    assert second.start == pytest.approx(62.5, abs=2.5)
    assert second.end == pytest.approx(100, abs=1)
    assert first.match is not None
    assert second.match is not None
    assert first.match.offset - first.start == pytest.approx(10 - 20, abs=0.1)
    assert second.match.offset - second.start == pytest.approx(2 - 60, abs=0.1)
    assert first.match.rate == second.match.rate == 1.0
    assert spans[-1].end == pytest.approx(145, abs=0.1)
    assert reached[-1] == pytest.approx(145, abs=0.1)


@pytest.mark.parametrize("before", [0.0, 7.3])
def test_spans_lie_inside_the_recording_and_the_track(
    library: Library, before: float, tmp_path: Path
) -> None:
    """Spans began before the recording, or before the track, by the reach of a window."""
    path = tmp_path / "whole.wav"
    recording = np.concatenate([hiss(before), song(3, LENGTH), hiss(before)])
    soundfile.write(path, recording, RATE)
    (span,) = (one for one in scan(path, library) if one.match)
    assert span.match is not None
    assert span.start >= 0
    assert span.end <= len(recording) / RATE
    assert span.match.offset >= -1e-9
    assert span.match.offset + span.match.rate * span.duration <= LENGTH + 1e-9
    assert (span.start, span.end) == pytest.approx((before, before + LENGTH), abs=1)


def test_the_size_of_the_blocks_does_not_matter(library: Library) -> None:
    samples = programme()[15 * RATE : 40 * RATE]

    def spans(block: int) -> list[tuple[float, float]]:
        scanner = Scanner(library)
        events = [
            event
            for begin in range(0, len(samples), block)
            for event in scanner.feed(Clip(samples[begin : begin + block], RATE))
        ]
        events += scanner.close()
        return [(e.start, e.end) for e in events if isinstance(e, Span)]

    assert spans(len(samples)) == spans(3_333)


def test_a_track_is_announced_while_it_plays(library: Library) -> None:
    scanner, sound = Scanner(library), part(5, 3, 30)
    heard = [
        (scanner.position, event)
        for begin in range(0, len(sound), RATE)
        for event in scanner.feed(Clip(sound[begin : begin + RATE], RATE))
        if isinstance(event, Heard)
    ]
    assert len(heard) == 1
    position, event = heard[0]
    assert position <= 20
    assert event.match.track.path.stem == "0005"
    assert event.match.offset == pytest.approx(3 + event.at, abs=0.1)


def test_silence_alone_has_no_spans(library: Library) -> None:
    scanner = Scanner(library)
    assert scanner.feed(Clip(np.zeros(60 * RATE, np.float32), RATE)) == []
    assert scanner.close() == []


def test_another_sample_rate_is_refused(library: Library) -> None:
    with pytest.raises(ValueError, match="44100"):
        Scanner(library).feed(Clip(np.zeros(100, np.float32), 44_100))


def test_track_removed_during_a_scan_gives_no_span(library: Library, tmp_path: Path) -> None:
    with Library.create_or_open(tmp_path / "other", Toy()) as other:
        add(other, 1, 2)
        scanner = Scanner(other)
        scanner.feed(Clip(song(1)[: 19 * RATE], RATE))
        other.remove([Path("/music/0001.wav")])
        assert not [e for e in scanner.close() if isinstance(e, Span)]
