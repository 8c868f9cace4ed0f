"""Runs, extents, spans and formats: answers known by construction."""

import csv
from pathlib import Path

import numpy as np
import pytest

from fingerprint.scanning.extent import Line, best_stretch, extent
from fingerprint.scanning.formats import (
    COLUMNS,
    audacity_line,
    csv_header,
    csv_line,
    cue_sheet,
    name_of,
)
from fingerprint.scanning.runs import PATIENCE, Run, Runs, Sighting
from fingerprint.scanning.scanner import KEPT, Recent
from fingerprint.scanning.spans import Span, Weighed, visible, with_gaps
from fingerprint.types import Fingerprint, Match, Tags, Track

HOP = 0.25


def match(name: str = "a", confidence: float = 0.9, rate: float = 1.0, title: str = "") -> Match:
    track = Track(Path(f"/music/{name}.ogg"), 200.0, Tags(title=title, artist="Them"))
    return Match(track, 1.5, rate, confidence, 0.8)


def sighting(stretch: int, place: float, **more: object) -> Sighting:
    return Sighting(stretch, 5.0 * stretch, place, match(**more))  # type: ignore[arg-type]


def test_sightings_along_a_line_are_one_run_and_strays_are_others() -> None:
    runs = Runs()
    for stretch in range(6):
        stray = sighting(stretch, 50 + 17.0 * stretch, name="b", confidence=0.1)
        runs.see(stretch, [sighting(stretch, 20 + 5.0 * stretch + 0.1), stray])
    longest = max(runs.open, key=lambda run: len(run.sightings))
    assert len(longest.sightings) == 6
    assert {s.match.track.path.name for s in longest.sightings} == {"a.ogg"}
    assert longest.line().place == pytest.approx(20.1)
    assert longest.line().rate == 1.0


def test_run_continues_over_a_short_gap_and_ends_at_a_longer_one() -> None:
    runs = Runs()
    runs.see(0, [sighting(0, 10.0)])
    assert not runs.see(PATIENCE, [sighting(PATIENCE, 10.0 + 5 * PATIENCE)])
    assert len(runs.open) == 1
    ended = runs.see(2 * PATIENCE + 1, [])
    assert [len(run.sightings) for run in ended] == [2]
    assert not runs.close()


def test_the_rate_of_a_run_is_that_of_its_line_despite_a_stray() -> None:
    places = [1.03 * 5 * k + 7 for k in range(9)]
    places[4] += 0.35
    run = Run([sighting(k, place, rate=1.03) for k, place in enumerate(places)])
    assert run.line().rate == pytest.approx(1.03, abs=1e-3)
    assert run.line().place == pytest.approx(7.0, abs=0.05)


def test_sightings_raise_the_confidence_with_half_weight() -> None:
    once = Run([sighting(0, 0.0, confidence=0.5)])
    twice = Run([sighting(0, 0.0, confidence=0.5), sighting(1, 5.0, confidence=0.5)])
    assert once.confidence == pytest.approx(0.5)
    assert 0.5 < twice.confidence < 0.75


def test_a_song_that_resembles_a_track_throughout_is_not_named() -> None:
    for count in (2, 12, 60):
        run = Run([sighting(i, 5.0 * i, confidence=0.64) for i in range(count)])
        assert run.confidence == pytest.approx(1 - 0.36**1.5)


def test_the_best_stretch_is_that_of_the_largest_sum() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        gain = rng.standard_normal(30)
        anchor = int(np.argmax(gain))
        sums = {(a, b): gain[a : b + 1].sum() for a in range(anchor + 1) for b in range(anchor, 30)}
        assert best_stretch(gain, anchor) == max(sums, key=lambda key: sums[key])


@pytest.mark.parametrize("rate", [1.0, 1.05])
def test_the_extent_of_a_track_is_found_to_half_a_hop(rate: float) -> None:
    """A recording of noise vectors into which those of a track are laid from 40 to 90 s."""
    rng = np.random.default_rng(1)
    window = 2.0

    def unit(count: int) -> np.ndarray:
        vectors = rng.standard_normal((count, 32)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    track = Fingerprint(unit(600), HOP)
    recording = Fingerprint(unit(2_000), HOP / 4, 0.0)
    line = Line(place=10.0 - 40.0 * rate, rate=rate)
    middles = np.arange(2_000) * HOP / 4 + window / 2
    playing = (middles >= 40 + window / 2) & (middles < 90 - window / 2)  # whole windows
    rows = np.rint((line.place + rate * middles - window / 2) / HOP).astype(int)
    recording.vectors[playing] = 0.6 * recording.vectors[playing] + track.vectors[rows[playing]]
    recording.vectors[playing] /= np.linalg.norm(recording.vectors[playing], axis=1, keepdims=True)
    found = extent(recording, track, line, window=window, sure=(60.0, 70.0), earliest=0.0)
    assert found is not None
    assert found.start == pytest.approx(40, abs=HOP)
    assert found.end == pytest.approx(90, abs=HOP)
    assert found.clearness > 0.5
    late = extent(recording, track, line, window=window, sure=(60.0, 70.0), earliest=55.0)
    assert late is not None
    assert late.start == pytest.approx(55 - window / 2, abs=HOP)


def test_recent_rows_lie_on_one_grid_and_are_bounded() -> None:
    recent = Recent()
    step = 80
    hop = 0.0625
    total = 0
    for stretch in range(400):
        first = stretch * step
        rows = np.arange(first, first + 131, dtype=np.float32)[:, None]
        if stretch % 7 == 3:
            continue  # silence
        recent.add(Fingerprint(rows, hop), first * hop)
        total = first + 131
    kept = recent.fingerprint()
    assert len(kept.vectors) <= KEPT / hop
    numbers = round(kept.start / hop) + np.arange(len(kept.vectors))
    given = kept.vectors[:, 0] != 0
    np.testing.assert_array_equal(kept.vectors[given, 0], numbers[given])
    assert numbers[-1] == total - 1
    assert given.mean() > 0.9


def test_span_covered_by_a_heavier_one_is_hidden_but_a_cross_fade_is_kept() -> None:
    spans = [
        Weighed(Span(0, 100, match("a")), 80.0),
        Weighed(Span(95, 200, match("b")), 70.0),
        Weighed(Span(20, 60, match("c")), 10.0),
    ]
    assert [span.match and span.match.track.path.stem for span in visible(spans)] == ["a", "b"]


def test_gaps_are_filled_but_for_the_smallest() -> None:
    known = [Span(10, 20, match()), Span(20.5, 30, match()), Span(28, 40, match())]
    filled = list(with_gaps(known, until=lambda: 55.0))
    assert [(s.start, s.end) for s in filled if s.match is None] == [(0, 10), (40, 55)]
    assert [s for s in filled if s.match is not None] == known
    assert list(with_gaps([], until=lambda: 0.5)) == []


def test_csv_can_be_read_back() -> None:
    span = Span(1.25, 61.5, match(title='He said "no, no"'))
    rows = list(
        csv.reader([csv_header(), csv_line("a,b.flac", span), csv_line("x", Span(0, 1, None))])
    )
    assert tuple(rows[0]) == COLUMNS
    assert rows[1][:3] == ["a,b.flac", "1.250", "61.500"]
    assert rows[1][5] == 'He said "no, no"'
    assert rows[2] == ["x", "0.000", "1.000", "", "", "", "", "", ""]


def test_a_cue_sheet_has_times_in_frames_and_no_quotes_in_quotes() -> None:
    spans = [Span(0, 61.5, None), Span(61.5, 7_300, match(title='A "B"'))]
    lines = list(cue_sheet(Path("set.flac"), spans))
    assert lines[0] == 'FILE "set.flac" WAVE'
    assert [line.strip() for line in lines[1:4]] == [
        "TRACK 01 AUDIO", 'TITLE "unknown"', "INDEX 01 00:00:00"
    ]  # fmt: skip
    assert [line.strip() for line in lines[4:]] == [
        "TRACK 02 AUDIO", "TITLE \"A 'B'\"", 'PERFORMER "Them"', "INDEX 01 01:01:37"
    ]  # fmt: skip


def test_labels_are_three_fields() -> None:
    assert audacity_line(Span(0.5, 2, match(title="x\ty"))).split("\t") == [
        "0.500000", "2.000000", name_of(Span(0, 1, match(title="x\ty")))
    ]  # fmt: skip
    assert name_of(Span(0, 1, match("plain"))) == "plain.ogg"
