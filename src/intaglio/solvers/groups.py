"""The groups of a row that matter most, each rounded on its own grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from intaglio.formats import Bsr, Integer, groups
from intaglio.formats.arrays import to_numpy
from intaglio.lazy import lazy
from intaglio.solvers.clip import Clip
from intaglio.solvers.sequence import Found
from intaglio.terms import GroupSparse, Metric

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

Balance: TypeAlias = Literal["row", "matrix"]


def salient(
    w: Tensor, term: GroupSparse, metric: Metric, clip: Clip | None, weights: Tensor, balance: Balance
) -> Found:
    """The groups of W (out, in) with the largest mean of w^2 * weights (in,), rounded as all would be."""
    size = term.group_size
    kept = dearest(groups.split(w.square() * weights, size).mean(2), term.sparsity, balance)
    layout, notes = Bsr(term.bits, size), {"kept": float(kept.float().mean())}
    if term.bits == 16:
        return Found(layout.store_values(to_numpy(kept), to_numpy(w)), notes)
    grid = Integer(term.bits, group_size=size)
    tables = grid.fit(w, shrink=clip.search(w, grid, metric) if clip else None)
    arrays = (kept, grid.encode(w, tables), tables["scale"], tables["zero"])
    return Found(layout.store(*map(to_numpy, arrays)), notes)


def dearest(saliency: Tensor, sparsity: float, balance: Balance) -> Tensor:
    """The most salient groups, bool as `saliency` (out, groups): so many of each row, or of the matrix, and
    at least one; ties go to the first.
    """
    pools = saliency if balance == "row" else saliency.reshape(1, -1)
    count = max(1, round((1 - sparsity) * pools.shape[1]))
    order = torch.sort(pools, dim=1, descending=True, stable=True).indices[:, :count]
    return torch.zeros_like(pools, dtype=torch.bool).scatter_(1, order, True).reshape(saliency.shape)
