"""The client of a recogniser that runs in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from fingerprint.errors import FingerprintError
from fingerprint.lab.peers.systems import System

LAB = Path(__file__).resolve().parents[1]  # on the worker's path, so that it finds `peers` alone


class PeerError(FingerprintError):
    """A peer cannot be installed, or gave up."""


class Client:
    """A running worker of a system, with its index in `folder`; a context manager.

    What the worker writes to standard error goes to the file `log`.

    Raises:
        PeerError: the worker stopped, or its package raised an error.
    """

    def __init__(self, system: System, python: Path, folder: Path, log: Path) -> None:
        self.system = system
        self._log = log
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        module, settings = f"peers.workers.{system.worker}", json.dumps(dict(system.settings))
        with log.open("a") as errors:
            self._process = subprocess.Popen(
                [str(python), "-m", module, str(folder), settings],
                env=os.environ | single | {"PYTHONPATH": str(LAB)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
            )

    def ask(self, **request: str) -> Mapping[str, Any]:
        """The worker's reply to a request as `workers.protocol` has them."""
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(f"{self.system.name} stopped; {self._log} says why")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise PeerError(f"{self.system.name} failed: {reply['error']}")
        return reply

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.terminate()
        self._process.communicate()


def install(system: System, environments: Path) -> Path:
    """The Python that runs a system, in an environment made at the first call.

    Systems with the same requirements share one.

    Raises:
        PeerError: a program is missing, or a package cannot be installed.
    """
    if system.program and not shutil.which(system.program):
        raise PeerError(
            f"{system.name} needs the program {system.program}: "
            "apt-get install libchromaprint-tools, or leave it out with --peer"
        )
    if not system.requirements:
        return Path(sys.executable)
    folder = environments / system.worker
    python, wanted = folder / "bin" / "python", "\n".join(system.bare + system.requirements)
    note = folder / "requirements.txt"  # written last: with it the environment counts as whole
    if not note.exists() or note.read_text() != wanted:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], system)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        _run([*pip, *system.requirements], system)
        if system.bare:
            _run([*pip, "--no-deps", *system.bare], system)
        note.write_text(wanted)
    return python


def version(system: System) -> str:
    """What is installed, for the table."""
    for package in system.bare + system.requirements:
        return package.replace("==", " ")
    said = subprocess.run([system.program, "-version"], capture_output=True, text=True, check=False)
    return said.stdout.partition("(")[0].replace("version ", "").strip()


def _run(command: list[str], system: System) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise PeerError(f"{system.name} cannot be installed: {' '.join(last)}")
