"""Compare `fingerprint` with other recognisers, on the same queries and the same library.

    python -m fingerprint.lab corpus
    fingerprint evaluate --corpus data/corpus
    python -m fingerprint.lab peers --corpus data/corpus

docs/peers.md says what they are. Indexes and answers are kept, so it is safe to stop and to run
again, with more queries or with other peers.
"""

from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fingerprint.lab.benchmark import run as evaluation
from fingerprint.lab.benchmark.conditions import CONDITIONS, select
from fingerprint.lab.benchmark.material import SPLITS, Material
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.peers.answers import check_same_queries, read_evaluation
from fingerprint.lab.peers.asking import Plan, ask, standing
from fingerprint.lab.peers.indexing import index, tracks_of
from fingerprint.lab.peers.peer import Peer, library, prepare
from fingerprint.lab.peers.real import RealStanding, ask_real, read_real, table
from fingerprint.lab.peers.report import Comparison, save
from fingerprint.lab.peers.systems import SYSTEMS, choose
from fingerprint.lab.real.folder import RealSet

PAGE = Path("docs/peers.md")
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--corpus", type=FOLDER, default=Path("data/corpus"), help="The corpus's folder.")
@click.option("--output", type=FOLDER, default=Path("runs/peers"), help="Where everything goes.")
@click.option(
    "--evaluation",
    "evaluated",
    type=FOLDER,
    default=Path("runs/evaluation"),
    help="What `fingerprint evaluate` wrote, for its own row.",
)
@click.option("--split", type=click.Choice(sorted(SPLITS)), default="test")
@click.option("--queries", type=click.IntRange(min=1), default=200, help="In each condition.")
@click.option("--seed", type=int, default=0, help="Decides every query.")
@click.option(
    "--condition",
    "conditions",
    multiple=True,
    metavar="NAME",
    help="Only this one, or this family; may be repeated.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    type=click.Choice([system.name for system in SYSTEMS]),
    help="Only this one; may be repeated.",
)
@click.option(
    "--real", type=FOLDER, metavar="DIR", help="Also ask real recordings, made by `cut-recording`."
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="Peers or queries at a time.")
@click.option("--publish", is_flag=True, help="Put the figures into docs/peers.md as well.")
def main(
    corpus: Path,
    output: Path,
    evaluated: Path,
    split: str,
    queries: int,
    seed: int,
    conditions: tuple[str, ...],
    peers: tuple[str, ...],
    real: Path | None,
    jobs: int,
    publish: bool,
) -> None:
    """Run the queries of `fingerprint evaluate` on other recognisers, and put all in one table."""
    opened = Corpus.open(corpus)
    chosen = select(conditions) if conditions else CONDITIONS
    chosen = tuple(c for c in chosen if split == "test" or not c.unknown)
    plan = Plan(split, seed, queries, chosen)
    own = read_evaluation(evaluated, opened.root, split=split, seed=seed)
    recordings = RealSet.open(real) if real else None
    own_of_real = read_real(evaluated) if real else None
    ready = prepare(opened, choose(peers), output)
    of_real = _run(opened, ready, plan, recordings, jobs)
    standings = [
        replace(own, answers=plan.of(own.answers)),
        *(standing(peer, plan) for peer in ready),
    ]
    check_same_queries(standings)
    files = library(opened)
    hours = sum(file.seconds for file in files) / 3600
    compared = Comparison(standings, chosen, split, seed, queries, len(files), hours)
    if recordings and own_of_real:
        text = table([own_of_real, *of_real], recordings)
        compared = replace(compared, real=text)
    page = PAGE if publish else None
    written = save(compared, output, page)
    click.echo(written.read_text(encoding="utf-8"))


def _run(
    corpus: Corpus, peers: list[Peer], plan: Plan, real: RealSet | None, jobs: int
) -> list[RealStanding]:
    """Index and query, with a progress bar; the figures of real recordings, if there are any."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("start", total=None)

        def show(now: evaluation.Progress) -> None:
            progress.update(bar, description=now.stage, completed=now.done, total=now.total)

        tracks = tracks_of(corpus)
        index(tracks, peers, jobs, show)
        material = Material.load(corpus, SPLITS[plan.split])
        ask(corpus, material, peers, plan, jobs, show)
        return ask_real(real, tracks, peers, show) if real else []
