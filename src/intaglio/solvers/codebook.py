"""The table of each row that costs least, and each element's entry in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.formats.arrays import to_numpy, to_torch
from intaglio.lazy import lazy
from intaglio.solvers import centroids
from intaglio.solvers.sequence import Found
from intaglio.terms import Codebook, Metric

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

FLOOR = 1e-6  # of a row's mean weight: an element of no weight still wants an entry near it
AT_ONCE = 1 << 20  # elements of the rows that are worked on together
STARTS, ITERATIONS = 8, 50


def best_table(
    w: Tensor,
    term: Codebook,
    metric: Metric,
    *,
    left_out: Tensor | None = None,
    starts: int = STARTS,
    iterations: int = ITERATIONS,
    seed: int = 0,
) -> Found:
    """W (out, in) by weighted k-means of each row; `left_out` (out, in) bool weigh nothing (SqueezeLLM)."""
    weights = _weights(w, metric, left_out)
    entries = term.layout.entries
    draws = torch.rand(starts, len(w), entries, generator=torch.Generator().manual_seed(seed))
    table = torch.empty(len(w), entries)
    codes = torch.empty(w.shape, dtype=torch.uint8)
    step = max(1, AT_ONCE // w.shape[1])
    for begin in range(0, len(w), step):
        rows = slice(begin, begin + step)
        fitted = centroids.fit(w[rows], weights[rows], draws[:, rows], iterations).float()
        table[rows] = to_torch(term.layout.round(to_numpy(fitted)))
        codes[rows] = centroids.nearest(w[rows], table[rows])
    return Found(term.layout.store(to_numpy(codes), to_numpy(table)), {})


def _weights(w: Tensor, metric: Metric, left_out: Tensor | None) -> Tensor:
    """What each element weighs, float64 (out, in), some of every row above nothing."""
    weights = metric.weigh(torch.ones_like(w)).double()
    weights = weights + FLOOR * weights.mean(1, keepdim=True)
    if left_out is not None:
        weights = weights.masked_fill(left_out, 0)
    nothing = weights.sum(1, keepdim=True) <= 0
    return torch.where(nothing, torch.ones_like(weights), weights)
