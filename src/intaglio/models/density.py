"""Density: how few of some numbers hold nearly all of their magnitude (TASDER, 2403.07953)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from intaglio.types import Tensor

SHARE = 0.99  # of the sum of magnitudes


def pseudo_density(x: Tensor) -> float:
    """The smallest share of x's elements, the largest first, that has SHARE of the sum of |x|.

    Where nothing is exactly zero, as behind SiLU, this is what the share of what is not would be: never more
    than that; 1/n for one of n elements, 0 if there is none.
    """
    held = x.abs().flatten().double().sort(descending=True).values.cumsum(0)
    return float((held < SHARE * held[-1]).sum() + 1) / len(held) if held[-1] > 0 else 0.0


class Density:
    """The pseudo-density of tokens (n, in), on average over the batches that come."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, tokens: Tensor) -> None:
        """Takes one batch in."""
        self._sum += pseudo_density(tokens) * len(tokens)
        self._count += len(tokens)

    @property
    def value(self) -> float:
        """Between 0 and 1."""
        return self._sum / self._count
