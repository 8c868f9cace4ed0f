"""The weights in the package: they load, they recognise, they refuse, and the README is true."""

import doctest
import importlib
import io
import json
import math
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import fingerprint
from fingerprint.cli import main
from fingerprint.lab.training.config import load_recipe
from fingerprint.lab.training.recipe import RECIPE
from fingerprint.library.indexing import index_files
from fingerprint.library.library import Library
from fingerprint.model.fingerprinter import DEFAULT_WEIGHTS, Fingerprinter
from fingerprint.model.onnx_network import OnnxNetwork
from fingerprint.model.torch_network import TorchNetwork
from fingerprint.types import Clip, Floats

PROJECT = Path(__file__).parents[1]
RATE = 8_000


@pytest.fixture(scope="module")
def model() -> Fingerprinter:
    return Fingerprinter.default("cpu")


@pytest.fixture(scope="module")
def library(
    model: Fingerprinter, music_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Library:
    """The six songs of the music folder, seeds 0 to 5."""
    made = Library.create_or_open(tmp_path_factory.mktemp("library") / "library", model)
    index_files(made, sorted(music_folder.iterdir()))
    return made


def noisy(samples: Floats, snr_db: float, seed: int) -> Clip:
    """White noise, a band of 300 to 3,400 Hz and a short echo: a phone in a room, by formula."""
    rng = np.random.default_rng(seed)
    echo = np.exp(-np.arange(1_600) / 300) * rng.standard_normal(1_600) * 0.3
    echo[0] = 1
    heard = np.convolve(samples, echo)[: len(samples)]
    noise = rng.standard_normal(len(heard))
    heard = heard + noise * heard.std() / noise.std() * 10 ** (-snr_db / 20)
    spectrum = np.fft.rfft(heard)
    frequency = np.fft.rfftfreq(len(heard), 1 / RATE)
    spectrum[(frequency < 300) | (frequency > 3_400)] = 0
    return Clip((0.5 * np.fft.irfft(spectrum, len(heard))).astype(np.float32), RATE)


def test_the_shipped_file_is_small_and_is_of_the_shipped_recipe(model: Fingerprinter) -> None:
    assert DEFAULT_WEIGHTS.stat().st_size <= 10_000_000
    last = list(load_recipe(RECIPE).stages.values())[-1]
    assert model.config == last.model


def test_its_id_and_its_indexed_dimensions_stay(model: Fingerprinter) -> None:
    trained = Fingerprinter(TorchNetwork.load(DEFAULT_WEIGHTS))
    for one in (model, trained):
        assert one.id == "b07a96237c146c62e712ce7e24f40aa13e58b5fd8f771a1e4feab6b26bfba0e9"
        assert one.indexed_dims == 128


def test_a_card_beside_an_export_replaces_its_own(tmp_path: Path) -> None:
    alone = Path(shutil.copy(DEFAULT_WEIGHTS.with_suffix(".onnx"), tmp_path))
    assert "## Limits" in OnnxNetwork.load(alone, threads=1).about.card
    alone.with_suffix(".md").write_text("# Card")
    assert OnnxNetwork.load(alone, threads=1).about.card == "# Card"


def test_the_model_card_names_the_model_it_describes(model: Fingerprinter) -> None:
    assert model.id[:12] in model.card
    for section in ("Data", "Recipe", "Results", "Licence", "Limits"):
        assert f"## {section}" in model.card


def test_float_and_sixteen_bits_give_the_same_fingerprint(
    model: Fingerprinter, song: Callable[..., Floats]
) -> None:
    clean = song(3, 20.0, RATE)
    rounded = np.round(clean * 32_767).astype(np.int16).astype(np.float32) / 32_768

    def lowest_cosine(which: Fingerprinter) -> float:
        one, other = (which.embed(Clip(samples, RATE)).vectors for samples in (clean, rounded))
        return float(np.sum(one * other, axis=1).min())

    assert lowest_cosine(Fingerprinter(TorchNetwork.load(DEFAULT_WEIGHTS))) > 0.999
    assert lowest_cosine(model) > 0.997  # it computes in eight bits, and some fall the other way


@pytest.mark.parametrize("seed", range(6))
def test_a_noisy_snippet_of_every_song_is_found_at_its_place(
    library: Library, song: Callable[..., Floats], music_folder: Path, seed: int
) -> None:
    clip = noisy(song(seed, 20.0, RATE)[6 * RATE : 13 * RATE], snr_db=6, seed=seed)
    best = library.identify(clip, top=1, min_confidence=0)[0]
    assert best.track.path == sorted(music_folder.iterdir())[seed]
    assert best.offset == pytest.approx(6.0, abs=0.25)
    assert 0 < best.confidence <= 1


def test_unknown_songs_have_lower_confidence_than_known_ones(
    library: Library, song: Callable[..., Floats]
) -> None:
    def confidence(seed: int) -> float:
        clip = noisy(song(seed, 20.0, RATE)[6 * RATE : 16 * RATE], snr_db=6, seed=seed)
        return library.identify(clip, top=1, min_confidence=0)[0].confidence

    known = [confidence(seed) for seed in range(6)]
    unknown = [confidence(seed) for seed in range(50, 56)]
    assert min(known) > max(unknown)


def test_a_sure_answer_takes_one_search_and_silence_none(
    library: Library, song: Callable[..., Floats]
) -> None:
    known = Clip(song(2, 20.0, RATE)[5 * RATE : 15 * RATE], RATE)
    assert library.recognise(known).searches == 1
    unknown = Clip(song(55, 20.0, RATE)[5 * RATE : 15 * RATE], RATE)
    assert library.recognise(unknown).searches == 4
    assert library.recognise(Clip(np.zeros(5 * RATE, np.float32), RATE)).searches == 0


def test_a_copy_in_the_library_does_not_lower_the_confidence(
    model: Fingerprinter,
    music_folder: Path,
    song: Callable[..., Floats],
    write_audio: Callable[..., Path],
    tmp_path: Path,
) -> None:
    later = 0.6 * song(0, 20.0, 22_050)[round(1.1 * 22_050) :]
    copy = write_audio(tmp_path / "compilation.mp3", later, 22_050)
    with Library.create_or_open(tmp_path / "library", model) as library:
        index_files(library, [*sorted(music_folder.iterdir()), copy])
        clip = noisy(song(0, 20.0, RATE)[6 * RATE : 13 * RATE], snr_db=6, seed=0)
        first, second, third = library.identify(clip, top=3, min_confidence=0)
    assert {first.track.path.stem, second.track.path.stem} == {"song0", "compilation"}
    assert sorted([first.offset, second.offset]) == pytest.approx([4.9, 6.0], abs=0.25)
    assert min(first.confidence, second.confidence) > 0.5 > third.confidence


def test_noise_tones_and_silence_are_in_no_library(library: Library) -> None:
    rng = np.random.default_rng(0)
    time = np.arange(5 * RATE) / RATE
    for samples in (rng.standard_normal(5 * RATE) * 0.1, np.sin(2 * math.pi * 440 * time)):
        matches = library.identify(Clip(samples.astype(np.float32), RATE), top=1, min_confidence=0)
        assert not matches or matches[0].confidence < 0.9
    assert library.identify(Clip(np.zeros(5 * RATE, np.float32), RATE), min_confidence=0) == []


def test_the_python_in_the_readme_runs_as_it_stands(
    music_folder: Path,
    song: Callable[..., Floats],
    write_audio: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("music").symlink_to(music_folder)
    write_audio(tmp_path / "snippet.wav", song(2, 20.0, RATE)[6 * RATE : 12 * RATE], RATE)
    both = np.concatenate([song(0, 20.0, RATE), song(3, 20.0, RATE)])
    write_audio(tmp_path / "broadcast.ogg", both, RATE)
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(block, "README.md", "exec"), {})  # noqa: S102
    first = printed.getvalue().splitlines()[0]
    expected = sorted(music_folder.iterdir())[2].name
    assert expected in first
    assert "at 6.0 s" in first
    spans = [line.split(": ")[1] for line in printed.getvalue().splitlines() if " s: " in line]
    assert [name for name in spans if name != "unknown"] == ["song0.wav", "song3.mp3"]


def test_the_commands_in_the_readme_exist() -> None:
    text = (PROJECT / "README.md").read_text()
    named = set(re.findall(r"^fingerprint (\w+)", text, re.MULTILINE))
    assert {"index", "identify", "list", "info", "train", "calibrate", "evaluate"} <= named
    assert named <= {*main.lazy}
    for script in re.findall(r"scripts/\w+\.(?:sh|py)", text):
        assert (PROJECT / script).is_file()


def test_identify_answers_in_the_readmes_json(
    library: Library, song: Callable[..., Floats], write_audio: Callable[..., Path], tmp_path: Path
) -> None:
    text = (PROJECT / "README.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    query = write_audio(tmp_path / "q.wav", song(1, 20.0, RATE)[RATE : 7 * RATE], RATE)
    folder = library.folder
    result = CliRunner().invoke(
        main, ["identify", "--json", "--library", str(folder), str(query)], env={}
    )
    answer, shown = json.loads(result.stdout), json.loads(example)
    assert result.exit_code == 0
    assert list(answer) == list(shown)
    assert list(answer["matches"][0]) == list(shown["matches"][0])


@pytest.mark.parametrize("name", ["Library", "Scanner", "scan", "listen", "explain"])
def test_the_examples_in_the_docstrings(
    name: str,
    library: Library,
    song: Callable[..., Floats],
    write_audio: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """They know a library of six songs, a snippet of one, and a recording of two songs."""
    both = np.concatenate([song(0, 20.0, RATE), song(3, 20.0, RATE)])
    prepared = {
        "library": library,
        "snippet": Clip(song(2, 20.0, RATE)[6 * RATE : 12 * RATE], RATE),
        "recording": Clip(both, RATE),
        "path": write_audio(tmp_path / "both.flac", both, RATE),
    }
    value = getattr(fingerprint, name)
    home = importlib.import_module(value.__module__)
    found = doctest.DocTestFinder().find(value, name, module=home, extraglobs=prepared)
    results = [doctest.DocTestRunner().run(test) for test in found]
    assert sum(result.attempted for result in results) > 0
    assert sum(result.failed for result in results) == 0


@pytest.mark.parametrize("profile", ["standard", "compact"])
def test_model_of_other_indexed_dimensions_makes_and_opens_a_library(
    music_folder: Path, song: Callable[..., Floats], tmp_path: Path, profile: str
) -> None:
    """The shipped weights, of which 32 dimensions are indexed: too few, but hits are reranked."""
    given = TorchNetwork.load(DEFAULT_WEIGHTS).checkpoint
    embedder = given.config.embedder.model_copy(update={"indexed_dims": 32})
    config = given.config.model_copy(update={"embedder": embedder})
    model = Fingerprinter(TorchNetwork(replace(given, config=config), "cpu"))
    assert (model.dim, model.indexed_dims) == (256, 32)
    with Library.create_or_open(tmp_path / "library", model, profile=profile) as library:
        index_files(library, sorted(music_folder.iterdir())[:3])
    with Library.open(tmp_path / "library", model) as library:
        assert library.meta.indexed_dims == 32
        sidecars = [json.loads(path.read_text()) for path in library.folder.rglob("*.json")]
        assert {one["dim"] for one in sidecars} == ({32} if profile == "standard" else set())
        for seed in range(3):
            clip = noisy(song(seed, 20.0, RATE)[6 * RATE : 13 * RATE], snr_db=12, seed=seed)
            best = library.identify(clip, top=1, min_confidence=0)[0]
            assert best.track.path == sorted(music_folder.iterdir())[seed]
            assert best.offset == pytest.approx(6.0, abs=0.25)
