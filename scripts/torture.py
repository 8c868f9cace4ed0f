"""Put a library through what it must survive, and count.

    python scripts/torture.py                       # everything: some minutes
    python scripts/torture.py --every 10 --seconds 20

1. Faults: a writer adds, removes, moves, replaces and compacts, traced call by call. At every call
   that changes the disk, in turn, it is killed, killed with half of a write done, cut off from
   power (whatever was not synced is lost), or finds the disk full, read-only or failing. After each
   the library must hold what it held before the step under way or after it, never less than what
   was reported done, and be able to go on.
2. Soak: readers ask without rest while writers change the library and are killed at random. Every
   answer must be right.

Needs Linux on x86-64 for the first part, and no music, model or network.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: what is forked has one thread

from ordeal.faults import FAULTS, scratch, try_faults
from ordeal.soak import soak
from ordeal.tracer import supported


def main() -> int:
    """Exit status 0 if nothing was lost, 1 otherwise."""
    parser = argparse.ArgumentParser(description="Put a library through what it must survive.")
    parser.add_argument("--every", type=int, default=1, help="try every Nth call only")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the soak")
    parser.add_argument("--readers", type=int, default=10, help="of the soak")
    parser.add_argument("--life", type=float, default=0.5, help="s a writer lives on average")
    parser.add_argument("--profile", default="precise", choices=["precise", "balanced", "compact"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fingerprint-") as base:
        wrong = _faults(scratch(Path(base)), options.profile, options.every)
        for life in (options.life, 0.0):
            wrong += _soak(scratch(Path(base)), options, life)
    print("Nothing was lost." if not wrong else f"{wrong} things went wrong.")
    return 1 if wrong else 0


def _faults(place: Path, profile: str, every: int) -> int:
    if not supported():
        print("faults: skipped, they need Linux on x86-64")
        return 0
    tried, wrong = Counter[str](), 0
    for trial in try_faults(place, profile, lambda calls: list(range(1, calls + 1, every))):
        tried[trial.fault] += 1
        if trial.wrong is not None:
            wrong += 1
            print(f"WRONG: {trial.fault} at call {trial.call}, {trial.name}: {trial.wrong}")
        if sys.stderr.isatty():
            print(f"\r{trial.fault}: {trial.call}   ", end="", file=sys.stderr)
    kills = sum(tried[fault] for fault in FAULTS[:3])
    counts = ", ".join(f"{number} {fault}" for fault, number in tried.items())
    print(f"faults: {sum(tried.values())} ({counts}); {kills} of them kills; {wrong} wrong")
    shutil.rmtree(place)
    return wrong


def _soak(place: Path, options: argparse.Namespace, life: float) -> int:
    tally = soak(
        place / "library",
        readers=options.readers,
        seconds=options.seconds / 2,
        life=life,
        profile=options.profile,
    )
    for text in tally.wrong:
        print(f"WRONG: {text}")
    print(
        f"soak: {options.readers} readers, {tally.answers} answers, {tally.commits} commits, "
        f"{tally.kills} writers killed in {tally.seconds:.0f} s; {len(tally.wrong)} wrong"
    )
    return len(tally.wrong)


if __name__ == "__main__":
    sys.exit(main())
