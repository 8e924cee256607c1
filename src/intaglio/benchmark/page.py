"""The page of a run: one HTML file with everything in it, for light and for dark screens."""

from __future__ import annotations

from html import escape

from intaglio.benchmark.engines import ENGINES
from intaglio.benchmark.plot import svg
from intaglio.benchmark.result import Result
from intaglio.benchmark.table import limits_line, tables
from intaglio.pages.document import commands, document
from intaglio.pages.table import html

STYLE = """
:root { --intaglio: #b3371c; --llama_cpp: #2766a8; --openvino: #6b4fa0; --transformers: #8a6d1a; }
@media (prefers-color-scheme: dark) {
  :root { --intaglio: #ff7d5c; --llama_cpp: #6fb1f5; --openvino: #b79cf0; --transformers: #dcbb5a; }
}
svg .roof { fill: none; stroke: var(--ink); stroke-width: 2; }
svg .dashed { stroke-dasharray: 6 5; opacity: .6; }
svg .point { fill-opacity: .75; stroke: var(--page); cursor: help; }
svg .point:hover { fill-opacity: 1; stroke: var(--ink); }
svg .shape { fill: var(--faint); }
"""


def page(result: Result) -> str:
    """The whole file."""
    colours = "".join(f"svg .{engine} {{ fill: var(--{engine}); }}\n" for engine in ENGINES)
    name = escape(result.model.name)
    body = f"""<h1>{name}</h1>
<p>{escape(limits_line(result))}</p>
{svg(result)}
{"".join(map(html, tables(result)))}
{_notes(result)}
{commands(result.command)}
<p>{escape(", ".join(f"{name} {version}" for name, version in result.versions.items()))}</p>"""
    return document(f"{result.model.name} – intaglio bench", body, STYLE + colours)


def _notes(result: Result) -> str:
    said = [*(f"{ENGINES[engine][1]}: {why}" for engine, why in result.skipped.items()), *result.notes]
    return "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in said) + "</ul>" if said else ""
