"""Run work in several processes."""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from fingerprint.model.fingerprinter import Fingerprinter

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def saved(model: "Fingerprinter") -> Iterator[Path]:
    """A file of the model, from which other processes load it; deleted after the block."""
    with TemporaryDirectory(prefix="fingerprint-") as shelf:
        weights = Path(shelf) / f"model{model.network.suffix}"
        model.save(weights)
        yield weights


def each(
    work: Callable[[T], R],
    items: Sequence[T],
    jobs: int,
    *,
    chunksize: int = 1,
    initializer: Callable[[], None] | None = None,
) -> Generator[R, None, None]:
    """`work(item)` for each item, in their order: in `jobs` processes, or in this one if it is 1.

    If the generator is closed early, no further work is started.
    """
    if jobs == 1:
        yield from map(work, items)
        return
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=initializer)
    try:
        yield from pool.map(work, items, chunksize=chunksize)
    finally:
        pool.shutdown(cancel_futures=True)
