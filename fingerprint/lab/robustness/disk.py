"""A disk that loses, in a power cut, all that was not synced.

The strictest reading of POSIX: what was written to a file since its last fsync is gone, and so is
every name that was made, removed or changed in a folder since the folder's last fsync.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from fingerprint.lab.robustness.tracer import Call


class Disk:
    """Follows the calls that a process makes in a folder, and can put back what was lost.

    Tell it of each call that has succeeded, and to `lose` once the process is dead.
    """

    def __init__(self, folder: Path) -> None:
        self._kept: dict[Path, bytes] = {
            path: path.read_bytes() for path in folder.rglob("*") if path.is_file()
        }
        self._dirty: set[Path] = set()
        self._undo: list[tuple[Path, Callable[[], None]]] = []  # by the folder it is about

    def after(self, call: Call) -> None:
        """Note what a call that has succeeded leaves to chance."""
        path = call.paths[0]
        if call.syncs and path.is_dir():
            self._undo = [(folder, undo) for folder, undo in self._undo if folder != path]
        elif call.syncs:
            self._kept[path] = path.read_bytes()
            self._dirty.discard(path)
        elif call.name == "open":
            self._kept.pop(path, None)
            self._dirty.add(path)
            self._undo.append((path.parent, lambda: path.unlink(missing_ok=True)))
        elif call.name == "mkdir":
            self._undo.append((path.parent, lambda: shutil.rmtree(path, ignore_errors=True)))
        elif call.name == "unlink":
            kept = self._kept.pop(path, b"")
            self._undo.append((path.parent, lambda: self._restore(path, kept)))
        elif call.name == "rename":
            self._renamed(path, call.paths[1])
        else:
            self._dirty.add(path)

    def lose(self) -> None:
        """Cut the power: every file and folder is as it was last synced."""
        for path in self._dirty:
            if path.exists():
                path.write_bytes(self._kept.get(path, b""))
        for _, undo in reversed(self._undo):
            undo()

    def _renamed(self, old: Path, new: Path) -> None:
        replaced = self._kept.pop(new, None)
        if old in self._kept:
            self._kept[new] = self._kept.pop(old)
        if old in self._dirty:
            self._dirty.remove(old)
            self._dirty.add(new)

        def undo() -> None:
            if new.exists():
                new.replace(old)
            if replaced is not None:
                self._restore(new, replaced)

        self._undo.append((new.parent, undo))

    @staticmethod
    def _restore(path: Path, content: bytes) -> None:
        if path.parent.is_dir():
            path.write_bytes(content)
