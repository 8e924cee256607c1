"""The document around drawings and tables: one HTML file, for light and for dark screens."""

from __future__ import annotations

from html import escape

STYLE = """
:root {
  color-scheme: light dark; --page: #fdfdfc; --ink: #1d1f23; --faint: #6d7178; --grid: #e4e4e0;
  --accent: #b3371c; --other: #2766a8; --cold: #eef1f4; --hot: #a3260b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15171a; --ink: #e8e6e1; --faint: #989ca4; --grid: #2a2d32;
    --accent: #ff7d5c; --other: #6fb1f5; --cold: #22262c; --hot: #ff8a5e;
  }
}
body {
  margin: 2.5rem auto; max-width: 62rem; padding: 0 1rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif;
}
h1 { font-size: 1.5rem; margin-bottom: 0; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 0; }
p { color: var(--faint); margin-top: .3rem; }
svg { width: 100%; height: auto; margin: 1rem 0; }
svg text { font: 13px system-ui, sans-serif; fill: var(--faint); }
svg text.label { fill: var(--ink); }
svg .grid { stroke: var(--grid); }
.wide { overflow-x: auto; }
.wide svg { min-width: 44rem; }
div.wide { margin: 1.5rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--faint); padding-bottom: .4rem; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--grid); }
th.words, td.words { text-align: left; }
td:first-child { white-space: nowrap; }
pre { overflow-x: auto; padding: .8rem 1rem; border: 1px solid var(--grid); border-radius: 6px; }
code { font-size: .85rem; }
"""


def document(title: str, body: str, style: str = "") -> str:
    """The whole file; `style` adds what only this page needs."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width"/>
<title>{escape(title)}</title>
<style>{STYLE}{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def commands(text: str) -> str:
    """What to type, as it is to be typed."""
    return f"<pre><code>{escape(text)}</code></pre>\n"
