"""Which weights of a group stand in the way of the others: SpQR fits a group's grid without them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from intaglio.lazy import lazy

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


def without_outliers(x: Tensor, cost: Tensor, bits: int, limit: float) -> Tensor:
    """x (inputs of a group, out), likely outliers replaced by the mean of the row's other weights.

    A likely outlier is one without which a row would err less by more than `limit`, its own error included;
    `cost` (inputs,) is that of a squared error of 1.
    """
    if len(x) < 2 or limit == math.inf:
        return x
    likely = spared(x, cost, bits) > limit
    mean = torch.where(likely, 0, x).sum(0) / (~likely).sum(0).clamp(min=1)
    return torch.where(likely, mean, x)


def spared(x: Tensor, cost: Tensor, bits: int) -> Tensor:
    """By how much each row of x (inputs, out) would err less on a grid without this weight of it."""
    whole = _error(x, cost, x.amin(0), x.amax(0), bits)
    least, most = x.topk(2, dim=0, largest=False).values, x.topk(2, dim=0).values
    found = torch.empty_like(x)
    for j, one in enumerate(x):
        low = torch.where(one == least[0], least[1], least[0])
        high = torch.where(one == most[0], most[1], most[0])
        others = cost.clone()
        others[j] = 0
        found[j] = whole - _error(x, others, low, high, bits)
    return found


def _error(x: Tensor, cost: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    """Weighted squared error of each row of x (inputs, out) on a grid from `low` to `high`, (out,)."""
    top = (1 << bits) - 1
    step = ((high - low) / top).clamp(min=torch.finfo(torch.float32).tiny)
    rounded = ((x - low) / step).round_().clamp_(0, top).mul_(step).add_(low)
    return cost @ (rounded - x).square_()
