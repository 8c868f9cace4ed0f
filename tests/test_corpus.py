"""The corpus, assembled from small packages of synthesised audio: no network, no real music."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_packages import Sound, build_deb, music, snapshot

from fingerprint.errors import ConfigError, CorpusError
from fingerprint.lab.corpus import Corpus, load_recordings, load_responses
from fingerprint.lab.corpus.assemble import DROPPED, Assembly, assemble
from fingerprint.lab.corpus.config import CorpusConfig
from fingerprint.lab.corpus.debian import download, unpack_audio
from fingerprint.lab.corpus.manifest import MANIFEST, write_manifest
from fingerprint.lab.yaml_files import load_config
from fingerprint.types import Floats

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
PROJECT = Path(__file__).resolve().parents[1]
RATE = 8_000
ROOMS = """{count: 2, seed: %d, length: [3, 5], width: [3, 4], height: [2.4, 3],
            reverberation: [0.15, 0.4], distance: [0.3, 2]}"""
CONFIG = f"""
shortest_music: 20
music: {{train: [band], validation: [choir], test: [duo, solo], test-unknown: [stranger]}}
sounds: {{train: {{speech: [talk], effect: [band]}}, test: {{effect: [bang]}}}}
responses:
  train: [{{package: halls, files: "*/spaces/*.wav", kind: room}}]
  test: [{{package: halls, files: "*/boxes/*.wav", kind: device}}]
rooms: {{train: {ROOMS % 1}, test: {ROOMS % 2}}}
"""


def impulse(delay: int) -> Floats:
    """A direct path after some silence, then a decaying tail."""
    response = np.zeros(6_000, np.float32)
    response[delay] = -0.9
    tail = np.random.default_rng(delay).standard_normal(4_000) * np.exp(-np.arange(4_000) / 500)
    response[delay + 40 : delay + 4_040] += (0.1 * tail).astype(np.float32)
    return response


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> CorpusConfig:
    path = tmp_path_factory.mktemp("config") / "corpus.yaml"
    path.write_text(CONFIG)
    return load_config(path, CorpusConfig)


@pytest.fixture(scope="session")
def debs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("debs")
    shared, reissued = music(1, 30), music(2, 31)
    packages: dict[str, dict[str, Sound | bytes]] = {
        "band": {
            "one.wav": Sound(shared),
            "one again.wav": Sound(shared),
            "two.flac": Sound(music(3, 25)),
            "reissued.wav": Sound(reissued),
            "jingle.wav": Sound(music(4, 3)),
            "broken.ogg": b"OggS but not really",
            "empty.ogg": b"",
            "readme.txt": b"no audio",
        },
        "choir": {"psalm.wav": Sound(music(5, 22)), "one.wav": Sound(shared)},
        # Another codec, rate, level and a fifth of a second of silence in front.
        "duo": {
            "copy.ogg": Sound(np.r_[np.zeros(2_205, np.float32), 0.5 * reissued]),
            "own.wav": Sound(music(6, 24)),
            "short.wav": Sound(music(7, 5)),
        },
        "solo": {"both.wav": Sound(music(8, 21))},
        "stranger": {"unknown.wav": Sound(music(9, 23))},
        "talk": {"words.wav": Sound(music(10, 2)), "silence.wav": Sound(0 * music(11, 2))},
        "bang": {"bang.wav": Sound(music(12, 1)), "same words.wav": Sound(music(10, 2))},
        "halls": {
            "spaces/hall.wav": Sound(impulse(700), RATE),
            "boxes/box.wav": Sound(impulse(30), RATE),
            "other.wav": Sound(impulse(10), RATE),
        },
    }
    for package, files in packages.items():
        build_deb(folder, package, files)
    return folder


@pytest.fixture(scope="session")
def made(config: CorpusConfig, debs: Path, tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    root = tmp_path_factory.mktemp("corpus")
    shutil.copytree(debs, root / "debs")
    return assemble(config, root)


def names(corpus: Corpus, role: str) -> set[str]:
    return {file.path.name for file in corpus.role(role)}  # type: ignore[arg-type]


def reasons(made: Assembly) -> dict[str, str]:
    return {f"{d.package}/{Path(d.path).name}": d.reason for d in made.dropped}


def test_long_music_goes_to_the_role_of_its_package(made: Assembly) -> None:
    assert names(made.corpus, "train") == {"one again.wav", "two.flac", "reissued.wav"}
    assert names(made.corpus, "validation") == {"psalm.wav"}
    assert names(made.corpus, "test") == {"own.wav", "both.wav"}
    assert names(made.corpus, "test-unknown") == {"unknown.wav"}


def test_short_recordings_are_sounds_only_where_the_package_is_listed_for_sounds(
    made: Assembly,
) -> None:
    assert {(f.path.name, f.kind) for f in made.corpus.sounds("train")} == {
        ("jingle.wav", "effect"),
        ("words.wav", "speech"),
    }
    assert names(made.corpus, "sounds-test") == {"bang.wav"}
    assert "under 20 s" in reasons(made)["duo/short.wav"]


def test_a_duplicate_across_roles_stays_in_train_only(made: Assembly) -> None:
    assert reasons(made)["choir/one.wav"].startswith("duplicate across validation and train")
    assert reasons(made)["band/one.wav"].startswith("duplicate of band/")
    assert reasons(made)["bang/same words.wav"].startswith("duplicate across sounds-test")


def test_a_re_encoded_copy_is_known_in_spite_of_codec_level_and_delay(made: Assembly) -> None:
    assert reasons(made)["duo/copy.ogg"] == "duplicate across test and train of band/reissued.wav"


def test_unusable_files_are_reported_with_the_reason(made: Assembly) -> None:
    assert reasons(made)["band/broken.ogg"].startswith("unreadable: ")
    assert reasons(made)["band/empty.ogg"].startswith("unreadable: ")
    assert reasons(made)["talk/silence.wav"] == "silent"
    lines = (made.corpus.root / DROPPED).read_text().splitlines()
    assert len(lines) == len(made.dropped) == len([json.loads(line) for line in lines])


def test_only_audio_is_unpacked_and_links_are_not_followed(made: Assembly) -> None:
    unpacked = {path.name for path in (made.corpus.root / "audio" / "band").rglob("*")}
    assert "two.flac" in unpacked
    assert not unpacked & {"readme.txt", "dangling.ogg"}


def test_the_manifest_is_read_back_as_it_was_written(made: Assembly, tmp_path: Path) -> None:
    assert Corpus.open(made.corpus.root) == made.corpus
    moved = tmp_path / "moved"
    shutil.copytree(made.corpus.root, moved)
    there = Corpus.open(moved)
    assert all(file.path.is_relative_to(moved) and file.path.exists() for file in there.files)
    assert write_manifest(there).read_bytes() == (made.corpus.root / MANIFEST).read_bytes()


def test_the_manifest_holds_length_rate_and_hash_of_the_file(made: Assembly) -> None:
    file = next(f for f in made.corpus.files if f.path.name == "two.flac")
    assert file.seconds == pytest.approx(25 * 11_024 / 11_025, abs=0.001)
    assert (file.sample_rate, file.kind, file.package) == (11_025, "music", "band")
    assert len(file.sha256) == len(file.digest) == 64
    assert made.corpus.rooms["train"].seed == 1


def test_a_second_run_changes_nothing(config: CorpusConfig, made: Assembly) -> None:
    before = snapshot(made.corpus.root)
    assert assemble(config, made.corpus.root) == made
    assert snapshot(made.corpus.root) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from fingerprint.lab.yaml_files import load_config
from fingerprint.lab.corpus.assemble import assemble
from fingerprint.lab.corpus.config import CorpusConfig

def on_step(step):
    if (step.package, step.stage) == (sys.argv[3], sys.argv[4]):
        os.killpg(0, signal.SIGKILL)

if __name__ == "__main__":
    config = load_config(Path(sys.argv[2]), CorpusConfig)
    assemble(config, Path(sys.argv[1]), on_step=on_step)
"""


@pytest.mark.parametrize(("package", "stage"), [("choir", "unpack"), ("duo", "decode")])
def test_killed_run_is_resumed(
    package: str, stage: str, config: CorpusConfig, made: Assembly, debs: Path, tmp_path: Path
) -> None:
    root, listing, script = tmp_path / "corpus", tmp_path / "corpus.yaml", tmp_path / "killed.py"
    shutil.copytree(debs, root / "debs")
    listing.write_text(CONFIG)
    script.write_text(KILLED)
    command = [sys.executable, script, root, listing, package, stage]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    ended = subprocess.run(command, env=environment, start_new_session=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not (root / MANIFEST).exists()
    done = snapshot(root / "probed")
    assert set(done) == {"band.jsonl"} | ({"choir.jsonl"} if package == "duo" else set())
    resumed = assemble(config, root)
    assert {k: v for k, v in snapshot(root / "probed").items() if k in done} == done
    assert resumed.dropped == made.dropped
    for name in (MANIFEST, DROPPED):
        assert (root / name).read_bytes() == (made.corpus.root / name).read_bytes()


def test_some_packages_alone_make_a_corpus(
    config: CorpusConfig, debs: Path, tmp_path: Path
) -> None:
    shutil.copytree(debs, tmp_path / "debs")
    made = assemble(config, tmp_path, packages=["solo", "talk"])
    assert {file.path.name for file in made.corpus.files} == {"both.wav", "words.wav"}
    with pytest.raises(CorpusError, match="has no files for train"):
        load_recordings(made.corpus, "train", RATE)


def test_an_unlisted_package_is_refused(config: CorpusConfig, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="not a package of the corpus: bash"):
        assemble(config, tmp_path, packages=["bash"])


def test_a_package_writes_nothing_beside_its_folder(tmp_path: Path) -> None:
    deb = build_deb(tmp_path, "hostile", {"deep/er.ogg": b"sound"})
    plain = b"./usr/share/hostile/deep/er.ogg"
    outside = b"./usr/share/../../../../out.ogg"
    assert len(plain) == len(outside)
    members = bytearray(deb.read_bytes())
    at = members.index(plain)
    header = members[at : at + 512]
    header[: len(outside)] = outside
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    members[at : at + 512] = header
    deb.write_bytes(members)
    with pytest.raises(CorpusError, match="written elsewhere"):
        unpack_audio(deb, tmp_path / "audio" / "hostile")
    assert not list(tmp_path.rglob("out.ogg"))


def test_a_damaged_package_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    deb = tmp_path / "broken_1_all.deb"
    deb.write_bytes(b"!<arch>\nnot a package")
    with pytest.raises(CorpusError, match=r"cannot unpack .*broken_1_all\.deb.*delete it"):
        unpack_audio(deb, tmp_path / "audio" / "broken")
    assert list((tmp_path / "audio").iterdir()) == []


def test_a_damaged_record_of_a_package_is_named(
    config: CorpusConfig, debs: Path, tmp_path: Path
) -> None:
    shutil.copytree(debs, tmp_path / "debs")
    assemble(config, tmp_path, packages=["bang"])
    (tmp_path / "probed" / "bang.jsonl").write_text('{"other": 1}\n')
    with pytest.raises(CorpusError, match=r"cannot read .*bang\.jsonl; delete it"):
        assemble(config, tmp_path, packages=["bang"])


def run_script(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, PROJECT / "scripts" / "corpus.py", *arguments]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_command_prints_a_table_of_what_it_assembled(debs: Path, tmp_path: Path) -> None:
    shutil.copytree(debs, tmp_path / "debs")
    listing = tmp_path / "corpus.yaml"
    listing.write_text(CONFIG)
    ended = run_script("--root", tmp_path, "--config", listing, "--package", "solo", "--jobs", "1")
    assert ended.returncode == 0, ended.stderr
    assert [word for line in ended.stdout.splitlines() for word in line.split() if "test" in word]
    assert len(Corpus.open(tmp_path).music("test")) == 1


def test_the_command_shows_a_users_mistake_in_one_line(tmp_path: Path) -> None:
    ended = run_script("--root", tmp_path, "--package", "bash")
    assert ended.returncode == 1
    assert ended.stderr.strip().splitlines()[-1] == "Error: not a package of the corpus: bash"
    assert "Traceback" not in ended.stderr


def test_without_apt_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CorpusError, match=r"no apt-get here.*put the \.deb files into"):
        download("band", tmp_path)


def test_a_missing_or_damaged_corpus_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"there is no corpus at .*fingerprint\.lab corpus"):
        Corpus.open(tmp_path)
    for text in ("", "{", '{"format": 99, "rooms": {}}', '{"format": 1, "rooms": {}}\n{"path": 1}'):
        (tmp_path / MANIFEST).write_text(text)
        with pytest.raises(CorpusError, match=r"python -m fingerprint\.lab corpus"):
            Corpus.open(tmp_path)


def test_recordings_are_the_decoded_files_end_to_end(made: Assembly) -> None:
    recordings = load_recordings(made.corpus, "train", RATE)
    assert len(recordings) == 3
    assert recordings.starts[0] == 0
    assert recordings.starts[-1] == len(recordings.samples)
    assert not recordings.samples.flags.writeable
    for i, file in enumerate(recordings.files):
        found = recordings.recording(i)
        assert len(found) / RATE == pytest.approx(file.seconds, abs=0.01)
        samples, rate = soundfile.read(file.path)
        assert np.std(found / 32_768) == pytest.approx(np.std(samples), rel=0.02)
        second = np.abs(np.fft.rfft(found[4_000:8_000]))
        original = np.abs(np.fft.rfft(samples[rate // 2 : rate]))
        assert 2 * abs(int(second.argmax()) - int(original.argmax())) <= 4  # Hz


def test_the_cache_is_made_once_and_follows_the_manifest(made: Assembly) -> None:
    load_recordings(made.corpus, "sounds-train", RATE)
    folder = made.corpus.root / "cache" / str(RATE)
    before = snapshot(folder)
    load_recordings(made.corpus, "sounds-train", RATE)
    assert snapshot(folder) == before
    fewer = Corpus(made.corpus.root, made.corpus.sounds("train")[:1], made.corpus.rooms)
    assert len(load_recordings(fewer, "sounds-train", RATE).starts) == 2
    assert len(list(folder.glob("sounds-train.*"))) == 2


def test_responses_begin_with_the_direct_path_and_have_unit_energy(made: Assembly) -> None:
    # Training has no measured loudspeaker here, so a perfect one stands in: an impulse.
    for split, spaces, boxes in (("train", 3, 1), ("test", 2, 1)):
        responses = load_responses(made.corpus, split, RATE)  # type: ignore[arg-type]
        assert responses.rooms.shape == (spaces, RATE)
        assert responses.devices.shape == (boxes, RATE // 10)
        both = [*responses.rooms, *responses.devices]
        for response in both:
            assert np.sum(np.square(response)) == pytest.approx(1, abs=1e-4)
            assert abs(response[0]) >= 0.5 * np.abs(response).max()
            assert abs(response[0]) >= abs(response[1])


def test_a_measured_response_is_cut_at_its_known_direct_path(made: Assembly) -> None:
    hall = load_responses(made.corpus, "train", RATE).rooms[-1]
    truth = impulse(700)[700:]
    truth /= np.sqrt(np.sum(truth**2))
    assert hall[: len(truth)] == pytest.approx(truth, abs=1e-3)


def test_train_and_test_rooms_differ_and_come_out_the_same_again(made: Assembly) -> None:
    rooms = {s: load_responses(made.corpus, s, RATE).rooms for s in ("train", "test")}  # type: ignore[arg-type]
    assert np.max(rooms["train"] @ rooms["test"].T) < 0.999
    shutil.rmtree(made.corpus.root / "cache" / str(RATE))
    assert np.array_equal(load_responses(made.corpus, "train", RATE).rooms, rooms["train"])


def test_the_projects_own_list_keeps_the_splits_apart() -> None:
    config = load_config(PROJECT / "fingerprint" / "lab" / "corpus" / "packages.yaml", CorpusConfig)
    music = [name for packages in config.music.values() for name in packages]
    assert len(music) == len(set(music)) == 84
    train, test = (
        {name for packages in config.sounds[split].values() for name in packages}
        for split in ("train", "test")
    )
    assert not train & test
    assert not (train | test) & (set(music) - set(config.music["train"]))
    assert config.rooms["train"].seed != config.rooms["test"].seed


def test_a_package_in_two_splits_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "corpus.yaml"
    path.write_text(CONFIG.replace("test: [duo, solo]", "test: [duo, band]"))
    with pytest.raises(ConfigError, match="band is both"):
        load_config(path, CorpusConfig)
