"""Which coded scale and zero a group of weights errs least with: those of bilevel codes, chosen as pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio.formats import Bilevel
from intaglio.lazy import lazy

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

FINEST = 4  # bits of a statistic; with more, the nearest is as good, and there are too many pairs to try


def best_pairs(
    x: Tensor, fmt: Bilevel, tables: dict[str, Tensor], cost: Tensor, limit: float
) -> dict[str, Tensor]:
    """`tables` of one group x (inputs, out), each output's codes of scale and zero the best of all pairs.

    Their ranges stay. An error costs its square times `cost` (inputs,), but no more than `limit`, where its
    weight becomes an outlier. The nearest code of each alone moves the ends of a group by both misses.
    """
    if max(fmt.scale_bits, fmt.zero_bits) > FINEST:
        return tables
    scales = _values(fmt, tables, "scale_code", fmt.scale_bits)
    zeros = _values(fmt, tables, "zero_code", fmt.zero_bits)
    pairs = [
        scale.square() * _missed(exact, zero, fmt.highest, cost, limit / scale.square())
        for scale, exact in ((scale, x / scale) for scale in scales)
        for zero in zeros
    ]
    best = torch.stack(pairs).argmin(0)[:, None]
    codes = {"scale_code": best // len(zeros), "zero_code": best % len(zeros)}
    return tables | {name: code.to(torch.uint8) for name, code in codes.items()}


def _values(fmt: Bilevel, tables: dict[str, Tensor], name: str, bits: int) -> Tensor:
    """What every code of a statistic would mean, (codes, out)."""
    all_of_it = (tables | {name: torch.full_like(tables[name], code)} for code in range(1 << bits))
    grids = [fmt.grid(one) for one in all_of_it]
    return torch.stack([(grid.step if name == "scale_code" else grid.zero)[:, 0] for grid in grids])


def _missed(exact: Tensor, zero: Tensor, highest: int, cost: Tensor, limit: Tensor) -> Tensor:
    """What each output costs (out,) when exact (inputs, out), in steps, is rounded beside `zero` (out,)."""
    missed = (exact + zero).round_().clamp_(0, highest).sub_(zero).sub_(exact).square_()
    if limit.isinf().all():
        return cost @ missed
    return torch.minimum(missed.mul_(cost[:, None]), limit).sum(0)
