"""Music made up by formula: a song is a pure function of its seed. NumPy only.

A plan (key, tempo, chords, instruments, form) is drawn first, then rendered bar by bar. Sections
come back with variations, as in made music, so that a song has places that resemble each other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from fingerprint.lab.corpus.synthesis import DRUMS, Voice, draw_kit, draw_voice, play, reverberate
from fingerprint.types import Floats, Ints

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "pentatonic": (0, 2, 4, 7, 9),
    "blues": (0, 3, 5, 6, 7, 10),
}
STEPS = 4  # of a beat: sixteenth notes
FORMS = ("ABAB", "AABA", "ABAC", "ABCB", "AAB", "ABCABC", "ABACA")
LEVEL = 0.1  # RMS of a song
PEAK = 0.95

Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Note:
    """One note: when and how long in sixteenths of its section, and its MIDI number."""

    step: int
    length: int
    pitch: int
    loudness: float  # 0..1


@dataclass(frozen=True, slots=True)
class Part:
    """An instrument and what it plays in a section."""

    voice: Voice
    gain: float
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """Some bars: pitched parts and, a row a drum of `DRUMS`, the loudness of every step."""

    steps: int
    parts: tuple[Part, ...]
    drums: Floats  # (drums, steps)


@dataclass(frozen=True, slots=True, eq=False)
class Song:
    """Everything that is decided before a sample is computed."""

    tempo: float  # beats a minute
    root: int  # MIDI note of the key, 0..11
    scale: tuple[int, ...]  # semitones above the root
    swing: float  # of a sixteenth, by which every second one is late
    sections: tuple[Section, ...]  # in order
    kit: tuple[Floats, ...]  # the drums' sounds
    reverberation: float  # s
    wet: float  # share of it in the mix


def generate(seed: int, seconds: float, sample_rate: int) -> Floats:
    """A song of `seconds` at `sample_rate` (Hz): (T,) float32, RMS at most `LEVEL`, peak `PEAK`."""
    return render(compose(seed, seconds, sample_rate), seed, seconds, sample_rate)


def compose(seed: int, seconds: float, sample_rate: int) -> Song:
    """Draw the plan of a song that lasts at least `seconds`."""
    rng = np.random.default_rng((seed, 0))
    tempo = float(rng.uniform(60, 180))
    root, scale = int(rng.integers(12)), SCALES[str(rng.choice(list(SCALES)))]
    beats, bars = int(rng.choice([3, 4, 4, 4, 4, 6])), int(rng.choice([4, 4, 8]))
    write = partial(_section, root=root, scale=scale, band=_band(rng), beats=beats, bars=bars)
    form = str(rng.choice(FORMS))
    themes = {letter: rng.integers(1 << 32, size=2) for letter in sorted(set(form))}
    sections, steps = list[Section](), 0
    while steps * 60 / (tempo * STEPS) < seconds:
        letter = form[len(sections) % len(form)]
        # The theme's own seed makes it come back; the variation's thins it out differently.
        section = write(np.random.default_rng(themes[letter]), variation=rng)
        sections.append(section)
        steps += section.steps
    return Song(
        tempo=tempo,
        root=root,
        scale=scale,
        swing=float(rng.choice([0.0, 0.0, rng.uniform(0.1, 0.6)])),
        sections=tuple(sections),
        kit=draw_kit(rng, sample_rate),
        reverberation=float(rng.uniform(0.2, 2.5)),
        wet=float(rng.uniform(0.0, 0.35)),
    )


@dataclass(frozen=True, slots=True)
class _Band:
    """The instruments and their parameters, the same throughout a song."""

    bass: Voice
    chords: Voice
    lead: Voice
    second: Voice
    gains: tuple[float, float, float, float]
    density: float  # of the melody, 0..1
    busy: float  # of the drums, 0..1; none at 0
    arpeggio: bool
    octave: int  # of the melody


def _band(rng: Rng) -> _Band:
    gains = rng.uniform(0.25, 1.0, size=4) * (rng.random(4) < (0.9, 0.8, 0.85, 0.4))
    if not gains.any():
        gains[2] = 1.0
    return _Band(
        bass=draw_voice(rng),
        chords=draw_voice(rng),
        lead=draw_voice(rng),
        second=draw_voice(rng),
        gains=tuple(float(g) for g in gains),  # type: ignore[arg-type]
        density=float(rng.uniform(0.2, 0.9)),
        busy=float(rng.uniform(0.2, 1.0)) if rng.random() < 0.75 else 0.0,
        arpeggio=bool(rng.random() < 0.4),
        octave=int(rng.integers(5, 7)),
    )


def _section(
    rng: Rng,
    *,
    variation: Rng,
    root: int,
    scale: tuple[int, ...],
    band: _Band,
    beats: int,
    bars: int,
) -> Section:
    """The theme that `rng` holds, with the parts that `variation` leaves in."""
    bar = beats * STEPS
    degrees = rng.integers(len(scale), size=bars)
    degrees[0] = rng.choice([0, 0, 0, 3, 4])
    pitch = partial(_pitch, root, scale)
    lines = (
        _bass(rng, degrees, bar, pitch),
        _chords(rng, degrees, bar, pitch, arpeggio=band.arpeggio),
        _melody(rng, degrees, bar, pitch, band.density, band.octave),
        _melody(rng, degrees, bar, pitch, band.density / 2, band.octave + 1),
    )
    drums = _beat(rng, beats, bars, band.busy)
    plays = variation.random(5) < 0.85
    plays[int(np.argmax(band.gains))] = True  # someone always does
    voices = (band.bass, band.chords, band.lead, band.second)
    parts = tuple(
        Part(voice, gain, tuple(n for n in line if variation.random() < 0.95))
        for voice, gain, line, on in zip(voices, band.gains, lines, plays[:4], strict=True)
        if gain and on
    )
    return Section(bar * bars, parts, drums * plays[4])


def _pitch(root: int, scale: tuple[int, ...], degree: int, octave: int) -> int:
    """The MIDI note of a degree of the scale; degrees beyond it lie in the next octaves."""
    return 12 * (octave + degree // len(scale)) + root + scale[degree % len(scale)]


Pitch = Callable[[int, int], int]  # degree and octave to MIDI note


def _bass(rng: Rng, degrees: Ints, bar: int, pitch: Pitch) -> list[Note]:
    length = int(rng.choice([2, 4, 4, 8]))
    starts = [s for s in range(0, bar, length) if s == 0 or rng.random() < 0.8]
    jumps = rng.choice([0, 0, 0, 4, 7], size=len(starts))  # degrees above the chord's root
    jumps[0] = 0
    return [
        Note(i * bar + start, min(length, bar - start), pitch(int(degree + jump), 3), 0.9)
        for i, degree in enumerate(degrees)
        for start, jump in zip(starts, jumps, strict=True)
    ]


def _chords(rng: Rng, degrees: Ints, bar: int, pitch: Pitch, *, arpeggio: bool) -> list[Note]:
    size = int(rng.choice([2, 3, 3, 4]))
    if arpeggio:
        order, length = rng.permutation(size), int(rng.choice([1, 2, 2, 4]))
        return [
            Note(i * bar + s, length, pitch(int(d + 2 * order[k % size]), 5), 0.6)
            for i, d in enumerate(degrees)
            for k, s in enumerate(range(0, bar, length))
        ]
    strikes = [
        0,
        *sorted(rng.choice(np.arange(2, bar), size=int(rng.integers(0, 4)), replace=False)),
    ]
    lengths = np.diff([*strikes, bar])
    return [
        Note(int(i * bar + start), int(length), pitch(int(d + 2 * k), 4), 0.5)
        for i, d in enumerate(degrees)
        for start, length in zip(strikes, lengths, strict=True)
        for k in range(size)
    ]


def _melody(
    rng: Rng, degrees: Ints, bar: int, pitch: Pitch, density: float, octave: int
) -> list[Note]:
    """A walk on the scale; every other bar has the rhythm of the one before."""
    notes, degree = list[Note](), int(rng.integers(7))
    rhythm = _rhythm(rng, bar, density)
    for i, chord in enumerate(degrees):
        if i % 2 == 0:
            rhythm = _rhythm(rng, bar, density)
        for start, length in rhythm:
            degree += int(rng.integers(-2, 3))
            if start == 0:  # a strong beat falls on the chord
                degree = int(chord + rng.choice([0, 2, 4]))
            degree = int(np.clip(degree, -4, 10))
            notes.append(Note(i * bar + start, length, pitch(degree, octave), rng.uniform(0.5, 1)))
    return notes


def _rhythm(rng: Rng, bar: int, density: float) -> list[tuple[int, int]]:
    """Starts and lengths within a bar."""
    weight = np.where(
        np.arange(bar) % STEPS == 0, 1.0, np.where(np.arange(bar) % 2 == 0, 0.6, 0.25)
    )
    (starts,) = np.nonzero(rng.random(bar) < density * weight)
    lengths = np.diff(starts, append=bar)
    return [(int(s), int(length)) for s, length in zip(starts, lengths, strict=True)]


def _beat(rng: Rng, beats: int, bars: int, busy: float) -> Floats:
    """A bar's pattern repeated, with a fill at the end: (drums, steps) of loudness."""
    steps = beats * STEPS
    step = np.arange(steps)
    beat = step % STEPS == 0
    kick = (step == 0) | (beat & (rng.random(steps) < 0.5)) | (rng.random(steps) < 0.12 * busy)
    snare = (beat & (step // STEPS % 2 == 1)) | (rng.random(steps) < 0.08 * busy)
    hat = step % int(rng.choice([1, 2, 2, 4])) == 0
    other = rng.random((len(DRUMS) - 3, steps)) < 0.1 * busy
    pattern = np.stack([kick, snare, hat, *other]) * rng.uniform(0.5, 1.0, (len(DRUMS), steps))
    section = np.tile(pattern, bars)
    section[1:, -STEPS:] *= rng.random((len(DRUMS) - 1, STEPS)) < 0.7
    return (section * (busy > 0)).astype(np.float32)


def render(song: Song, seed: int, seconds: float, sample_rate: int) -> Floats:
    """Play a plan: (T,) float32. `seed` only makes the noise of instruments."""
    rng = np.random.default_rng((seed, 1))
    step = 60 * sample_rate / (song.tempo * STEPS)  # samples
    mix = np.zeros(round(seconds * sample_rate), np.float32)

    @cache  # a song repeats itself
    def sound(voice: Voice, pitch: int, length: int) -> Floats:
        return play(voice, pitch, length * step / sample_rate, sample_rate)

    begin = 0
    for section in song.sections:
        for part in section.parts:
            for note in part.notes:
                at = round(step * _swung(begin + note.step, song.swing))
                played = sound(part.voice, note.pitch, note.length)
                _add(mix, at, part.gain * note.loudness * played)
        for drum, loudness in zip(song.kit, section.drums, strict=True):
            for k in np.flatnonzero(loudness):
                _add(mix, round(step * _swung(begin + int(k), song.swing)), loudness[k] * drum)
        begin += section.steps
    mix = reverberate(mix, song.reverberation, song.wet, sample_rate, rng)
    rms, peak = float(np.sqrt(np.mean(mix**2))), float(np.abs(mix).max())
    return mix * np.float32(min(LEVEL / rms, PEAK / peak))


def _swung(step: int, swing: float) -> float:
    return step + swing * (step % 2)


def _add(mix: Floats, at: int, sound: Floats) -> None:
    """Mix a sound in at a sample; what lies beyond the end is lost."""
    end = min(at + len(sound), len(mix))
    if at < end:
        mix[at:end] += sound[: end - at]
