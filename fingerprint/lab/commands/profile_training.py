"""Where a training step's time goes, and what pays on this machine.

python -m fingerprint.lab profile-training                # last stage of the recipe, one CPU thread
python -m fingerprint.lab profile-training --device cuda

The first table splits a step into its parts. The second table compares the network's
step with other precisions, memory layouts and with torch.compile, as ratios within this run.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import click
import torch
from torch import Tensor

from fingerprint.cli.options import corpus_option
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.training.batches import Plan, load_material
from fingerprint.lab.training.config import TrainConfig, load_recipe
from fingerprint.lab.training.degrade import degrade
from fingerprint.lab.training.distributed import World
from fingerprint.lab.training.mining import triplet_loss
from fingerprint.lab.training.pairs import CPU_ROWS, Batch, Studio
from fingerprint.lab.training.recipe import RECIPE
from fingerprint.lab.training.state import State
from fingerprint.machine import pick_device
from fingerprint.model.frontend import Frontend


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path), default=RECIPE)
@corpus_option
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
def main(recipe: Path, corpus: Path, device: str, threads: int, rounds: int) -> None:
    """Measure the parts of a training step of the last stage of RECIPE."""
    torch.set_num_threads(threads)
    last = list(load_recipe(recipe).stages.values())[-1]
    config = last.model_copy(update={"start": ""})
    bench = Bench(config, Corpus.open(corpus), torch.device(pick_device(device)), rounds)
    parts = bench.parts()
    segments = config.windows * len(bench.batch.tracks)
    click.echo(f"{segments} segments a step, {threads} thread(s), {device}\n")
    click.echo(shares("making the batch", parts[:3], segments))
    click.echo(shares("training on it", parts[3:], segments))
    click.echo(ratios(bench.variants()))


class Bench:
    """One batch of a configuration, and what is done with it."""

    def __init__(
        self, config: TrainConfig, corpus: Corpus, device: torch.device, rounds: int
    ) -> None:
        self.config, self.device, self.rounds = config, device, rounds
        self.frontend = Frontend(config.model.frontend).to(device)
        self.plan = Plan.of(config, World(), self.frontend)
        rate = config.model.frontend.sample_rate
        self.studio = Studio.of(load_material(corpus, rate, config.music), device)
        drawn = self.plan.draw(self.studio, 0)
        self.batch: Batch = self.plan.finish(drawn, self.frontend, 0)
        self.drawn = drawn

    def parts(self) -> list[tuple[str, float]]:
        """Names and seconds of a step's parts."""
        scene, rate = self.drawn.scene, self.config.model.frontend.sample_rate
        rows = CPU_ROWS if self.device.type == "cpu" else len(scene)
        rng = torch.Generator(self.device).manual_seed(0)
        clips = torch.split(torch.cat([self.drawn.anchor, scene.clean]), rows)
        state = State(self.config, self.device, World())

        def forward() -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=state.bfloat16):
                vectors: Tensor = state.embedder.train()(self.batch.spectrograms)
            return vectors

        def loss() -> Tensor:
            return triplet_loss(vectors, self.batch.tracks, self.config.mining, 1.0).value

        vectors = forward()
        whole = self._seconds(lambda: state.update(self.batch))
        forwards, mining = self._seconds(forward), self._seconds(loss)
        return [
            ("draw and cut", self._seconds(lambda: self.plan.draw(self.studio, 1))),
            (
                "degrade",
                self._seconds(
                    lambda: [
                        degrade(part, self.config.degrade, rate, rng) for part in scene.split(rows)
                    ]
                ),
            ),
            ("front-end", self._seconds(lambda: [self.frontend(part) for part in clips])),
            ("forward", forwards),
            ("mining and loss", mining),
            ("backward, optimiser, average", whole - forwards - mining),
        ]

    def variants(self) -> list[tuple[str, float]]:
        """Names and seconds of a forward and a backward pass done otherwise; the first is ours."""
        return [
            ("bfloat16, channels last", self._pass(torch.bfloat16, torch.channels_last)),
            ("bfloat16, channels first", self._pass(torch.bfloat16, torch.contiguous_format)),
            ("float32, channels last", self._pass(torch.float32, torch.channels_last)),
            ("float32, channels first", self._pass(torch.float32, torch.contiguous_format)),
            (
                "bfloat16, channels last, torch.compile",
                self._pass(torch.bfloat16, torch.channels_last, compiled=True),
            ),
        ]

    def _pass(
        self, precision: torch.dtype, layout: torch.memory_format, *, compiled: bool = False
    ) -> float:
        state = State(self.config.model_copy(update={"precision": "float32"}), self.device, World())
        embedder = state.embedder.train().to(memory_format=layout)  # type: ignore[call-overload]
        network: Callable[[Tensor], Tensor] = torch.compile(embedder) if compiled else embedder
        half = precision != torch.float32

        def once() -> None:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
                vectors = network(self.batch.spectrograms)
            vectors.square().sum().backward()  # type: ignore[no-untyped-call]

        return self._seconds(once)

    def _seconds(self, work: Callable[[], object]) -> float:
        """Median over the rounds, after one that does not count."""

        def once() -> float:
            began = time.perf_counter()
            work()
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            return time.perf_counter() - began

        once()
        return median(once() for _ in range(self.rounds))


def shares(title: str, parts: list[tuple[str, float]], segments: int) -> str:
    """A Markdown table of seconds and shares, with the segments a second of the whole."""
    total = sum(seconds for _, seconds in parts)
    lines = [f"| {title} | seconds | share |", "|---|---:|---:|"]
    lines += [f"| {name} | {spent:.3f} | {spent / total:.0%} |" for name, spent in parts]
    pace = f"{segments / total:.0f} segments/s"
    return "\n".join([*lines, f"| all: {pace} | {total:.3f} | 100% |", ""])


def ratios(variants: list[tuple[str, float]]) -> str:
    """A Markdown table of times against the first."""
    ours = variants[0][1]
    lines = ["| forward and backward | seconds | against ours |", "|---|---:|---:|"]
    lines += [f"| {name} | {spent:.3f} | {spent / ours:.2f} x |" for name, spent in variants]
    return "\n".join([*lines, ""])
