"""Heat map: the error of every matrix's output, a column a layer, a row a role, a block of rows a recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from intaglio.comparison.result import Comparison, Row
from intaglio.models import roles
from intaglio.pages.svg import drawing, text

WIDTH, LEFT, RIGHT = 960, 56, 8
CELL, TOP, BOTTOM = 16, 22, 22  # pixels: the height of a row, of a block's title, of its layer numbers
FEW = 12  # layer numbers that are written at most
SMALLEST = 1e-8  # errors below are as good as none

STYLE = """
svg .cell { fill: color-mix(in oklab, var(--hot) var(--heat), var(--cold)); }
svg .cell:hover { stroke: var(--ink); }
svg.heat text { font-size: 12px; }
svg .title { fill: var(--ink); font-weight: 600; }
.scale { display: flex; gap: .6rem; align-items: center; color: var(--faint); font-size: .85rem; }
.scale span { width: 12rem; height: .7rem; border-radius: 3px;
  background: linear-gradient(in oklab to right, var(--cold), var(--hot)); }
"""

Errors = dict[tuple[str, int], float]  # role, layer -> error


def heatmaps(found: Comparison) -> str:
    """One block a recipe, all on one logarithmic scale; nothing without errors."""
    blocks = {row.recipe: errors for row in found.rows if (errors := _errors(row))}
    values = [max(error, SMALLEST) for errors in blocks.values() for error in errors.values()]
    if not values:
        return ""
    low, high = min(values), max(values)
    scale = f'<p class="scale">{low:.2g}<span></span>{high:.2g} of the output\'s power</p>\n'
    drawn = "\n".join(_block(name, errors, low, high) for name, errors in blocks.items())
    return f'{scale}<div class="wide">\n{drawn}\n</div>'


def _errors(row: Row) -> Errors:
    """By role and layer, of the coded matrices inside the layers."""
    names = {name: role for role, name in roles.LINEARS.items()}
    found: Errors = {}
    for site in row.sites:
        head, _, inside = site.name.removeprefix("model.layers.").partition(".")
        if inside in names:
            found[names[inside], int(head)] = site.error
    return found


def _block(name: str, errors: Errors, low: float, high: float) -> str:
    layers = 1 + max(layer for _, layer in errors)
    shown = [role for role in roles.LINEARS if any(role == other for other, _ in errors)]
    height = TOP + CELL * len(shown) + BOTTOM
    label = f"{name}: errors of {len(errors)} matrices, worst {_worst(errors)}"
    parts = [text(LEFT, 14, label, "title", "start"), *_cells(errors, shown, layers, low, high)]
    return drawing(WIDTH, height, label, parts).replace("<svg ", '<svg class="heat" ', 1)


def _worst(errors: Errors) -> str:
    (role, layer), error = max(errors.items(), key=lambda item: item[1])
    return f"{error:.2%} of {role} in layer {layer}"


def _cells(errors: Errors, shown: list[str], layers: int, low: float, high: float) -> Iterator[str]:
    width = (WIDTH - LEFT - RIGHT) / layers
    for i, role in enumerate(shown):
        y = TOP + i * CELL
        yield text(LEFT - 8, y + CELL - 4, role, "tick", "end")
        for layer in range(layers):
            if (role, layer) in errors:
                yield _cell(LEFT + layer * width, y, width, role, layer, errors[role, layer], low, high)
    for layer in range(0, layers, -(-layers // FEW)):
        yield text(LEFT + (layer + 0.5) * width, TOP + len(shown) * CELL + 14, str(layer), "tick", "middle")


def _cell(
    x: float, y: float, width: float, role: str, layer: int, error: float, low: float, high: float
) -> str:
    share = math.log(max(error, SMALLEST) / low) / math.log(high / low) if high > low else 1.0
    said = escape(f"{role}, layer {layer}: {error:.3%}")
    return (
        f'<rect class="cell" style="--heat: {share:.0%}" x="{x:.1f}" y="{y:.1f}" width="{width - 1:.1f}"'
        f' height="{CELL - 1}"><title>{said}</title></rect>'
    )
