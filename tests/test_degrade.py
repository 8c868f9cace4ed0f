"""Degradations do what their units say: measured back, not compared with snapshots."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fingerprint.lab.training.config import DegradeConfig
from fingerprint.lab.training.degrade import (
    CODEC_FRAME,
    Scene,
    band_shape,
    change_speed,
    change_tempo,
    coarse,
    control_gain,
    convolve,
    cut_out,
    degrade,
    equalise,
    formula_noise,
    mix_at_snr,
    muffle,
    overdrive,
    scale_rooms,
    suppress_noise,
    tilt,
)

RATE = 8_000


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tone(frequency: float, seconds: float = 1.0) -> Tensor:
    time = torch.arange(round(seconds * RATE)) / RATE
    return torch.sin(2 * math.pi * frequency * time)


def rms(x: Tensor) -> Tensor:
    return x.square().mean(dim=-1).sqrt()


def test_noise_is_mixed_at_the_wanted_snr() -> None:
    signal, noise = torch.randn(3, RATE, generator=rng()), torch.randn(3, RATE, generator=rng(1))
    asked = torch.tensor([-6.0, 0.0, 12.0])
    added = mix_at_snr(signal, 0.01 * noise, asked) - signal
    assert torch.allclose(20 * torch.log10(rms(signal) / rms(added)), asked, atol=0.01)


def test_silent_noise_adds_nothing() -> None:
    signal = torch.randn(1, RATE, generator=rng())
    assert torch.equal(mix_at_snr(signal, torch.zeros(1, RATE), torch.zeros(1)), signal)


def test_convolution_equals_its_definition_and_keeps_the_direct_path_in_place() -> None:
    signal, response = torch.randn(2, 50, generator=rng()), torch.randn(2, 9, generator=rng(1))
    expected = torch.zeros(2, 50)
    for t in range(50):
        for k in range(min(9, t + 1)):
            expected[:, t] += response[:, k] * signal[:, t - k]
    assert torch.allclose(convolve(signal, response), expected, atol=1e-5)
    impulse = torch.zeros(2, 9)
    impulse[:, 0] = 1
    assert torch.allclose(convolve(signal, impulse), signal, atol=1e-6)


@pytest.mark.parametrize("rate", [0.95, 1.05])
def test_a_tone_played_faster_is_higher_by_the_rate(rate: float) -> None:
    changed = change_speed(tone(1_000.0)[None], torch.tensor([rate]))[0, 1_000:-1_000]
    expected = tone(1_000.0 * rate)[: len(changed)]
    quadrature = torch.cos(2 * math.pi * 1_000 * rate * torch.arange(len(changed)) / RATE)
    part = (changed @ expected) ** 2 + (changed @ quadrature) ** 2
    assert part / (changed.square().sum() * len(changed) / 2) > 0.999


def test_speed_turns_about_the_middle_of_the_clip() -> None:
    click = torch.zeros(1, 4_001)
    click[0, 2_000] = 1
    for rate in (0.95, 1.0, 1.05):
        assert int(change_speed(click, torch.tensor([rate])).argmax()) == 2_000


@pytest.mark.parametrize("rate", [0.77, 1.3])
def test_a_tone_at_another_tempo_keeps_its_pitch(rate: float) -> None:
    clip = change_tempo(tone(440, 4.0)[None], torch.tensor([rate]))[0, RATE : 3 * RATE]
    spectrum = torch.fft.rfft(clip * torch.hann_window(2 * RATE)).abs()
    assert int(spectrum.argmax()) == 880  # half hertz
    assert float(rms(clip)) == pytest.approx(2**-0.5, rel=0.1)


@pytest.mark.parametrize("rate", [0.8, 1.0, 1.25])
def test_clicks_at_another_tempo_come_at_that_rate_about_the_middle(rate: float) -> None:
    clicks = torch.zeros(4 * RATE)
    clicks[2 * RATE + torch.arange(-2, 3) * 4_000] = 1.0
    clip = change_tempo(clicks[None], torch.tensor([rate]))[0]
    for number in range(-2, 3):
        place = round(2 * RATE + number * 4_000 / rate)
        around = clip[place - 600 : place + 600].square()
        centre = float((around * torch.arange(-600, 600)).sum() / around.sum())
        assert abs(centre) < 130  # a hop


def test_band_edges_are_at_minus_three_decibels() -> None:
    flat = torch.zeros(1, 8)
    edges = {"low_cut": torch.tensor([400.0]), "high_cut": torch.tensor([2_000.0])}

    def gain_db(frequency: float) -> float:
        x = tone(frequency, 2.0)[None]
        inside = slice(4_000, 12_000)
        return float(
            20 * torch.log10(rms(band_shape(x, RATE, **edges, eq_db=flat)[:, inside]) / rms(x))
        )

    assert gain_db(400.0) == pytest.approx(-3.0, abs=0.2)
    assert gain_db(2_000.0) == pytest.approx(-3.0, abs=0.2)
    assert gain_db(900.0) == pytest.approx(0.0, abs=0.4)
    assert gain_db(60.0) < -20
    assert gain_db(3_900.0) < -15


def test_an_equaliser_raises_what_lies_at_its_points_and_nothing_else() -> None:
    eq = torch.zeros(1, 8)
    eq[0, 4] = 12.0
    for point, expected in ((4, 3.98), (2, 1.0), (6, 1.0)):
        x = tone(50.0 * 80.0 ** (point / 7))[None]  # 50 Hz to 4 kHz in seven steps
        assert rms(equalise(x, RATE, eq)) / rms(x) == pytest.approx(expected, rel=0.02)


def test_noise_of_a_response_of_its_own_is_as_loud_and_of_another_colour() -> None:
    hiss = torch.randn(64, RATE, generator=rng())
    still = {"device": 0.0, "room": 0.0, "microphone": 0.0, "clip": 0.0, "speed": 0.0}
    colours = []
    for eq_db in (0.0, 6.0):
        config = DegradeConfig(noise=1.0, snr_db=(-60.0, -60.0), noise_eq_db=eq_db, **still)
        scene = Scene(tone(997.0).repeat(64, 1), hiss, torch.ones(64, 1), torch.ones(64, 1))
        heard = degrade(scene, config, RATE, rng(1))
        assert rms(heard) / rms(scene.clean) == pytest.approx(torch.full((64,), 1e3), rel=0.1)
        power = torch.fft.rfft(heard).abs().square()
        bands = power[:, 200:3_800].unflatten(1, (9, 400)).mean(dim=2).log10() * 10
        colours.append(float(bands.std(dim=1).median()))
    assert colours[1] > colours[0] + 1.5  # dB from band to band


def test_the_smooth_response_raises_the_bands_wanted() -> None:
    eq = torch.full((1, 8), 6.0)
    wide = {"low_cut": torch.tensor([1.0]), "high_cut": torch.tensor([40_000.0])}
    x = tone(1_000.0)[None]
    assert rms(band_shape(x, RATE, **wide, eq_db=eq)) / rms(x) == pytest.approx(1.995, rel=0.01)


def test_a_tilt_is_in_decibels_an_octave() -> None:
    noise = torch.randn(1, 30 * RATE, generator=rng())
    tilted = tilt(noise, RATE, torch.tensor([-6.0]))
    assert float(rms(tilted)) == pytest.approx(1.0, rel=1e-3)
    power = torch.fft.rfft(tilted[0]).abs().square()
    low, high = (power[f * 30 - 300 : f * 30 + 300].mean() for f in (500, 2_000))
    assert 10 * math.log10(float(low / high)) == pytest.approx(12.0, abs=0.7)


def test_a_wall_passes_low_frequencies() -> None:
    for frequency, loss_db in ((100, 0.0), (400, 3.0), (1_600, 24.1)):
        heard = muffle(tone(frequency)[None], RATE, torch.tensor([400.0]))
        left = 20 * math.log10(float(rms(heard[0, 1_000:-1_000])) * 2**0.5)
        assert left == pytest.approx(-loss_db, abs=0.3)


def test_small_loudspeaker_and_wall_exclude_each_other() -> None:
    both = DegradeConfig(
        loudspeaker=0.5, loudspeaker_cut=(800.0, 800.0), wall=0.5, wall_cut=(200.0, 200.0),
        speed=0, device=0, room=0, noise=0, microphone=0, clip=0, eq_db=0,
    )  # fmt: skip
    clean = (tone(100) + tone(2_000))[None].repeat(32, 1)
    nothing = torch.zeros_like(clean)
    heard = degrade(Scene(clean, nothing, nothing, nothing), both, RATE, rng())
    power = torch.fft.rfft(heard).abs().square()
    low, high = power[:, 100], power[:, 2_000]
    muffled = low > 1_000 * high
    assert (muffled ^ (high > 1_000 * low)).all()  # one or the other
    assert 8 < int(muffled.sum()) < 24


def test_gain_control_evens_out_the_level() -> None:
    clip = tone(440, 4.0)
    clip[2 * RATE :] *= 0.1
    heard = control_gain(clip[None], RATE, torch.tensor([0.5]))[0]
    loud, quiet = rms(heard[RATE : 2 * RATE]), rms(heard[3 * RATE :])
    assert 20 * math.log10(float(loud / quiet)) == pytest.approx(10.0, abs=0.3)


def test_a_suppressor_takes_steady_noise_and_leaves_what_comes_and_goes() -> None:
    music = tone(1_000, 4.0)
    music[: 2 * RATE] = 0
    noise = 0.1 * torch.randn(4 * RATE, generator=rng())
    heard = suppress_noise((music + noise)[None], torch.tensor([12.0]))[0]
    lost = 20 * math.log10(float(rms(heard[:RATE]) / rms(noise[:RATE])))
    assert -12.0 <= lost < -6.0
    kept = 20 * math.log10(float(rms(heard[3 * RATE :]) / rms(music[3 * RATE :])))
    assert kept == pytest.approx(0.0, abs=0.5)


def test_overdrive_clips_at_the_drive_under_the_peak() -> None:
    x = 0.3 * tone(100.0)[None].repeat(2, 1)
    hard, soft = overdrive(x, torch.tensor([6.0, 6.0]), hard=torch.tensor([True, False]))
    assert float(hard.max()) == 1.0
    assert float((hard == 1.0).float().mean()) == pytest.approx(1 / 3, abs=0.01)  # asin(1/2)
    assert 0.9 < float(soft.max()) < 1.0


def test_formula_noise_has_unit_power_and_is_drawn_from_the_generator() -> None:
    noise = formula_noise(16, RATE, RATE, rng(5))
    assert torch.allclose(rms(noise), torch.ones(16), atol=1e-3)
    assert torch.equal(noise, formula_noise(16, RATE, RATE, rng(5)))
    assert not torch.equal(noise, formula_noise(16, RATE, RATE, rng(6)))


def test_cut_out_blanks_whole_bands_and_frames_at_the_wanted_rate() -> None:
    config = DegradeConfig(band_cut=1.0, time_cut=1.0)
    cut = cut_out(torch.ones(64, 100, 90), config, rng()) == 0
    bands, frames = cut.all(dim=2).sum(dim=1), cut.all(dim=1).sum(dim=1)
    assert torch.all((bands >= 9) & (bands <= 34))
    assert torch.all((frames >= 8) & (frames <= 31))
    untouched = cut_out(torch.ones(4, 9, 9), DegradeConfig(band_cut=0.0, time_cut=0.0), rng())
    assert torch.all(untouched == 1)


def test_a_codec_keeps_the_strong_line_of_a_band_and_drops_the_weak_one() -> None:
    line = RATE / CODEC_FRAME  # Hz between two of its spectral lines
    strong, weak = tone(41 * line), 0.05 * tone(46 * line)  # of one band of eight lines
    coded = coarse((strong + weak)[None], torch.tensor([1.0]))[0]
    assert abs(float(coded @ strong) / float(strong @ strong) - 1) < 0.2
    assert abs(float(coded @ weak) / float(weak @ weak)) < 0.3


def test_a_codec_with_fine_steps_changes_next_to_nothing_and_coarser_ones_more() -> None:
    music = torch.randn(3, RATE, generator=rng())
    error = rms(coarse(music, torch.tensor([1e-3, 0.3, 1.0])) - music) / rms(music)
    assert error[0] < 0.1  # the lowest line is dropped
    assert error[0] < error[1] < error[2] < 1


def scene(n: int = 8) -> Scene:
    music = torch.randn(n, RATE, generator=rng(1))
    impulse = torch.zeros(n, 64)
    impulse[:, 0] = 1
    return Scene(music, torch.randn(n, RATE, generator=rng(2)), impulse, impulse)


def test_the_parts_of_a_scene_make_the_whole() -> None:
    parts = list(scene(8).split(3))
    assert [len(part) for part in parts] == [3, 3, 2]
    assert torch.equal(torch.cat([part.noise for part in parts]), scene(8).noise)


def test_the_same_generator_degrades_the_same_way() -> None:
    config = DegradeConfig()
    first = degrade(scene(), config, RATE, rng(3))
    assert torch.equal(first, degrade(scene(), config, RATE, rng(3)))
    assert not torch.equal(first, degrade(scene(), config, RATE, rng(4)))
    assert torch.isfinite(first).all()


def test_degrading_leaves_the_clean_clip_alone() -> None:
    clean = scene()
    degrade(clean, DegradeConfig(), RATE, rng())
    assert torch.equal(clean.clean, scene().clean)


def test_with_every_chance_at_zero_nothing_changes() -> None:
    off = DegradeConfig(device=0, room=0, noise=0, microphone=0, clip=0, speed=0)
    assert torch.equal(degrade(scene(), off, RATE, rng()), scene().clean)


def test_silence_stays_finite() -> None:
    silent = Scene(
        *(torch.zeros_like(part) for part in (scene().clean,) * 2 + (scene().rooms,) * 2)
    )
    assert torch.isfinite(degrade(silent, DegradeConfig(), RATE, rng())).all()


def test_a_larger_room_rings_longer_and_its_echoes_come_later() -> None:
    time = np.arange(8_000) / 8_000  # s
    decay = np.exp(-6.91 * time / 0.4).astype(np.float32)  # 60 dB in 0.4 s
    room = np.where(np.arange(8_000) % 400 == 0, 100.0, 1.0).astype(np.float32) * decay
    rooms = torch.from_numpy(room)[None]
    for scale in (0.6, 1.0, 1.5):
        (scaled,) = scale_rooms(rooms, (scale, scale), torch.Generator()).numpy()
        assert len(scaled) == 8_000
        left = np.cumsum(scaled[::-1] ** 2)[::-1]  # energy still to come (Schroeder 1965)
        falls = np.searchsorted(-left, -left[0] * 10**-2.0) / 8_000  # s to 20 dB less
        assert falls == pytest.approx(0.4 / 3 * scale, abs=0.06 * scale)
        second = round(400 * scale)  # sample of the second echo
        assert scaled[10:1_000].argmax() + 10 == pytest.approx(second, abs=1)
