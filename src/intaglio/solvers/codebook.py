"""The table of each row that costs least, and each element's entry in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio import _native
from intaglio.formats.arrays import to_numpy, to_torch
from intaglio.formats.rows import parts
from intaglio.lazy import lazy
from intaglio.solvers.sequence import Found
from intaglio.terms import Codebook, Metric

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

FLOOR = 1e-6  # of a row's mean weight: an element of no weight still wants an entry near it


def best_table(w: Tensor, term: Codebook, metric: Metric, left_out: Tensor | None = None) -> Found:
    """W (out, in) by weighted k-means of each row; `left_out` (out, in) bool weigh nothing (SqueezeLLM).

    The optimum, not one of Lloyd's ends: on a line it is found exactly (see native/centroids.h).
    """
    weights, threads = to_numpy(_weights(w, metric, left_out)), int(torch.get_num_threads())
    fitted = _native.centroids(to_numpy(w), weights, term.layout.entries, threads)
    table = to_torch(term.layout.round(fitted))
    codes = torch.empty(w.shape, dtype=torch.uint8)
    for rows in parts(w):
        codes[rows] = nearest(w[rows], table[rows])
    return Found(term.layout.store(to_numpy(codes), to_numpy(table)), {})


def nearest(values: Tensor, centers: Tensor) -> Tensor:
    """Which of the rising centers (rows, k) each value (rows, n) is closest to: int64 (rows, n)."""
    midpoints = (centers[:, 1:] + centers[:, :-1]) / 2
    return torch.searchsorted(midpoints, values.contiguous())


def _weights(w: Tensor, metric: Metric, left_out: Tensor | None) -> Tensor:
    """What each element weighs, float32 (out, in), some of every row above nothing."""
    weights = metric.weigh(torch.ones_like(w))
    weights = weights + FLOOR * weights.mean(1, keepdim=True)
    if left_out is not None:
        weights = weights.masked_fill(left_out, 0)
    nothing = weights.sum(1, keepdim=True) <= 0
    return torch.where(nothing, torch.ones_like(weights), weights)
