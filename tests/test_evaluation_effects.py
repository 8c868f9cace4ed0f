"""Effects: each does what it is named after, and leaves the music where it was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_evaluation_queries import correlation, make, material, noise, recordings, source

from fingerprint.audio.decode import load_clip
from fingerprint.errors import CorpusError
from fingerprint.lab.benchmark import effects
from fingerprint.lab.benchmark.conditions import Condition, select
from fingerprint.lab.benchmark.material import WORKING_RATE, Material, rms
from fingerprint.lab.benchmark.queries import SECOND_DB
from fingerprint.types import Floats

__all__ = ["material"]
SECONDS = 6.0


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def bursts(seed: int = 0) -> Floats:
    """Noise in pieces of a tenth of a second, some silent."""
    gate = rng(seed).random(round(SECONDS * 10)) < 0.5
    return noise(SECONDS, seed) * np.repeat(gate, WORKING_RATE // 10).astype(np.float32)


def level_db(samples: Floats, low: float, high: float) -> float:
    power = np.abs(np.fft.rfft(samples)) ** 2
    frequency = np.fft.rfftfreq(len(samples), 1 / WORKING_RATE)
    return float(10 * np.log10(power[(frequency >= low) & (frequency < high)].mean() + 1e-12))


def lag(changed: Floats, original: Floats, most: float = 0.1) -> float:
    """Seconds by which the envelope of the one is behind the other's."""
    a, b = (np.convolve(x**2, np.ones(160), "same") for x in (changed, original))
    shifts = range(-round(most * WORKING_RATE), round(most * WORKING_RATE) + 1, 16)
    scores = [correlation(np.roll(a, -shift), b) for shift in shifts]
    return shifts[int(np.argmax(scores))] / WORKING_RATE


@pytest.mark.parametrize("name", ["hall", "through_wall", "telephone", "vinyl"])
def test_an_effect_is_made_again_bit_for_bit_and_keeps_length_and_place(name: str) -> None:
    effect = getattr(effects, name)
    sound = bursts()
    first, again = effect(sound, rng(1)), effect(sound, rng(1))
    assert np.array_equal(first, again)
    assert first.shape == sound.shape
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert abs(lag(first, sound)) <= 0.02


@pytest.mark.parametrize("number", effects.telephones_at_hand())
def test_every_telephone_codec_keeps_the_music_in_step_and_its_band(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effects, "TELEPHONES", effects.TELEPHONES[number : number + 1])
    white = (0.1 * rng(3).standard_normal(round(SECONDS * WORKING_RATE))).astype(np.float32)
    sound = white * np.abs(bursts(4)).astype(bool)
    sent = effects.telephone(sound, rng())
    assert abs(lag(sent, sound)) <= 0.01
    assert level_db(sent, 0, 100) < level_db(sent, 500, 3_000) - 10
    assert level_db(sent, 4_200, 8_000) < level_db(sent, 500, 3_000) - 30


def test_some_telephone_codec_is_at_hand() -> None:
    assert len(effects.telephones_at_hand()) >= 2


def test_a_wall_passes_low_notes() -> None:
    white = (0.1 * rng(3).standard_normal(round(SECONDS * WORKING_RATE))).astype(np.float32)
    behind = effects.through_wall(white, rng())
    lost = [
        level_db(white, *band) - level_db(behind, *band) for band in ((30, 150), (1_500, 2_500))
    ]
    assert lost[0] < 3
    assert lost[1] > 18


def test_a_hall_sounds_on_when_the_music_has_ended() -> None:
    sound = np.concatenate([noise(2, 1), np.zeros(2 * WORKING_RATE, np.float32)])
    after = effects.hall(sound, rng())[2 * WORKING_RATE :]
    assert rms(after[:8_000]) > 0.1 * rms(sound[: 2 * WORKING_RATE])
    assert rms(after[-8_000:]) < 0.5 * rms(after[:8_000])


def test_suppression_takes_steady_noise_away() -> None:
    hiss = (0.02 * rng(2).standard_normal(round(SECONDS * WORKING_RATE))).astype(np.float32)
    sound, silent = bursts() + hiss, bursts() == 0
    cleaned = effects.noise_gated(sound)
    before, after = (rms(x[~silent]) / rms(x[silent]) for x in (sound, cleaned))
    assert after > 1.5 * before
    assert abs(lag(cleaned, sound)) <= 0.01


def test_gain_control_brings_loud_and_quiet_together() -> None:
    evened = effects.gain_controlled(np.concatenate([bursts(5), 0.05 * bursts(5)]))
    half = len(evened) // 2
    assert 1 < rms(evened[:half]) / rms(evened[half:]) < 8
    assert rms(effects.suppressed(bursts())) > 0.01


def test_a_record_crackles_hums_and_sways_by_a_few_milliseconds() -> None:
    silence = np.full(round(SECONDS * WORKING_RATE), 1e-9, np.float32)
    tone = np.sin(2 * np.pi * 440 * np.arange(len(silence)) / WORKING_RATE).astype(np.float32)
    played = effects.vinyl(tone, rng(1))
    assert level_db(played, 45, 65) > level_db(played, 70, 90) + 10
    rest = played - tone
    assert np.abs(rest).max() > 0.1
    assert rms(effects.vinyl(silence, rng(1))) < 1e-6


def test_the_inverted_channel_leaves_nothing_in_the_mean_and_the_music_is_still_heard(
    material: Material,
) -> None:
    (condition,) = select(["channels out of phase"])
    query = make(material, condition)
    assert rms(query.clip.samples) > 0.01
    heard, signal = query.clip.samples, source(material, query, condition)
    assert abs(correlation(heard, signal)) > 0.9


def test_a_mixed_query_records_both_true_tracks(material: Material) -> None:
    (condition,) = select(["two tracks mixed 5 s"])
    for number in range(4):
        query = make(material, condition, number)
        assert query.second is not None
        assert query.second.path != query.truth.path
        first = source(material, query, condition)
        other = source(material, replace(query, truth=query.second), condition)
        parts = np.stack([first, other], axis=1).astype(np.float64)
        heard = query.clip.samples.astype(np.float64)
        gains, *_ = np.linalg.lstsq(parts, heard, rcond=None)
        assert rms(heard - parts @ gains) < 0.05 * rms(heard)
        levels = np.abs(gains) * [rms(first), rms(other)]
        db = 20 * np.log10(levels[1] / levels[0])
        assert SECOND_DB[0] - 0.5 <= db <= SECOND_DB[1] + 0.5


def test_one_track_cannot_be_mixed_with_another(material: Material) -> None:
    (condition,) = select(["two tracks mixed 5 s"])
    alone = replace(material, known=recordings({"one": noise(16, 1)}))
    with pytest.raises(CorpusError, match="only one track"):
        make(alone, condition)


def test_a_talker_is_one_voice_at_the_wanted_snr(material: Material) -> None:
    (condition,) = select(["talker 6 to 12 dB above 5 s"])
    query = make(material, condition)
    assert -12 <= query.snr_db <= -6
    with pytest.raises(CorpusError, match="no speech"):
        make(replace(material, speech=()), condition)


def test_sped_up_is_faster_and_slowed_is_slower(material: Material) -> None:
    fast, slow = select(["sped up by 12 to 30 % 5 s", "slowed by 10 to 25 %, reverb 5 s"])
    assert all(1.12 <= make(material, fast, number).truth.rate <= 1.3 for number in range(4))
    assert all(0.75 <= make(material, slow, number).truth.rate <= 0.9 for number in range(4))


def test_what_comes_through_a_wall_is_faint(material: Material) -> None:
    (condition,) = select(["through a wall 5 s"])
    for number in range(3):
        assert np.abs(make(material, condition, number).clip.samples).max() < 0.08


def test_a_stereo_file_out_of_phase_is_decoded_whole(tmp_path: Path) -> None:
    import soundfile

    sound = noise(3, 1)
    soundfile.write(tmp_path / "x.wav", np.stack([sound, -sound], axis=1), WORKING_RATE)
    clip = load_clip(tmp_path / "x.wav", WORKING_RATE)
    assert correlation(clip.samples, sound) > 0.99


def test_conditions_have_names_of_plain_words() -> None:
    assert Condition("vinyl", 5.0, effect="vinyl").name == "vinyl 5 s"
