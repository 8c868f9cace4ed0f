"""The model as its users see it: geometry, invariances, checkpoint round-trips."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fingerprint.config import EmbedderConfig, FrontendConfig, ModelConfig
from fingerprint.errors import ModelError
from fingerprint.model.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from fingerprint.model.embedder import create_embedder
from fingerprint.model.fingerprinter import QUERY_ROWS, QUERY_SHIFTS, Fingerprinter
from fingerprint.model.network import pack_background
from fingerprint.model.torch_network import TorchNetwork
from fingerprint.recognition.confidence import Calibration
from fingerprint.types import Background, Clip, Floats

SMALL = ModelConfig(embedder=EmbedderConfig(stem=8, widths=(8, 16, 16), depth=1, dim=32))


@pytest.fixture(scope="module")
def network() -> TorchNetwork:
    return TorchNetwork.create(SMALL, seed=0)


@pytest.fixture(scope="module")
def model(network: TorchNetwork) -> Fingerprinter:
    return Fingerprinter(network)


@pytest.fixture(scope="module")
def music(song: Callable[..., Floats]) -> Clip:
    return Clip(song(1, 90.0), 8_000)


def cut(clip: Clip, start: float, seconds: float) -> Clip:
    first = round(start * clip.sample_rate)
    return Clip(clip.samples[first : first + round(seconds * clip.sample_rate)], clip.sample_rate)


def cosines(a: Floats, b: Floats) -> Floats:
    return np.sum(a * b, axis=-1)


def test_every_window_of_a_long_spectrogram_embeds_as_it_does_alone() -> None:
    embedder = create_embedder(SMALL, 0).eval()
    stride, window = embedder.stride, embedder.window_frames
    spectrogram = torch.randn(1, 128, window + 5 * stride)
    with torch.inference_mode():
        together = embedder(spectrogram)[0]
        alone = [embedder(spectrogram[..., i * stride :][..., :window])[0, 0] for i in range(6)]
    assert together.shape == (6, 32)
    assert torch.allclose(together, torch.stack(alone), atol=1e-5)


def test_rows_have_unit_length_and_lie_a_hop_apart(model: Fingerprinter, music: Clip) -> None:
    fingerprint = model.embed(music)
    expected = int((music.duration - model.window) / model.hop) + 1
    assert fingerprint.vectors.shape == (expected, 32)
    np.testing.assert_allclose(np.linalg.norm(fingerprint.vectors, axis=1), 1, atol=1e-5)


def test_blocks_of_any_size_embed_as_the_whole(model: Fingerprinter, music: Clip) -> None:
    whole = model.embed(music).vectors
    for size in (0.7, 13.0, 70.0):
        count = int(np.ceil(music.duration / size))
        embedding = model.begin()
        for i in range(count):
            embedding.take(cut(music, i * size, size))
        np.testing.assert_allclose(embedding.end().vectors, whole, atol=1e-5)


def test_a_query_s_rows_fall_on_the_library_s_grid(model: Fingerprinter, music: Clip) -> None:
    library, query = model.embed(music), model.embed_query(music)
    assert query.hop * QUERY_SHIFTS == pytest.approx(library.hop)
    np.testing.assert_allclose(query.vectors[::QUERY_SHIFTS], library.vectors, atol=1e-5)


def test_a_cut_from_the_middle_embeds_like_its_place(model: Fingerprinter, music: Clip) -> None:
    place = 40 * model.hop
    query = model.embed_query(cut(music, place, 6.0))
    rows = model.embed(music).vectors[40 : 40 + len(query.vectors) // QUERY_SHIFTS]
    assert cosines(query.vectors[::QUERY_SHIFTS][: len(rows)], rows).min() > 0.9


@pytest.mark.parametrize("seconds", [0.001, 0.3, 1.0, 1.9, 2.0])
def test_a_short_query_has_the_rows_of_all_windows_that_hold_it(
    model: Fingerprinter, music: Clip, seconds: float
) -> None:
    query = model.embed_query(cut(music, 10.0, seconds))
    assert len(query.vectors) >= QUERY_ROWS
    spare = max(0.0, model.window - seconds)
    most = QUERY_ROWS // 2 * query.hop  # rows are added until there are enough, on both sides
    assert -spare - most <= query.start <= 0
    last = query.start + (len(query.vectors) - 1) * query.hop
    assert 0 <= last <= most
    assert query.start == pytest.approx(-spare, abs=most)


@pytest.mark.parametrize("seconds", [0.3, 1.0, 1.8])
def test_one_row_of_a_short_query_is_what_a_library_stores_of_it(
    model: Fingerprinter, music: Clip, seconds: float
) -> None:
    short = cut(music, 10.0, seconds)
    query = model.embed_query(short)
    number = round(-query.start / query.hop)
    assert query.start + number * query.hop == pytest.approx(0, abs=1e-9)
    assert cosines(query.vectors[number : number + 1], model.embed(short).vectors).min() > 0.9999


@pytest.mark.parametrize("kind", ["log_mel", "pcen", "cqt", "stft"])
def test_level_and_sixteen_bits_change_no_fingerprint(kind: str, music: Clip) -> None:
    config = ModelConfig(frontend=FrontendConfig(kind=kind), embedder=SMALL.embedder)  # type: ignore[arg-type]
    model = Fingerprinter.create(config)
    clean = model.embed(cut(music, 0, 20)).vectors
    for gain in (0.05, 1.9):
        scaled = cut(music, 0, 20).samples * np.float32(gain)
        rounded = np.round(scaled * 32_767).astype(np.int16).astype(np.float32) / 32_768
        assert cosines(model.embed(Clip(rounded, 8_000)).vectors, clean).min() > 0.999


def test_silence_gives_rows_of_zeros_and_only_silence(model: Fingerprinter, music: Clip) -> None:
    samples = music.samples.copy()
    samples[20 * 8_000 : 30 * 8_000] = 0
    vectors = model.embed(Clip(samples, 8_000)).vectors
    silent = ~vectors.any(axis=1)
    begins = np.arange(len(vectors)) * model.hop
    inside = (begins >= 20) & (begins + model.window <= 30)
    np.testing.assert_array_equal(silent, inside)
    assert not model.embed_query(Clip(np.zeros(8_000, np.float32), 8_000)).vectors.any()


def test_empty_clip_has_no_rows(model: Fingerprinter) -> None:
    assert model.embed(Clip(np.zeros(0, np.float32), 8_000)).vectors.shape == (0, 32)


def test_another_sample_rate_is_refused(model: Fingerprinter) -> None:
    with pytest.raises(ValueError, match="8000 Hz, got 44100 Hz"):
        model.embed(Clip(np.zeros(9, np.float32), 44_100))


def test_a_saved_model_is_the_same_model(model: Fingerprinter, music: Clip, tmp_path: Path) -> None:
    model.save(tmp_path / "m.pt")
    (tmp_path / "m.md").write_text("# Card")
    again = Fingerprinter.load(tmp_path / "m.pt", "cpu")
    assert (again.id, again.config, again.card) == (model.id, model.config, "# Card")
    clip = cut(music, 0, 5)
    np.testing.assert_array_equal(again.embed(clip).vectors, model.embed(clip).vectors)


def test_background_is_saved_and_loaded_with_the_model(
    model: Fingerprinter, tmp_path: Path
) -> None:
    assert model.background is None
    model.save(tmp_path / "model.pt")
    rows = np.random.default_rng(0).standard_normal((3, 5, model.dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    packed = pack_background(Background(rows, np.zeros((3, 5, 8), np.uint16), model.hop))
    given = read_checkpoint(tmp_path / "model.pt")
    write_checkpoint(replace(given, background=packed), tmp_path / "model.pt")
    loaded = Fingerprinter.load(tmp_path / "model.pt", "cpu")
    assert loaded.id == model.id
    assert loaded.background is not None
    assert loaded.background.vectors.shape == rows.shape
    assert loaded.background.hop == model.hop


def test_the_id_follows_weights_and_configuration_but_not_the_calibration(
    network: TorchNetwork,
) -> None:
    given = network.checkpoint
    moved = {name: tensor.clone() for name, tensor in given.weights.items()}
    moved["head.bias"][0] += 0.5
    other_config = ModelConfig(frontend=FrontendConfig(f_min=200.0), embedder=SMALL.embedder)
    assert Checkpoint(given.config, moved, given.calibration).id != given.id
    assert Checkpoint(other_config, given.weights, given.calibration).id != given.id
    fitted = Calibration(intercept=-1.0)
    assert Checkpoint(given.config, given.weights, fitted).id == given.id


def test_bad_model_files_are_named_in_one_line(model: Fingerprinter, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    with pytest.raises(ModelError, match=r"cannot read the model .*m\.pt: No such file"):
        Fingerprinter.load(path)
    model.save(path)
    whole = path.read_bytes()
    for damage in (b"", b"not a model", whole[: len(whole) // 2]):
        path.write_bytes(damage)
        with pytest.raises(ModelError, match=r"m\.pt is damaged or not"):
            Fingerprinter.load(path)
    torch.save({"format": 99}, path)
    with pytest.raises(ModelError, match="has model format 99; this version reads format 1"):
        Fingerprinter.load(path)
    torch.save([1, 2], path)
    with pytest.raises(ModelError, match="is not a fingerprint model"):
        Fingerprinter.load(path)


def test_weights_of_another_shape_are_refused(network: TorchNetwork, tmp_path: Path) -> None:
    other = ModelConfig(embedder=EmbedderConfig(stem=8, widths=(8, 16, 16), depth=1, dim=16))
    path = tmp_path / "m.pt"
    write_checkpoint(replace(network.checkpoint, config=other), path)
    assert read_checkpoint(path).config == other
    with pytest.raises(ModelError, match="do not fit its configuration"):
        Fingerprinter.load(path)


def test_the_random_state_of_torch_is_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    create_embedder(SMALL, 5)
    assert torch.equal(torch.rand(3), expected)


def test_other_indexed_dimensions_are_part_of_the_model_and_of_its_id(
    network: TorchNetwork, tmp_path: Path
) -> None:
    given = network.checkpoint
    assert "indexed_dims" not in given.config.model_dump_json()  # the ids of older models stay
    assert Fingerprinter(network).indexed_dims == 32  # the whole embedding
    embedder = SMALL.embedder.model_copy(update={"indexed_dims": 16})
    other = replace(given, config=SMALL.model_copy(update={"embedder": embedder}))
    assert other.id != given.id
    write_checkpoint(other, tmp_path / "model.pt")
    again = Fingerprinter.load(tmp_path / "model.pt", "cpu")
    assert (again.id, again.config, again.indexed_dims) == (other.id, other.config, 16)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]  # no draft is left


def test_indexed_dimensions_fill_whole_codes() -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        EmbedderConfig(indexed_dims=20)
