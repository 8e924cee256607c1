"""An evenly spaced grid per group of columns: what `Integer` and `TwoLevel` have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from intaglio.formats.groups import spread
from intaglio.lazy import lazy

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


@dataclass(frozen=True)
class Grid:
    """w ~ row * (step * (code - zero)), codes in [low, high]; float32 (out, groups), `row` (out, 1)."""

    step: Tensor
    zero: Tensor
    low: Tensor
    high: Tensor
    row: Tensor
    group_size: int | None

    def encode(self, w: Tensor) -> Tensor:
        """Codes of the nearest grid points, uint8 (out, in)."""
        step, zero, low, high = (self._columns(t, w.shape[1]) for t in (self.step * self.row, *self._codes()))
        return (w.float() / step).round_().add_(zero).clamp_(low, high).to(torch.uint8)

    def decode(self, codes: Tensor) -> Tensor:
        """Grid points, float32 (out, in)."""
        step, zero = (self._columns(t, codes.shape[1]) for t in (self.step, self.zero))
        return codes.float().sub_(zero).mul_(step).mul_(self.row)

    def column(self, index: int) -> Grid:
        """The grid of column `index` alone, its tables (out, 1)."""
        group = 0 if self.group_size is None else index // self.group_size
        step, zero, low, high = (t[:, group : group + 1] for t in (self.step, *self._codes()))
        return Grid(step, zero, low, high, self.row, None)

    def _codes(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.zero, self.low, self.high

    def _columns(self, table: Tensor, cols: int) -> Tensor:
        return spread(table, cols, self.group_size)
