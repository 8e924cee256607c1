"""The closest matrix of low rank: a truncated singular value decomposition, under a metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.lazy import lazy
from intaglio.solvers.nearest import nearest
from intaglio.solvers.sequence import Found
from intaglio.solvers.whitening import root
from intaglio.terms import LowRank, Metric

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


def best_rank(w: Tensor, term: LowRank, metric: Metric) -> Found:
    """W (out, in) as left right, each with the square root of the singular values.

    Under H = C C^T the product closest to W in its outputs is the truncated decomposition of W C, times C^-1
    (SVD-LLM, 2403.07378).
    """
    factor = root(metric, w.shape[1])
    u, s, v = torch.linalg.svd(w.double() @ factor, full_matrices=False)
    rank = term.rank_of((w.shape[0], w.shape[1]))
    roots = s[:rank].sqrt()
    reads = torch.linalg.solve_triangular(factor, roots[:, None] * v[:rank], upper=False, left=False)
    return rounded((u[:, :rank] * roots).float(), reads.float(), term)


def rounded(left: Tensor, right: Tensor, term: LowRank) -> Found:
    """left (out, rank) right (rank, in), each to the term's format."""
    reads, writes = term.factors((len(left), right.shape[1]))
    first, last = (nearest(each, term.format, Metric(), None).state for each in (right, left))
    return Found({**reads.rename(first), **writes.rename(last)}, {"rank": len(right)})
