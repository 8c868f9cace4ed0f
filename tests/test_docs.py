"""The commands, options, files and links that the documentation names exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fingerprint.cli import main as product
from fingerprint.lab.__main__ import main as lab

PROJECT = Path(__file__).parents[1]
CARD = PROJECT / "fingerprint" / "model" / "weights" / "default.md"
PAGES = [PROJECT / "README.md", CARD, *sorted((PROJECT / "docs").glob("*.md"))]
CALL = re.compile(r"(?:^|[\s(=])(python -m fingerprint\.lab|fingerprint) ([a-z][a-z0-9-]*)(.*)")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def code(text: str) -> Iterator[str]:
    """Lines of code blocks, and code within sentences; without comments and pipes."""
    text = re.sub(r"\\\n\s*", " ", text)
    blocks = "".join(re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL))
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    indented = re.findall(r"^ {4,}(\S.*)$", prose, re.MULTILINE)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    for line in [*blocks.splitlines(), *indented, *spans]:
        yield from re.split(r" && | \| ", line.split("  #")[0])


def options(group: click.Group, name: str) -> set[str] | None:
    """The options of a command; None if there is no such command."""
    command = group.get_command(click.Context(group), name)
    return command and {text for option in command.params for text in option.opts}


@each_page
def test_commands_and_options_exist(page: Path) -> None:
    for line in code(page.read_text(encoding="utf-8")):
        for program, name, rest in CALL.findall(line):
            known = options(lab if "lab" in program else product, name)
            assert known is not None, line
            assert set(re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", rest)) <= known | {"--help"}, line


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        name, _, part = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if part:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert part in map(anchor, headings), link


@each_page
def test_files_of_the_project_exist(page: Path) -> None:
    folders = (
        "fingerprint|tests|scripts|deploy|configs|docs|lab|audio|model|index|recognition|library"
    )
    for name in re.findall(rf"`((?:{folders})/[\w/.]+\.\w+)`", page.read_text(encoding="utf-8")):
        assert (PROJECT / name).exists() or (PROJECT / "fingerprint" / name).exists(), name


def figures_of(name: str) -> dict[str, list[str]]:
    """The rows of one of the tables of docs/evaluation.md: percentages without their intervals."""
    page = (PROJECT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    found = re.search(f"<!-- figures: {name} -->(.*?)<!-- end of figures -->", page, re.DOTALL)
    assert found is not None
    table = re.search(r"(?:^\|.*\n)+", found.group(1), re.MULTILINE)
    assert table is not None
    cells = [[cell.strip() for cell in line.split("|")] for line in table[0].splitlines()[2:]]
    return {name: [cell.split(" ")[0] for cell in (name, *rest)] for _, name, *rest in cells}


def test_the_figures_of_the_readme_are_those_of_the_evaluation() -> None:
    real, simulated = figures_of("real"), figures_of("simulated-many")
    lengths = {"10 s": "whole", "5 s": "5 s", "3 s": "3 s", "2 s": "2 s"}
    rows = [[real[row][column] for row in lengths.values()] for column in (2, 4, 5, 6)]
    for kind, column in (("phone", 2), ("phone", 4), ("phone at -5 dB", 4)):
        names = [f"{kind} {length}" for length in lengths]
        rows.append([simulated[name][column] for name in names if name in simulated])
    readme = PROJECT.joinpath("README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (?:real|simulated)[^|]*((?:\| *\d* *)+)\|$", readme, re.MULTILINE)
    assert [re.findall(r"\d+", row) for row in shown] == [
        [f"{float(value):.0f}" for value in row] for row in rows
    ]
