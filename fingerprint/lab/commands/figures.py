"""Every table of the documentation, by one command, of one commit and one model.

    python -m fingerprint.lab figures --real my-set              # two and a half hours
    python -m fingerprint.lab figures --real my-set --publish    # and the tables go into the pages

Each table is the output of another command, which runs in a process of its own. The outputs are
kept in the output folder, with the commit and the model that made them: a run that was interrupted
goes on where it stopped, and a table is made again once the product (all but the lab) or the model
has changed, or with --again.

A page (README, docs, model card) holds a table between two marks:

    <!-- figures: NAME -->
    <!-- end of figures -->
"""

import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

import fingerprint
from fingerprint.cli.options import FOLDER, corpus_option
from fingerprint.cli.progress import note
from fingerprint.disk import atomic_write
from fingerprint.errors import ConfigError
from fingerprint.lab.options import output_option
from fingerprint.model.fingerprinter import Fingerprinter

REPOSITORY = Path(fingerprint.__file__).parents[1]
PAGES = ("README.md", "docs/*.md", "fingerprint/model/weights/default.md")
SOURCE = "source"  # of the mark between which it is said what made the tables
MARKS = re.compile(r"(<!-- figures: ([a-z0-9-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)

EVALUATE = "fingerprint evaluate --corpus {corpus} --output {output}/evaluation"
LAB = "fingerprint.lab"
LIBRARY = "--library {output}/evaluation/library-{model}"
MANY = (
    "phone 2 s", "phone 3 s", "phone 5 s", "phone 10 s",
    "phone at -5 dB 5 s", "phone at -5 dB 10 s", "phone at -10 dB 10 s",
    "speed 5 s", "tempo 5 s", "tempo 10 s",
    "sped up by 12 to 30 % 10 s", "slowed by 10 to 25 %, reverb 10 s",
    "pitch by 3 to 4 semitones 10 s", "tempo by 25 to 45 % 10 s",
    "talker 6 to 12 dB above 5 s", "talker 6 to 12 dB above 10 s",
    "through a wall 5 s", "through a wall 10 s", "over an edge 5 s", "over an edge 10 s",
)  # fmt: skip
UNKNOWN = ("unknown clean", "unknown noise", "unknown phone")
WITH_PEERS = (
    "clean", "noise", "phone", "phone at -5 dB", "phone at -10 dB", "speed", "pitch", "tempo",
    *UNKNOWN,
)  # fmt: skip


def of_conditions(names: Sequence[str]) -> str:
    """The option --condition for each of the names."""
    return " ".join(f"--condition {shlex.quote(name)}" for name in names)


@dataclass(frozen=True, slots=True)
class Table:
    """What one command prints: `python -m COMMAND`, in which names in braces are filled in."""

    name: str
    command: str
    minutes: int  # on two cores
    picture: str = ""  # a file of the output folder that goes beside the page


# Figures of recognition first; the times at the end want a machine without other work.
TABLES = (
    Table("simulated-many", f"{EVALUATE} --queries 500 {of_conditions(MANY)}", 45),
    Table("unknown-1", f"{EVALUATE} --queries 50 --seed 1 {of_conditions(UNKNOWN)}", 2),
    Table("unknown-2", f"{EVALUATE} --queries 50 --seed 2 {of_conditions(UNKNOWN)}", 2),
    # The last ones of their kind: what they leave in the folder is read by `peers`.
    Table("simulated", f"{EVALUATE} --queries 50", 9),
    Table("real-report", f"{EVALUATE} --real {{real}} --role report", 7),
    Table("real", f"{EVALUATE} --real {{real}}", 4),
    Table(
        "trust",
        f"{LAB} trust --corpus {{corpus}} {LIBRARY} --output {{output}}/trust "
        "--known 100 --whole 5 --few 5",
        10,
    ),
    Table(
        "made-up-sounds",
        f"{LAB} made-up-sounds --corpus {{corpus}} {LIBRARY} --output {{output}}/made-up-sounds "
        "--passages 0",
        12,
    ),
    Table(
        "broadcast",
        f"{LAB} broadcast --corpus {{corpus}} {LIBRARY} --output {{output}}/broadcast",
        8,
    ),
    Table(
        "profiles",
        f"{LAB} profiles --corpus {{corpus}} --output {{output}}/profiles --queries 500",
        25,
    ),
    Table("realism", f"{LAB} realism --corpus {{corpus}} --real {{real}}", 3),
    Table("tempo", f"{LAB} bench-tempo --corpus {{corpus}}", 2),
    Table("int8", f"{LAB} bench-int8 --corpus {{corpus}} --queries 60", 2),
    Table(
        "peers",
        f"{LAB} peers --corpus {{corpus}} --output {{output}}/peers "
        f"--evaluation {{output}}/evaluation --real {{real}} --queries 50 "
        f"{of_conditions(WITH_PEERS)}",
        35,
        picture="peers/peers.png",
    ),
    Table("indexing", f"{LAB} bench-indexing --corpus {{corpus}} --files 60 --rounds 2", 3),
    Table(
        "indexing-long",
        f"{LAB} bench-indexing --corpus {{corpus}} --files 60 --rounds 2 --long 14",
        5,
    ),
    Table(
        "growth-10000",
        f"{LAB} bench-growth --corpus {{corpus}} --output {{output}}/growth --tracks 10000",
        8,
    ),
    Table(
        "growth-100000",
        f"{LAB} bench-growth --corpus {{corpus}} --output {{output}}/growth --tracks 100000 "
        "--profile large --seconds 100",
        8,
    ),
    Table(
        "queries",
        f"{LAB} bench-queries {{output}}/growth/library-standard --corpus {{corpus}} --queries 60",
        2,
    ),
    Table("library", f"{LAB} bench-library", 2),
)


@click.command()
@corpus_option
@click.option("--real", type=FOLDER, metavar="DIR", help="Set of real recordings; else left out.")
@click.option("--only", multiple=True, metavar="NAME", help="Only this table; may be repeated.")
@click.option("--again", is_flag=True, help="Also tables that are made already.")
@click.option("--publish", is_flag=True, help="Write the tables into the pages that have marks.")
@output_option("runs/figures")
def main(
    corpus: Path,
    real: Path | None,
    only: tuple[str, ...],
    again: bool,
    publish: bool,
    output: Path,
) -> None:
    """Make every table of the documentation that is not made yet."""
    if strange := set(only) - {table.name for table in TABLES}:
        names = ", ".join(table.name for table in TABLES)
        raise ConfigError(f"no table is called {sorted(strange)[0]!r}; tables are {names}")
    chosen = [
        table
        for table in TABLES
        if (not only or table.name in only) and (real or "{real}" not in table.command)
    ]
    output.mkdir(parents=True, exist_ok=True)
    model = Fingerprinter.default("cpu").id[:12]
    source = f"fingerprint {fingerprint.__version__}, commit {commit()}, model {model}"
    places = {"corpus": str(corpus), "real": str(real), "output": str(output), "model": model}
    failed = []
    for number, table in enumerate(chosen, 1):
        kept = output / f"{table.name}.md"
        if made_by(kept) == source and not again:
            note(f"{number} of {len(chosen)}: {table.name} is made")
            continue
        note(f"{number} of {len(chosen)}: {table.name}, some {table.minutes} minutes")
        begin = time.monotonic()
        text = run(table, places)
        if text is None:
            failed.append(table.name)
            continue
        write(kept, f"<!-- {source} -->\n{text}")
        note(f"{table.name} took {(time.monotonic() - begin) / 60:.1f} minutes")
    made = {
        table.name: text_of(output, table.name)
        for table in chosen
        if made_by(output / f"{table.name}.md") == source
    }
    click.echo(overview(chosen, made, source, places))
    if publish:
        fill_pages(chosen, made | {SOURCE: f"All figures are of {source}."}, output)
    if failed:
        raise ConfigError(f"{len(failed)} of {len(chosen)} failed: {', '.join(failed)}")


def commit() -> str:
    """The last commit that changed the product, with a plus sign if it has changed since."""
    code = ("--", "fingerprint/*.py", ":!fingerprint/lab")

    def git(*words: str) -> str:
        command = ["git", "-C", str(REPOSITORY), *words, *code]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        return git("log", "-1", "--format=%h") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # an installed package has none


def made_by(kept: Path) -> str | None:
    """The version, commit and model that made a table; None if there is none."""
    if not kept.exists():
        return None
    first, _, _ = kept.read_text(encoding="utf-8").partition("\n")
    return first.removeprefix("<!-- ").removesuffix(" -->")


def run(table: Table, places: Mapping[str, str]) -> str | None:
    """What the table's command prints, but for the places of its files; None if it fails."""
    words = [word.format(**places) for word in shlex.split(table.command)]
    done = subprocess.run(
        [sys.executable, "-m", *words], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        return None
    lines = [line for line in done.stdout.splitlines() if not line.startswith("Report: ")]
    return "\n".join(lines).strip() + "\n"


def write(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_write(path) as draft:
        draft.write_text(text, encoding="utf-8")


def overview(
    tables: Sequence[Table], made: Mapping[str, str], source: str, places: Mapping[str, str]
) -> str:
    """All tables that are made, each under its name and its command."""
    parts = [
        f"## {table.name}\n\n    python -m {table.command.format(**places)}\n\n{made[table.name]}"
        for table in tables
        if table.name in made
    ]
    return "\n\n".join([f"# Figures of {source}", *parts])


def text_of(output: Path, name: str) -> str:
    """A table that is made, without the line that says by what."""
    _, _, text = (output / f"{name}.md").read_text(encoding="utf-8").partition("\n")
    return text.strip()


def fill_pages(tables: Sequence[Table], made: Mapping[str, str], output: Path) -> None:
    """Put tables, and their pictures, into the pages that have marks for them."""
    for page in sorted(page for pattern in PAGES for page in REPOSITORY.glob(pattern)):
        text = page.read_text(encoding="utf-8")
        new = filled(text, made)
        if new != text:
            write(page, new)
            note(f"wrote {page.relative_to(REPOSITORY)}")
        for table in tables:
            if table.picture and table.name in made and f"figures: {table.name} -->" in text:
                shutil.copyfile(output / table.picture, page.parent / Path(table.picture).name)


def filled(page: str, tables: Mapping[str, str]) -> str:
    """A page with each table that there is between its marks, and the others left as they are."""

    def text(found: re.Match[str]) -> str:
        begin, name, end = found.groups()
        return f"{begin}{tables[name]}\n{end}" if name in tables else found.group()

    return MARKS.sub(text, page)
