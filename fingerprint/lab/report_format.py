"""How every report of the lab prints figures: as text, as Markdown, as JSON and as HTML."""

import html
from collections.abc import Iterable, Sequence
from math import isfinite, isnan
from pathlib import Path
from typing import Any, Protocol

from fingerprint import html_page

STYLE = "td{white-space:nowrap}td:first-child,th:first-child{text-align:left}img{max-width:100%}"


class WithInterval(Protocol):
    """`hits` of `total`, as a share (0..1) with its 95 % interval; NaN for none of none."""

    @property
    def hits(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def value(self) -> float: ...
    @property
    def interval(self) -> tuple[float, float]: ...


def percent(share: WithInterval, digits: int = 1, *, counts: bool = False) -> str:
    """A share in percent with its interval and, if wanted, its counts; a dash for none of none."""
    if not share.total:
        return "-"
    low, high = (f"{100 * edge:.{digits}f}" for edge in share.interval)
    of = f"; {share.hits} of {share.total}" if counts else ""
    return f"{100 * share.value:.{digits}f} ({low}-{high}{of})"


def number(value: float, digits: int = 0) -> str:
    """A number with so many decimals; a dash for NaN."""
    return "-" if isnan(value) else f"{value:.{digits}f}"


def finite(value: Any) -> Any:
    """A value as JSON has it: None for NaN and for the infinities."""
    return None if isinstance(value, float) and not isfinite(value) else value


def share_json(share: WithInterval) -> dict[str, Any]:
    """A share, its counts and the ends of its interval, ready for `json.dumps`."""
    low, high = share.interval
    return {
        "hits": share.hits,
        "total": share.total,
        "share": finite(share.value),
        "low": finite(low),
        "high": finite(high),
    }


def markdown_row(cells: Iterable[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def markdown_head(titles: Sequence[str], left: int = 1) -> str:
    """The first two lines of a Markdown table; all columns but the first `left` align right."""
    rule = "".join("---|" if column < left else "---:|" for column in range(len(titles)))
    return f"{markdown_row(titles)}\n|{rule}"


def markdown_table(titles: Sequence[str], rows: Iterable[Iterable[str]], left: int = 1) -> str:
    """A Markdown table; all columns but the first `left` align right."""
    return "\n".join([markdown_head(titles, left), *map(markdown_row, rows)])


def html_text(text: str) -> str:
    """Plain text as a paragraph of HTML."""
    lines = html.escape(text).replace("\n", "<br>")
    return f"<p>{lines}</p>"


def html_table(markdown: str) -> str:
    """A Markdown table as one of HTML."""
    head, _rule, *rows = [
        [html.escape(cell.strip()) for cell in line.strip("|").split("|")]
        for line in markdown.splitlines()
    ]
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    titles = "".join(f"<th>{cell}</th>" for cell in head)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def write_page(path: Path, title: str, *parts: str) -> None:
    """Write a page of parts that are HTML already; it needs no other file."""
    path.write_text(html_page.page(title, "".join(parts), style=STYLE), encoding="utf-8")
