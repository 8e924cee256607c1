"""The table of a search: what was chosen, beside every candidate alone."""

from __future__ import annotations

import math

from intaglio.pages.table import Table
from intaglio.search.result import Found, Point

HEADERS = ["", "bits", "MB", "predicted KL", "perplexity", "predicted tokens/s", "groups"]


def table(found: Found) -> Table:
    """All numbers but the bytes are predictions."""
    rows = [_row(point) for point in sorted((found.chosen, *found.uniform), key=lambda point: point.nbytes)]
    return Table("predicted from each group alone", HEADERS, rows, words=(0, len(HEADERS) - 1))


def _row(point: Point) -> list[str]:
    return [
        point.name,
        f"{point.bits_per_weight:.2f}",
        f"{point.nbytes / 1e6:,.1f}",
        f"{point.loss:.4f}",
        f"+{math.expm1(min(point.loss, 99.0)):.2%}" if point.loss < 3 else "lost",
        f"{point.tokens_per_s:,.0f}",
        ", ".join(f"{count} {name}" for name, count in point.counts.items()),
    ]
