"""Music added to a corpus: scores of known pitch are rendered, songs generated, copies left out."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_packages import Sound, build_deb, music, snapshot
from scores import write_midi, write_module, write_soundfont

from fingerprint.errors import AudioError, ConfigError, CorpusError
from fingerprint.lab.corpus import Corpus, load_recordings
from fingerprint.lab.corpus.additions import KEPT_RATE, Addition, add_music
from fingerprint.lab.corpus.assemble import DROPPED, Step, assemble
from fingerprint.lab.corpus.config import ADDITIONS, CorpusConfig
from fingerprint.lab.corpus.generate import generate
from fingerprint.lab.corpus.manifest import MANIFEST, write_manifest
from fingerprint.lab.corpus.render import RENDERERS, check_renderers, render
from fingerprint.lab.yaml_files import load_config
from fingerprint.types import Floats

PROJECT = Path(__file__).resolve().parents[1]
RATE = 8_000
ROOMS = """{count: 1, seed: %d, length: [3, 5], width: [3, 4], height: [2.4, 3],
            reverberation: [0.15, 0.4], distance: [0.3, 2]}"""
CONFIG = f"""
music: {{train: [band], validation: [choir], test: [], test-unknown: []}}
sounds: {{train: {{}}, test: {{}}}}
responses: {{train: [], test: []}}
rooms: {{train: {ROOMS % 1}, test: {ROOMS % 2}}}
rendered:
  longest: 40
  packages: [band, game]
  without: ["game/*/exercises/*", "game/*/jingle.MID.bright.flac"]
  soundfonts: [{{package: fonts, file: "usr/share/fonts/dull.sf2"}},
               {{package: fonts, file: "*/*/*/bright.sf2"}}]
generated: {{songs: 3, first_seed: 5, seconds: [20, 24]}}
"""
NOTES = (57, 69, 64, 72, 60, 67, 62)

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
needs_renderers = pytest.mark.skipif(
    not all(map(shutil.which, RENDERERS)), reason=f"needs {' and '.join(RENDERERS)}"
)


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> CorpusConfig:
    path = tmp_path_factory.mktemp("config") / "corpus.yaml"
    path.write_text(CONFIG)
    return load_config(path, CorpusConfig)


@pytest.fixture(scope="session")
def debs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, scores = tmp_path_factory.mktemp("debs"), tmp_path_factory.mktemp("scores")
    tune = write_midi(scores / "tune", NOTES, 4.0)
    module = write_module(scores / "module", (428, 404, 381, 428))
    packages: dict[str, dict[str, Sound | bytes]] = {
        "band": {
            "song.wav": Sound(music(1, 25)),
            "made.wav": Sound(generate(6, 22, KEPT_RATE), KEPT_RATE),
            "module.mod": module.read_bytes(),
        },
        "choir": {"psalm.wav": Sound(music(2, 25))},
        "game": {
            "tune.mid": tune.read_bytes(),
            "jingle.MID": write_midi(scores / "jingle", NOTES[:2], 1.0).read_bytes(),
            "long.mod": write_module(scores / "long", (428, 360, 428, 320) * 6).read_bytes(),
            "same.mod": module.read_bytes(),
            "mute.mod": write_module(scores / "mute", (0, 0, 0, 0)).read_bytes(),
            "broken.xm": b"not a module",
            "exercises/scale.mid": write_midi(scores / "scale", range(40, 80), 1.0).read_bytes(),
            "readme.txt": b"no score",
        },
        "fonts": {
            "dull.sf2": write_soundfont(scores / "dull", [1.0]).read_bytes(),
            "bright.sf2": write_soundfont(scores / "bright", [0.2, 0, 1, 0, 0.8]).read_bytes(),
        },
    }
    for package, files in packages.items():
        build_deb(folder, package, files)
    return folder


@pytest.fixture(scope="session")
def bare(config: CorpusConfig, debs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a corpus without additions. Read only."""
    root = tmp_path_factory.mktemp("bare")
    shutil.copytree(debs, root / "debs")
    assemble(config, root)
    return root


@pytest.fixture(scope="session")
def root(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(bare, tmp_path_factory.mktemp("added") / "corpus"))


@pytest.fixture(scope="session")
def rendered(config: CorpusConfig, root: Path) -> Addition:
    return add_music("rendered", config, root)


@pytest.fixture(scope="session")
def generated(config: CorpusConfig, root: Path) -> Addition:
    return add_music("generated", config, root)


def pitches(sound: Floats, rate: int, every: float, count: int) -> list[float]:
    """The strongest frequency (Hz) in the middle second of each of `count` stretches."""
    found = []
    for i in range(count):
        begin = round((i + 0.5) * every * rate - rate / 2)
        spectrum = np.abs(np.fft.rfft(sound[begin : begin + rate] * np.hanning(rate)))
        found.append(float(spectrum.argmax()))
    return found


@needs_renderers
def test_a_module_sounds_at_its_pitches_and_length(tmp_path: Path) -> None:
    periods = (428, 320, 254)
    module = write_module(tmp_path / "a.mod", periods)
    sound = render(module, None, 60, KEPT_RATE)
    truth = [3_546_895 / (period * 32) for period in periods]
    assert pitches(sound, KEPT_RATE, 7.68, 3) == pytest.approx(truth, abs=2)
    assert len(sound) / KEPT_RATE == pytest.approx(3 * 7.68, abs=0.5)


@needs_renderers
def test_a_midi_file_sounds_at_its_pitches_with_each_soundfont(tmp_path: Path) -> None:
    score = write_midi(tmp_path / "a.mid", NOTES, 3.0)
    for harmonic, harmonics in ((1, [1.0]), (3, [0.0, 0.0, 1.0])):
        font = write_soundfont(tmp_path / "a.sf2", harmonics)
        sound = render(score, font, 60, KEPT_RATE)
        truth = [harmonic * 441 * 2 ** ((note - 69) / 12) for note in NOTES]
        assert pitches(sound, KEPT_RATE, 3.0, len(NOTES)) == pytest.approx(truth, abs=2)


@needs_renderers
def test_of_a_long_score_only_the_beginning_is_rendered(tmp_path: Path) -> None:
    module = write_module(tmp_path / "a.mod", (428,) * 100)
    assert len(render(module, None, 5.0, KEPT_RATE)) == 5 * KEPT_RATE
    assert np.abs(render(module, None, 5.0, KEPT_RATE)).max() < 1


@needs_renderers
def test_files_that_are_not_scores_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.xm").write_bytes(b"not a module")
    with pytest.raises(AudioError, match=r"cannot render a\.xm: openmpt123"):
        render(tmp_path / "a.xm", None, 5.0, KEPT_RATE)


def pretend(folder: Path, name: str, script: str) -> None:
    """A program that stands for a renderer of the same name."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_renderer_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, "openmpt123", "exec sleep 60")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(AudioError, match=r"a\.mod: openmpt123 takes over 0\.3 s"):
        render(tmp_path / "a.mod", None, 5.0, KEPT_RATE, patience=0.3)


def test_endless_renderer_is_stopped_at_the_wanted_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, "openmpt123", "exec cat /dev/zero")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert len(render(tmp_path / "a.mod", None, 2.0, KEPT_RATE)) == 2 * KEPT_RATE


def test_a_renderer_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, "fluidsynth", "echo all is lost >&2; echo >&2; exit 3")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(AudioError, match=r"a\.mid: fluidsynth says: all is lost"):
        render(tmp_path / "a.mid", tmp_path / "a.sf2", 5.0, KEPT_RATE)


def test_a_missing_renderer_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, "fluidsynth", "true")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CorpusError, match=r"no openmpt123 here; run: apt-get install openmpt123$"):
        check_renderers()


@needs_dpkg
@needs_renderers
def test_midi_is_a_recording_with_every_soundfont_and_a_module_is_one(
    rendered: Addition, root: Path
) -> None:
    names = {file.path.relative_to(root / "rendered").as_posix() for file in rendered.files}
    assert names == {
        "band/usr/share/band/module.mod.flac",
        "game/usr/share/game/long.mod.flac",
        "game/usr/share/game/tune.mid.bright.flac",
        "game/usr/share/game/tune.mid.dull.flac",
    }
    for file in rendered.files:
        info = soundfile.info(file.path)
        assert (info.samplerate, info.channels, info.format) == (KEPT_RATE, 1, "FLAC")
        assert file.seconds == pytest.approx(info.duration, abs=0.001)
        assert (file.role, file.kind) == ("rendered", "music")
    assert {file.package for file in rendered.files} == {"band", "game"}
    lengths = {file.path.name: file.seconds for file in rendered.files}
    assert lengths["long.mod.flac"] == 40.0


@needs_dpkg
@needs_renderers
def test_every_dropped_file_has_a_reason(rendered: Addition, root: Path) -> None:
    reasons = {Path(dropped.path).name: dropped.reason for dropped in rendered.dropped}
    assert reasons["mute.mod.flac"] == "silent"
    assert reasons["jingle.MID.dull.flac"] == "under 20 s"
    assert reasons["same.mod.flac"] == "duplicate of band/usr/share/band/module.mod.flac"
    assert reasons["broken.xm.flac"].startswith("cannot render broken.xm")
    assert len(reasons) == 4
    lines = (root / "rendered" / DROPPED).read_text().splitlines()
    assert {Path(json.loads(line)["path"]).name for line in lines} == set(reasons)


@needs_dpkg
def test_generated_songs_are_those_of_their_seeds_but_for_copies_of_the_corpus(
    generated: Addition,
) -> None:
    assert [file.path.name.split("-")[1] for file in generated.files] == ["00005", "00007"]
    assert [d.reason for d in generated.dropped] == ["duplicate of band/usr/share/band/made.wav"]
    for seed, file in zip((5, 7), generated.files, strict=True):
        samples, rate = soundfile.read(file.path, dtype="float32")
        assert 20 <= file.seconds <= 24
        assert samples == pytest.approx(generate(seed, file.seconds, rate), abs=1e-4)


@needs_dpkg
def test_the_corpus_itself_stays_as_it_was(
    generated: Addition, config: CorpusConfig, bare: Path, root: Path
) -> None:
    for name in (MANIFEST, DROPPED):
        assert (root / name).read_bytes() == (bare / name).read_bytes()
    before, after = Corpus.open(bare), Corpus.open(root)
    for role in ("train", "validation"):
        assert [f.digest for f in after.role(role)] == [f.digest for f in before.role(role)]
    assert before.role("generated") == ()
    assert after.role("generated") == generated.files
    write_manifest(after)
    assert (root / MANIFEST).read_bytes() == (bare / MANIFEST).read_bytes()
    assemble(config, root)
    assert Corpus.open(root).role("generated") == generated.files


@needs_dpkg
def test_only_missing_files_are_made_again(
    generated: Addition, config: CorpusConfig, root: Path, tmp_path: Path
) -> None:
    there = Path(shutil.copytree(root, tmp_path / "corpus"))
    folder, second = there / "generated", generated.files[1].path.name
    whole = snapshot(folder)
    add_music("generated", config, there)
    assert snapshot(folder) == whole
    for missing in (folder / MANIFEST, folder / second, (folder / second).with_suffix(".json")):
        missing.unlink()
    kept = snapshot(folder)
    steps = list[Step]()
    add_music("generated", config, there, on_step=steps.append)
    after = snapshot(folder)
    assert set(after) == set(whole)
    assert all(after[name] == kept[name] for name in kept if name not in (".", DROPPED))
    assert [(step.number, step.total, step.stage) for step in steps] == [
        (n, 3, "make") for n in (1, 2, 3)
    ]


@needs_dpkg
def test_recordings_of_several_roles_follow_each_other(generated: Addition, root: Path) -> None:
    corpus = Corpus.open(root)
    parts = [load_recordings(corpus, role, RATE) for role in ("train", "generated")]  # type: ignore[arg-type]
    both = load_recordings(corpus, ("train", "generated"), RATE)
    assert both.files == parts[0].files + parts[1].files
    assert len(both) == len(parts[0]) + len(generated.files)
    recordings = [part.recording(i) for part in parts for i in range(len(part))]
    for i, recording in enumerate(recordings):
        assert np.array_equal(both.recording(i), recording)
    again = load_recordings(corpus, ("train",), RATE)
    assert np.array_equal(again.samples, parts[0].samples)
    caches = {path.name.split(".")[0] for path in (root / "cache" / str(RATE)).glob("*.pcm")}
    assert caches == {"train", "generated", "train+generated"}


@needs_dpkg
def test_an_addition_that_was_not_made_names_the_command(bare: Path) -> None:
    with pytest.raises(CorpusError, match=r"no files for rendered; run: .*--add rendered"):
        load_recordings(Corpus.open(bare), ("train", "rendered"), RATE)


@needs_dpkg
def test_a_damaged_manifest_of_an_addition_names_the_command(
    generated: Addition, root: Path, tmp_path: Path
) -> None:
    there = Path(shutil.copytree(root, tmp_path / "corpus"))
    for text in ("", "{", '{"format": 99}', '{"format": 1}\n{"path": 1}'):
        (there / "generated" / MANIFEST).write_text(text)
        with pytest.raises(CorpusError, match=r"delete it and run: .* --add generated"):
            Corpus.open(there)


def test_there_must_be_a_corpus_to_add_to(config: CorpusConfig, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="there is no corpus at"):
        add_music("generated", config, tmp_path)


def test_music_of_a_test_is_not_rendered_to_train_on(tmp_path: Path) -> None:
    path = tmp_path / "corpus.yaml"
    path.write_text(CONFIG.replace("packages: [band, game]", "packages: [band, choir]"))
    with pytest.raises(ConfigError, match="choir is both validation and train music"):
        load_config(path, CorpusConfig)


def test_the_projects_own_list_has_both_additions() -> None:
    config = load_config(PROJECT / "fingerprint" / "lab" / "corpus" / "packages.yaml", CorpusConfig)
    assert config.rendered is not None
    assert config.generated is not None
    held_out = {
        name for role in ("validation", "test", "test-unknown") for name in config.music[role]
    }  # type: ignore[index]
    assert not held_out & set(config.rendered.packages)
    assert ADDITIONS == ("rendered", "generated")


def run_script(*arguments: str | Path, path: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, PROJECT / "scripts" / "corpus.py", *arguments]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)} | ({"PATH": path} if path else {})
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@needs_dpkg
def test_the_command_adds_music_and_shows_mistakes_in_one_line(bare: Path, tmp_path: Path) -> None:
    there = Path(shutil.copytree(bare, tmp_path / "corpus"))
    listing = tmp_path / "corpus.yaml"
    listing.write_text(CONFIG)
    common = ("--root", there, "--config", listing, "--jobs", "1")
    ended = run_script(*common, "--add", "generated")
    assert ended.returncode == 0, ended.stderr
    assert [line.split() for line in ended.stdout.splitlines() if "generated" in line]
    assert len(Corpus.open(there).role("generated")) == 2
    ended = run_script(*common, "--add", "rendered", path=str(tmp_path))
    assert ended.returncode == 1
    assert ended.stderr.strip().splitlines()[-1].startswith("Error: cannot render: no openmpt123 ")
    ended = run_script(*common, "--add", "rendered", "--package", "band")
    assert ended.returncode == 2
