"""The page of a run: one HTML file with everything in it, for light and for dark screens."""

from __future__ import annotations

from html import escape

from intaglio.benchmark.engines import ENGINES
from intaglio.benchmark.plot import svg
from intaglio.benchmark.result import Result
from intaglio.benchmark.table import Table, limits_line, tables

STYLE = """
:root {
  color-scheme: light dark; --page: #fdfdfc; --ink: #1d1f23; --faint: #6d7178; --grid: #e4e4e0;
  --intaglio: #b3371c; --llama_cpp: #2766a8; --openvino: #6b4fa0; --transformers: #8a6d1a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15171a; --ink: #e8e6e1; --faint: #989ca4; --grid: #2a2d32;
    --intaglio: #ff7d5c; --llama_cpp: #6fb1f5; --openvino: #b79cf0; --transformers: #dcbb5a;
  }
}
body {
  margin: 2.5rem auto; max-width: 62rem; padding: 0 1rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif;
}
h1 { font-size: 1.5rem; margin-bottom: 0; }
p { color: var(--faint); margin-top: .3rem; }
svg { width: 100%; height: auto; margin: 1rem 0; }
svg text { font: 13px system-ui, sans-serif; fill: var(--faint); }
svg text.label { fill: var(--ink); }
svg .grid { stroke: var(--grid); }
svg .roof { fill: none; stroke: var(--ink); stroke-width: 2; }
svg .dashed { stroke-dasharray: 6 5; opacity: .6; }
svg .point { fill-opacity: .75; stroke: var(--page); cursor: help; }
svg .point:hover { fill-opacity: 1; stroke: var(--ink); }
svg .shape { fill: var(--faint); }
table { border-collapse: collapse; margin: 1.5rem 0; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--faint); padding-bottom: .4rem; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--grid); }
th:first-child, td:first-child { text-align: left; }
pre { overflow-x: auto; padding: .8rem 1rem; border: 1px solid var(--grid); border-radius: 6px; }
"""


def page(result: Result) -> str:
    """The whole file."""
    colours = "".join(f"svg .{engine} {{ fill: var(--{engine}); }}\n" for engine in ENGINES)
    name = escape(result.model.name)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width"/>
<title>{name} – intaglio bench</title>
<style>{STYLE}{colours}</style>
</head>
<body>
<h1>{name}</h1>
<p>{escape(limits_line(result))}</p>
{svg(result)}
{"".join(_table(table) for table in tables(result))}
{_notes(result)}
<pre><code>{escape(result.command)}</code></pre>
<p>{escape(", ".join(f"{name} {version}" for name, version in result.versions.items()))}</p>
</body>
</html>
"""


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(header)}</th>" for header in table.headers)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    return (
        f"<table>\n<caption>{escape(table.title)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table>\n"
    )


def _notes(result: Result) -> str:
    said = [*(f"{ENGINES[engine][1]}: {why}" for engine, why in result.skipped.items()), *result.notes]
    return "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in said) + "</ul>" if said else ""
