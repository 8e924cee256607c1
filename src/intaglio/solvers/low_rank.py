"""The closest matrix of low rank: a truncated singular value decomposition, under a metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.lazy import lazy
from intaglio.solvers.nearest import nearest
from intaglio.solvers.sequence import Found
from intaglio.terms import LowRank, Metric

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

DAMP = 1e-6  # of the mean diagonal of H, or what was never seen would be divided by nothing


def best_rank(w: Tensor, term: LowRank, metric: Metric) -> Found:
    """W (out, in) as left right, each with the square root of the singular values.

    Under H = C C^T the product closest to W in its outputs is the truncated decomposition of W C, times C^-1
    (SVD-LLM, 2403.07378).
    """
    factor = _factor(metric, w.shape[1])
    u, s, v = torch.linalg.svd(w.double() @ factor, full_matrices=False)
    rank = min(term.rank, *w.shape)
    roots = s[:rank].sqrt()
    reads = torch.linalg.solve_triangular(factor, roots[:, None] * v[:rank], upper=False, left=False)
    return rounded((u[:, :rank] * roots).float(), reads.float(), term)


def rounded(left: Tensor, right: Tensor, term: LowRank) -> Found:
    """left (out, rank) right (rank, in), each to the term's format."""
    reads, writes = term.factors((len(left), right.shape[1]))
    state = reads.rename(nearest(right, term.format, Metric(), None).state)
    others = writes.rename(nearest(left, term.format, Metric(), None).state)
    return Found({**state, **others}, {"rank": len(right)})


def _factor(metric: Metric, cols: int) -> Tensor:
    """C (in, in) float64, lower triangular, of the metric H = C C^T."""
    if metric.h is None:
        return torch.eye(cols, dtype=torch.float64)
    h = metric.h.double()
    if h.ndim == 1:
        h = torch.diag(h)
    mean = float(h.diagonal().mean())
    factor: Tensor = torch.linalg.cholesky(h + (DAMP * mean or 1.0) * torch.eye(cols, dtype=torch.float64))
    return factor
