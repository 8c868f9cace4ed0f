"""Any sequence of changes: a synced library is what indexing the folder gives, and stays whole.

`python tests/test_sequences.py 20000` tries many more sequences than the test suite does.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from library_world import RATE, Toy, song

from fingerprint.audio.files import find_audio
from fingerprint.errors import AudioError
from fingerprint.library.duplicates import find_duplicates
from fingerprint.library.exchange import export_library, import_library
from fingerprint.library.indexing import OnDuplicate, index_files
from fingerprint.library.library import Library
from fingerprint.library.merge import merge_library
from fingerprint.library.sync import sync
from fingerprint.library.verify import check, repair
from fingerprint.library.writer import Changes

SECONDS = 3.0
CLOCK = [10**18]  # ns; every file that is written is a tick newer than the one before


@cache
def sound(number: int, encoding: int) -> bytes:
    """A file: song `number` in one of its encodings, whose samples differ."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        samples = song(number, SECONDS) + encoding * 1e-4
        soundfile.write(file.name, samples, RATE, subtype="PCM_24")
        return Path(file.name).read_bytes()


# What may happen to a folder. Names are few, so that changes meet each other.

songs = st.tuples(st.just("song"), st.integers(1, 4), st.integers(0, 1))
content = st.one_of(songs, songs, songs, st.just(("noise", 0, 0)))
folders = st.sampled_from(["", "a", "b", "a/c"])
names = st.builds(lambda folder, name: f"{folder}/{name}.wav", folders, st.sampled_from("xyz"))
operations = st.one_of(
    st.tuples(st.just("write"), names, content),
    st.tuples(st.just("write"), names, content),
    st.tuples(st.just("copy"), names, names),
    st.tuples(st.just("move"), names, names),
    st.tuples(st.just("swap"), names, names),
    st.tuples(st.just("delete"), names),
    st.tuples(st.just("touch"), names),
    st.tuples(st.just("hard link"), names, names),
    st.tuples(st.just("link"), names, names),
    st.tuples(st.just("link"), st.sampled_from(["l", "a/l"]), folders),
    st.tuples(st.just("move"), folders, folders),
    st.tuples(st.just("delete folder"), folders),
    st.tuples(st.just("empty"), folders),
    st.tuples(st.just("unlink"), st.sampled_from(["l", "a/l"])),
)
sequences = st.lists(st.lists(operations, max_size=5), min_size=1, max_size=4)
policies = st.sampled_from(["add", "skip", "replace"])


def change(root: Path, operation: tuple[object, ...]) -> None:  # noqa: C901 - a table
    """Do to a folder what can be done of an operation."""
    kind, first, *rest = operation
    path = root / str(first).lstrip("/")
    other = root / str(rest[0]).lstrip("/") if rest and isinstance(rest[0], str) else root
    with suppress(OSError, shutil.Error):
        match kind:
            case "write":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                what, number, encoding = rest[0]  # type: ignore[misc]
                path.write_bytes(sound(number, encoding) if what == "song" else b"no sound")
            case "copy":
                shutil.copyfile(path, other)
                path = other
            case "move":
                if other != root and path != root:
                    path.rename(other)
                return
            case "swap":
                path.rename(root / "kept")
                other.rename(path)
                (root / "kept").rename(other)
                return
            case "hard link":
                os.link(path, other)
                return
            case "link":
                path.symlink_to(other)
                return
            case "delete" | "unlink":
                path.unlink()
                return
            case "delete folder":
                if path != root:
                    shutil.rmtree(path)
                return
            case "empty":
                for inner in path.iterdir():
                    inner.unlink()
                return
        CLOCK[0] += 10**9
        os.utime(path, ns=(CLOCK[0], CLOCK[0]))


def recordings(library: Library) -> set[frozenset[Path]]:
    """Each recording that a library knows, as the files that hold it."""
    groups = {one.id: {one.track.path} for one in library.catalog.listed()}
    for path, of in library.catalog.copies().items():
        groups[of].add(path)
    return set(map(frozenset, groups.values()))


def heard(root: Path) -> dict[Path, tuple[bytes, ...]]:
    """What each file holds that is music."""
    known = {sound(number, encoding): (number,) for number in range(1, 5) for encoding in (0, 1)}
    return {
        path: known[content]  # type: ignore[misc]
        for path in find_audio([root], lambda _path, _error: None)
        if (content := path.read_bytes()) in known
    }


@contextmanager
def scratch() -> Iterator[Path]:
    """A new folder, in memory where that can be."""
    place = Path("/dev/shm")  # noqa: S108 - the new folder is in it
    with tempfile.TemporaryDirectory(dir=place if place.is_dir() else None) as folder:
        yield Path(folder)


def sure(_removed: int, _of: int) -> bool:
    return True


def check_sync(steps: list[list[tuple[object, ...]]], policy: OnDuplicate) -> None:
    """After any changes a synced library knows what indexing the folder anew would find in it."""
    with scratch() as place:
        root = place / "music"
        root.mkdir()
        with Library.create_or_open(place / "library", Toy()) as library:
            for number, operations_ in enumerate(steps):
                for operation in operations_:
                    change(root, operation)
                try:
                    done = sync(library, [root], on_duplicate=policy, sure=sure)
                except AudioError:
                    assert not heard(root)
                    continue
                failed = {path for path, _ in done.report.failed}
                # A file that cannot be read any more keeps the track that it had.
                for path in failed:
                    library.remove([path])
                found = recordings(library)
                assert {path for group in found for path in group} == set(heard(root))
                assert check(library.catalog) == []
                with Library.create_or_open(place / f"anew{number}", Toy()) as anew:
                    index_files(anew, list(heard(root)), on_duplicate=policy)
                    assert found == recordings(anew)
                again = sync(library, [root], on_duplicate=policy, sure=sure)
                assert (again.removed, again.report.added, again.report.relabelled) == ([], 0, 0)
                assert {path for path, _ in again.report.failed} <= failed | set(find_noise(root))


def find_noise(root: Path) -> list[Path]:
    return [
        path for path in find_audio([root], lambda _path, _error: None) if path not in heard(root)
    ]


def check_doubt(steps: list[list[tuple[object, ...]]]) -> None:
    """Unasked, sync gives up no track but of a file that is gone, nor most of them."""
    with scratch() as place:
        root = place / "music"
        root.mkdir()
        with Library.create_or_open(place / "library", Toy()) as library:
            for operations_ in steps:
                for operation in operations_:
                    change(root, operation)
                before = {one.track.path: one.content for one in library.catalog.listed()}
                try:
                    done = sync(library, [root])
                except AudioError:
                    assert {o.track.path for o in library.catalog.listed()} == set(before)
                    continue
                now = {one.track.path: one.content for one in library.catalog.listed()}
                assert not any(
                    path.is_file() and path not in now
                    for path in done.removed
                    if os.path.realpath(path) not in map(os.path.realpath, now)
                )
                assert len(done.removed) <= max(1, len(before) / 2)
                assert set(heard(root)) <= set(now) | {path for path, _ in done.report.failed}
                kept = {one.path for one in done.kept}
                assert {p for p in now if not p.exists()} == {p for p in kept if not p.exists()}


# What people do to libraries.

commands = st.one_of(
    st.tuples(st.just("change"), st.lists(operations, min_size=1, max_size=3)),
    st.tuples(st.just("index"), policies),
    st.tuples(st.just("sync"), policies),
    st.tuples(st.just("remove"), names),
    st.tuples(st.just("remove"), folders),
    st.tuples(st.just("forget copies"), st.none()),
    st.tuples(st.just("compact"), st.none()),
    st.tuples(st.just("merge"), st.none()),
    st.tuples(st.just("export and import"), st.none()),
    st.tuples(st.just("repair"), st.sampled_from(["npy", "ann", "json"])),
    st.tuples(st.just("duplicates"), st.none()),
)


def check_commands(steps: list[tuple[str, object]]) -> None:
    """After any commands every byte is what was written, and a reader sees what a new one does."""
    with scratch() as place:
        root, folder = place / "music", place / "library"
        root.mkdir()
        change(root, ("write", "x.wav", ("song", 1, 0)))
        reader = Library.create_or_open(folder, Toy())
        for number, (name, value) in enumerate(steps):
            if name == "export and import":
                export_library(folder, place / f"{number}.fplib")
                import_library(place / f"{number}.fplib", place / f"{number}")
                before = reader.tracks()
                reader.close()
                folder = place / f"{number}"
                reader = Library.open(folder, Toy())
                assert reader.tracks() == before
            else:
                _command(name, value, root, folder, place / f"{number}")
            assert check(reader.catalog) == []
            snapshot = reader.snapshot()
            with Library.open(folder, Toy()) as fresh:
                assert fresh.snapshot().owners.tolist() == snapshot.owners.tolist()
                assert {p.name for p in (folder / "segments").glob("*")} == {
                    f"{info.id:06d}.{file.suffix}"
                    for info in fresh.catalog.layout()[0]
                    for file in info.files
                }
        reader.close()


def _command(  # noqa: C901 - a table
    name: str, value: object, root: Path, folder: Path, place: Path
) -> None:
    with Library.open(folder, Toy()) as library:
        files = list(find_audio([root], lambda _path, _error: None))
        match name:
            case "change":
                for operation in value:  # type: ignore[attr-defined]
                    change(root, operation)
            case "index":
                index_files(library, files, on_duplicate=value)  # type: ignore[arg-type]
            case "sync":
                with suppress(AudioError):
                    sync(library, [root], on_duplicate=value)  # type: ignore[arg-type]
            case "remove":
                inside = root / str(value).lstrip("/")
                tracks = [t.path for t in library.tracks() if t.path.is_relative_to(inside)]
                library.remove(tracks)
            case "forget copies":
                with library.writing() as writer:
                    writer.apply(Changes(forgotten=list(library.catalog.copies())))
            case "compact":
                with library.writing() as writer:
                    writer.compact()
            case "merge":
                with Library.create_or_open(place, Toy()) as other:
                    index_files(other, files)
                merge_library(library, place)
            case "repair":
                for path in sorted((folder / "segments").glob(f"*.{value}"))[:1]:
                    content_ = path.read_bytes()
                    path.write_bytes(content_[:-1] + bytes([content_[-1] ^ 1]))
                    done = repair(folder, Toy())
                    if done.waiting:  # its music may come back: whole again for the rest
                        path.write_bytes(content_)
            case "duplicates":
                find_duplicates(library)


FEW = settings(max_examples=40)


@FEW
@given(sequences, policies)
def test_a_synced_library_is_what_indexing_the_folder_gives(
    steps: list[list[tuple[object, ...]]], policy: OnDuplicate
) -> None:
    check_sync(steps, policy)


@FEW
@given(sequences)
def test_no_tracks_are_dropped_without_confirmation(steps: list[list[tuple[object, ...]]]) -> None:
    check_doubt(steps)


@FEW
@given(st.lists(commands, min_size=1, max_size=8))
def test_any_commands_leave_a_library_whole(steps: list[tuple[str, object]]) -> None:
    check_commands(steps)


def many(count: int, seed: int, which: str) -> None:
    """Try `count` sequences of one kind, other ones for every seed."""
    config = settings(
        max_examples=count,
        deadline=None,
        derandomize=False,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    tries = {
        "sync": given(sequences, policies)(check_sync),
        "doubt": given(sequences)(check_doubt),
        "commands": given(st.lists(commands, min_size=1, max_size=8))(check_commands),
    }
    seeded(seed)(config(tries[which]))()
    print(f"{which}: {count} sequences, seed {seed}: nothing wrong")  # noqa: T201


if __name__ == "__main__":
    for kind in ("sync", "doubt", "commands"):
        many(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, kind)
