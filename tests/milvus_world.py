"""Libraries in Milvus for tests: in a file of Milvus Lite, or on a real server.

FINGERPRINT_TEST_MILVUS names the server: an address without a collection, as milvus://host:19530,
or `wheel`, which starts the one of the PyPI package `milvus` for as long as the tests run.
"""

import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from library_world import Toy

from fingerprint.library import indexing
from fingerprint.library.indexing import index_files
from fingerprint.milvus.address import Address
from fingerprint.milvus.library import MilvusLibrary
from fingerprint.milvus.server import Server

_numbers = itertools.count(1)


@contextmanager
def server_root(folder: Path) -> Iterator[str]:
    """The address of a real server, without a collection; skips where there is none."""
    named = os.environ.get("FINGERPRINT_TEST_MILVUS", "")
    if not named:
        pytest.skip("FINGERPRINT_TEST_MILVUS names no server")
    if named != "wheel":
        yield named.rstrip("/")
        return
    wheel = pytest.importorskip("milvus", reason="pip install milvus")
    running = wheel.MilvusServer()
    running.set_base_dir(str(folder))
    running.start()
    try:
        yield f"milvus://127.0.0.1:{running.listen_port}"
    finally:
        running.stop()


def new_address(root: str) -> Address:
    """A collection that nobody has used."""
    return Address.parse(f"{root}/test_{os.getpid()}_{next(_numbers)}")


def drop(address: Address) -> None:
    """Delete the collections of a library, where there are some."""
    server = Server(address)
    for name in (address.collection, f"{address.collection}_rows"):
        if server.real_name(name) == name:
            server.drop(name)
    server.close()


def slow_run(address: str, music: str) -> None:
    """Index slowly with many commits, reporting each; for tests that kill it."""
    indexing.BATCH_ROWS = 100
    with MilvusLibrary.create_or_open_at(Address.parse(address), Toy(delay=0.1)) as library:
        index_files(
            library,
            sorted(Path(music).iterdir()),
            on_progress=lambda now: print(now.done, flush=True),  # noqa: T201
        )


if __name__ == "__main__":
    slow_run(*sys.argv[1:])
