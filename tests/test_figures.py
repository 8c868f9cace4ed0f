"""The command that makes every table of the documentation."""

import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from fingerprint.cli import main as product
from fingerprint.lab.__main__ import main as lab
from fingerprint.lab.commands.figures import (
    MARKS,
    PAGES,
    REPOSITORY,
    SOURCE,
    TABLES,
    Table,
    filled,
    made_by,
    overview,
    run,
    text_of,
    write,
)
from fingerprint.lab.commands.profiles import change
from fingerprint.lab.tables.growth import Measured, load, save, table

PLACES = {"corpus": "data/corpus", "real": "my-set", "output": "runs/figures", "model": "0" * 12}
PAGE = "before\n<!-- figures: one -->\nold\n<!-- end of figures -->\nafter\n"


@pytest.mark.parametrize("chosen", TABLES, ids=lambda chosen: chosen.name)
def test_the_command_of_each_table_has_these_options(chosen: Table) -> None:
    package, name, *options = [
        word.format(**PLACES) for word in shlex.split(chosen.command) if word != "python"
    ]
    group: click.Group = {"fingerprint": product, "fingerprint.lab": lab}[package]
    context = click.Context(group)
    command = group.get_command(context, name)
    assert command is not None
    parser = command.make_parser(click.Context(command))
    _, rest, _ = parser.parse_args(list(options))
    assert not [word for word in rest if word.startswith("-")]


def test_the_marks_of_the_pages_name_tables_that_are_made() -> None:
    named = [
        found.group(2)
        for pattern in PAGES
        for page in REPOSITORY.glob(pattern)
        for found in MARKS.finditer(page.read_text(encoding="utf-8"))
    ]
    assert named
    assert set(named) <= {one.name for one in TABLES} | {SOURCE}


def test_a_table_replaces_what_is_between_its_marks_and_nothing_else() -> None:
    new = filled(PAGE, {"one": "| new |", "two": "| other |"})
    assert new == PAGE.replace("old", "| new |")
    assert filled(new, {"one": "| new |"}) == new
    assert filled(PAGE, {"two": "| other |"}) == PAGE


def test_what_a_command_prints_is_its_table_and_a_failure_is_none() -> None:
    text = run(Table("help", "fingerprint.lab --help", 0), PLACES)
    assert text is not None
    assert text.startswith("Usage: python -m fingerprint.lab")
    assert run(Table("none", "fingerprint.lab no-such-command", 0), PLACES) is None


def test_only_tables_that_are_made_are_shown(tmp_path: Path) -> None:
    write(tmp_path / "one.md", "<!-- now -->\n| of now |\n")
    assert made_by(tmp_path / "one.md") == "now"
    assert made_by(tmp_path / "three.md") is None
    assert text_of(tmp_path, "one") == "| of now |"
    tables = [
        Table(name, "fingerprint.lab bench-int8 --corpus {corpus}", 1) for name in ("one", "two")
    ]
    shown = overview(tables, {"one": "| of now |"}, "now", PLACES)
    command = "python -m fingerprint.lab bench-int8 --corpus data/corpus"
    assert f"## one\n\n    {command}\n\n| of now |" in shown
    assert "two" not in shown


def test_a_table_that_there_is_not_is_one_line() -> None:
    result = CliRunner().invoke(lab, ["figures", "--only", "nonsense"])
    assert result.exit_code == 1
    assert re.match(r"Error: no table is called 'nonsense'; tables are ", result.stderr)
    assert len(result.stderr.splitlines()) == 1


def test_growth_has_a_column_for_each_size_of_this_model(tmp_path: Path) -> None:
    path = tmp_path / "growth.jsonl"
    for model, tracks, hours in [("a", 300, "3"), ("a", 20, "1"), ("b", 40, "9"), ("a", 300, "4")]:
        save(path, Measured(model, tracks, {"": f"{tracks} tracks", "hours": hours}))
    assert len(load(path)) == 3
    assert table(path, "a").splitlines() == [
        "|  | 20 tracks | 300 tracks |",
        "|---|---:|---:|",
        "| hours | 1 | 4 |",
    ]


def test_a_change_between_profiles_is_of_the_same_queries() -> None:
    here, there = np.ones((2, 400), bool)
    here[:6], there[6:8] = False, False  # four of 400 less
    assert change(here, there) == "-1.0 ± 1.4"  # 196 * sqrt(8 / 400 - 0.01**2) / sqrt(400)
