"""Queries: is what was made what was asked for, and is the truth true?"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from fingerprint.audio.decode import load_clip
from fingerprint.errors import CorpusError
from fingerprint.lab.__main__ import main
from fingerprint.lab.benchmark.conditions import CONDITIONS, Condition, Phone, Warp, select
from fingerprint.lab.benchmark.material import (
    WORKING_RATE,
    Material,
    cut,
    draw_noise,
    draw_place,
    formula_material,
    rms,
)
from fingerprint.lab.benchmark.queries import Query, change_pitch, change_speed, make_query
from fingerprint.lab.corpus import CorpusFile, Recordings, Responses
from fingerprint.types import Floats

TRACK_SECONDS = 16


def noise(seconds: float, seed: int) -> Floats:
    """White noise below 2 kHz: every moment is unlike every other, and it is smooth to sample."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal(round(seconds * WORKING_RATE)))
    spectrum[np.fft.rfftfreq(round(seconds * WORKING_RATE), 1 / WORKING_RATE) > 2_000] = 0
    sound = np.fft.irfft(spectrum)
    return (0.2 * sound / sound.std()).astype(np.float32)


def recordings(sounds: dict[str, Floats], role: str = "test") -> Recordings:
    starts = np.cumsum([0, *(len(sound) for sound in sounds.values())])
    samples = np.concatenate(list(sounds.values())) * 32_767
    files = tuple(
        CorpusFile(Path(name), "", role, "music", 0.0, WORKING_RATE, "", "")  # type: ignore[arg-type]
        for name in sounds
    )
    return Recordings(samples.clip(-32_768, 32_767).astype(np.int16), starts, files)


@pytest.fixture(scope="module")
def material() -> Material:
    rng = np.random.default_rng(0)
    time = np.arange(WORKING_RATE) / WORKING_RATE
    rooms = rng.standard_normal((2, WORKING_RATE)) * 10 ** (-3 * time / 0.5)
    rooms /= np.sqrt((rooms**2).sum(axis=1, keepdims=True))
    return Material(
        "test",
        known=recordings({f"known-{i}": noise(TRACK_SECONDS, i) for i in range(3)}),
        unknown=recordings({f"unknown-{i}": noise(TRACK_SECONDS, 10 + i) for i in range(2)}),
        speech=tuple((noise(1, 20 + i) * 20_000).astype(np.int16) for i in range(4)),
        effects=tuple((noise(0.7, 30 + i) * 20_000).astype(np.int16) for i in range(4)),
        responses=Responses(rooms.astype(np.float32), rooms[:, :800].astype(np.float32)),
    )


def make(material: Material, condition: Condition, number: int = 0, seed: int = 0) -> Query:
    return make_query(material, condition, seed=seed, number=number, sample_rate=WORKING_RATE)


def source(material: Material, query: Query, condition: Condition) -> Floats:
    """The passage of the track that the truth names, from its beginning to the query's end."""
    tracks = material.unknown if condition.unknown else material.known
    track = [file.path for file in tracks.files].index(query.truth.path)
    length = round(condition.seconds * query.truth.rate * WORKING_RATE)
    return cut(tracks.recording(track), round(query.truth.offset * WORKING_RATE), length)


def correlation(a: Floats, b: Floats) -> float:
    return float(np.corrcoef(a, b)[0, 1])


SHORTEST = {c.family: c for c in reversed(CONDITIONS)}.values()  # of each family


@pytest.mark.parametrize("condition", SHORTEST, ids=lambda c: c.name)
def test_a_query_is_made_again_bit_for_bit(material: Material, condition: Condition) -> None:
    first, again, other, reseeded = (
        make(material, condition, number, seed) for number, seed in ((3, 0), (3, 0), (4, 0), (3, 1))
    )
    assert first.truth == again.truth
    assert np.array_equal(first.clip.samples, again.clip.samples)
    assert abs(first.clip.duration - condition.seconds) < 0.002
    assert np.abs(first.clip.samples).max() > 0.004  # the faintest come through a wall
    for different in (other, reseeded):
        assert different.truth != first.truth
        assert not np.array_equal(different.clip.samples, first.clip.samples)


def test_splits_make_different_queries_of_the_same_tracks(material: Material) -> None:
    (condition,) = select(["clean 5 s"])
    test, validation = (
        make(material, condition),
        make(replace(material, split="validation"), condition),
    )
    assert test.truth != validation.truth


def test_a_clean_query_is_the_track_at_its_offset(material: Material) -> None:
    (condition,) = select(["clean 5 s"])
    for number in range(5):
        query = make(material, condition, number)
        assert np.abs(query.clip.samples - source(material, query, condition)).max() < 1e-4
        assert query.truth.rate == 1.0
        assert np.isnan(query.snr_db)


@pytest.fixture(scope="module")
def over_an_edge(material: Material) -> list[Query]:
    """Queries over an edge, without noise."""
    (condition,) = select(["over an edge 5 s"])
    return [make(material, replace(condition, snr_db=None), number) for number in range(40)]


def test_a_query_over_an_edge_holds_music_only_within_its_track(
    material: Material, over_an_edge: list[Query]
) -> None:
    files = [file.path for file in material.known.files]
    for query in over_an_edge:
        track = material.known.recording(files.index(query.truth.path)) / 32_768
        heard = query.clip.samples
        seconds = query.truth.offset + np.arange(len(heard)) / WORKING_RATE * query.truth.rate
        beyond = np.maximum(-seconds, seconds - TRACK_SECONDS)  # s past the nearer edge
        (inside,) = np.nonzero(beyond <= 0)
        expected = np.interp(seconds, np.arange(len(track)) / WORKING_RATE, track)
        assert 0.499 < len(inside) / len(heard) < 0.801
        for part in (inside[100:4_000], inside[-4_000:-100]):
            assert correlation(heard[part], expected[part]) > 0.97
        assert np.abs(heard[beyond > 0.02]).max() < 1e-3  # a resampler rings


def test_half_of_the_queries_over_an_edge_begin_early_and_half_change_speed(
    over_an_edge: list[Query],
) -> None:
    truths = [query.truth for query in over_an_edge]
    early = [truth.offset < 0 for truth in truths]
    changed = [abs(truth.rate - 1) for truth in truths if truth.rate != 1.0]
    both = sum(truth.rate != 1.0 for truth, before in zip(truths, early, strict=True) if before)
    assert 0.3 * len(truths) < sum(early) < 0.7 * len(truths)
    assert 0.3 * len(truths) < len(changed) < 0.7 * len(truths)
    assert 0.3 * sum(early) < both < 0.7 * sum(early)
    assert 0.02 <= min(changed) < max(changed) <= 0.05
    assert min(truth.rate for truth in truths) < 1 < max(truth.rate for truth in truths)
    for truth in truths:  # the other edge is not crossed
        end = truth.offset + 5 * truth.rate
        assert (end <= TRACK_SECONDS) if truth.offset < 0 else (end > TRACK_SECONDS)


def test_noise_at_an_edge_is_10_db_below_the_music_and_goes_on_where_there_is_none(
    material: Material,
) -> None:
    (condition,) = select(["over an edge 10 s"])
    for number in range(6):
        query, clean = (
            make(material, replace(condition, snr_db=snr), number)
            for snr in (condition.snr_db, None)
        )
        assert query.snr_db == 10
        heard, music = (q.clip.samples.astype(np.float64) for q in (query, clean))
        gain = (heard @ music) / (music @ music)
        rest = heard - gain * music
        seconds = query.truth.offset + np.arange(len(heard)) / WORKING_RATE * query.truth.rate
        inside = (seconds >= 0) & (seconds < TRACK_SECONDS)
        ratio = gain**2 * np.mean(music[inside] ** 2) / np.mean(rest**2)
        assert 10 * np.log10(ratio) == pytest.approx(10, abs=0.3)
        assert rms(heard[~inside]) == pytest.approx(rms(rest[inside]), rel=0.5)


def test_near_silent_edges_are_not_asked_for(material: Material) -> None:
    (condition,) = select(["over an edge 5 s"])
    silence = np.zeros(8 * WORKING_RATE, np.float32)
    tracks = {"fades in": [silence, noise(8, 1)], "fades out": [noise(8, 2), silence]}
    known = recordings({name: np.concatenate(parts) for name, parts in tracks.items()})
    for number in range(10):
        truth = make(replace(material, known=known), condition, number).truth
        assert truth.path.name == ("fades out" if truth.offset < 0 else "fades in")


def test_unknown_queries_are_cut_from_unknown_tracks_and_others_from_known(
    material: Material,
) -> None:
    for condition in select(["unknown clean", "unknown phone", "clean", "phone"]):
        query = make(material, condition)
        assert query.truth.path.name.startswith("unknown" if condition.unknown else "known")


def test_the_signal_to_noise_ratio_is_the_one_wanted(material: Material) -> None:
    (condition,) = select(["noise 10 s"])
    ratios = []
    for number in range(8):
        query = make(material, condition, number)
        signal = source(material, query, condition).astype(np.float64)
        heard = query.clip.samples.astype(np.float64)
        gain = (heard @ signal) / (signal @ signal)
        rest = heard - gain * signal
        measured = 10 * np.log10(gain**2 * (signal @ signal) / (rest @ rest))
        assert measured == pytest.approx(query.snr_db, abs=0.3)
        ratios.append(query.snr_db)
    assert 0 <= min(ratios) < max(ratios) <= 10


@pytest.mark.parametrize("seconds", [5.0, 10.0])
def test_the_truth_of_a_change_of_speed_holds_from_end_to_end(
    material: Material, seconds: float
) -> None:
    condition = Condition("x", seconds, warp=Warp("speed", (0.02, 0.10)))
    rates = []
    for number in range(6):
        query = make(material, condition, number)
        passage = source(material, query, condition)
        time = np.arange(len(query.clip.samples)) * query.truth.rate  # samples of the track
        expected = np.interp(time, np.arange(len(passage)), passage)
        for part in (slice(100, 4_000), slice(-4_000, -100)):
            assert correlation(query.clip.samples[part], expected[part]) > 0.97
        rates.append(query.truth.rate)
    assert 0.9 <= min(rates) < 0.98
    assert 1.02 < max(rates) <= 1.1


@pytest.mark.parametrize(("kind", "amount"), [("tempo", (0.05, 0.2)), ("pitch", (1.0, 2.0))])
def test_the_truth_of_tempo_and_pitch_holds_from_end_to_end(
    material: Material, kind: str, amount: tuple[float, float]
) -> None:
    bursts = np.random.default_rng(5).uniform(size=TRACK_SECONDS * 4) < 0.5
    gate = np.repeat(bursts, WORKING_RATE // 4).astype(np.float32)
    gated = {"known-0": gate * noise(TRACK_SECONDS, 1)}
    condition = Condition("x", 10.0, warp=Warp(kind, amount))  # type: ignore[arg-type]
    for number in range(4):
        query = make(replace(material, known=recordings(gated)), condition, number)
        assert (query.truth.rate == 1.0) == (kind == "pitch")
        heard = np.convolve(query.clip.samples**2, np.ones(320), "same") > 0.003 * 320
        first = round(query.truth.offset * WORKING_RATE)
        played = first + np.arange(len(heard)) * query.truth.rate
        expected = gate[np.minimum(played.astype(int), len(gate) - 1)] > 0
        for part in (slice(None, 40_000), slice(-40_000, None)):
            shifts = range(-2_000, 2_001, 80)
            agreement = [np.mean(np.roll(heard, -s)[part] == expected[part]) for s in shifts]
            assert abs(shifts[int(np.argmax(agreement))]) <= 480  # 30 ms
            assert max(agreement) > 0.85


def peak_frequency(sound: Floats) -> float:
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(np.argmax(spectrum) * WORKING_RATE / len(sound))


def test_a_semitone_up_is_a_semitone_up_and_lasts_as_long() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(4 * WORKING_RATE) / WORKING_RATE).astype(np.float32)
    for semitones in (-2.0, 1.0):
        shifted = change_pitch(tone, semitones)
        assert len(shifted) == pytest.approx(len(tone), abs=1_000)
        assert peak_frequency(shifted) == pytest.approx(440 * 2 ** (semitones / 12), rel=2e-3)


def test_played_faster_is_higher_and_shorter() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(4 * WORKING_RATE) / WORKING_RATE).astype(np.float32)
    faster = change_speed(tone, 1.1)
    assert len(faster) == pytest.approx(len(tone) / 1.1, abs=2)
    assert peak_frequency(faster) == pytest.approx(484, abs=0.5)


def test_a_phone_cuts_off_lows_and_highs_and_never_passes_full_scale(material: Material) -> None:
    rng = np.random.default_rng(1)
    white = {"known": (0.2 * rng.standard_normal(16 * WORKING_RATE)).astype(np.float32)}
    condition = Condition("x", 10.0, phone=Phone(low_cut=(400, 400), high_cut=(3_000, 3_000)))
    query = make(replace(material, known=recordings(white)), condition)
    power = np.abs(np.fft.rfft(query.clip.samples)) ** 2
    frequency = np.fft.rfftfreq(len(query.clip.samples), 1 / WORKING_RATE)

    def level(low: float, high: float) -> float:
        return float(10 * np.log10(power[(frequency > low) & (frequency < high)].mean()))

    assert level(0, 60) < level(600, 2_500) - 15
    assert level(6_000, 8_000) < level(600, 2_500) - 15
    assert np.abs(query.clip.samples).max() < 2.0  # a codec overshoots clipped sound


def test_reverberation_of_what_played_before_reaches_into_the_query(material: Material) -> None:
    # Clicks twice a second: until the next one falls, a query hears the last one's echo alone.
    sound = np.zeros(16 * WORKING_RATE, np.float32)
    sound[:: WORKING_RATE // 2] = 0.9
    clicks = replace(material, known=recordings({"known": sound}))
    condition = Condition("x", 2.0, phone=Phone(eq_db=0.0))
    echoes = []
    for number in range(5):
        query = make(clicks, condition, number)
        next_click = -query.truth.offset % 0.5
        before = query.clip.samples[: int(max(next_click - 0.02, 0) * WORKING_RATE)]
        if len(before) > 1_000:
            echoes.append(rms(before))
    assert echoes
    assert min(echoes) > 1e-3


def test_silent_passages_are_not_asked_for() -> None:
    sound = np.concatenate([np.zeros(8 * WORKING_RATE, np.float32), noise(4, 1)])
    tracks = recordings({"half-silent": sound})
    rng = np.random.default_rng(0)
    for _ in range(20):
        place = draw_place(tracks, WORKING_RATE, rng)
        assert rms(cut(tracks.recording(0), place.start, place.length)) > 10 ** (-50 / 20)


def test_short_tracks_are_left_out_and_none_long_enough_is_an_error() -> None:
    tracks = recordings({"short": noise(2, 1), "long": noise(6, 2)})
    rng = np.random.default_rng(0)
    assert {draw_place(tracks, 5 * WORKING_RATE, rng).track for _ in range(10)} == {1}
    with pytest.raises(CorpusError, match="no track is 7 s long"):
        draw_place(tracks, 7 * WORKING_RATE, rng)


def test_a_cut_beyond_the_ends_is_silence() -> None:
    sound = np.full(10, 16_384, np.int16)
    assert cut(sound, -2, 4).tolist() == [0, 0, 0.5, 0.5]
    assert cut(sound, 8, 4).tolist() == [0.5, 0.5, 0, 0]
    assert cut(sound, 20, 2).tolist() == [0, 0]


def test_noises_have_the_wanted_length_and_differ(material: Material) -> None:
    noises = [draw_noise(material, 40_000, np.random.default_rng(i)) for i in range(6)]
    assert all(n.shape == (40_000,) and n.dtype == np.float32 for n in noises)
    assert all(rms(n) > 0.3 for n in noises)
    assert max(abs(correlation(a, b)) for i, a in enumerate(noises) for b in noises[:i]) < 0.6


def test_a_demo_snippet_needs_nothing_but_music(tmp_path: Path) -> None:
    music = tmp_path / "music"
    music.mkdir()
    (music / "broken.ogg").write_bytes(b"not music")
    soundfile.write(music / "jingle.wav", noise(3, 1), WORKING_RATE)
    soundfile.write(music / "song.flac", noise(20, 2), WORKING_RATE)
    snippets = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for snippet in snippets:
        done = CliRunner().invoke(
            main, ["snippet", str(music), "--seed", "3", "--output", str(snippet)]
        )
        assert done.exit_code == 0, done.output
        assert "song.flac from" in done.output
    first, again = (load_clip(snippet, WORKING_RATE) for snippet in snippets)
    assert first.duration == pytest.approx(10, abs=0.01)
    assert np.array_equal(first.samples, again.samples)


def test_a_demo_without_music_says_so_in_one_line(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "jingle.wav", noise(3, 1), WORKING_RATE)
    done = CliRunner().invoke(main, ["snippet", str(tmp_path), "--output", str(tmp_path / "x.wav")])
    assert done.exit_code == 1
    assert "no readable track of 15 s or more" in done.output
    assert not (tmp_path / "x.wav").exists()


def test_material_by_formula_holds_the_track_and_a_room(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, noise(6, 1), WORKING_RATE)
    made = formula_material(path, np.random.default_rng(0))
    assert len(made.known) == 1
    assert made.known.files[0].seconds == pytest.approx(6, abs=0.01)
    room = made.responses.rooms[0]
    assert abs(room[0]) == np.abs(room).max()
    assert rms(room[-4_000:]) < 0.1 * rms(room[1:4_000])
