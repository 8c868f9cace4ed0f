"""Feed damaged input to the audio loader, the library loader, the import and the command line.

    python -m fingerprint.lab fuzz                          # 100,000 cases, drawn by Hypothesis
    python -m fingerprint.lab fuzz --cases 1000 --target audio

Cases are drawn in rounds, each in a process of its own: one that crashes or hangs is reported with
the round's seed, and `--seed` draws it again. Exit status 0 if nothing went wrong.
"""

import multiprocessing
import os
import sys
import tempfile
from time import perf_counter

os.environ.setdefault("OMP_NUM_THREADS", "1")

import click
import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

from fingerprint.lab.robustness.hostile_input import TARGETS, numbers

ROUND = 500  # cases
MEMORY = "/dev/shm"  # noqa: S108 - a disk that is none, where there is one
PATIENCE = 600.0  # s a round may take
SHARES = {"audio": 0.4, "library": 0.2, "import": 0.2, "command": 0.2}  # of all cases


@click.command()
@click.option("--cases", type=click.IntRange(min=1), default=100_000, show_default=True)
@click.option("--target", type=click.Choice(list(TARGETS)), help="[default: all]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the first round.")
def main(cases: int, target: str | None, seed: int) -> None:
    """Feed damaged input to everything that reads input. Exit status 1 if anything went wrong."""
    shares = {target: 1.0} if target else SHARES
    failed = 0
    for name, share in shares.items():
        failed += _fuzz(name, round(share * cases), seed)
    click.echo("Nothing went wrong." if not failed else f"{failed} rounds went wrong.")
    sys.exit(1 if failed else 0)


def _fuzz(target: str, cases: int, seed: int) -> int:
    begin, done, failed = perf_counter(), 0, 0
    context = multiprocessing.get_context("fork")
    while done < cases:
        count = min(ROUND, cases - done)
        process = context.Process(target=_round, args=(target, count, seed))
        process.start()
        process.join(PATIENCE)
        if process.exitcode != 0:
            what = "hangs" if process.exitcode is None else f"ends with {process.exitcode}"
            click.echo(f"WRONG: {target}: the round with --seed {seed} {what}")
            process.kill()
            failed += 1
        done, seed = done + count, seed + 1
    click.echo(f"{target}: {done:,} cases in {perf_counter() - begin:.0f} s, {failed} rounds wrong")
    return failed


def _round(target: str, cases: int, seed: int) -> None:
    check, strategy = TARGETS[target]
    test = settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )(hypothesis.seed(seed)(given(strategy, numbers)(check)))
    memory = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fingerprint-", dir=memory) as place:
        tempfile.tempdir = place
        test()
