"""`python -m fingerprint.lab`: make the corpus, measure recognition, try to break a library.

`train`, `calibrate`, `evaluate` and `export` are commands of `fingerprint` itself.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: workers have one thread each

import click

from fingerprint.cli.group import CommandGroup
from fingerprint.cli.progress import note

_COMMANDS = "fingerprint.lab.commands"
_TABLES = "fingerprint.lab.tables"
COMMANDS = {
    "ablate": (f"{_COMMANDS}.ablate:main", "Train the experiments of the ablation study."),
    "broadcast": (f"{_COMMANDS}.broadcast:main", "Scan a made-up broadcast and score the spans."),
    "corpus": (f"{_COMMANDS}.corpus:main", "Assemble the corpus from Debian packages."),
    "cut-recording": (
        f"{_COMMANDS}.cut_recording:main",
        "Make a set for `evaluate --real` from a recording and the tracks that were played.",
    ),
    "figures": (f"{_COMMANDS}.figures:main", "Make every table of the documentation."),
    "fuzz": (f"{_COMMANDS}.fuzz:main", "Feed damaged input to everything that reads input."),
    "onnxruntime-web": (
        f"{_COMMANDS}.onnxruntime_web:main",
        "Put ONNX Runtime for browsers beside the page.",
    ),
    "pack": (f"{_COMMANDS}.pack:main", "Pack the corpus for a machine without a network."),
    "made-up-sounds": (
        f"{_COMMANDS}.made_up_sounds:main",
        "False accepts of no music and of other music in small libraries.",
    ),
    "peers": (f"{_COMMANDS}.peers:main", "Other recognisers on the queries of `evaluate`."),
    "profiles": (f"{_COMMANDS}.profiles:main", "Bytes and accuracy of each library profile."),
    "realism": (f"{_COMMANDS}.realism:main", "Compare degradations with real recordings."),
    "snippet": (f"{_COMMANDS}.snippet:main", "Make a noisy phone snippet from a folder of music."),
    "structure": (f"{_TABLES}.structure:main", "Count modules, imports and what identify loads."),
    "torture": (f"{_COMMANDS}.torture:main", "Inject faults at every system call of a writer."),
    "trust": (f"{_COMMANDS}.trust:main", "Measure the confidence on test tracks."),
    "bench-clearness": (f"{_TABLES}.clearness:main", "Top-1 over the weight of clear windows."),
    "bench-growth": (f"{_TABLES}.growth:main", "Queries against a library that grows."),
    "bench-indexing": (f"{_TABLES}.indexing:main", "Indexing against decoding and fpcalc."),
    "bench-int8": (f"{_TABLES}.int8:main", "Hit rates in int8 against 32-bit floats."),
    "bench-library": (f"{_TABLES}.library:main", "What changing a library costs."),
    "bench-listening": (f"{_TABLES}.listening:main", "Hours of sound through the scanner."),
    "bench-lookups": (f"{_TABLES}.lookups:main", "Top-1 and time over inspected index nodes."),
    "bench-milvus": (f"{_TABLES}.milvus:main", "The same queries of a folder and of Milvus."),
    "bench-queries": (f"{_TABLES}.query:main", "Cold and warm queries: time and memory."),
    "bench-ray": (f"{_TABLES}.cluster:main", "Index on Ray: speed, a worker and a driver killed."),
    "bench-serving": (f"{_TABLES}.serving:main", "Query a server from many clients at once."),
    "bench-tempo": (f"{_TABLES}.tempo:main", "How exactly a change of tempo is measured."),
}
RENAMED = {
    "library-bench": "bench-library",
    "ray-bench": "bench-ray",
    "serve-bench": "bench-serving",
}  # former names, until the next version


class LabGroup(CommandGroup):
    """The commands of the lab; a former name is accepted, with a warning."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        former, *rest = args
        if former not in RENAMED:
            return super().resolve_command(ctx, args)
        note(f"Warning: {former} is now {RENAMED[former]}.")
        return super().resolve_command(ctx, [RENAMED[former], *rest])


@click.group(
    cls=LabGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def main() -> None:
    """Make the corpus, measure recognition, try to break a library."""


if __name__ == "__main__":
    main(prog_name="python -m fingerprint.lab")
