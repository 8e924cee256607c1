"""Table: words and numbers, for the terminal and for a page."""

from __future__ import annotations

from html import escape
from typing import NamedTuple


class Table(NamedTuple):
    """`words`: the columns, counted from 0, that are words; the others are numbers."""

    title: str
    headers: list[str]
    rows: list[list[str]]
    words: tuple[int, ...] = (0,)


def html(table: Table) -> str:
    """The table as HTML; it scrolls by itself where the page is narrow."""
    head = "".join(_cell("th", header, i in table.words) for i, header in enumerate(table.headers))
    rows = ("".join(_cell("td", cell, i in table.words) for i, cell in enumerate(row)) for row in table.rows)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="wide">\n<table>\n<caption>{escape(table.title)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>\n"
    )


def _cell(tag: str, text: str, word: bool) -> str:
    style = ' class="words"' if word else ""
    return f"<{tag}{style}>{escape(text)}</{tag}>"
