"""Feed spoilt input to the audio loader, the library loader, the import and the command line.

    python scripts/fuzz.py                          # 100,000 cases, drawn by Hypothesis
    python scripts/fuzz.py --cases 1000 --target audio

Cases are drawn in rounds, each in a process of its own: one that crashes or hangs is reported with
the round's seed, and `--seed` draws it again. Exit status 0 if nothing went wrong.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
from time import perf_counter

os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from ordeal.strangers import TARGETS, numbers

ROUND = 500  # cases
MEMORY = "/dev/shm"  # noqa: S108 - a disk that is none, where there is one
PATIENCE = 600.0  # s a round may take
SHARES = {"audio": 0.4, "library": 0.2, "import": 0.2, "command": 0.2}  # of all cases


def main() -> int:
    """Exit status 0 if nothing went wrong."""
    parser = argparse.ArgumentParser(description="Feed spoilt input to whatever reads input.")
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--target", choices=list(TARGETS))
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    options = parser.parse_args()
    shares = {options.target: 1.0} if options.target else SHARES
    failed = 0
    for target, share in shares.items():
        failed += _fuzz(target, round(share * options.cases), options.seed)
    print("Nothing went wrong." if not failed else f"{failed} rounds went wrong.")
    return 1 if failed else 0


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
            print(f"WRONG: {target}: the round with --seed {seed} {what}", flush=True)
            process.kill()
            failed += 1
        done, seed = done + count, seed + 1
    print(f"{target}: {done:,} cases in {perf_counter() - begin:.0f} s, {failed} rounds wrong")
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


if __name__ == "__main__":
    sys.exit(main())
