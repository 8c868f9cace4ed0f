"""Recordings in object storage and on the web, read by fsspec: `s3://bucket/key`, `https://…`.

A library identifies tracks by paths. The path of an object is derived from its address,
`/s3:/bucket/key` from `s3://bucket/key`; output shows the address (`spelled`). Credentials come
from where fsspec looks for them, never from an address.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, cast

from fingerprint.audio.formats import AUDIO_SUFFIXES, suffix_of

SCHEMES = ("s3", "gs", "az", "abfs", "http", "https", "memory")
BLOCK = 1 << 20  # bytes
# Attributes of an object that change with its content; the first one that a store gives is used.
VERSIONS = ("ETag", "etag", "md5Hash", "Content-MD5", "Last-Modified", "LastModified", "created")
_ADDRESS = re.compile(rf"({'|'.join(SCHEMES)})://(.+)", re.IGNORECASE | re.DOTALL)
_PATH = re.compile(rf"/({'|'.join(SCHEMES)}):/(.+)", re.DOTALL)


def is_object(text: str) -> bool:
    """Whether a text is the address of an object, or of a prefix, in storage or on the web."""
    return _ADDRESS.fullmatch(text) is not None


def path_of(text: str) -> Path:
    """The path that stands for an object's address; a file name gives its own path.

    >>> str(path_of("s3://bucket/a song.mp3"))
    '/s3:/bucket/a song.mp3'
    """
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return Path(text)
    return Path(f"/{found[1].lower()}:/{found[2]}")


def address_of(path: Path) -> str | None:
    """The address that a path stands for; None for the path of a file."""
    found = _PATH.fullmatch(str(path))
    return f"{found[1]}://{found[2]}" if found else None


def spelled(path: Path) -> str:
    """How a path is shown: as an object's address, or as it is."""
    return address_of(path) or str(path)


def find_objects(address: str) -> Iterator[Path]:
    """Every recording under a prefix, as `find_audio` for a folder; or the object itself.

    Raises:
        OSError: there is no such object or prefix, or it cannot be accessed.
        ValueError: the address holds a user or password, or parts (empty, `.`, `..`) that a path
            would not keep.
    """
    path = path_of(address)
    _, _, place = address.rstrip("/").partition("://")
    if "@" in place.partition("/")[0]:
        raise ValueError("a user or a password does not belong into an address")
    if os.path.normpath(path) != f"{path.parents[-2]}/{place}":
        raise ValueError("an address may hold no empty part, nor . or ..")
    store, place = _store(path)
    with _as_os_errors():
        if store.info(place)["type"] != "directory":
            yield path
            return
        names = sorted(store.find(place))
    for name in names:
        inner = Path(name[len(place) :].lstrip("/"))
        hidden = any(part[0] == "." for part in inner.parts)
        if not hidden and suffix_of(inner) in AUDIO_SUFFIXES:
            yield path_of(f"{spelled(path)}/{name[len(place) :].lstrip('/')}")


def look(path: Path) -> tuple[int, int]:
    """The size (bytes) of an object, and a number that differs between its versions.

    Raises:
        OSError: there is no such object, it cannot be accessed, or its size is unknown (a stream).
    """
    store, place = _store(path)
    with _as_os_errors():
        about = store.info(place)
    if about.get("type") == "directory":
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if about.get("size") is None:
        raise OSError(errno.EINVAL, "its length is not known; `fingerprint listen` follows streams")
    version = next((str(about[name]) for name in VERSIONS if about.get(name)), "")
    digest = blake2b(version.encode(), digest_size=8).digest()
    return int(about["size"]), int.from_bytes(digest, signed=True)


@contextmanager
def fetched(path: Path) -> Iterator[BinaryIO]:
    """A temporary local copy of an object, deleted at the end of the block.

    Raises:
        OSError: the object cannot be read to its end, or the disk is full.
    """
    store, place = _store(path)
    with NamedTemporaryFile(prefix="fingerprint-", suffix=path.suffix) as file:
        with _as_os_errors(), store.open(place, "rb") as source:
            shutil.copyfileobj(source, file, BLOCK)
        file.flush()
        file.seek(0)
        yield cast("BinaryIO", file)


def _store(path: Path) -> tuple[Any, str]:
    """The fsspec file system of an object, and the object's name in it."""
    address = address_of(path)
    try:
        from fsspec.core import url_to_fs

        store, place = url_to_fs(address)
    except ModuleNotFoundError as error:
        why = "it needs fsspec: pip install 'fingerprint[ray]'"
        raise OSError(errno.EINVAL, why) from error
    except (ImportError, ValueError) as error:
        raise OSError(errno.EINVAL, f"{error}") from error
    return store, str(place)


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Turn whatever fsspec and a store's library raise into an `OSError` with their message."""
    try:
        yield
    except Exception as error:
        first: BaseException = error
        while first.__cause__ is not None:  # fsspec reports an absent server as a missing file
            first = first.__cause__
        if isinstance(first, FileNotFoundError):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
        words = getattr(first, "strerror", None) or str(first) or type(first).__name__
        raise OSError(getattr(first, "errno", None) or errno.EIO, words) from error
