"""Many threads that open, refresh and ask, while a writer changes the library."""

import ast
import threading
from pathlib import Path

import numpy as np
import pytest
from library_world import Toy, add, excerpt, song, write_song

from fingerprint.errors import LibraryError
from fingerprint.library.indexing import index_files
from fingerprint.library.library import Library
from fingerprint.library.records import SegmentInfo
from fingerprint.library.segments import open_rows, path_of
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.search import SearchConfig

THREADS, ROUNDS = 12, 8
PLAIN = SearchConfig(semitones=(), far_semitones=())  # no other speeds: they take most of the time


def test_many_threads_open_refresh_and_query(tmp_path: Path) -> None:  # noqa: C901
    """np.load parses headers with `ast`, which threads of Python 3.11 may not do at once."""
    folder = tmp_path / "library"
    with Library.create_or_open(folder, Toy()) as library:
        for seed in range(1, 9):
            add(library, seed)
    shared = Library.open(folder, Toy(), config=PLAIN)
    wrong: list[object] = []
    begin = threading.Barrier(THREADS + 1)

    def ask(number: int) -> None:
        begin.wait()
        try:
            kept = Library.open(folder, Toy(), config=PLAIN)
            for turn in range(ROUNDS):
                seed = 1 + (number + turn) % 4
                with Library.open(folder, Toy(), config=PLAIN) as fresh:
                    for library in (fresh, kept, shared):
                        best = library.identify(excerpt(song(seed), 5, 3), top=1, min_confidence=0)[
                            0
                        ]
                        if best.track.path.stem != f"{seed:04d}":
                            wrong.append((seed, best.track.path))
            kept.close()
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    with Library.open(folder, Toy()) as library:
        begin.wait()
        for turn in range(ROUNDS):
            add(library, 20 + turn)
            library.remove([Path(f"/music/{5 + turn % 4:04d}.wav")])
    for thread in threads:
        thread.join()
    shared.close()
    assert wrong == []


def test_an_array_is_mapped_as_numpy_reads_it_and_refused_otherwise(tmp_path: Path) -> None:
    with Library.create_or_open(tmp_path / "library", Toy()) as library:
        add(library, 1)
        (info,) = library.catalog.layout()[0]
        folder, meta = library.folder, library.meta
        path = path_of(folder, info.id, "npy")
        mapped = open_rows(folder, info, meta).codes
        plain = np.load(path)
        np.testing.assert_array_equal(mapped, plain)
        assert not mapped.flags.writeable
    others = {
        "shape": plain[:-1],
        "kind": plain.astype(np.float64),
        "order": np.asfortranarray(plain),
        "dimensions": plain.ravel(),
        "objects": np.array([{}, None], dtype=object),
    }
    from fingerprint.library.segments import digest

    for array in others.values():
        np.save(path, array)
        files = [(one, digest(path)) for one in info.files if one.suffix == "npy"]
        told = tuple(type(one)(one.suffix, one.bytes, now, one.sha256) for one, now in files)
        with pytest.raises(LibraryError, match="is missing, cut short or damaged"):
            open_rows(folder, SegmentInfo(info.id, info.rows, told), meta)
    whole = path.read_bytes()
    for content in (b"", whole[:5], whole[:60], b"\x93NUMPY\x02\x00" + whole[8:]):
        path.write_bytes(content)
        files = [(one, digest(path)) for one in info.files if one.suffix == "npy"]
        told = tuple(type(one)(one.suffix, one.bytes, now, one.sha256) for one, now in files)
        with pytest.raises(LibraryError, match="is missing, cut short or damaged"):
            open_rows(folder, SegmentInfo(info.id, info.rows, told), meta)


def test_many_threads_ask_the_shipped_model_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reads the background anew, and none parses with `ast`, as np.load would do."""
    network = Fingerprinter.default("cpu", threads=1).network
    with Library.create_or_open(tmp_path / "library", Fingerprinter(network)) as library:
        for seed in range(2):
            write_song(tmp_path / f"{seed}.wav", seed)
        index_files(library, [tmp_path / "0.wav", tmp_path / "1.wav"])

    def refuse(*_values: object) -> None:
        raise AssertionError("a query parses with ast")

    monkeypatch.setattr(ast, "parse", refuse)
    monkeypatch.setattr(ast, "literal_eval", refuse)
    found: list[object] = []
    begin = threading.Barrier(THREADS)

    def ask(number: int) -> None:
        seed = number % 2
        begin.wait()
        try:
            model = Fingerprinter(network)
            with Library.open(tmp_path / "library", model, config=PLAIN) as library:
                clip = excerpt(song(seed), 5, 3)
                best = library.identify(clip, top=1, min_confidence=0)[0]
            assert model.background is not None
            found.append(best.track.path.stem == str(seed))
        except BaseException as error:
            found.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * THREADS
