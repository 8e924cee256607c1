"""Whitening: the coordinates in which a metric is plain distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.errors import IntaglioError
from intaglio.lazy import lazy
from intaglio.terms import Metric

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

# Of the mean diagonal of H, or what was never seen would be divided by nothing. Sums in float32 over fewer
# tokens than inputs leave H eigenvalues below zero; then more.
DAMPS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def root(metric: Metric, cols: int) -> Tensor:
    """C (in, in) float64, lower triangular, of the metric H = C C^T.

    Raises IntaglioError: H is far from positive.
    """
    h = metric.h if metric.elements is None else metric.diagonal(cols)  # no closed form weighs each element
    if h is None:
        return torch.eye(cols, dtype=torch.float64)
    h = torch.diag(h.double()) if h.ndim == 1 else h.to(torch.float64, copy=True)
    diagonal = h.diagonal()
    own, mean = diagonal.clone(), float(diagonal.mean())
    for damp in DAMPS:
        diagonal.copy_(own + (damp * mean or 1.0))
        factor: Tensor
        factor, failed = torch.linalg.cholesky_ex(h)
        if not failed:
            return factor
    raise IntaglioError(
        f"statistics (Hessian) of {cols} inputs have eigenvalues far below zero: calibrate on more tokens"
    )
