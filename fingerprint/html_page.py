"""The frame of every page that a command writes: one file that needs no other."""

import html
from base64 import b64encode

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}"
    "td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #ddd}"
)


def page(title: str, body: str, *, style: str = "", head: str = "") -> str:
    """A page with a heading.

    Args:
        title: plain text; it is escaped.
        body: HTML, placed below the heading as it is.
        style: CSS rules of this page, in addition to `STYLE`.
        head: further elements of the page's head, as HTML.
    """
    name = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>{head}'
        f"<style>{STYLE}{style}</style></head>\n<body><h1>{name}</h1>\n{body}\n</body></html>\n"
    )


def image(png: bytes, description: str) -> str:
    """An `img` element that holds a PNG; the description is plain text."""
    data = b64encode(png).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/png;base64,{data}">'
