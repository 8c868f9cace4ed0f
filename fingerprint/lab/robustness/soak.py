"""Readers beside a writer that is killed at random: every answer is right, at every moment.

Tracks below `FIXED` are always in the library; the writer adds, replaces and removes the others.
The answer to a query of a fixed track must be that track; to a query of another one, that track
or, since it may be absent at the moment, nothing.
"""

import multiprocessing
import os
import random
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from fingerprint.errors import FingerprintError
from fingerprint.lab.robustness.scenario import answer, entry, kind, path_of, state_of
from fingerprint.library import writer as writing_module
from fingerprint.library.library import create
from fingerprint.library.snapshot import take_snapshot
from fingerprint.library.store import Catalog
from fingerprint.library.writer import writing

FIXED = 8
COMING = range(FIXED, 20)  # and going
GROUP = 5  # tracks of a commit at most


@dataclass(frozen=True, slots=True)
class Tally:
    """The counts of a soak."""

    answers: int
    wrong: tuple[str, ...]
    commits: int
    kills: int
    seconds: float


def soak(folder: Path, *, readers: int, seconds: float, life: float, profile: str) -> Tally:
    """Read and write for `seconds`; the writer lives `life` seconds on average, 0 for ever."""
    create(folder, kind(profile))
    with writing(folder) as writer:
        writer.add([entry(number) for number in range(FIXED)])
    context = multiprocessing.get_context("fork")
    end = time.monotonic() + seconds
    pipes, processes = [], []
    for number in range(readers):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_read, args=(folder, end, number, theirs))
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    begin = time.monotonic()
    commits, kills, failures = _write_and_die(folder, end, life)
    answers, wrong = 0, list(failures)
    for pipe in pipes:
        count, faults = pipe.recv() if pipe.poll(60) else (0, ["a reader has died"])
        answers += count
        wrong += faults
    for process in processes:
        process.join()
    try:
        found = state_of(folder)
        wrong += [f"{path_of(n)} is lost" for n in range(FIXED) if found.get(path_of(n)) != n]
    except FingerprintError as error:
        wrong.append(str(error))
    return Tally(answers, tuple(wrong), commits, kills, time.monotonic() - begin)


def _read(folder: Path, end: float, seed: int, pipe: Connection) -> None:
    """Query until the end; now and then, reopen the library."""
    random_ = random.Random(seed)  # noqa: S311 - no secret
    answers, wrong = 0, list[str]()
    catalog = Catalog(folder)
    version, now = -1, None
    try:
        while time.monotonic() < end and len(wrong) < 10:
            if random_.random() < 0.1:
                catalog.close()
                catalog, version, now = Catalog(folder), -1, None
            if version != (version := catalog.version()) or now is None:
                now = take_snapshot(catalog, now)
            number = random_.choice([*range(FIXED), *COMING])
            begins = random_.randrange(45)
            found = answer(now, catalog, number, begins=begins)
            expected = {path_of(number)} | ({None} if number >= FIXED else set())
            answers += 1
            if found not in expected:
                wrong.append(f"queried {path_of(number)}, got {found}")
    except FingerprintError as error:
        wrong.append(str(error))
    pipe.send((answers, wrong))
    pipe.close()


def _write_and_die(folder: Path, end: float, life: float) -> tuple[int, int, list[str]]:
    """Writers, one after another; returns the commits, the kills and what went wrong."""
    random_ = random.Random(0)  # noqa: S311 - no secret
    log = folder.with_name("commits")
    log.write_bytes(b"")
    kills, failures, number = 0, list[str](), 0
    while (now := time.monotonic()) < end:
        number += 1
        child = os.fork()
        if not child:
            os._exit(_write(folder, log, number, end))
        span = random_.expovariate(1 / life) if life else end
        while time.monotonic() < min(end, now + span) and not _ended(child):
            time.sleep(0.002)
        if not _ended(child):
            if life:
                os.kill(child, signal.SIGKILL)
                kills += 1
            os.waitpid(child, 0)
        elif _STATUS[child]:
            failures.append(f"a writer ended with status {_STATUS[child]}")
    return log.stat().st_size, kills, failures


_STATUS: dict[int, int] = {}


def _ended(child: int) -> bool:
    if child not in _STATUS:
        found, status = os.waitpid(child, os.WNOHANG)
        if not found:
            return False
        _STATUS[child] = status
    return True


def _write(folder: Path, log: Path, seed: int, end: float) -> int:
    """Change the library without rest; each commit is a byte in `log`."""
    random_ = random.Random(seed)  # noqa: S311 - no secret
    writing_module.MOST_SMALL = 3  # so that it merges all the time
    try:
        with log.open("ab", buffering=0) as file:
            while time.monotonic() < end:
                with writing(folder) as writer:
                    some = random_.sample(list(COMING), random_.randint(1, GROUP))
                    if random_.random() < 0.5:
                        writer.add([entry(number) for number in some])
                    else:
                        writer.remove([path_of(number) for number in some])
                    file.write(b".")
                    if random_.random() < 0.3:
                        writer.compact()
                    else:
                        writer.merge()
    except FingerprintError as error:
        os.write(2, f"{error}\n".encode(errors="replace"))
        return 1
    return 0
