"""The page of a comparison: one HTML file with everything in it."""

from __future__ import annotations

from html import escape
from pathlib import Path

from intaglio.comparison import plots
from intaglio.comparison.heatmap import heatmaps
from intaglio.comparison.result import Comparison
from intaglio.comparison.table import broken, table
from intaglio.pages import heatmap, pareto
from intaglio.pages.document import commands, document
from intaglio.pages.table import html


def page(found: Comparison) -> str:
    """The whole file."""
    first, *others = plots.plots(found) or [""]
    model = escape(Path(found.model).name)
    body = f"""<h1>{model}</h1>
<p>{escape(summary(found))}</p>
{first}
<div class="pair">
{"".join(others)}</div>
<p>Filled in the accent colour: no recipe is better at less. Point at a recipe, or reach it with Tab, for its
numbers. Speed and memory are of a fresh process each, one after another.</p>
{html(table(found))}
{_notes(found)}
<h2>Where the errors are</h2>
<p>Of each matrix's output on the calibration text ({escape(found.calibration)}), as a share of that output's
power; of its weights where a recipe observes nothing. All recipes on one logarithmic scale.</p>
{heatmaps(found)}
<h2>How to repeat it</h2>
{commands(found.command)}
{_singly(found)}
<p>{escape(_versions(found))}</p>"""
    return document(f"{found.model} – intaglio compare", body, pareto.STYLE + heatmap.STYLE)


def summary(found: Comparison) -> str:
    """The answer in one sentence."""
    budget = "" if found.budget_bits is None else f" within {found.budget_bits:g} bits per weight"
    if found.best is None:
        return f"No recipe stays{budget}." if budget else "No recipe could be measured."
    best, original = found.measured[found.best], found.original
    return (
        f"Least perplexity{budget}: {found.best}, {best.perplexity:.2f} beside the original's "
        f"{original.perplexity:.2f}, at {best.bits_per_weight:.2f} bits per weight "
        f"({best.bytes / 1e6:.1f} MB)."
    )


def _notes(found: Comparison) -> str:
    said = broken(found)
    return "<ul>" + "".join(f"<li>{escape(one)}</li>" for one in said) + "</ul>" if said else ""


def _singly(found: Comparison) -> str:
    """The commands recipe by recipe."""
    parts = [
        f"<details><summary>{escape(row.recipe)}: {escape(row.summary)}</summary>\n"
        f"{commands(chr(10).join(row.commands))}</details>\n"
        for row in found.rows
    ]
    return "".join(parts)


def _versions(found: Comparison) -> str:
    threads = f"{found.original.threads} threads"
    return ", ".join([threads, *(f"{name} {version}" for name, version in found.versions.items())])
