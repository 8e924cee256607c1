"""The page of a search: the Pareto curve, the choice layer by layer, the recipe."""

from __future__ import annotations

from html import escape
from pathlib import Path

from intaglio.models import roles
from intaglio.pages import heatmap, pareto
from intaglio.pages.document import commands, document
from intaglio.pages.heatmap import Cell
from intaglio.pages.pareto import Choice, Scale
from intaglio.pages.table import html
from intaglio.recipe import dump_recipe
from intaglio.search.candidates import notes
from intaglio.search.result import Found, Point
from intaglio.search.table import table

SMALLEST = 1e-6  # nats: less has no place on a logarithmic axis, and is as good as nothing
STYLE = """
svg .choice.curve circle { r: 2.5px; fill: var(--accent); }
svg .choice.chosen circle { fill: var(--accent); stroke: var(--ink); stroke-width: 2; r: 7px; }
"""


def page(found: Found) -> str:
    """The whole file."""
    body = f"""<h1>{escape(Path(found.model).name)}</h1>
<p>{escape(found.recipe.summary)}.</p>
{_curve(found)}
<p>The line joins the best choices by size; names are those of one candidate everywhere. Losses were measured
with one group of matrices coded at a time, and are added.</p>
{_notes(found)}
{html(table(found))}
<h2>What was chosen</h2>
{_map(found)}
<h2>The recipe</h2>
{commands(dump_recipe(found.recipe))}
{commands(found.command)}"""
    style = pareto.STYLE + heatmap.STYLE + STYLE
    return document(f"{found.model} – intaglio search", body, style)


def _notes(found: Found) -> str:
    return "\n".join(f"<p>{escape(note)}.</p>" for note in notes(found.left_out))


def _curve(found: Found) -> str:
    curve = [_point(point, f"{point.bits_per_weight:.2f} bits", "curve") for point in found.curve]
    uniform = [_point(point, point.name, "") for point in found.uniform]
    chosen = _point(found.chosen, "chosen", "chosen frontier")
    return pareto.pareto(
        "Bits and predicted loss",
        [*curve, *uniform, chosen],
        Scale("bits per weight, everything stored"),
        Scale("predicted KL to the original, nats a token", _tick, log=True),
        front=curve,
        higher=False,
        named=[*uniform, chosen],
    )


def _tick(value: float) -> str:
    return f"{value:g}" if value >= 1e-3 else f"{value:.0e}"


def _point(point: Point, name: str, style: str) -> Choice:
    counts = ", ".join(f"{count} {candidate}" for candidate, count in point.counts.items())
    says = f"{point.bits_per_weight:.2f} bits, KL {point.loss:.4f} ({counts})"
    return Choice(name, point.bits_per_weight, max(point.loss, SMALLEST), says, style)


def _map(found: Found) -> str:
    """Hotter where more bytes were spent on a weight."""
    order = [point.name for point in sorted(found.uniform, key=lambda point: point.nbytes)]
    last = max(len(order) - 1, 1)
    names = {point: ", ".join(members) for point, members in roles.INPUTS.items()}
    cells = {
        (names[point], int(layer)): Cell(order.index(name) / last, f"{names[point]}, layer {layer}: {name}")
        for layer, points in found.choice.items()
        for point, name in points.items()
    }
    drawn = heatmap.heatmap("candidate by layer", list(names.values()), len(found.choice), cells)
    return f'{heatmap.scale(order[0], order[-1])}<div class="wide">\n{drawn}\n</div>'
