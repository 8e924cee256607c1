"""Whitening: the coordinates in which a metric is plain distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.lazy import lazy
from intaglio.terms import Metric

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

DAMP = 1e-6  # of the mean diagonal of H, or what was never seen would be divided by nothing


def root(metric: Metric, cols: int) -> Tensor:
    """C (in, in) float64, lower triangular, of the metric H = C C^T."""
    h = metric.h if metric.elements is None else metric.diagonal(cols)  # no closed form weighs each element
    if h is None:
        return torch.eye(cols, dtype=torch.float64)
    h = h.double()
    if h.ndim == 1:
        h = torch.diag(h)
    mean = float(h.diagonal().mean())
    factor: Tensor = torch.linalg.cholesky(h + (DAMP * mean or 1.0) * torch.eye(cols, dtype=torch.float64))
    return factor
