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
    chosen = _first(costs, count)
    kept[chosen] = w.flatten()[chosen]
    return Found(Csr().store(to_numpy(kept.reshape(w.shape))), {"outliers": count / w.numel()})


def sensitive_and_large(w: Tensor, share: float, sensitive: float, metric: Metric) -> Tensor:
    """The `sensitive` share of W's elements (out, in) that weigh most; for the rest of `share` the largest.

    bool (out, in). SqueezeLLM's bound on the size, k interquartile ranges outside the quartiles, is tuned for
    the share: in one matrix that is a choice of the largest. Its k holds for all matrices of a model, this
    share for each.
    """
    total = max(1, round(share * w.numel()))
    taken = torch.zeros(w.numel(), dtype=torch.bool)
    taken[_first(metric.weigh(torch.ones_like(w)).flatten(), min(total, round(sensitive * w.numel())))] = True
    size = w.abs().flatten().masked_fill(taken, -1)
    taken[_first(size, total - int(taken.sum()))] = True
    return taken.reshape(w.shape)


def _first(values: Tensor, count: int) -> Tensor:
    """Where the `count` greatest are; ties go to the first."""
    return torch.sort(values, descending=True, stable=True).indices[:count]
