"""Which coded scale and zero a group of weights errs least with: those of bilevel codes, chosen as pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intaglio import _native
from intaglio.formats import Bilevel
from intaglio.formats.arrays import to_numpy, to_torch

if TYPE_CHECKING:
    from intaglio.types import Tensor

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
    scales, zeros = (to_numpy(values[..., 0]) for values in fmt.statistics(tables))
    pairs = _native.best_pairs(to_numpy(x), to_numpy(cost), scales, zeros, fmt.highest, limit)
    codes = {"scale_code": pairs >> fmt.zero_bits, "zero_code": pairs & ((1 << fmt.zero_bits) - 1)}
    return tables | {name: to_torch(code.astype("uint8"))[:, None] for name, code in codes.items()}
