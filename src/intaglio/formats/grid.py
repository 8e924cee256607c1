"""An evenly spaced grid per group of columns: what every format of codes has in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from intaglio.formats.arrays import Stored, to_numpy, to_torch
from intaglio.formats.groups import split
from intaglio.formats.pack import pack, unpack
from intaglio.lazy import lazy
from intaglio.types import State

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
        step, zero, low, high = (
            t[:, :, None] for t in (self.step * self.row, self.zero, self.low, self.high)
        )
        whole = zero.floor()  # added after rounding: a sum with a whole zero would be rounded twice
        codes = (split(w.float(), self.group_size) / step).add_(zero - whole).round_().add_(whole)
        codes.clamp_(low, high)
        return codes.to(torch.uint8).reshape(len(w), -1)[:, : w.shape[1]].contiguous()

    def decode(self, codes: Tensor) -> Tensor:
        """Grid points, float32 (out, in)."""
        step, zero, row = self.step[:, :, None], self.zero[:, :, None], self.row[:, :, None]
        values = (split(codes, self.group_size) - zero).mul_(step).mul_(row)
        return values.reshape(len(codes), -1)[:, : codes.shape[1]].contiguous()


class OnGrid:
    """A format whose tables describe a grid: what follows from it."""

    def grid(self, tables: dict[str, Tensor]) -> Grid:
        """The grid that the tables describe."""
        raise NotImplementedError

    def arrays(self, shape: tuple[int, int]) -> dict[str, Stored]:
        """Type and shape of everything stored for a matrix of this shape."""
        raise NotImplementedError

    def encode(self, w: Tensor, tables: dict[str, Tensor]) -> Tensor:
        """Nearest codes, uint8 (out, in)."""
        return self.grid(tables).encode(w)

    def decode(self, codes: Tensor, tables: dict[str, Tensor]) -> Tensor:
        """Values, float32 (out, in)."""
        return self.grid(tables).decode(codes)

    def nbits(self, shape: tuple[int, int]) -> int:
        """All stored bits."""
        return sum(array.nbits for array in self.arrays(shape).values())


def pack_grid(codes: Tensor, tables: dict[str, Tensor], bits: int) -> State:
    """What is stored of a grid's codes and tables, as numpy arrays."""
    return {"codes": pack(to_numpy(codes), bits)} | {name: to_numpy(t) for name, t in tables.items()}


def unpack_grid(state: State, bits: int, cols: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Codes uint8 (out, cols) and tables of what is stored."""
    codes = to_torch(unpack(state["codes"], bits, cols))
    return codes, {name: to_torch(a) for name, a in state.items() if name != "codes"}
