"""Small Debian packages of made-up audio, and what is there below a folder."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from fingerprint.types import Floats

# A corpus's packages and rooms: none, and one room.
ROOMS = """
music: {}
sounds: {}
responses: {}
rooms:
  train: &room
    {count: 1, seed: 1, length: [4.0, 4.1], width: [3.0, 3.1], height: [2.5, 2.6],
     reverberation: [0.3, 0.31], distance: [1.0, 1.1]}
  test: *room
"""


def music(seed: int, seconds: float, rate: int = 11_025) -> Floats:
    """Half-second notes of random pitch and loudness."""
    rng = np.random.default_rng(seed)
    time = np.arange(rate // 2) / rate
    notes = [
        rng.uniform(0.1, 0.8) * np.sin(2 * np.pi * rng.uniform(200, 2_000) * time)
        for _ in range(round(2 * seconds))
    ]
    return np.concatenate(notes).astype(np.float32)


@dataclass(frozen=True)
class Sound:
    """An audio file to put into a package."""

    samples: Floats
    rate: int = 11_025


def build_deb(folder: Path, package: str, files: dict[str, Sound | bytes]) -> Path:
    """A package that holds `files` below /usr/share/<package>."""
    tree = folder / f".tree-{package}"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {package}\nVersion: 1.0\nArchitecture: all\nMaintainer: T <t@example.org>\n"
        "Description: test\n"
    )
    for name, content in files.items():
        path = tree / "usr" / "share" / package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            soundfile.write(path, content.samples, content.rate)
    (tree / "usr" / "share" / package / "dangling.ogg").symlink_to("nowhere.ogg")
    deb = folder / f"{package}_1.0_all.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, deb]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(tree)
    return deb


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of change of everything below a folder."""
    stats = {str(p.relative_to(root)): p.stat() for p in root.rglob("*")}
    return {name: (s.st_ino, s.st_mtime_ns) for name, s in stats.items()}
