"""Debian packages: download by name, unpack what is wanted. Both can be stopped and rerun."""

import shutil
import subprocess
import tarfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from fingerprint.errors import CorpusError

AUDIO_SUFFIXES = frozenset(
    {".wav", ".ogg", ".oga", ".opus", ".flac", ".mp3", ".au", ".aif", ".aiff", ".voc"}
)


def downloaded(package: str, folder: Path) -> Path | None:
    """The package's file in a folder of downloads, if it is there."""
    return next(iter(sorted(folder.glob(f"{package}_*.deb"))), None)


def download(package: str, folder: Path) -> Path:
    """Fetch a package with `apt-get download` unless it is there already.

    Raises:
        CorpusError: there is no apt-get, no such package, or no network.
    """
    if (ready := downloaded(package, folder)) is not None:
        return ready
    if shutil.which("apt-get") is None:
        raise CorpusError(
            f"cannot download {package}: there is no apt-get here; the corpus is made of Debian 12"
            f" packages, so run this on Debian 12 or put the .deb files into {folder}"
        )
    with _scratch(folder / f".{package}") as scratch:
        run = subprocess.run(
            ["apt-get", "--quiet", "download", package],
            cwd=scratch,
            capture_output=True,
            text=True,
            check=False,
        )
        fetched = downloaded(package, scratch)
        if run.returncode != 0 or fetched is None:
            raise CorpusError(
                f"cannot download {package}: {_reason(run.stderr)};"
                " check the network, run 'apt-get update', then run this again"
            )
        return fetched.replace(folder / fetched.name)


def unpack_audio(deb: Path, folder: Path, suffixes: Collection[str] = AUDIO_SUFFIXES) -> Path:
    """Unpack the files of a package with these suffixes into `folder`, whole or not at all; once.

    Links are left out: what they point to is in some package under its own name.

    Raises:
        CorpusError: the package is damaged, or there is no dpkg-deb.
    """
    if folder.exists():
        return folder
    if shutil.which("dpkg-deb") is None:
        raise CorpusError(f"cannot unpack {deb}: there is no dpkg-deb here; install dpkg")
    try:
        with _scratch(folder.parent / f".{folder.name}") as scratch:
            _extract(deb, scratch, suffixes)
            scratch.rename(folder)
    except tarfile.TarError as error:
        raise CorpusError(f"cannot unpack {deb}: {error}; delete it and run this again") from error
    except OSError as error:
        raise CorpusError(f"cannot unpack {deb}: {error}") from error
    return folder


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty folder, gone at the end; whatever a killed run left there goes first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _extract(deb: Path, folder: Path, suffixes: Collection[str]) -> None:
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                if member.isreg() and Path(member.name).suffix.lower() in suffixes:
                    _write(archive, member, folder)
    if process.returncode != 0:
        raise tarfile.ReadError(f"dpkg-deb ended with status {process.returncode}")


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Only the bytes of a plain file. Python's own filter is not in the 3.11.2 of Debian 12."""
    target = (folder / member.name).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise tarfile.ReadError(f"it holds {member.name}, which would be written elsewhere")
    source = archive.extractfile(member)
    assert source is not None  # noqa: S101 - it is a plain file
    target.parent.mkdir(parents=True, exist_ok=True)
    with source, target.open("wb") as file:
        shutil.copyfileobj(source, file)


def _reason(stderr: str) -> str:
    errors = [line.strip() for line in stderr.splitlines() if line.startswith("E:")]
    return errors[0].removeprefix("E:").strip() if errors else "apt-get failed"
