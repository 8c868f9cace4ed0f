"""The model and its training on a CUDA device. Skipped where there is none.

pytest --noconftest tests/test_cuda.py  # needs torch, NumPy, pydantic and pytest alone
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from fingerprint.config import EmbedderConfig, ModelConfig
from fingerprint.lab.corpus import CorpusFile, Recordings, Responses
from fingerprint.lab.training.batches import Batches
from fingerprint.lab.training.config import DegradeConfig, TrainConfig
from fingerprint.lab.training.distributed import World
from fingerprint.lab.training.pairs import Material
from fingerprint.lab.training.state import State
from fingerprint.model.fingerprinter import DEFAULT_WEIGHTS
from fingerprint.model.torch_network import TorchNetwork

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
EVERYTHING = DegradeConfig(
    tempo=0.5,
    device=0.5,
    loudspeaker=0.5,
    wall=0.3,
    noise_room=0.5,
    noise_eq_db=3.0,
    noise_tilt_db=(-3.0, 0.0),
    music=0.2,
    room_scale=(0.6, 1.5),
    gain_control=0.5,
    suppression=0.5,
    clip=0.5,
    codec=0.5,
)
TINY = TrainConfig(
    model=ModelConfig(embedder=EmbedderConfig(stem=8, widths=(16, 16, 32), depth=1, dim=32)),
    degrade=EVERYTHING,
    steps=40,
    batch=24,
    virtual=0.3,
    windows=2,
    learning_rate=3e-3,
    learning_rate_warm_up=5,
    average_decay=0.9,
)


def material() -> Material:
    rng = np.random.default_rng(0)

    def recordings(count: int, kind: str) -> Recordings:
        time = np.arange(15 * 8_000) / 8_000
        sounds = [
            sum(
                np.sin(2 * np.pi * f * time) * (rng.random(30) < 0.5).repeat(4_000)
                for f in rng.uniform(100, 3_500, 6)
            )
            for _ in range(count)
        ]
        samples = np.concatenate([(3_000 * sound).astype(np.int16) for sound in sounds])
        files = [CorpusFile(Path("a"), "", "train", kind, 15.0, 8_000, "", "")] * count  # type: ignore[arg-type]
        return Recordings(samples, np.arange(count + 1) * len(sounds[0]), tuple(files))

    echo = np.exp(-np.arange(800) / 100).astype(np.float32)
    responses = Responses(echo[None].repeat(3, 0), echo[None, :80].repeat(3, 0))
    return Material(recordings(30, "music"), recordings(4, "speech"), responses, 8_000)


def test_the_network_on_cuda_gives_the_embeddings_of_the_cpu() -> None:
    samples = np.random.default_rng(1).standard_normal(8_000 * 20).astype(np.float32)
    cpu, cuda = (TorchNetwork.load(DEFAULT_WEIGHTS, device) for device in ("cpu", "cuda"))
    here, _ = cpu.rows(samples, first=0, count=60, step=4)
    there, _ = cuda.rows(samples, first=0, count=60, step=4)
    assert (here * there).sum(axis=1).min() > 0.999


def test_a_run_on_cuda_learns_and_batches_are_functions_of_the_step() -> None:
    device = torch.device("cuda")
    batches = list(Batches(TINY, material(), device, World(), 0))
    again = next(iter(Batches(TINY, material(), device, World(), 39)))
    assert torch.allclose(batches[39].spectrograms, again.spectrograms, atol=1e-2)
    assert all(bool(torch.isfinite(batch.spectrograms).all()) for batch in batches)
    state = State(TINY.model_copy(update={"steps": 160}), device, World())
    losses = [float(state.update(batch).value.detach()) for _ in range(4) for batch in batches]
    assert np.mean(losses[-20:]) < np.mean(losses[20:40])


def test_a_run_resumes_from_its_checkpoint_on_cuda(tmp_path: Path) -> None:
    device = torch.device("cuda")
    state = State(TINY, device, World())
    for batch in list(Batches(TINY, material(), device, World(), 0))[:3]:
        state.update(batch)
    state.save(tmp_path)
    resumed = State(TINY, device, World())
    resumed.resume(tmp_path)
    assert resumed.step == 3
    weights = resumed.embedder.state_dict()
    assert all(
        torch.equal(value, weights[name]) for name, value in state.embedder.state_dict().items()
    )
