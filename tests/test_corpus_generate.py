"""Generated music, measured back: its tempo, its pitches, its level, and that a seed is a song."""

from dataclasses import replace

import numpy as np
import pytest

from fingerprint.lab.corpus.generate import LEVEL, PEAK, SCALES, Song, compose, generate, render
from fingerprint.lab.corpus.synthesis import Voice, draw_kit, draw_voice, play, reverberate
from fingerprint.types import Floats

RATE = 16_000


def voices(kind: str) -> list[Voice]:
    """A few instruments of a kind, steady enough to measure."""
    drawn = (draw_voice(np.random.default_rng(seed)) for seed in range(400))
    kinds = [v for v in drawn if kind in str(v.tone)]
    return [replace(v, vibrato=0.0, detune=0.0, sustain=0.8) for v in kinds[:6]]


def strongest_period(sound: Floats, shortest: float, longest: float, rate: float) -> float:
    """The lag (s) at which a signal is most like itself, to a part of a sample."""
    sound = sound - sound.mean()
    spectrum = np.fft.rfft(sound, 2 * len(sound))
    likeness = np.fft.irfft(np.abs(spectrum) ** 2)[: len(sound)]
    likeness = likeness / np.arange(len(sound), 0, -1)  # fewer products at long lags
    first, last = int(shortest * rate), int(np.ceil(longest * rate)) + 1
    lag = first + int(np.argmax(likeness[first:last]))
    before, at, after = likeness[lag - 1 : lag + 2]
    return float(lag + 0.5 * (before - after) / (before - 2 * at + after)) / rate


@pytest.mark.parametrize("kind", ["_wave", "_sweep", "_plucked"])
@pytest.mark.parametrize("pitch", [40, 57, 69, 76])
def test_a_note_sounds_at_its_pitch(kind: str, pitch: int) -> None:
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    for voice in voices(kind):
        sound = play(voice, pitch, 0.6, RATE)[RATE // 20 : RATE // 2]
        period = strongest_period(sound, 0.7 / frequency, 1.4 / frequency, RATE)
        cents = 1_200 * np.log2(1 / (period * frequency))
        assert abs(cents) < 25


def test_a_modulated_voice_has_the_frequencies_of_its_formula() -> None:
    for voice in voices("_modulated"):
        sound = play(voice, 69, 1.0, RATE)[:RATE] * np.hanning(RATE)
        ratio = voice.tone.args[0]  # type: ignore[attr-defined]
        allowed = {round(abs(440 * (1 + k * ratio))) for k in range(-20, 21)}
        loudest = np.argsort(np.abs(np.fft.rfft(sound)))[-1]
        assert min(abs(loudest - frequency) for frequency in allowed) <= 2


def test_notes_begin_and_end_without_a_click() -> None:
    for seed in range(40):
        sound = play(draw_voice(np.random.default_rng(seed)), 60, 0.3, RATE)
        assert np.isfinite(sound).all()
        assert np.abs(sound[[0, -1]]).max() < 0.05
        assert np.abs(sound).max() < 3


def test_every_note_is_in_the_scale() -> None:
    for seed in range(20):
        song = compose(seed, 30, RATE)
        assert song.scale in SCALES.values()
        allowed = {(song.root + step) % 12 for step in song.scale}
        pitches = {n.pitch for s in song.sections for part in s.parts for n in part.notes}
        assert {pitch % 12 for pitch in pitches} <= allowed
        assert all(20 <= pitch <= 120 for pitch in pitches)


def drums_alone(song: Song) -> Song:
    """A kick on every beat and nothing else."""
    sections = []
    for section in song.sections:
        drums = np.zeros_like(section.drums)
        drums[0, ::4] = 1
        sections.append(replace(section, parts=(), drums=drums))
    return replace(song, sections=tuple(sections), swing=0.0, wet=0.0)


def test_the_tempo_is_measured_back_from_the_onsets() -> None:
    for seed in range(6):
        song = drums_alone(compose(seed, 40, RATE))
        sound = render(song, seed, 40, RATE)
        frame = RATE // 500
        loudness = np.square(sound).reshape(-1, frame).mean(1)
        onsets = np.maximum(np.diff(np.log(loudness + 1e-6)), 0).astype(np.float32)
        beat = strongest_period(onsets, 0.3, 1.05, 500)
        # An even number of beats may be as alike as one.
        beats = max(1, round(beat * song.tempo / 60))
        assert 60 * beats / beat == pytest.approx(song.tempo, rel=0.01)


def test_a_songs_chords_dominate_its_spectrum_in_tune() -> None:
    """Most of the energy of the pitched parts is near notes of equal temperament."""
    song = compose(3, 20, RATE)
    steady = replace(voices("_wave")[0], release=0.05)
    sections = tuple(
        replace(
            section,
            drums=0 * section.drums,
            parts=tuple(replace(part, voice=steady) for part in section.parts),
        )
        for section in song.sections
    )
    sound = render(replace(song, sections=sections, wet=0.0), 3, 20, RATE)
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    frequency = np.fft.rfftfreq(len(sound), 1 / RATE)
    tonal = (frequency > 200) & (frequency < 1_000)
    number = 69 + 12 * np.log2(frequency[tonal] / 440)
    near = np.abs(number - np.round(number)) < 0.2
    assert power[tonal][near].sum() / power[tonal].sum() > 0.8


def test_a_seed_is_a_song_and_another_seed_another() -> None:
    songs = [generate(seed, 12, RATE) for seed in (1, 1, 2, 3)]
    assert np.array_equal(songs[0], songs[1])
    for a, b in ((0, 2), (0, 3), (2, 3)):
        assert abs(np.corrcoef(songs[a], songs[b])[0, 1]) < 0.1


def test_songs_are_finite_and_of_one_level() -> None:
    for seed in range(10, 22):
        sound = generate(seed, 10.5, RATE)
        assert sound.dtype == np.float32
        assert sound.shape == (168_000,)
        assert np.isfinite(sound).all()
        assert np.abs(sound).max() <= PEAK + 1e-3
        assert 0.02 < np.sqrt(np.mean(sound**2)) <= LEVEL + 1e-3


def test_sections_come_back_with_variations() -> None:
    song = compose(5, 120, RATE)
    drums = [section.drums for section in song.sections]
    same = [np.array_equal(a, b) for i, a in enumerate(drums) for b in drums[i + 1 :] if a.any()]
    assert any(same)
    assert not all(same)
    lines = [{n for part in s.parts for n in part.notes} for s in song.sections]
    shared = [len(a & b) / len(a | b) for i, a in enumerate(lines) for b in lines[i + 1 :] if a | b]
    assert any(0.5 < share < 1 for share in shared)


def test_drums_are_low_and_high_as_they_should_be() -> None:
    for seed in range(10):
        kick, _, hat, *_ = draw_kit(np.random.default_rng(seed), RATE)

        def centre(sound: Floats) -> float:
            power = np.abs(np.fft.rfft(sound)) ** 2
            return float(np.sum(power * np.fft.rfftfreq(len(sound), 1 / RATE)) / power.sum())

        assert centre(kick) < 400 < 3_000 < centre(hat)


def test_an_echo_decays_at_the_wanted_rate() -> None:
    click = np.zeros(3 * RATE, np.float32)
    click[0] = 1
    echo = reverberate(click, 1.0, 0.5, RATE, np.random.default_rng(1))
    early, late = (
        10 * np.log10(np.mean(echo[a : a + RATE // 10] ** 2)) for a in (RATE // 10, RATE * 6 // 10)
    )
    assert early - late == pytest.approx(30, abs=2)  # half of 60 dB in half the time
    assert echo[0] == pytest.approx(0.5, abs=0.05)
