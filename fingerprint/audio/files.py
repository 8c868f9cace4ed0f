"""Find the recordings in files and folders, detect deleted files, and write names as text."""

import os
import re
import stat
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from fingerprint.audio.formats import AUDIO_SUFFIXES, suffix_of
from fingerprint.audio.objects import address_of, spelled
from fingerprint.errors import AudioError

ELSEWHERE = Path("/elsewhere")  # where a library lists files of other machines, by host
# Where systems make a folder for each drive, and delete it when the drive is unplugged.
DRIVES = ("/media", f"/media/{os.environ.get('USER', '')}", "/run/media/*", "/mnt", "/Volumes")
Unreachable = Callable[[Path, OSError | ValueError], None]


def find_audio(paths: Iterable[Path], unreachable: Unreachable | None = None) -> Iterator[Path]:
    """Every recording in files and folders, each once, in a fixed order.

    A file in `paths` is taken whatever its suffix. A folder is walked in sorted order: its files,
    then its folders, and symbolic links last. Links are followed, but no file or folder is visited
    twice, by its real path. Hidden entries and files without one of `AUDIO_SUFFIXES` are left out.

    Args:
        paths: files and folders.
        unreachable: called with every path that cannot be examined: one of `paths`, a folder
            without read permission, a broken link. Without it, unreachable `paths` raise, and
            others are left out.

    Raises:
        AudioError: a path does not exist, or is a folder that may not be read.
    """
    return (path for path, _ in walk(paths, unreachable))


def walk(
    paths: Iterable[Path], unreachable: Unreachable | None = None
) -> Iterator[tuple[Path, Path]]:
    """As `find_audio`, each recording with its real path, which holds no symbolic link."""
    run = _Walk(unreachable or (lambda _path, _error: None))
    for path in paths:
        try:
            folder = stat.S_ISDIR(path.stat().st_mode)
            if folder:
                os.scandir(path).close()  # raises without read permission
        except (OSError, ValueError) as error:  # ValueError: a null character
            if unreachable is None:
                raise AudioError(f"cannot read {display_name(path)}: {reason(error)}") from error
            unreachable(path, error)
            continue
        real = Path(os.path.realpath(path))
        if folder:
            yield from run.through(path, real)
        elif run.is_new(real):
            yield path, real


class _Walk:
    """One walk: the real paths that were visited."""

    def __init__(self, unreachable: Unreachable) -> None:
        self._unreachable = unreachable
        self._seen: set[Path] = set()

    def is_new(self, real: Path) -> bool:
        """Whether a real path was not visited before; it is marked as visited."""
        new = real not in self._seen
        self._seen.add(real)
        return new

    def through(self, top: Path, real: Path) -> Iterator[tuple[Path, Path]]:
        """The recordings in a folder: first those that are not links, then those behind links."""
        links = deque[Path]()
        yield from self._folders(top, real, links)
        while links:
            link = links.popleft()
            mode, real = self._target(link)
            if stat.S_ISDIR(mode):
                yield from self._folders(link, real, links)
            elif _is_recording(link, mode) and self.is_new(real):
                yield link, real

    def _folders(self, top: Path, real: Path, links: deque[Path]) -> Iterator[tuple[Path, Path]]:
        """Depth first, without recursion: folders may be nested a thousand deep."""
        folders = [(top, real)]
        while folders:
            folder, real = folders.pop()
            inner = []
            for entry, mode in self._entries(folder) if self.is_new(real) else ():
                if stat.S_ISLNK(mode):
                    links.append(entry)
                elif stat.S_ISDIR(mode):
                    inner.append((entry, real / entry.name))
                elif _is_recording(entry, mode) and self.is_new(real / entry.name):
                    yield entry, real / entry.name
            folders += reversed(inner)

    def _entries(self, folder: Path) -> list[tuple[Path, int]]:
        """The entries of a folder with their modes (`st_mode`), in sorted order."""
        try:
            entries = sorted(entry for entry in folder.iterdir() if entry.name[0] != ".")
        except OSError as error:
            if folder.name != "lost+found":  # every drive has one, which only root may read
                self._unreachable(folder, error)
            return []
        found = []
        for entry in entries:
            try:
                found.append((entry, entry.lstat().st_mode))
            except FileNotFoundError:
                continue  # deleted in the meantime
            except OSError as error:  # the folder may be listed but not entered: true of all in it
                self._unreachable(folder, error)
                return []
        return found

    def _target(self, link: Path) -> tuple[int, Path]:
        """The mode and the real path of a link's target; mode 0 if the link is broken."""
        try:
            return link.stat().st_mode, Path(os.path.realpath(link))
        except OSError as error:
            if not link.suffix or suffix_of(link) in AUDIO_SUFFIXES:
                self._unreachable(link, error)
            return 0, link


def _is_recording(path: Path, mode: int) -> bool:
    known = stat.S_ISREG(mode) and suffix_of(path) in AUDIO_SUFFIXES
    return known and not _is_typescript(path)


def _is_typescript(path: Path) -> bool:
    """Whether a .ts file is TypeScript: the packets of an MPEG transport stream begin with G."""
    if suffix_of(path) != ".ts":
        return False
    try:
        with path.open("rb") as file:
            head = file.read(189)
    except OSError:
        return False
    return not (head[:1] == b"G" or head[4:5] == b"G")


class Presence(Enum):
    """Whether a file exists, and if not, whether that is proven."""

    THERE = "is there"
    GONE = "is gone"  # the nearest existing folder above it can be listed and does not contain it
    EMPTIED = "the folder is empty or gone, as if its drive were not mounted"
    # An unreadable folder or drive, a broken link, or a file of another machine.
    UNREACHABLE = "cannot be looked at"


def presence(path: Path) -> Presence:
    """Whether a file exists. Only `GONE` is proof that it does not.

    Objects in object storage are always `UNREACHABLE`, since a store may deny access to existing
    ones, and so are files of other machines (below `ELSEWHERE`).
    """
    if address_of(path) or ELSEWHERE in path.parents:
        return Presence.UNREACHABLE
    try:
        return Presence.THERE if stat.S_ISREG(path.stat().st_mode) else Presence.GONE
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError):
        return Presence.UNREACHABLE
    for above in (path, *path.parents):
        try:
            above.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return Presence.UNREACHABLE
        return _emptiness(above)
    return Presence.UNREACHABLE


def _emptiness(folder: Path) -> Presence:
    """The presence of a missing file by the nearest existing path above it."""
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            return Presence.GONE  # a file has taken a folder's place
        left = any(name[0] != "." and name != "lost+found" for name in os.listdir(folder))  # noqa: PTH208 - names may be any bytes
    except OSError:
        return Presence.UNREACHABLE
    for_drives = any(folder.match(pattern) for pattern in DRIVES)
    return Presence.GONE if left and not for_drives else Presence.EMPTIED


def reason(error: OSError | ValueError) -> str:
    """The system's message for an error, in lower case to follow a colon."""
    words = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return words[:1].lower() + words[1:]


def display_name(path: Path | str) -> str:
    r"""A path, or the address of an object, as one printable line.

    Control characters and bytes that are not UTF-8 are escaped as `\x..`.
    """
    name = spelled(path) if isinstance(path, Path) else path
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(
        character.encode("unicode_escape").decode() if is_control(character) else character
        for character in text
    )


def quoted(path: Path) -> str:
    """A path as percent-encoded ASCII text, whatever bytes it has; the inverse of `unquoted`."""
    return quote_from_bytes(os.fsencode(path))


def unquoted(text: str) -> Path:
    """The path that `quoted` wrote as `text`."""
    return Path(os.fsdecode(unquote_to_bytes(text)))


def is_control(character: str) -> bool:
    """Whether a character breaks the line, moves the cursor or reorders text."""
    joiner = character in "\u200c\u200d"  # needed for spelling in several scripts
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and not joiner


# Matches up to the last @ before the path; or, as a password may hold a /, up to the last @ of all.
# A colon with digits only is a port, not a password.
_USER = re.compile(r"(?i)(?<=[a-z0-9+.-]{2}:/)(/?)(?:[^/?#\s]*@|[^/?#@\s:]+:(?!\d*[/?#])\S*@)")
_SECRET = re.compile(
    r"(?i)(?<=[?&])([^=&#\s]*(?:pass|pwd|token|secret|key|auth|sig)[^=&#\s]*=)[^&#\s]+"
)


def without_password(text: str) -> str:
    """Replace passwords in all addresses in a text: `user:password@` and `?token=...`.

    >>> without_password("cannot read http://me:secret@host/live?token=abc&n=1")
    'cannot read http://***@host/live?token=***&n=1'
    """
    return _SECRET.sub(r"\1***", _USER.sub(r"\1***@", text))
