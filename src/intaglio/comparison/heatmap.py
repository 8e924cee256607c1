"""Heat maps: the error of every matrix's output, a column a layer, a row a role, one map a recipe."""

from __future__ import annotations

import math

from intaglio.comparison.result import Comparison, Row
from intaglio.models import roles
from intaglio.pages.heatmap import Cell, heatmap, scale

SMALLEST = 1e-8  # errors below are as good as none

Errors = dict[tuple[str, int], float]  # role, layer -> error


def heatmaps(found: Comparison) -> str:
    """All on one logarithmic scale; nothing without errors."""
    maps = {row.recipe: errors for row in found.rows if (errors := _errors(row))}
    values = [max(error, SMALLEST) for errors in maps.values() for error in errors.values()]
    if not values:
        return ""
    low, high = min(values), max(values)
    drawn = "\n".join(_map(name, errors, low, high) for name, errors in maps.items())
    return f'{scale(f"{low:.2g}", f"{high:.2g} of the power")}<div class="wide">\n{drawn}\n</div>'


def _errors(row: Row) -> Errors:
    """By role and layer, of the coded matrices inside the layers."""
    names = {name: role for role, name in roles.LINEARS.items()}
    found: Errors = {}
    for site in row.sites:
        head, _, inside = site.name.removeprefix("model.layers.").partition(".")
        if inside in names:
            found[names[inside], int(head)] = site.error
    return found


def _map(name: str, errors: Errors, low: float, high: float) -> str:
    (role, layer), worst = max(errors.items(), key=lambda item: item[1])
    title = f"{name}: errors of {len(errors)} matrices, worst {worst:.2%} of {role} in layer {layer}"
    rows = [role for role in roles.LINEARS if any(role == other for other, _ in errors)]
    cells = {place: Cell(_share(error, low, high), _says(place, error)) for place, error in errors.items()}
    return heatmap(title, rows, 1 + max(layer for _, layer in errors), cells)


def _share(error: float, low: float, high: float) -> float:
    return math.log(max(error, SMALLEST) / low) / math.log(high / low) if high > low else 1.0


def _says(place: tuple[str, int], error: float) -> str:
    return f"{place[0]}, layer {place[1]}: {error:.3%}"
