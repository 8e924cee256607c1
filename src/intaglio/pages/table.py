"""Table: words and numbers, for the terminal and for a page."""

from __future__ import annotations

from html import escape
from typing import NamedTuple


class Table(NamedTuple):
    """`left`: how many columns, from the first, are words."""

    title: str
    headers: list[str]
    rows: list[list[str]]
    left: int = 1


def html(table: Table) -> str:
    """The table as HTML; it scrolls by itself where the page is narrow."""
    words = [index < table.left for index in range(len(table.headers))]
    head = "".join(f"<th{_left(word)}>{escape(h)}</th>" for h, word in zip(table.headers, words, strict=True))
    body = "\n".join(
        "<tr>"
        + "".join(f"<td{_left(word)}>{escape(c)}</td>" for c, word in zip(row, words, strict=True))
        + "</tr>"
        for row in table.rows
    )
    return (
        f'<div class="wide">\n<table>\n<caption>{escape(table.title)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>\n"
    )


def _left(word: bool) -> str:
    return ' class="words"' if word else ""
