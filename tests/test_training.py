"""Training: pure batches, exact resume, data-parallel mining, and a run that learns."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from corpus_world import make_corpus

from fingerprint.config import EmbedderConfig, ModelConfig
from fingerprint.errors import ConfigError, ModelError
from fingerprint.lab.corpus import Corpus, load_recordings
from fingerprint.lab.corpus.config import RoomsConfig
from fingerprint.lab.corpus.packs import Packs, write_packs
from fingerprint.lab.export.onnx import export_onnx
from fingerprint.lab.training import validation
from fingerprint.lab.training.batches import Batches, Plan, load_material
from fingerprint.lab.training.config import DegradeConfig, MiningConfig, TrainConfig
from fingerprint.lab.training.distributed import World
from fingerprint.lab.training.loop import TrainProgress, train
from fingerprint.lab.training.mining import triplet_loss
from fingerprint.lab.training.pairs import Studio
from fingerprint.lab.training.state import CHECKPOINT, State, learning_rate
from fingerprint.lab.training.validation import Validation
from fingerprint.model.checkpoint import read_checkpoint
from fingerprint.model.embedder import create_embedder
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.model.frontend import Frontend
from fingerprint.model.torch_network import TorchNetwork
from fingerprint.types import Floats

CPU = torch.device("cpu")
TRACKS = {"train": 12, "validation": 6}
TINY = TrainConfig(
    model=ModelConfig(embedder=EmbedderConfig(stem=8, widths=(8, 16, 16), depth=1, dim=32)),
    degrade=DegradeConfig(snr_db=(0.0, 12.0)),
    mining=MiningConfig(),
    steps=6,
    batch=6,
    learning_rate_warm_up=2,
    average_decay=0.9,
    precision="float32",  # what is faster here, tiny as it is, is a matter of chance
    checkpoint_minutes=1e-9,  # after every step
    validate_every=3,
)


@pytest.fixture(scope="module", autouse=True)
def _few_validation_queries() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "ROUNDS", 2)
        yield


@pytest.fixture(scope="module")
def corpus_root(tmp_path_factory: pytest.TempPathFactory, song: Callable[..., Floats]) -> Path:
    """Songs to train and validate on; two sounds, a loudspeaker and two rooms a split."""
    root = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    sounds = [
        (role, "music", song(100 * i + n, 21.0))
        for i, (role, count) in enumerate(TRACKS.items())
        for n in range(count)
    ]
    for split in ("train", "test"):
        hiss = (0.1 * rng.standard_normal(8_000)).astype(np.float32)
        knock = np.exp(-np.arange(400) / 40) * rng.standard_normal(400)
        sounds += [(f"sounds-{split}", kind, hiss) for kind in ("speech", "effect")]
        sounds.append((f"responses-{split}", "device", (0.3 * knock).astype(np.float32)))
    named = {f"{sound[0]}-{i}": sound for i, sound in enumerate(sounds)}
    return make_corpus(root, named, 8_000, train=two_rooms(0), test=two_rooms(1)).root


def two_rooms(seed: int) -> RoomsConfig:
    return RoomsConfig(
        count=2,
        seed=seed,
        length=(3.0, 5.0),
        width=(3.0, 4.0),
        height=(2.4, 3.0),
        reverberation=(0.2, 0.3),
        distance=(0.5, 1.0),
    )


@pytest.fixture(scope="module")
def corpus(corpus_root: Path) -> Corpus:
    return Corpus.open(corpus_root)


@pytest.fixture(scope="module")
def whole_run(corpus_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of `TINY` that was never stopped. Read only: copy it to change it."""
    folder = tmp_path_factory.mktemp("whole")
    train(TINY, Corpus.open(corpus_root), folder, device="cpu")
    return folder


@pytest.fixture
def run(whole_run: Path, tmp_path: Path) -> Path:
    """A copy of the whole run."""
    return Path(shutil.copytree(whole_run, tmp_path / "run"))


def weights(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["embedder"]
    return found


def steps(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def batches(config: TrainConfig, corpus: Corpus, here: World, first: int) -> Batches:
    return Batches(config, load_material(corpus, 8_000, "train"), CPU, here, first)


def test_a_batch_is_a_function_of_seed_and_step(corpus: Corpus) -> None:
    def batch(step: int, seed: int = 0) -> torch.Tensor:
        config = TINY.model_copy(update={"seed": seed})
        return next(iter(batches(config, corpus, World(), step))).spectrograms

    assert torch.equal(batch(3), batch(3))
    assert not torch.equal(batch(3), batch(4))
    assert not torch.equal(batch(3), batch(3, seed=1))


def test_a_batch_has_each_track_once_and_ranks_share_no_track(corpus: Corpus) -> None:
    shares = [next(iter(batches(TINY, corpus, World(r, 2), 0))).tracks for r in (0, 1)]
    for tracks in shares:
        anchors, positives = tracks.chunk(2)
        assert torch.equal(anchors, positives)
        assert len(set(anchors.tolist())) == TINY.batch
    assert not set(shares[0].tolist()) & set(shares[1].tolist())


def test_a_track_has_the_wanted_positives_and_adjacent_windows(
    corpus: Corpus,
) -> None:
    config = TINY.model_copy(update={"positives": 2, "windows": 3})
    batch = next(iter(batches(config, corpus, World(), 0)))
    assert [len(set(part.tolist())) for part in batch.tracks.chunk(3)] == [TINY.batch] * 3
    assert torch.equal(batch.tracks[: TINY.batch], batch.tracks[TINY.batch : 2 * TINY.batch])
    assert len(batch.spectrograms) == 3 * TINY.batch
    assert not torch.equal(*batch.spectrograms[TINY.batch :].chunk(2))
    embeddings = create_embedder(config.model, 0)(batch.spectrograms)
    assert embeddings.shape == (3 * TINY.batch, 3, config.model.embedder.dim)


def test_a_run_starts_from_the_weights_of_another(whole_run: Path) -> None:
    first = whole_run / "model.pt"
    after = State(TINY.model_copy(update={"start": str(first)}), CPU, World()).embedder
    given = read_checkpoint(first).weights
    assert all(torch.equal(after.state_dict()[name], given[name].float()) for name in given)
    fewer = TINY.model.embedder.model_copy(update={"indexed_dims": 16})
    model = TINY.model.model_copy(update={"embedder": fewer})
    State(TINY.model_copy(update={"start": str(first), "model": model}), CPU, World())
    other = TINY.model_copy(update={"start": str(first), "model": ModelConfig()})
    with pytest.raises(ConfigError, match="is a model of other sizes"):
        State(other, CPU, World())


def test_a_run_may_start_from_shorter_embeddings_as_its_first_dimensions(
    whole_run: Path, tmp_path: Path
) -> None:
    first = whole_run / "model.pt"
    embedder = TINY.model.embedder
    longer = TINY.model.model_copy(
        update={"embedder": embedder.model_copy(update={"dim": embedder.dim + 5})}
    )
    state = State(TINY.model_copy(update={"start": str(first), "model": longer}), CPU, World())
    shorter = State(TINY.model_copy(update={"start": str(first)}), CPU, World()).averaged
    x = torch.randn(2, TINY.model.frontend.n_bands, shorter.window_frames)
    grown = state.averaged.unscaled(x)
    assert grown.shape[2] == embedder.dim + 5
    assert torch.allclose(grown[..., : embedder.dim], shorter.unscaled(x), atol=1e-6)
    last = tmp_path / "model.pt"
    state.export(last)
    with pytest.raises(ConfigError, match="is a model of other sizes"):
        State(TINY.model_copy(update={"start": str(last)}), CPU, World())


def test_the_moving_average_soon_forgets_the_untrained_weights(corpus: Corpus) -> None:
    state = State(TINY.model_copy(update={"average_decay": 0.9999}), CPU, World())
    weight = state.embedder.head.weight
    for value in range(60):
        with torch.no_grad():
            weight.fill_(value)
        state.average.update_parameters(state.embedder)
    averaged = float(state.averaged.head.weight.detach().mean())
    assert 45 < averaged < 59  # With a decay of 0.9999 from the start it would be near 0.


def test_anchor_and_positive_are_the_same_place_up_to_the_offset(corpus: Corpus) -> None:
    nothing = DegradeConfig(
        device=0, room=0, noise=0, microphone=0, clip=0, speed=0, band_cut=0, time_cut=0, short=0
    )
    config = TINY.model_copy(update={"degrade": nothing})
    plan = Plan.of(config, World(), Frontend(config.model.frontend))
    drawn = plan.draw(Studio.of(load_material(corpus, 8_000, "train"), CPU), range(1))
    for anchor, positive in zip(drawn.anchor, drawn.scene.clean, strict=True):
        spectrum = torch.fft.rfft(anchor, 65_536).conj() * torch.fft.rfft(positive, 65_536)
        lag = int(torch.fft.irfft(spectrum).argmax())
        lag = lag - 65_536 if lag > 32_768 else lag
        assert abs(lag) <= 0.25 * 8_000


def test_packs_hold_the_middles_of_recordings_and_less_of_rendered_ones(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fingerprint.lab.corpus.packs.SONG_SECONDS", 4.0)
    rendered = tuple(replace(f, role="rendered") for f in corpus.role("train"))
    whole = replace(corpus, files=corpus.files + rendered)
    streams = list(write_packs(whole, tmp_path, 8_000, megabytes=45, longest=10.0))
    assert {stream.role for stream in streams} == {
        "validation", "sounds-test", "sounds-train", "train", "rendered"
    }  # fmt: skip
    packs = Packs.open(tmp_path)
    for role, seconds in (("train", 10), ("rendered", 4)):
        found, true = packs.recordings((role,)), load_recordings(whole, "train", 8_000)  # type: ignore[arg-type]
        assert len(found) == len(true)
        for i in range(len(found)):
            kept, sound = found.recording(i).astype(float), true.recording(i).astype(float)
            assert len(kept) == seconds * 8_000
            begin = (len(sound) - len(kept)) // 2
            assert np.corrcoef(kept, sound[begin : begin + len(kept)])[0, 1] > 0.9


def test_batches_made_together_are_of_the_tracks_of_each_step(corpus: Corpus) -> None:
    config = TINY.model_copy(update={"positives": 2})
    frontend = Frontend(config.model.frontend)
    plan = Plan.of(config, World(), frontend)
    studio = Studio.of(load_material(corpus, 8_000, "train"), CPU)
    together = plan.finish(plan.draw(studio, range(4, 7)), frontend, range(4, 7))
    for step, batch in zip(range(4, 7), together, strict=True):
        (alone,) = plan.finish(
            plan.draw(studio, range(step, step + 1)), frontend, range(step, step + 1)
        )
        assert torch.equal(batch.tracks, alone.tracks)
        assert batch.spectrograms.shape == alone.spectrograms.shape
        anchors, *positives = F.normalize(batch.spectrograms.flatten(1), dim=1).chunk(3)
        own = torch.stack([(anchors * positive).sum(dim=1) for positive in positives]).mean()
        other = (anchors * positives[0].roll(1, 0)).sum(dim=1).mean()
        assert own > other + 0.1


def test_a_batch_larger_than_the_corpus_is_refused(corpus: Corpus) -> None:
    config = TINY.model_copy(update={"batch": 7})
    with pytest.raises(ConfigError, match=r"7 tracks on 2 processes .* the corpus has 12"):
        batches(config, corpus, World(0, 2), 0)


def test_a_resumed_run_ends_with_the_same_weights(
    corpus_root: Path, whole_run: Path, tmp_path: Path
) -> None:
    class KilledError(Exception):
        pass

    def kill(progress: TrainProgress) -> None:
        if progress.step == 4:
            raise KilledError

    resumed = tmp_path / "cut"
    with pytest.raises(KilledError):
        train(TINY, Corpus.open(corpus_root), resumed, device="cpu", on_progress=kill)
    train(TINY, Corpus.open(corpus_root), resumed, device="cpu")
    whole, cut = weights(whole_run / CHECKPOINT), weights(resumed / CHECKPOINT)
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert len({read_checkpoint(run / "model.pt").id for run in (whole_run, resumed)}) == 1
    assert steps(resumed) == [1, 2, 3, 4, 5, 6]


def test_a_finished_run_is_left_as_it_is(corpus_root: Path, run: Path) -> None:
    before = (run / "model.pt").read_bytes()
    assert train(TINY, Corpus.open(corpus_root), run, device="cpu") == run / "model.pt"
    assert (run / "model.pt").read_bytes() == before


def test_another_configuration_does_not_continue_a_run(corpus_root: Path, run: Path) -> None:
    with pytest.raises(ConfigError, match="holds a run with another configuration"):
        train(TINY.model_copy(update={"seed": 9}), Corpus.open(corpus_root), run, device="cpu")
    (run / CHECKPOINT).write_bytes(b"half a file")
    with pytest.raises(ModelError, match="is damaged; delete it"):
        train(TINY, Corpus.open(corpus_root), run, device="cpu")


def test_tensorboard_and_json_lines_have_every_figure(whole_run: Path) -> None:
    last = json.loads((whole_run / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"step", "loss", "active", "spread", "windows_per_second", "validation"} <= set(last)
    assert list(whole_run.glob("events.out.tfevents*"))


def test_the_learning_rate_warms_up_and_ends_at_zero() -> None:
    config = TINY.model_copy(update={"steps": 1_000, "learning_rate_warm_up": 100})
    rates = [learning_rate(config, step) for step in range(1_000)]
    assert rates[49] == pytest.approx(0.5 * config.learning_rate, rel=0.01)
    assert max(rates) == pytest.approx(config.learning_rate, rel=0.03)
    assert rates[-1] < 1e-5 * config.learning_rate
    assert rates[100:] == sorted(rates[100:], reverse=True)


def test_collapse_of_the_embeddings_is_reported() -> None:
    figures = {"step": 1, "steps": 2, "loss": 0.4, "active": 1.0, "windows_per_second": 1.0}
    assert TrainProgress(spread=0.1, **figures).collapsed  # type: ignore[arg-type]
    assert not TrainProgress(spread=0.9, **figures).collapsed  # type: ignore[arg-type]


TRAIN = """
import sys
from pathlib import Path
from fingerprint.lab.training.config import TrainConfig
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.training.loop import train

if __name__ == "__main__":
    config = TrainConfig.model_validate_json(Path(sys.argv[1]).read_text())
    train(config, Corpus.open(Path(sys.argv[2])), Path(sys.argv[3]), device="cpu")
"""
RANK = (
    TRAIN
    + """
    import os
    import torch

    def run_last(name):
        # Threads that the process and its CPU reach only when nothing else wants to run: what they
        # still hold when Python begins to exit must not abort the process.
        cpus = sorted(os.sched_getaffinity(0))
        for task in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(task.name), {cpus[int(os.environ["RANK"]) % len(cpus)]})
            if name in (task / "comm").read_text():
                os.sched_setscheduler(int(task.name), os.SCHED_IDLE, os.sched_param(0))

    from fingerprint.lab.training.config import MiningConfig
    from fingerprint.lab.training.distributed import gather, world
    from fingerprint.lab.training.mining import triplet_loss

    torch.set_num_threads(1)
    os.environ["MASTER_PORT"] = os.environ["SECOND_PORT"]
    with world(torch.device("cpu")) as here:
        rows = torch.load(sys.argv[4], weights_only=True)
        layer = torch.nn.Linear(8, 4)
        layer.load_state_dict(rows["layer"])
        network = torch.nn.parallel.DistributedDataParallel(layer)
        run_last("gloo")
        own = slice(here.rank * 6, here.rank * 6 + 6)
        x = torch.nn.functional.normalize(network(rows["x"][own]), dim=1)[:, None]
        everyone, tracks = gather(x, rows["tracks"][own], here)
        loss = triplet_loss(everyone, tracks, MiningConfig(warm_up=(0.0, 0.0)), 1.0)
        loss.value.backward()
        torch.save({"loss": loss.value.detach(), "gradient": layer.weight.grad,
                    "tracks": tracks}, f"{sys.argv[4]}.{here.rank}")
"""
)


def torchrun(script: Path, *arguments: str) -> None:
    """Run a script in two processes; each gets two ports, for two groups one after the other."""
    with socket.socket() as first, socket.socket() as second:
        for probe in (first, second):
            probe.bind(("127.0.0.1", 0))
        ports = [str(probe.getsockname()[1]) for probe in (first, second)]
    base = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": ports[0],
        "SECOND_PORT": ports[1],
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env=base | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in (0, 1)
    ]
    assert [rank.wait(timeout=240) for rank in ranks] == [0, 0]


@dataclass(frozen=True)
class Together:
    """What two processes did together: the folder of a run, and what each made of the rows."""

    run: Path
    x: torch.Tensor
    tracks: torch.Tensor
    layer: torch.nn.Linear
    seen: list[dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def together(corpus_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Together:
    folder = tmp_path_factory.mktemp("together")
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = torch.nn.Linear(8, 4)
    x = torch.randn(12, 8, generator=rng)
    tracks = torch.tensor([0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5])
    rows, run = folder / "rows.pt", folder / "run"
    torch.save({"x": x, "tracks": tracks, "layer": layer.state_dict()}, rows)
    (folder / "rank.py").write_text(RANK)
    (folder / "config.json").write_text(TINY.model_dump_json())
    torchrun(folder / "rank.py", str(folder / "config.json"), str(corpus_root), str(run), str(rows))
    seen = [torch.load(f"{rows}.{rank}", weights_only=True) for rank in (0, 1)]
    return Together(run, x, tracks, layer, seen)


def test_two_processes_mine_the_whole_batch_and_share_its_gradient(together: Together) -> None:
    layer, tracks = together.layer, together.tracks
    everyone = torch.nn.functional.normalize(layer(together.x), dim=1)[:, None]
    whole = triplet_loss(everyone, tracks, MiningConfig(warm_up=(0, 0)), 1.0)
    whole.value.backward()  # type: ignore[no-untyped-call]
    for seen in together.seen:
        assert torch.equal(seen["tracks"], tracks)
        assert torch.allclose(seen["loss"], whole.value.detach(), atol=1e-6)
        assert torch.allclose(seen["gradient"], layer.weight.grad, atol=1e-5)


def test_two_processes_train_a_run_together(together: Together) -> None:
    assert steps(together.run) == [1, 2, 3, 4, 5, 6]
    assert len(list(together.run.glob("events.out.tfevents*"))) == 1
    assert read_checkpoint(together.run / "model.pt").config == TINY.model


def test_killed_run_is_resumed_from_its_checkpoint(corpus_root: Path, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    config = TINY.model_copy(update={"steps": 400})
    (tmp_path / "config.json").write_text(config.model_dump_json())
    run = tmp_path / "run"
    arguments = [str(tmp_path / "train.py"), str(tmp_path / "config.json"), str(corpus_root)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen([sys.executable, *arguments, str(run)], env=environment)
    deadline = time.monotonic() + 120
    while not (run / CHECKPOINT).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    state = State(config, CPU, World())
    state.resume(run)
    assert 0 < state.step < 400


@pytest.mark.slow
def test_150_steps_of_training_beat_the_untrained_model(corpus_root: Path, tmp_path: Path) -> None:
    """By far; it is stopped once it does."""
    config = TINY.model_copy(
        update={
            "model": ModelConfig(embedder=EmbedderConfig(stem=16, widths=(16, 32, 64), depth=1)),
            "steps": 150,
            "batch": 12,
            "learning_rate": 3e-3,
            "learning_rate_warm_up": 20,
            "average_decay": 0.95,
            "validate_every": 10,
            "checkpoint_minutes": 60,
        }
    )
    corpus = Corpus.open(corpus_root)
    frontend = Frontend(config.model.frontend)
    embedder = create_embedder(config.model, config.seed).eval()
    measured = Validation.make(load_material(corpus, 8_000, "validation"), frontend, embedder)
    untrained = measured.hit_rate(embedder)
    best: list[float] = []

    class BeatenError(Exception):
        pass

    def note(progress: TrainProgress) -> None:
        if progress.validation is not None:
            best.append(progress.validation)
            if progress.validation > untrained + 0.2:
                raise BeatenError

    with suppress(BeatenError):
        train(config, corpus, tmp_path, device="cpu", on_progress=note)
    assert max(best) > untrained + 0.2


def test_a_step_trains_the_indexed_dimensions_of_the_model(corpus: Corpus, tmp_path: Path) -> None:
    embedder = TINY.model.embedder.model_copy(update={"dim": 64, "indexed_dims": 32})
    config = TINY.model_copy(update={"model": TINY.model.model_copy(update={"embedder": embedder})})
    batch = next(iter(batches(config, corpus, World(), 0)))
    state = State(config, CPU, World())
    with torch.no_grad():
        embeddings = state.embedder.train()(batch.spectrograms)
    expected = triplet_loss(embeddings, batch.tracks, config.mining, 0.0, 32).value
    whole = triplet_loss(embeddings, batch.tracks, config.mining, 0.0).value
    found = state.update(batch).value.detach()
    assert torch.isclose(found, expected)
    assert not torch.isclose(found, whole)
    state.export(tmp_path / "model.pt")
    trained = Fingerprinter.load(tmp_path / "model.pt", "cpu")
    assert (trained.config, trained.indexed_dims) == (config.model, 32)
    export_onnx(TorchNetwork.load(tmp_path / "model.pt"), tmp_path / "model.onnx")
    exported = Fingerprinter.load(tmp_path / "model.onnx")
    assert (exported.id, exported.indexed_dims) == (trained.id, 32)
