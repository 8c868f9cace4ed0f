"""The commands of the lab: their names and options; and how reports print figures."""

import json
from html.parser import HTMLParser
from math import inf, nan
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fingerprint.lab.__main__ import COMMANDS, RENAMED, main
from fingerprint.lab.benchmark.metrics import Share
from fingerprint.lab.report_format import (
    finite,
    html_table,
    html_text,
    markdown_table,
    number,
    percent,
    share_json,
    write_page,
)

TABLE = markdown_table(("name", "kind", "queries"), [("<a>", "b", "1"), ("c", "d", "2")], left=2)


@pytest.mark.parametrize(("former", "name"), RENAMED.items())
def test_former_name_of_a_command_runs_it_with_a_warning(former: str, name: str) -> None:
    done = CliRunner().invoke(main, [former, "--help"])
    assert done.exit_code == 0
    assert done.stderr == f"Warning: {former} is now {name}.\n"
    assert done.stdout == CliRunner().invoke(main, [name, "--help"]).stdout
    assert former not in CliRunner().invoke(main, ["--help"]).output


def test_folders_of_results_and_of_the_corpus_are_described_alike() -> None:
    described: dict[str, set[str | None]] = {"corpus": set(), "output": set()}
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        for option in command.params:
            if isinstance(option, click.Option) and name != "snippet":  # its output is a file
                described.get(option.name or "", set()).add(option.help)
    assert {name: len(texts) for name, texts in described.items()} == {"corpus": 1, "output": 1}


def test_figures_of_nothing_are_dashes_and_null() -> None:
    assert percent(Share(0, 0)) == number(nan) == "-"
    assert [finite(value) for value in (nan, inf, -inf, 1.5, "a", None)] == [
        None, None, None, 1.5, "a", None,
    ]  # fmt: skip
    assert json.loads(json.dumps(share_json(Share(0, 0)), allow_nan=False))["share"] is None


def test_shares_are_printed_with_interval_and_counts() -> None:
    assert percent(Share(1, 4)) == "25.0 (4.6-69.9)"
    assert percent(Share(1, 4), 2, counts=True) == "25.00 (4.56-69.94; 1 of 4)"
    assert share_json(Share(1, 4)) == {
        "hits": 1,
        "total": 4,
        "share": 0.25,
        "low": pytest.approx(0.0456, abs=1e-4),
        "high": pytest.approx(0.6994, abs=1e-4),
    }


def test_table_is_markdown_and_html() -> None:
    assert TABLE.splitlines() == [
        "| name | kind | queries |",
        "|---|---|---:|",
        "| <a> | b | 1 |",
        "| c | d | 2 |",
    ]
    assert html_table(TABLE) == (
        "<table><thead><tr><th>name</th><th>kind</th><th>queries</th></tr></thead><tbody>"
        "<tr><td>&lt;a&gt;</td><td>b</td><td>1</td></tr>"
        "<tr><td>c</td><td>d</td><td>2</td></tr></tbody></table>"
    )


def test_text_in_a_page_is_escaped(tmp_path: Path) -> None:
    tags: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)

    write_page(tmp_path / "page.html", "<script>", html_text("a <b>\n& c"), html_table(TABLE))
    page = (tmp_path / "page.html").read_text()
    Tags().feed(page)
    assert not {"script", "b", "a"} & set(tags)
    assert "<p>a &lt;b&gt;<br>&amp; c</p>" in page
