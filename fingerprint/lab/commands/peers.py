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

from fingerprint.cli.options import FOLDER, corpus_option
from fingerprint.cli.progress import ProgressLine
from fingerprint.lab.benchmark.conditions import CONDITIONS, select
from fingerprint.lab.benchmark.material import SPLITS, Material
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.options import output_option
from fingerprint.lab.peers.answers import check_same_queries, read_evaluation
from fingerprint.lab.peers.indexing import index, tracks_of
from fingerprint.lab.peers.peer import Peer, library, prepare
from fingerprint.lab.peers.querying import Plan, query_peers, standing
from fingerprint.lab.peers.real import RealStanding, query_real, read_real, table
from fingerprint.lab.peers.report import Comparison, save
from fingerprint.lab.peers.systems import SYSTEMS, choose
from fingerprint.lab.real.folder import RealSet


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@corpus_option
@output_option("runs/peers")
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
    "--real",
    type=FOLDER,
    metavar="DIR",
    help="Also query with real recordings, made by `cut-recording`.",
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="Peers or queries at a time.")
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
    written = save(compared, output)
    click.echo(written.read_text(encoding="utf-8"))


def _run(
    corpus: Corpus, peers: list[Peer], plan: Plan, real: RealSet | None, jobs: int
) -> list[RealStanding]:
    """Index and query, with a progress bar; the figures of real recordings, if there are any."""
    with ProgressLine() as line:
        tracks = tracks_of(corpus)
        index(tracks, peers, jobs, line.stage)
        material = Material.load(corpus, SPLITS[plan.split])
        query_peers(corpus, material, peers, plan, jobs, line.stage)
        return query_real(real, tracks, peers, line.stage) if real else []
