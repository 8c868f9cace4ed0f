"""The ONNX file: it computes what the model computes, says what it is, and fails in one line."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from fingerprint.cli import main
from fingerprint.config import EmbedderConfig, FrontendConfig, ModelConfig
from fingerprint.errors import ModelError
from fingerprint.lab.export.onnx import check_onnx, export_onnx, metadata, to_onnx
from fingerprint.lab.export.spectrum import FourierPower
from fingerprint.model.fingerprinter import DEFAULT_WEIGHTS, QUERY_ROWS, QUERY_SHIFTS, Fingerprinter
from fingerprint.model.frontend import FRONTENDS, FilterPower
from fingerprint.model.network import pack_background
from fingerprint.model.onnx_network import OnnxNetwork
from fingerprint.model.torch_network import TorchNetwork
from fingerprint.recognition.confidence import Calibration
from fingerprint.types import Background, Clip, Floats

RATE = 8_000
SMALL = EmbedderConfig(stem=8, widths=(8, 16, 16), depth=1, dim=32)


@dataclass(frozen=True, eq=False)
class Runtime:
    """An exported file as a program without torch sees it: ONNX Runtime and the metadata."""

    session: onnxruntime.InferenceSession

    @property
    def about(self) -> dict[str, str]:
        return self.session.get_modelmeta().custom_metadata_map

    def frames(self, name: str) -> int:
        return int(self.about[f"{name}_frames"])

    def rows(self, waveform: Floats, **choice: int) -> Floats:
        feed = {"waveform": waveform, **{name: np.array(n) for name, n in choice.items()}}
        return self.session.run(None, feed)[0]

    def query(self, samples: Floats) -> Floats:
        """What `Fingerprinter.embed_query` does, but for silence."""
        frontend = ModelConfig.model_validate_json(self.about["config"]).frontend
        samples = np.pad(samples, (0, max(0, frontend.n_fft - len(samples))))
        frames = (len(samples) - frontend.n_fft) // frontend.hop + 1
        window, step = self.frames("window"), self.frames("query_row")
        before = max(0, window - frames) // step
        count = before + 1 + max(0, frames - window) // step
        if count < QUERY_ROWS:
            before, count = before + (QUERY_ROWS - count) // 2, QUERY_ROWS
        return self.rows(samples[None], first=-before * step, rows=count, step=step)[0]


def runtime_of(content: bytes) -> Runtime:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return Runtime(
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    )


def lowest_cosine(rows: Floats, others: Floats) -> float:
    assert rows.shape == others.shape
    return float(np.sum(rows.astype(np.float64) * others, axis=-1).min())


@pytest.fixture(scope="module")
def network() -> TorchNetwork:
    return TorchNetwork.load(DEFAULT_WEIGHTS)


@pytest.fixture(scope="module")
def model(network: TorchNetwork) -> Fingerprinter:
    return Fingerprinter(network)


@pytest.fixture(scope="module")
def file(network: TorchNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(network, path)
    return path


def small_network(seed: int = 0) -> TorchNetwork:
    return TorchNetwork.create(ModelConfig(embedder=SMALL), seed)


@pytest.fixture(scope="module")
def exported(file: Path) -> Runtime:
    return runtime_of(file.read_bytes())


@pytest.fixture(scope="module")
def music(song: Callable[..., Floats]) -> Floats:
    return song(1, 40.0)


@pytest.mark.parametrize("seconds", [1.95, 2.2, 7.77, 40.0])
def test_a_waveform_gives_the_library_s_rows(
    model: Fingerprinter, exported: Runtime, music: Floats, seconds: float
) -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(len(music), np.float32) * 0.1
    for samples in (music, noise, music + noise, 0.01 * music):
        cut = samples[: round(seconds * RATE)]
        rows = model.embed(Clip(cut, RATE)).vectors
        assert lowest_cosine(exported.rows(cut[None])[0], rows) > 0.9999


@pytest.mark.parametrize("seconds", [0.001, 0.3, 1.0, 1.9, 2.0, 2.15, 5.0, 11.3])
def test_a_query_s_rows_are_the_model_s(
    model: Fingerprinter, exported: Runtime, music: Floats, seconds: float
) -> None:
    query = music[3 * RATE :][: round(seconds * RATE)]
    rows = model.embed_query(Clip(query, RATE)).vectors
    assert lowest_cosine(exported.query(query), rows) > 0.9999


def test_lengths_are_the_model_s(model: Fingerprinter, exported: Runtime, music: Floats) -> None:
    query = model.embed_query(Clip(music[: 6 * RATE], RATE))
    choice = {"first": 0, "rows": len(query.vectors), "step": exported.frames("query_row")}
    feed = {"waveform": music[None, : 6 * RATE]} | {n: np.array(v) for n, v in choice.items()}
    vectors, lengths = exported.session.run(["embeddings", "lengths"], feed)
    np.testing.assert_allclose(lengths[0], query.clearness, rtol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=2), 1, atol=1e-5)


def test_a_stretch_with_its_surroundings_gives_the_rows_of_the_whole(
    model: Fingerprinter, exported: Runtime, music: Floats
) -> None:
    row = exported.frames("row")
    halo = math.ceil(exported.frames("halo") / row)
    hop = model.config.frontend.hop
    whole = model.embed(Clip(music, RATE)).vectors
    begin, count = 40, 30
    end = (begin + count - 1 + halo) * row * hop + round(model.window * RATE)
    stretch = music[(begin - halo) * row * hop : end]
    rows = exported.rows(stretch[None], first=halo * row, rows=count)[0]
    assert lowest_cosine(rows, whole[begin : begin + count]) > 0.9999


def test_silence_gives_finite_rows(exported: Runtime) -> None:
    assert np.isfinite(exported.rows(np.zeros((1, 3 * RATE), np.float32))).all()


def test_each_of_a_batch_gives_what_it_gives_alone(
    exported: Runtime, song: Callable[..., Floats]
) -> None:
    batch = np.stack([song(seed, 6.0) for seed in range(3)])
    for choice in ({}, {"step": 2}, {"first": -9, "rows": 5, "step": 4}):
        alone = [exported.rows(samples[None], **choice)[0] for samples in batch]
        assert lowest_cosine(exported.rows(batch, **choice), np.stack(alone)) > 0.9999


@pytest.mark.parametrize("kind", FRONTENDS)
def test_every_front_end_can_be_exported(kind: str, music: Floats) -> None:
    config = ModelConfig(frontend=FrontendConfig(kind=kind), embedder=SMALL)  # type: ignore[arg-type]
    network = TorchNetwork.create(config)
    untrained = Fingerprinter(network)
    runtime = runtime_of(to_onnx(network).SerializeToString())
    batch = np.stack([music[: 6 * RATE], music[9 * RATE : 15 * RATE], music[-6 * RATE :]])
    rows = [untrained.embed(Clip(samples, RATE)).vectors for samples in batch]
    assert lowest_cosine(runtime.rows(batch), np.stack(rows)) > 0.9999
    for seconds in (0.5, 4.0):
        query = music[: round(seconds * RATE)]
        rows = untrained.embed_query(Clip(query, RATE)).vectors
        assert lowest_cosine(runtime.query(query), rows) > 0.9999


@pytest.mark.parametrize("sizes", [(1_024, 256), (1_000, 250), (512, 100), (400, 77), (27, 9)])
def test_the_transform_in_two_steps_is_the_transform(sizes: tuple[int, int]) -> None:
    config = FrontendConfig(n_fft=sizes[0], hop=sizes[1])
    generator = torch.Generator().manual_seed(0)
    filters = torch.rand(sizes[0] // 2 + 1, 5, generator=generator)
    bands = FilterPower(filters, config)
    waveform = torch.randn(2, 3_001, generator=generator)
    found, expected = FourierPower(bands)(waveform), bands(waveform)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_the_file_is_small_and_holds_the_very_weights(network: TorchNetwork, file: Path) -> None:
    assert file.stat().st_size <= 10_000_000
    stored = {tensor.name: tensor for tensor in onnx.load(file).graph.initializer}
    for name, weights in network.checkpoint.weights.items():
        found = onnx.numpy_helper.to_array(stored[f"embedder.{name}.half"])
        np.testing.assert_array_equal(found, weights.numpy())


def test_the_metadata_say_all_that_a_program_needs(
    exported: Runtime, network: TorchNetwork, model: Fingerprinter
) -> None:
    about = exported.about
    assert about == metadata(network) | {"source": ""}
    assert about["format"] == "2"
    assert (about["model_id"], about["card"]) == (model.id, model.card)
    assert ModelConfig.model_validate_json(about["config"]) == model.config
    assert Calibration.model_validate_json(about["calibration"]) == model.calibration
    assert float(about["hop"]) == model.hop
    assert float(about["window"]) == model.window
    assert int(about["sample_rate"]) == model.sample_rate
    assert int(about["dim"]) == model.dim
    assert int(about["indexed_dims"]) == model.indexed_dims == 128
    assert exported.frames("row") == QUERY_SHIFTS * exported.frames("query_row")


def test_the_background_is_the_model_s(network: TorchNetwork, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((2, 3, network.about.config.embedder.dim))
    packed = pack_background(
        Background(rows.astype(np.float32), np.zeros((2, 3, 8), np.uint16), 0.25)
    )
    path = tmp_path / "model.onnx"
    export_onnx(TorchNetwork(replace(network.checkpoint, background=packed), "cpu"), path)
    assert OnnxNetwork.load(path, threads=1).about.background == packed


def test_file_of_another_model_is_detected(network: TorchNetwork) -> None:
    one, other = small_network(0), small_network(1)
    content = to_onnx(one).SerializeToString()
    assert check_onnx(content, one) > 0.9999 > check_onnx(content, other)
    assert check_onnx(content, network) == -1


def test_int8_changes_embeddings_little(song: Callable[..., Floats]) -> None:
    network = small_network()  # untrained, it exaggerates every difference
    content = to_onnx(network, int8=True).SerializeToString()
    mine, theirs = Fingerprinter(OnnxNetwork(content, threads=1)), Fingerprinter(network)
    assert mine.id == theirs.id
    clip = Clip(song(2, 9.0), RATE)
    assert 0.95 < lowest_cosine(mine.embed(clip).vectors, theirs.embed(clip).vectors) < 0.99999
    rows, others = mine.embed_query(clip).vectors, theirs.embed_query(clip).vectors
    assert lowest_cosine(rows, others) > 0.95


def test_exporting_leaves_the_model_as_it_was(music: Floats) -> None:
    small = small_network()
    before = Fingerprinter(small).embed(Clip(music, RATE)).vectors
    to_onnx(small)
    assert not small.embedder.training
    np.testing.assert_array_equal(Fingerprinter(small).embed(Clip(music, RATE)).vectors, before)


def test_export_is_a_command(tmp_path: Path) -> None:
    small = small_network()
    small.save(tmp_path / "small.pt")
    output = tmp_path / "small.onnx"
    result = CliRunner().invoke(
        main, ["export", str(output), "--model", str(tmp_path / "small.pt")]
    )
    assert result.exit_code == 0
    assert f"Exported model {small.about.id[:12]}" in result.stdout
    assert "cosine to the original at least 0.99999" in result.stdout
    assert runtime_of(output.read_bytes()).about["model_id"] == small.about.id
    assert sorted(tmp_path.iterdir()) == [output, tmp_path / "small.pt"]


def test_a_checkpoint_is_not_overwritten_by_mistake(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_text("precious")
    result = CliRunner().invoke(main, ["export", str(tmp_path / "best.pt")])
    assert result.exit_code == 2
    assert "the name must end in" in result.stderr
    assert "name the checkpoint with --model" in result.stderr
    assert (tmp_path / "best.pt").read_text() == "precious"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    small = small_network()
    with pytest.raises(ModelError, match=r"cannot write the model .*no/m\.onnx: No such file"):
        export_onnx(small, tmp_path / "no" / "m.onnx")


def test_export_that_differs_from_the_model_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fingerprint.lab.export.onnx.AGREEMENT", {False: 1.1})
    with pytest.raises(ModelError, match="would have a cosine to the model's of"):
        export_onnx(small_network(), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = small_network()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match=r"needs onnx: pip install 'fingerprint\[onnx\]'"):
        export_onnx(small, tmp_path / "m.onnx")


def test_the_runtime_does_not_report_its_use() -> None:
    """Its telemetry warned on every start of a user whose home cannot be written."""
    load = "from fingerprint import Fingerprinter; Fingerprinter.default()"
    environment = {**os.environ, "HOME": os.devnull}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run(
        [sys.executable, "-c", load], env=environment, capture_output=True, check=True
    )
    assert done.stderr == b""


def test_other_indexed_dimensions_are_exported(tmp_path: Path) -> None:
    embedder = SMALL.model_copy(update={"indexed_dims": 16})
    network = TorchNetwork.create(ModelConfig(embedder=embedder))
    export_onnx(network, tmp_path / "model.onnx")
    again = Fingerprinter(OnnxNetwork.load(tmp_path / "model.onnx", threads=1))
    assert (again.id, again.indexed_dims) == (network.about.id, 16)
    assert runtime_of((tmp_path / "model.onnx").read_bytes()).about["indexed_dims"] == "16"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]  # no draft is left
