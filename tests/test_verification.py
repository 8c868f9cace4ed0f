"""Verification by peaks: queries are cut out of made-up songs, so that the truth is known."""

from collections.abc import Callable

import numpy as np
import pytest
import soxr
from library_world import RATE, busy_song, excerpt

from fingerprint.audio.peaks import BLOCK, peaks_of
from fingerprint.lab.benchmark.made_up import made_up
from fingerprint.lab.benchmark.material import WORKING_RATE
from fingerprint.recognition.query import at_speed
from fingerprint.recognition.speed import in_tune
from fingerprint.recognition.verification import (
    LEAST_NULL,
    RICH,
    Lines,
    Template,
    best_of,
    best_scores,
    cohort_of,
    fit,
    null_of,
    refined,
    richness,
    template_of,
    verify,
)
from fingerprint.types import Candidate, Clip, Doubles, Floats, Ints, PeakCodes, PeakFit, Rows

SONGS = 12
SECONDS = 20.0


class Stored:
    """The peaks of some songs."""

    block = BLOCK

    def __init__(self, codes: list[PeakCodes]) -> None:
        self.codes = codes
        self.rows = Rows(np.cumsum([0, *map(len, codes)]).astype(np.int64))
        self._codes = np.concatenate(codes)

    def peaks(self, rows: Ints) -> PeakCodes:
        return self._codes[rows]


@pytest.fixture(scope="module")
def stored() -> Stored:
    return Stored([peaks_of(Clip(busy_song(seed, SECONDS), RATE)) for seed in range(SONGS)])


def cut(track: int, start: float, seconds: float, *, snr_db: float = 0.0) -> Clip:
    return excerpt(busy_song(track, SECONDS), start, seconds, snr_db=snr_db, seed=5)


def verified(clip: Clip, places: list[Candidate], stored: Stored) -> list[PeakFit]:
    template = template_of(clip)
    return verify(template, null_of(template, stored), places, stored)


def line(stored: Stored, candidate: Candidate) -> Lines:
    first, end = stored.rows.starts[candidate.track : candidate.track + 2]
    return Lines(
        *(np.array([x]) for x in (first, end - first, candidate.offset, candidate.rate, 1.0))
    )


def test_the_right_place_fits_far_better_than_any_other(stored: Stored) -> None:
    places = [Candidate(track, 6.05, 1.0, 0.5) for track in range(SONGS)]
    places.append(Candidate(3, 11.0, 1.0, 0.5))  # another place of the right track
    fits = verified(cut(3, 6.0, 5.0, snr_db=-5), places, stored)
    scores = [found.score for found in fits]
    assert int(np.argmax(scores)) == 3
    assert scores[3] > max(score for n, score in enumerate(scores) if n != 3) + 3
    assert fits[3].sharpness > 3
    assert fits[3].shift == pytest.approx(-0.05, abs=0.02)
    assert fits[3].peaks > 100


def test_noise_fits_nothing(stored: Stored) -> None:
    samples = np.random.default_rng(1).standard_normal(5 * RATE).astype(np.float32)
    places = [Candidate(n, 4.0, 1.0, 0) for n in range(SONGS)]
    fits = verified(Clip(samples, RATE), places, stored)
    assert max(found.score for found in fits) < 4


def test_steady_tone_does_not_raise_the_score_where_it_meets_peaks(stored: Stored) -> None:
    time = np.arange(5 * RATE) / RATE
    tones = sum(np.sin(2 * np.pi * f * time) for f in (440, 880, 1_760))
    fits = fit(
        template_of(Clip(tones.astype(np.float32), RATE)),
        stored,
        line(stored, Candidate(2, 3.0, 1.0, 0)),
    )
    assert abs(float(fits.score[0])) < 2


NOTE = RATE // 10  # samples


def in_a_rhythm(sound: Callable[[np.random.Generator], Doubles]) -> Clip:
    """20 s of short sounds at irregular times, always the same ones, with silence in between."""
    samples = np.zeros(20 * RATE)
    for number, time in enumerate(np.cumsum(np.random.default_rng(3).uniform(0.25, 0.8, 24))):
        begin = round(time * RATE)
        made = sound(np.random.default_rng(number)) * np.hanning(NOTE)
        samples[begin : begin + NOTE] = 0.2 * made
    return Clip(samples.astype(np.float32), RATE)


def chord(rng: np.random.Generator) -> Doubles:
    time = np.arange(NOTE) / RATE
    return np.sin(2 * np.pi * rng.uniform(400, 1_800, (4, 1)) * time).sum(axis=0)


def burst(rng: np.random.Generator) -> Doubles:
    """Noise of the same frequencies."""
    spectrum = np.fft.rfft(rng.standard_normal(NOTE))
    frequency = np.fft.rfftfreq(NOTE, 1 / RATE)
    noise = np.fft.irfft(np.where((frequency > 400) & (frequency < 1_800), spectrum, 0), NOTE)
    return noise / noise.std()


def test_bursts_in_the_rhythm_of_a_track_do_not_fit_its_notes(stored: Stored) -> None:
    world = Stored([*stored.codes, peaks_of(in_a_rhythm(chord))])
    place = [Candidate(SONGS, 3.0, 1.0, 0.5)]
    notes, bursts = (in_a_rhythm(sound).samples[3 * RATE : 10 * RATE] for sound in (chord, burst))
    noise = np.random.default_rng(1).standard_normal(len(notes)).astype(np.float32)
    recorded = notes + noise * notes.std() / 10
    ((same,), (only_rhythm,)) = (
        verified(Clip(samples, RATE), place, world) for samples in (recorded, bursts)
    )
    assert same.score > 8
    assert only_rhythm.score < 3


def riff(_: np.random.Generator) -> Doubles:
    time = np.arange(NOTE) / RATE
    return np.sin(2 * np.pi * np.array([[500.0], [1_000.0], [1_500.0]]) * time).sum(axis=0)


def test_a_riff_that_two_tracks_share_fits_at_few_frequencies(stored: Stored) -> None:
    def with_melody(seed: int) -> Floats:
        melody = in_a_rhythm(
            lambda rng: chord(np.random.default_rng([seed, rng.integers(1 << 30)]))
        )
        return np.roll(melody.samples, 2 * NOTE) + in_a_rhythm(riff).samples

    world = Stored([*stored.codes, peaks_of(Clip(with_melody(1), RATE))])
    place = [Candidate(SONGS, 3.0, 1.0, 0.5)]
    (same,), (other,) = (
        verified(Clip(with_melody(seed)[3 * RATE : 10 * RATE], RATE), place, world)
        for seed in (1, 2)
    )
    assert other.score > 3.5  # the riff fits
    assert other.breadth < 2.5
    assert same.breadth > 3.5


def test_a_click_in_silence_is_measured_against_chance(stored: Stored) -> None:
    """At random places hardly a peak stands where the click is, so the scores there hardly vary."""
    samples = np.zeros(3 * RATE, np.float32)
    samples[RATE : RATE + 40] = np.random.default_rng(2).uniform(-0.5, 0.5, 40)
    template = template_of(Clip(samples, RATE))
    scores = best_scores(template, stored, cohort_of(stored))
    assert float(np.median(scores)) < LEAST_NULL.median / 2
    assert null_of(template, stored).median == LEAST_NULL.median
    music = null_of(template_of(cut(3, 6.0, 5.0)), stored)
    assert music.median > LEAST_NULL.median
    assert music.spread > LEAST_NULL.spread


@pytest.mark.parametrize("kind", ["clicks", "bursts", "telephone keys"])
def test_a_sound_of_few_values_has_to_fit_better_than_music(stored: Stored, kind: str) -> None:
    spreads = []
    for seed in range(7):
        sound = made_up(kind, 3.0, np.random.default_rng(seed))
        samples = soxr.resample(sound, WORKING_RATE, RATE).astype(np.float32)
        spreads.append(null_of(template_of(Clip(samples, RATE)), stored).spread)
    music = null_of(template_of(cut(3, 6.0, 5.0)), stored)
    assert float(np.median(spreads)) > 3 * music.spread


@pytest.mark.parametrize("snr_db", [0.0, -10.0])
def test_noisy_music_has_many_values(snr_db: float) -> None:
    assert richness(template_of(cut(3, 6.0, 5.0, snr_db=snr_db))) > RICH


def test_richness_is_the_share_of_equal_values() -> None:
    values = np.zeros((100, 50), np.float32)
    values[10:30, 5:15] = -3.0
    template = Template(values, values, values.var(axis=0))
    assert richness(template) == pytest.approx(20 * 10 / (100 * 50))


@pytest.mark.parametrize("offset", [-2.0, 0.0, 17.5])
def test_a_query_that_overruns_a_track_is_verified_by_what_lies_inside(
    stored: Stored, offset: float
) -> None:
    track = np.pad(busy_song(7, SECONDS), 4 * RATE)
    first = round((offset + 4) * RATE)
    clip = Clip(track[first : first + 5 * RATE].astype(np.float32), RATE)
    (found,) = verified(clip, [Candidate(7, offset, 1.0, 0)], stored)
    assert found.score > 5
    assert found.peaks < 200


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.06])
def test_offset_and_rate_are_refined_to_a_fraction_of_a_frame(stored: Stored, speed: float) -> None:
    clip = at_speed(cut(5, 4.0, 8.0, snr_db=5), speed)
    undone = at_speed(clip, 1 / speed)
    start = Candidate(5, 4.06, 1.0, 0)
    offset, rate = refined(template_of(undone), stored, line(stored, start), (0.8, 1.2))
    assert offset == pytest.approx(4.0, abs=0.01)
    assert rate == pytest.approx(1.0, abs=0.001)


@pytest.mark.parametrize("speed", [0.935, 0.97, 1.0, 1.025, 1.07])
def test_the_peaks_correct_the_pitch_of_a_query(stored: Stored, speed: float) -> None:
    clip = at_speed(cut(5, 4.0, 8.0, snr_db=5), speed)
    # As the embeddings tell it: at the track's own speed, with the middle about in its place.
    start = Candidate(5, 8.05 - clip.duration / 2, 1.0, 0.5)
    tuned, score = in_tune(template_of(clip), start, stored, 1.0, clip.duration, steps=16)
    _, plain = best_of(template_of(clip), [start], stored)
    assert tuned.speed == pytest.approx(speed, abs=0.0051)
    assert tuned.rate == pytest.approx(speed, abs=0.02)
    assert score >= plain
    assert speed == 1 or score > plain + 5


def test_pitch_shift_alone_is_corrected_at_rate_one(stored: Stored) -> None:
    pitch = 2 ** (2 / 12)
    clip = at_speed(cut(5, 4.0, 8.0), pitch)  # and each note again as long as it was
    hop, note = round(0.1 * RATE), round(0.1 * RATE / pitch)
    notes = [np.resize(clip.samples[i * note : (i + 1) * note], hop) for i in range(79)]
    clip = Clip(np.concatenate(notes), RATE)
    start = Candidate(5, 4.05, 1.0, 0.5, speed=2 ** (1.8 / 12))
    undone = template_of(at_speed(clip, 1 / start.speed))
    tuned, _ = in_tune(undone, start, stored, start.speed, clip.duration)
    assert tuned.speed == pytest.approx(pitch, rel=0.006)
    assert tuned.rate == pytest.approx(1.0, abs=0.001)


def test_a_change_of_tempo_is_measured(stored: Stored) -> None:
    """Each note is cut short: the peaks keep their bins, and come closer together."""
    rate = 1.04
    found: Floats = busy_song(4, SECONDS)
    begin, hop = 4.0, round(0.1 * RATE)
    notes = [found[round(begin * RATE) + i * hop :][: round(hop / rate)] for i in range(75)]
    clip = Clip(np.concatenate(notes).astype(np.float32), RATE)
    offset, measured = refined(
        template_of(clip), stored, line(stored, Candidate(4, 4.0, 1.03, 0)), (0.8, 1.2)
    )
    assert measured == pytest.approx(rate, abs=0.01)
    assert offset == pytest.approx(4.0, abs=0.1)


def test_a_short_query_and_a_track_without_peaks_have_scores(stored: Stored) -> None:
    (short,) = verified(Clip(busy_song(1, 0.03), RATE), [Candidate(1, 0, 1.0, 0)], stored)
    assert np.isfinite(short.score)
    assert verified(cut(1, 2.0, 2.0), [], stored) == []
