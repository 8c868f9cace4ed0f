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
