"""Making a set of real recordings: the truth is constructed, with every clock and delay known."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from conftest import make_song, save_audio

from fingerprint.errors import CorpusError
from fingerprint.lab.__main__ import main
from fingerprint.lab.real.cutting import Found, cut_recording
from fingerprint.lab.real.folder import RealSet
from fingerprint.lab.real.matched_filter import RATE as FILTER_RATE
from fingerprint.lab.real.matched_filter import Recording
from fingerprint.types import Clip, Floats

RATE = 16_000  # Hz
DRIFT = 180e-6
PLAYED = {"one": (4.0, 45.0), "two": (55.5, 60.0), "three": (119.0, 40.0)}  # s: begin, length
LENGTH = 165.0  # s


@dataclass(frozen=True)
class World:
    tracks: Path
    recording: Path


def played(song: Floats, drift: float) -> Floats:
    """The song as a recorder hears it whose clock runs faster than the player's."""
    seconds = np.arange(round(len(song) * (1 + drift))) / (1 + drift)
    return np.interp(seconds, np.arange(len(song)), song).astype(np.float32)


def in_a_room(sound: Floats, snr_db: float, seed: int = 5) -> Floats:
    """Reverberation of 0.6 s, louder than the direct sound, a narrow loudspeaker, and noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(0.6 * RATE)) / RATE
    room = 0.05 * rng.standard_normal(len(time)) * np.exp(-11.5 * time)
    room[0] = 1.0
    size = 1 << (len(sound) + len(room)).bit_length()
    spectrum = np.fft.rfft(sound, size) * np.fft.rfft(room, size)
    hertz = np.fft.rfftfreq(size, 1 / RATE)
    spectrum *= (hertz / 500) ** 2 / (1 + (hertz / 500) ** 2) / (1 + (hertz / 3_000) ** 4)
    wet = np.fft.irfft(spectrum, size)[: len(sound)]
    noise = rng.standard_normal(len(wet)) * wet.std() * 10 ** (-snr_db / 20)
    both = wet + noise
    return (0.5 * both / np.abs(both).max()).astype(np.float32)


def recorded(parts: dict[float, Floats], seconds: float, drift: float = DRIFT) -> Floats:
    air = np.zeros(round(seconds * RATE), np.float32)
    for begin, song in parts.items():
        sound = played(song, drift)
        first = round(begin * RATE)
        air[first : first + len(sound)] += sound[: len(air) - first]
    return air


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Three songs one after another with gaps, one that was not played, one that is no audio."""
    root = tmp_path_factory.mktemp("home")
    (root / "tracks").mkdir()
    songs = {name: make_song(seed, PLAYED[name][1], RATE) for seed, name in enumerate(PLAYED)}
    for name, song in songs.items():
        save_audio(root / f"tracks/{name}.flac", song, RATE)
    save_audio(root / "tracks/absent.flac", make_song(77, 50, RATE), RATE)
    (root / "tracks/broken.mp3").write_bytes(b"no audio")
    air = recorded({PLAYED[name][0]: song for name, song in songs.items()}, LENGTH)
    save_audio(root / "phone.wav", in_a_room(air, snr_db=0), RATE)
    return World(root / "tracks", root / "phone.wav")


@pytest.fixture(scope="module")
def made(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Found], Path]:
    folder = tmp_path_factory.mktemp("sets") / "set"
    tracks = sorted(world.tracks.iterdir())
    return cut_recording(world.recording, tracks, folder, seconds=8.0, gap=4.0), folder


def test_every_query_is_placed_within_20_ms(made: tuple[list[Found], Path]) -> None:
    found, folder = made
    passages = {f.track.stem: f.passages for f in found if f.passages}
    assert set(passages) == set(PLAYED)
    for name, some in passages.items():
        begin, length = PLAYED[name]
        assert len(some) >= (length - 12) // 12
        for passage in some:
            truth = (passage.second - begin) / (1 + DRIFT)
            assert passage.offset == pytest.approx(truth, abs=0.02)
            assert 0 <= passage.offset <= length - 8
            assert passage.likeness > 0.1
    real = RealSet.open(folder)
    assert len(real.lines) == sum(map(len, passages.values()))
    assert len(real.references) == 3


def test_queries_are_the_recording_from_that_second_on(
    made: tuple[list[Found], Path], world: World
) -> None:
    found, folder = made
    sound, _ = soundfile.read(world.recording, dtype="int16")
    passages = [passage for one in found for passage in one.passages]
    for line, passage in zip(RealSet.open(folder).lines, passages, strict=True):
        query, rate = soundfile.read(folder / line.query, dtype="int16")
        first = round(passage.second * RATE)
        assert (rate, len(query)) == (RATE, 8 * RATE)
        assert np.abs(query.astype(int) - sound[first : first + len(query)]).max() <= 1
        assert line.offset_s == pytest.approx(passage.offset, abs=1e-4)


def test_drift_is_measured(made: tuple[list[Found], Path]) -> None:
    for one in made[0]:
        if one.passages and one.placed:
            assert one.placed.drift == pytest.approx(DRIFT, abs=100e-6)


def test_tracks_that_were_not_played_and_files_without_audio_are_reported(
    made: tuple[list[Found], Path],
) -> None:
    why = {one.track.name: one.why for one in made[0] if not one.passages}
    assert set(why) == {"absent.flac", "broken.mp3"}
    assert why["absent.flac"].startswith("it was not found")
    assert "broken.mp3" in why["broken.mp3"]


def test_each_song_has_one_role_and_both_roles_have_songs(made: tuple[list[Found], Path]) -> None:
    roles = {(line.song, line.role) for line in RealSet.open(made[1]).lines}
    assert len(roles) == 3
    assert {role for _, role in roles} == {"tune", "report"}


@pytest.mark.parametrize("drift", [-300e-6, 0.0, 300e-6])
def test_long_tracks_are_placed_at_both_ends_at_any_drift(drift: float) -> None:
    song = make_song(3, 150, FILTER_RATE)
    seconds = np.arange(round(len(song) * (1 + drift))) / (1 + drift)
    sound = np.interp(seconds, np.arange(len(song)), song).astype(np.float32)
    noise = np.random.default_rng(1).standard_normal(len(sound) + 10 * FILTER_RATE)
    air = (0.1 * noise).astype(np.float32)
    air[7 * FILTER_RATE : 7 * FILTER_RATE + len(sound)] += sound
    placed = Recording(Clip(air, FILTER_RATE)).find(Clip(song, FILTER_RATE))
    assert placed is not None
    assert placed.is_sure
    for second in (0.0, 75.0, 150.0):
        truth = 7 + second * (1 + drift)
        assert placed.second_of_recording(second) == pytest.approx(truth, abs=0.01)


def test_queries_are_cut_only_where_the_track_plays(tmp_path: Path) -> None:
    """One that was running when the recording began, and one that was stopped."""
    songs = {name: make_song(seed, 60, RATE) for seed, name in enumerate(("running", "stopped"))}
    for name, song in songs.items():
        save_audio(tmp_path / f"{name}.flac", song, RATE)
    air = recorded({0.0: songs["running"][25 * RATE :], 40.0: songs["stopped"][: 30 * RATE]}, 100.0)
    save_audio(tmp_path / "phone.wav", in_a_room(air, snr_db=5), RATE)
    tracks = [tmp_path / f"{name}.flac" for name in songs]
    found = cut_recording(tmp_path / "phone.wav", tracks, tmp_path / "set", seconds=6, gap=1)
    offsets = {one.track.stem: [p.offset for p in one.passages] for one in found}
    assert 24.98 <= min(offsets["running"]) < 33
    assert max(offsets["stopped"]) + 6 <= 33  # a block longer than it was heard, at most
    assert len(offsets["stopped"]) >= 3


def test_of_two_files_of_a_recording_one_is_taken_and_the_other_reported(
    world: World, tmp_path: Path
) -> None:
    one = world.tracks / "one.flac"
    twin = tmp_path / "twin.wav"
    samples, rate = soundfile.read(one)
    soundfile.write(twin, samples, rate)
    found = cut_recording(world.recording, [one, twin], tmp_path / "set")
    taken, left = sorted(found, key=lambda f: not f.passages)
    assert taken.passages
    assert left.passages == ()
    assert f"{taken.track.name} was found at that time" in left.why


def test_names_that_are_not_text_or_already_used_are_changed_in_the_set(
    world: World, tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff\nb.flac"))
    odd.write_bytes((world.tracks / "one.flac").read_bytes())
    taken = tmp_path / "other" / "three.flac"
    taken.parent.mkdir()
    taken.write_bytes((world.tracks / "two.flac").read_bytes())
    found = cut_recording(world.recording, [odd, world.tracks / "three.flac", taken], folder)
    assert all(one.passages for one in found)
    real = RealSet.open(folder)
    names = [path.name for path in real.references]
    assert names == ["a\\xff\\nb.flac", "three-2.flac", "three.flac"]
    assert {line.song for line in real.lines} == set(names)


def run(*args: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["cut-recording", *map(str, args)])
    return result.exit_code, result.stdout, result.stderr


def test_command_reports_every_track_and_adds_to_a_set(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    args = (world.tracks, "--output", folder, "--gap", "20", "--place", "kitchen")
    status, out, _ = run(world.recording, *args)
    assert status == 1  # some were not found
    assert "absent.flac: left out, for it was not found" in out
    assert "three.flac: found from 0:00.0 to" in out
    assert "of 3 tracks in" in out
    first = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert {line["place"] for line in first} == {"kitchen"}
    again = tmp_path / "bedroom.wav"
    again.write_bytes(world.recording.read_bytes())
    status, out, _ = run(again, world.tracks / "two.flac", "--output", folder)
    assert status == 0
    second = RealSet.open(folder)
    assert len(second.references) == 3  # no copy of the one that was there
    assert len(second.lines) > len(first)
    assert len({(line.song, line.role) for line in second.lines}) == 3


def test_a_recording_is_cut_once(world: World, made: tuple[list[Found], Path]) -> None:
    with pytest.raises(CorpusError, match="called phone: rename this one"):
        cut_recording(world.recording, [world.tracks / "one.flac"], made[1])


def test_nothing_is_written_where_nothing_is_found(world: World, tmp_path: Path) -> None:
    track = world.tracks / "absent.flac"
    status, out, _ = run(world.recording, track, "--output", tmp_path / "set")
    assert status == 1
    assert "nothing was written" in out
    assert not (tmp_path / "set").exists()


def test_a_recording_that_is_too_short_or_no_audio_is_one_line(
    world: World, tmp_path: Path
) -> None:
    save_audio(tmp_path / "short.wav", make_song(1, 1, RATE), RATE)
    one = world.tracks / "one.flac"
    status, out, _ = run(tmp_path / "short.wav", one, "--output", tmp_path / "set")
    assert status == 1
    assert "too short" in out
    status, _, err = run(world.tracks / "broken.mp3", one, "--output", tmp_path / "set")
    assert status == 1
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
