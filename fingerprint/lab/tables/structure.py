"""Count modules, their sizes and internal imports, and the modules that `identify` loads.

python -m fingerprint.lab structure                 # this checkout
git worktree add ../old dc34bfc
python -m fingerprint.lab structure . ../old        # against an older one
"""

import ast
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, median

import click
import numpy as np
import soundfile

from fingerprint.lab.report_format import markdown_head, markdown_row
from fingerprint.types import Doubles

HEAD = ("", "modules", "lines", "median", "imports a module", "loaded by `identify`")
PACKAGE = "fingerprint"
RATE = 16_000  # Hz
SECONDS = 20
# Runs in the package's own folder: the command line, then the modules that it has loaded.
LOADED = """
import runpy, sys
sys.argv = ["fingerprint", *sys.argv[1:]]
try:
    runpy.run_module("fingerprint", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
own = {name for name in sys.modules if name.split(".")[0] == "fingerprint"}
print("\\n" + " ".join(sorted(own)))
"""


@click.command()
@click.argument("roots", nargs=-1, type=click.Path(exists=True, path_type=Path))
def main(roots: tuple[Path, ...]) -> None:
    """Count the modules of the package in each of ROOTS and those that `identify` loads."""
    click.echo(markdown_head(HEAD))
    for root in roots or (Path(__file__).resolve().parents[3],):
        sources = {name_of(root, path): path for path in (root / PACKAGE).rglob("*.py")}
        loaded = [name for name in loaded_by_identify(root) if lines_of(sources[name]) > 1]
        product = {name: path for name, path in sources.items() if ".lab" not in name}
        for title, some, last in (
            (root.name or str(root), sources, str(len(loaded))),
            ("without the lab", product, ""),
        ):
            sizes = [lines_of(path) for path in some.values()]
            imports = mean(len(imports_of(path, sources)) for path in some.values())
            cells = (f"{len(some)}", f"{sum(sizes):,}", f"{median(sizes):.0f}", f"{imports:.1f}")
            click.echo(markdown_row((title, *cells, last)))


def name_of(root: Path, path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def lines_of(path: Path) -> int:
    """The number of lines; 1 for a package's docstring."""
    return len(path.read_text(encoding="utf-8").splitlines())


def imports_of(path: Path, modules: dict[str, Path]) -> set[str]:
    """The package's own modules that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name in modules else node.module for name in names)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found & set(modules) - {path.stem}


def loaded_by_identify(root: Path) -> list[str]:
    """The package's modules that naming a clean snippet loads."""
    with tempfile.TemporaryDirectory() as folder:
        song, library = Path(folder) / "song.wav", Path(folder) / "library"
        soundfile.write(song, melody(), RATE)
        samples, rate = soundfile.read(song)
        snippet = Path(folder) / "snippet.wav"
        soundfile.write(snippet, samples[5 * rate : 15 * rate], rate)
        environment = os.environ | {"PYTHONPATH": str(root), "FINGERPRINT_LIBRARY": str(library)}

        def run(*arguments: str) -> str:
            command = [sys.executable, "-c", LOADED, *arguments]
            done = subprocess.run(
                command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
            return done.stdout

        run("index", str(song))
        return run("identify", "--min-confidence", "0", str(snippet)).splitlines()[-1].split()


def melody() -> Doubles:
    """Chords of three harmonics, two a second."""
    rng = np.random.default_rng(0)
    time = np.arange(RATE // 2) / RATE
    chords = []
    for _ in range(2 * SECONDS):
        tones = 220 * 2 ** (rng.integers(0, 24, 3) / 12)
        chords.append(sum(np.sin(2 * np.pi * k * f * time) / k for f in tones for k in (1, 2, 3)))
    sound = np.concatenate(chords)
    scaled: Doubles = sound / np.abs(sound).max() / 2
    return scaled
