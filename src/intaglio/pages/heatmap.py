"""Heat map: a share of every cell of a grid as colour; each cell says its value when pointed at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

from intaglio.pages.svg import drawing, text

WIDTH, LEFT, RIGHT = 960, 84, 8
CELL, TOP, BOTTOM = 16, 22, 22  # pixels: the height of a row, of the title, of the column numbers
FEW = 12  # column numbers that are written at most

STYLE = """
svg .cell { fill: color-mix(in oklab, var(--hot) var(--heat), var(--cold)); }
svg .cell:hover { stroke: var(--ink); }
svg .title { fill: var(--ink); font-weight: 600; }
.scale { display: flex; gap: .6rem; align-items: center; color: var(--faint); font-size: .85rem; }
.scale span { width: 12rem; height: .7rem; border-radius: 3px;
  background: linear-gradient(in oklab to right, var(--cold), var(--hot)); }
"""


class Cell(NamedTuple):
    """`share` in [0, 1] from cold to hot, and what it stands for."""

    share: float
    says: str


def heatmap(title: str, rows: Sequence[str], columns: int, cells: Mapping[tuple[str, int], Cell]) -> str:
    """A drawing; where the grid has no cell it stays empty."""
    height = TOP + CELL * len(rows) + BOTTOM
    parts = [text(LEFT, 14, title, "title", "start"), *_cells(rows, columns, cells)]
    return drawing(WIDTH, height, title, parts)


def scale(low: str, high: str) -> str:
    """What the colours mean."""
    return f'<p class="scale">{escape(low)}<span></span>{escape(high)}</p>\n'


def _cells(rows: Sequence[str], columns: int, cells: Mapping[tuple[str, int], Cell]) -> Iterator[str]:
    width = (WIDTH - LEFT - RIGHT) / columns
    for i, row in enumerate(rows):
        y = TOP + i * CELL
        yield text(LEFT - 8, y + CELL - 4, row, "tick", "end")
        for column in range(columns):
            if cell := cells.get((row, column)):
                yield _cell(LEFT + column * width, y, width, cell)
    for column in range(0, columns, -(-columns // FEW)):
        yield text(LEFT + (column + 0.5) * width, TOP + len(rows) * CELL + 14, str(column), "tick", "middle")


def _cell(x: float, y: float, width: float, cell: Cell) -> str:
    return (
        f'<rect class="cell" style="--heat: {cell.share:.0%}" x="{x:.1f}" y="{y:.1f}"'
        f' width="{width - 1:.1f}" height="{CELL - 1}"><title>{escape(cell.says)}</title></rect>'
    )
