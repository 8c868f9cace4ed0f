"""Files that appear whole or not at all, survive a power cut, and folders one process works in."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

DRAFT = ".draft"  # suffix of files that are not complete yet
LONGEST_NPY_HEADER = 256  # bytes, of the arrays that this package writes
_NPY_HEADER = re.compile(  # of NumPy's format 1.0
    rb"\x93NUMPY\x01\x00(..)\{'descr': '([^']+)', 'fortran_order': False, "
    rb"'shape': \(((?:\d+, )*\d*,?)\), \} *\n",
    re.DOTALL,
)


@contextmanager
def atomic_write(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """A draft to write to, which replaces `path` if the block succeeds and is deleted if not.

    With `shared`, several processes may write `path` at the same time: each has its own draft.
    """
    own = f".{uuid4().hex}" if shared else ""
    draft = path.with_name(f".{path.name}{own}{DRAFT}")
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


def npy_header(content: bytes) -> tuple[str, tuple[int, ...], int] | None:
    """The kind of number, the shape and where the numbers begin (bytes) in a NumPy file's content.

    None if it does not begin with the header of an array in C order. Not np.load: that parses the
    header with `ast`, which is not thread-safe on Python 3.11.
    """
    header = _NPY_HEADER.match(content)
    if header is None:
        return None
    length, kind, shape = header.groups()
    begin = header.end(1) + int.from_bytes(length, "little")
    return kind.decode(), tuple(map(int, re.findall(rb"\d+", shape))), begin


def flush(path: Path) -> None:
    """Force a file, or a folder's entries, onto the disk (fsync)."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot, and need not
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
