"""Kill a writer, or fail its disk, at each change that it makes to the disk."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fingerprint.errors import FingerprintError, LibraryError
from fingerprint.lab.robustness.disk import Disk
from fingerprint.lab.robustness.scenario import State, begin, leftovers, run_steps, state_of, states
from fingerprint.lab.robustness.tracer import Call, Fate, traced

REPORTED = 3  # exit status of a writer that ends with an error message
FAULTS = ("killed", "killed in a write", "power cut", "disk full", "read-only disk", "failing disk")


@dataclass(frozen=True, slots=True)
class Trial:
    """A fault at call number `call`, and what is wrong with the library after it, if anything."""

    fault: str
    call: int
    name: str
    wrong: str | None


class FaultPlan:
    """Lets calls pass up to the one numbered `at`, and then injects the fault."""

    def __init__(self, fault: str, at: int, disk: Disk | None) -> None:
        self._fault, self._at, self._disk = fault, at, disk
        self.seen = 0
        self.name = ""

    def judge(self, call: Call) -> Fate:
        """What becomes of a call."""
        self.seen += 1
        if self.seen < self._at:
            return Fate.PASS
        if self.seen == self._at:
            self.name = " ".join([call.name, *(path.name for path in call.paths)])
        if self._fault == "disk full":
            return Fate.FULL if call.writes else Fate.PASS
        if self._fault == "read-only disk":
            return Fate.PASS if call.syncs else Fate.READ_ONLY
        if self._fault == "failing disk":
            return Fate.BROKEN if call.syncs else Fate.PASS
        return Fate.TEAR if self._fault == "killed in a write" else Fate.KILL

    def after(self, call: Call) -> None:
        """Note a call that has succeeded."""
        if self._disk is not None:
            self._disk.after(call)


def count_calls(place: Path, profile: str) -> int:
    """How many system calls of all the steps change the disk."""
    folder = place / "library"
    begin(folder, profile)
    plan = FaultPlan("killed", 1 << 60, None)
    ending = traced(lambda: _write(folder, place / "done"), folder, plan.judge)
    shutil.rmtree(folder)
    if ending.status != 0:
        raise LibraryError(f"without faults the writer ended with status {ending.status}")
    return plan.seen


def try_faults(
    place: Path, profile: str, calls: Callable[[int], list[int]], faults: tuple[str, ...] = FAULTS
) -> Iterator[Trial]:
    """Each fault at each of the calls that `calls` chooses, given how many there are."""
    total = count_calls(place, profile)
    first = begin(place / "stock", profile)
    for fault in faults:
        for call in calls(total):
            yield _trial(place, fault, call, states(first))


def _trial(place: Path, fault: str, call: int, expected: list[State]) -> Trial:
    folder, log = place / "library", place / "done"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(place / "stock", folder)
    log.write_bytes(b"")
    disk = Disk(folder) if fault == "power cut" else None
    plan = FaultPlan(fault, call, disk)
    ending = traced(lambda: _write(folder, log), folder, plan.judge, plan.after)
    if disk is not None:
        disk.lose()
    wrong = _judged(folder, log.stat().st_size, ending.status, expected)
    return Trial(fault, call, plan.name, wrong)


def _write(folder: Path, log: Path) -> int:
    """Run the steps as the writer; each step that has returned is a byte in the file `log`."""
    with log.open("ab", buffering=0) as file:
        try:
            run_steps(folder, lambda _step: file.write(b"."))
        except LibraryError as error:
            return 71 if "\n" in str(error) else REPORTED
    return 0


def _judged(folder: Path, done: int, status: int | None, expected: list[State]) -> str | None:
    """What is wrong with the library after the fault; nothing if it is as promised.

    It holds what it held after the steps that were reported done, or after the one that was under
    way as well; and the remaining steps succeed as if nothing had happened.
    """
    if status not in (0, None, REPORTED):
        return f"the writer ended with status {status}"
    try:
        found = state_of(folder)
        reached = [n for n in (done, done + 1) if n < len(expected) and expected[n] == found]
        if not reached:
            return f"after {done} steps it holds {sorted(map(str, found))}"
        run_steps(folder, since=reached[-1])
        if state_of(folder) != expected[-1]:
            return "the remaining steps end in another state"
        if left := leftovers(folder):
            return f"files are left over: {', '.join(left)}"
    except FingerprintError as error:
        return str(error)
    return None


def scratch(base: Path) -> Path:
    """A new folder to work in."""
    place = base / f"faults-{os.getpid()}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place
