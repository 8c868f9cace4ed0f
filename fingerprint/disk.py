"""Files that appear whole or not at all, survive a power cut, and folders one process works in."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A draft to write to, which replaces `path` if the block succeeds and is deleted if not."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        yield draft
        draft.replace(path)
    finally:
        delete_draft(draft)


def delete_draft(path: Path) -> None:
    """Delete an unfinished file, if there is one; a disk that refuses has been reported already."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make `folder` if need be, and wait until no other process holds its lock."""
    import fcntl  # not on Windows

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def name_as_text(path: Path) -> Iterator[str]:
    """A name of a file for libraries that take only text; a folder's name may be any bytes.

    Raises:
        OSError: there is no such folder, or this system has no other name for it.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            yield f"/proc/self/fd/{folder}/{path.name}"
        finally:
            os.close(folder)
    else:
        yield str(path)


def flush(path: Path) -> None:
    """Force a file, or a folder's entries, onto the disk (fsync)."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot, and need not
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
