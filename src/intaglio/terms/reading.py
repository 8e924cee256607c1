"""Reading: what a matrix makes of its input before it multiplies."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from intaglio.formats import Activation
from intaglio.formats.arrays import to_torch
from intaglio.formats.rounding import rounded
from intaglio.types import Array

if TYPE_CHECKING:
    from intaglio.types import Tensor


@dataclass(frozen=True, eq=False)
class Reading:
    """The input's channels gathered in `order`, then rounded to `activation`; None: neither is done."""

    activation: Activation | None = None
    order: Array | None = None

    @property
    def key(self) -> Hashable:
        """Equal for readings that are the same."""
        return self.activation, None if self.order is None else self.order.tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reading) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __call__(self, x: Tensor) -> Tensor:
        """x (..., in) as the matrix sees it, each channel where it was."""
        if self.activation is None:
            return x
        if self.order is None:
            return rounded(x, self.activation)
        order = to_torch(self.order).long()
        return rounded(x[..., order], self.activation)[..., order.argsort()]
