"""Inject faults into a library's writer and check the library after each of them.

    python -m fingerprint.lab torture                       # everything: some minutes
    python -m fingerprint.lab torture --every 10 --seconds 20

1. Faults: a writer adds, removes, moves, replaces and compacts, traced call by call. At every call
   that changes the disk, in turn, it is killed, killed with half of a write done, cut off from
   power (whatever was not synced is lost), or finds the disk full, read-only or failing. After each
   the library must be as before or after the interrupted step, with everything that was reported
   done, and the remaining steps must succeed.
2. Soak: readers query without pause while writers change the library and are killed at
   random. Every answer must be right.

Needs Linux on x86-64 for the first part, and no music, model or network.
"""

import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import click

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: what is forked has one thread

from fingerprint.cli.progress import ProgressLine
from fingerprint.lab.robustness.faults import FAULTS, scratch, try_faults
from fingerprint.lab.robustness.soak import soak
from fingerprint.lab.robustness.tracer import supported


@click.command()
@click.option("--every", type=click.IntRange(min=1), default=1, help="Try every Nth call only.")
@click.option("--seconds", type=float, default=60.0, show_default=True, help="Of the soak.")
@click.option("--readers", type=int, default=10, show_default=True, help="Of the soak.")
@click.option("--life", type=float, default=0.5, show_default=True, help="Mean s a writer lives.")
@click.option("--profile", type=click.Choice(["standard", "compact"]), default="standard")
def main(every: int, seconds: float, readers: int, life: float, profile: str) -> None:
    """Inject faults at every system call, then soak. Exit status 1 if anything was lost."""
    with tempfile.TemporaryDirectory(prefix="fingerprint-") as base:
        wrong = _faults(scratch(Path(base)), profile, every)
        for lived in (life, 0.0):
            wrong += _soak(scratch(Path(base)), readers, seconds / 2, profile, lived)
    click.echo("Nothing was lost." if not wrong else f"{wrong} things went wrong.")
    sys.exit(1 if wrong else 0)


def _faults(place: Path, profile: str, every: int) -> int:
    if not supported():
        click.echo("faults: skipped, they need Linux on x86-64")
        return 0
    tried, wrong = Counter[str](), 0
    line = ProgressLine()  # not entered: a live bar has a thread, and the writers are forked
    for trial in try_faults(place, profile, lambda calls: list(range(1, calls + 1, every))):
        tried[trial.fault] += 1
        if trial.wrong is not None:
            wrong += 1
            click.echo(f"WRONG: {trial.fault} at call {trial.call}, {trial.name}: {trial.wrong}")
        line.show(trial.call, trial.call, f"{trial.fault}: call {trial.call:,}")
    kills = sum(tried[fault] for fault in FAULTS[:3])
    counts = ", ".join(f"{number} {fault}" for fault, number in tried.items())
    click.echo(f"faults: {sum(tried.values())} ({counts}); {kills} of them kills; {wrong} wrong")
    shutil.rmtree(place)
    return wrong


def _soak(place: Path, readers: int, seconds: float, profile: str, life: float) -> int:
    tally = soak(
        place / "library",
        readers=readers,
        seconds=seconds,
        life=life,
        profile=profile,
    )
    for text in tally.wrong:
        click.echo(f"WRONG: {text}")
    click.echo(
        f"soak: {readers} readers, {tally.answers} answers, {tally.commits} commits, "
        f"{tally.kills} writers killed in {tally.seconds:.0f} s; {len(tally.wrong)} wrong"
    )
    return len(tally.wrong)
