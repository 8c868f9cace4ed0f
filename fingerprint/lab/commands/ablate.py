"""Train every experiment of `configs/ablation` at a small equal budget and compare them.

python -m fingerprint.lab ablate                          # all of them, three seeds each
python -m fingerprint.lab ablate --only mining --seeds 1  # those whose name begins with "mining"

The figure is the validation hit rate at the end of the run: one degraded snippet, as long as a
window and a hop, among the validation tracks. Finished runs are kept and not trained again, and a
run that was stopped resumes, so the table grows each time the command is run.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from math import nan
from pathlib import Path
from statistics import mean, stdev

import click

from fingerprint.cli.options import corpus_option
from fingerprint.cli.progress import ProgressLine
from fingerprint.errors import FingerprintError
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.options import output_option
from fingerprint.lab.report_format import markdown_table
from fingerprint.lab.training.config import TrainConfig
from fingerprint.lab.yaml_files import load_config

FOLDER = Path(__file__).resolve().parents[1] / "training" / "configs" / "ablation"
BASE = "base"
TRAIN = (
    "import sys; from fingerprint.lab.commands.ablate import train_here; train_here(*sys.argv[1:])"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One experiment: its validation hit rates, a seed each, and what is new in it."""

    name: str
    question: str
    hit_rates: tuple[float, ...]

    @property
    def mean(self) -> float:
        return mean(self.hit_rates) if self.hit_rates else nan

    @property
    def spread(self) -> float:
        """Standard deviation over seeds."""
        return stdev(self.hit_rates) if len(self.hit_rates) > 1 else nan


@click.command()
@corpus_option
@output_option("runs/ablation")
@click.option("--only", multiple=True, metavar="NAME", help="Experiments beginning with NAME.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True)
def main(corpus: Path, output: Path, only: tuple[str, ...], seeds: int, jobs: int) -> None:
    """Train the experiments and print their table."""
    Corpus.open(corpus)
    names = experiments(only)
    runs = [(name, seed) for seed in range(seeds) for name in names]
    train_all([run for run in runs if not finished(output, *run)], corpus, output, jobs)
    rows = [row_of(name, output) for name in experiments(())]
    rows = [row for row in rows if row.hit_rates]
    table = markdown(rows)
    (output / "table.md").write_text(table, encoding="utf-8")
    plot(rows, output / "ablation.png")
    click.echo(table, nl=False)


def experiments(only: Sequence[str]) -> list[str]:
    """Names of the experiments, the base first, that begin with any of `only`."""
    names = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    chosen = [name for name in names if not only or name.startswith((BASE, *only))]
    return sorted(chosen, key=lambda name: name != BASE)


def train_all(runs: Sequence[tuple[str, int]], corpus: Path, output: Path, jobs: int) -> None:
    """Train runs in processes of one thread each, `jobs` at a time."""
    with ProgressLine() as line, ThreadPoolExecutor(jobs) as pool:
        line.show(0, len(runs), f"0/{len(runs)} runs trained")
        started = [pool.submit(_train_apart, name, seed, corpus, output) for name, seed in runs]
        for done, run in enumerate(as_completed(started), start=1):
            run.result()
            line.show(done, len(runs), f"{done}/{len(runs)} runs trained")


def _train_apart(name: str, seed: int, corpus: Path, output: Path) -> None:
    folder = output / f"{name}-{seed}"
    arguments = [sys.executable, "-c", TRAIN, name, str(seed), str(corpus), str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it was killed"]
        raise FingerprintError(f"the run {folder.name} failed: {last[0]}")


def train_here(name: str, seed: str, corpus: str, folder: str) -> None:
    """Train one run in this process."""
    from fingerprint.lab.training.loop import train

    config = load_config(FOLDER / f"{name}.yaml", TrainConfig)
    config = config.model_copy(update={"seed": int(seed)})
    train(config, Corpus.open(Path(corpus)), Path(folder), device="cpu")


def finished(output: Path, name: str, seed: int) -> bool:
    """Whether a run is finished."""
    return hit_rate(output / f"{name}-{seed}") is not None


def hit_rate(run: Path) -> float | None:
    """The validation hit rate at the end of a run, None before it."""
    path = run / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    last = json.loads(lines[-1]) if lines else {"step": 0, "steps": 1}
    return last.get("validation") if last["step"] == last["steps"] else None


def row_of(name: str, output: Path) -> Row:
    """The finished runs of an experiment."""
    first = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    question = "a small network, a short run" if name == BASE else first.removeprefix("# ")
    found = (hit_rate(run) for run in sorted(output.glob(f"{name}-[0-9]*")) if _is(run, name))
    return Row(name, question, tuple(rate for rate in found if rate is not None))


def _is(run: Path, name: str) -> bool:
    return run.name.removeprefix(f"{name}-").isdigit()


def markdown(rows: Iterable[Row]) -> str:
    """The table: hit rate in per cent, its spread over seeds, and the difference to the base."""
    rows = list(rows)
    base = next((row.mean for row in rows if row.name == BASE), nan)
    head = (
        "experiment",
        "what is different",
        "hit rate %",
        "± over seeds",
        "against base",
        "seeds",
    )
    lines = []
    for row in rows:
        gain = f"{100 * (row.mean - base):+.1f}" if row.name != BASE else ""
        spread = f"{100 * row.spread:.1f}" if len(row.hit_rates) > 1 else ""
        figures = (f"{100 * row.mean:.1f}", spread, gain, str(len(row.hit_rates)))
        lines.append((row.name, row.question, *figures))
    return markdown_table(head, lines, left=2) + "\n"


def plot(rows: Sequence[Row], path: Path) -> None:
    """Every experiment's seeds as dots and their mean, in the order of the mean."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    ordered = sorted(rows, key=lambda row: row.mean)
    figure, axes = plt.subplots(figsize=(8, 0.28 * len(ordered) + 1.2), layout="constrained")
    for y, row in enumerate(ordered):
        colour = "tab:red" if row.name == BASE else "tab:blue"
        axes.plot([100 * rate for rate in row.hit_rates], [y] * len(row.hit_rates), ".", c="0.6")
        axes.plot(100 * row.mean, y, "o", c=colour)
    base = [100 * row.mean for row in rows if row.name == BASE]
    for x in base:
        axes.axvline(x, color="tab:red", linewidth=0.8)
    axes.set_yticks(range(len(ordered)), [row.name for row in ordered])
    axes.set_xlabel("validation hit rate, % (dots: seeds, circle: mean)")
    axes.grid(axis="x", linewidth=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)
