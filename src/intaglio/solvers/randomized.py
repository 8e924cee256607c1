"""The leading part of a matrix, from its products with a few random vectors (Halko et al., 0909.4061)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.lazy import lazy

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

OVERSAMPLING = 8
POWERS = 2  # times w w^T, which sets the leading directions apart from the rest


def truncated(w: Tensor, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """Left (out, rank) and right (rank, in), each with the roots of the singular values: left right ~ w."""
    basis = _range(w, min(rank + OVERSAMPLING, *w.shape), seed)
    u, s, v = torch.linalg.svd(basis.T @ w, full_matrices=False)
    roots = s[:rank].sqrt()
    return basis @ (u[:, :rank] * roots), roots[:, None] * v[:rank]


def _range(w: Tensor, width: int, seed: int) -> Tensor:
    """Orthonormal columns (out, width) that span nearly what w puts out most of."""
    random = torch.randn(w.shape[1], width, generator=torch.Generator().manual_seed(seed), dtype=w.dtype)
    basis: Tensor = torch.linalg.qr(w @ random).Q
    for _ in range(POWERS):
        basis = torch.linalg.qr(w @ torch.linalg.qr(w.T @ basis).Q).Q
    return basis
