"""The elements whose loss would cost most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.formats import Csr
from intaglio.formats.arrays import to_numpy
from intaglio.lazy import lazy
from intaglio.solvers.sequence import Found
from intaglio.terms import Metric, Outliers

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


def largest(w: Tensor, term: Outliers, metric: Metric) -> Found:
    """The share of W (out, in) with the most w^2 E[x^2], as it is; ties go to the first."""
    costs = metric.weigh(w.square()).flatten()
    count = max(1, round(term.share * w.numel()))
    kept = torch.zeros_like(w).flatten()
    chosen = torch.sort(costs, descending=True, stable=True).indices[:count]
    kept[chosen] = w.flatten()[chosen]
    return Found(Csr().store(to_numpy(kept.reshape(w.shape))), {"outliers": count / w.numel()})
