"""Nearest: tables fitted to the weights, and each weight's nearest code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.formats import Format
from intaglio.solvers.clip import Clip
from intaglio.solvers.sequence import Found
from intaglio.terms import Metric

if TYPE_CHECKING:
    from intaglio.types import Tensor


def nearest(w: Tensor, fmt: Format, metric: Metric, clip: Clip | None) -> Found:
    """W (out, in) in one format, its tables narrowed where that pays."""
    tables = fmt.fit(w, shrink=clip.search(w, fmt, metric) if clip else None)
    return Found(fmt.pack(fmt.encode(w, tables), tables), {})
