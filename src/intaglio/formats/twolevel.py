"""TwoLevel: a float scale per row over 8-bit integers, an integer scale per group inside them (QServe)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from intaglio.formats import groups
from intaglio.formats.arrays import Stored
from intaglio.formats.grid import Grid, OnGrid, pack_grid, unpack_grid
from intaglio.formats.integer import GroupSize
from intaglio.formats.pack import packed_width
from intaglio.lazy import lazy
from intaglio.types import State

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


class TwoLevel(
    OnGrid, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="two_level"
):
    """w = scale[n] * (group_scale[n,g] * (codes - group_zero[n,g])), the inner integer within int8.

    codes packed | scale float32 (out, 1) | group_scale, group_zero uint8 (out, groups)
    bits/weight = bits + (8 + 8) / group_size + 32 / in

    Level 1 maps a row's largest weight to the protective range P = 127 - 2^(7-bits), 119 for 4 bits:
    group_scale is at most 2^(8-bits), so rounding overshoots P by at most 2^(7-bits) and stays in int8.
    """

    bits: Annotated[int, msgspec.Meta(ge=2, le=4)] = 4
    group_size: GroupSize = 64

    @property
    def highest(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    @property
    def protective(self) -> int:
        """Largest integer of level 1."""
        return 127 - (1 << (7 - self.bits))

    @property
    def largest_step(self) -> int:
        """Largest group_scale: covers [-protective, protective], and highest * largest_step fits a byte."""
        return 1 << (8 - self.bits)

    def fit(self, w: Tensor, *, shrink: Tensor | None = None) -> dict[str, Tensor]:
        """Tables for w (out, in); `shrink` (out, groups) in (0, 1] narrows each group's range.

        The row's scale does not shrink, so that groups can be narrowed independently of each other.
        """
        reach = w.float().abs().amax(1, keepdim=True)
        rows = {"scale": (reach / self.protective).clamp(min=torch.finfo(torch.float32).tiny)}
        return rows | self.fit_groups(w, rows, shrink=shrink)

    def fit_groups(
        self, w: Tensor, tables: dict[str, Tensor], *, shrink: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Level 2, inside the rows' `scale`. The step is rounded, or rounded up, whichever errs less in its
        group: rounding may leave part of the range out, rounding up never does."""
        lo, hi = groups.extent(w / tables["scale"], self.group_size, shrink)
        lo, hi = lo.clamp(min=-self.protective), hi.clamp(max=self.protective)
        step = (hi - lo) / self.highest
        near, above = (self._level2(lo, s, tables) for s in (step.round(), step.ceil()))
        better = self._errors(w, above) < self._errors(w, near)
        return {name: torch.where(better, above[name], near[name]) for name in ("group_scale", "group_zero")}

    def grid(self, tables: dict[str, Tensor]) -> Grid:
        """The grid that the tables describe; codes that would leave int8 are out of its reach."""
        step, zero = tables["group_scale"].float(), tables["group_zero"].float()
        reach = torch.div(127, step, rounding_mode="floor")
        low, high = (zero - reach).clamp(min=0), (zero + reach).clamp(max=self.highest)
        return Grid(step, zero, low, high, tables["scale"], self.group_size)

    def pack(self, codes: Tensor, tables: dict[str, Tensor]) -> State:
        """What is stored, as numpy arrays."""
        return pack_grid(codes, tables, self.bits)

    def unpack(self, state: State, shape: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Codes uint8 (out, in) and tables of what is stored."""
        return unpack_grid(state, self.bits, shape[1])

    def arrays(self, shape: tuple[int, int]) -> dict[str, Stored]:
        """Type and shape of everything stored for a matrix of this shape."""
        rows, cols = shape
        byte, tables = np.dtype(np.uint8), (rows, groups.count(cols, self.group_size))
        return {
            "codes": Stored(byte, (rows, packed_width(cols, self.bits))),
            "scale": Stored(np.dtype(np.float32), (rows, 1)),
            "group_scale": Stored(byte, tables),
            "group_zero": Stored(byte, tables),
        }

    def faults(self, state: State) -> str | None:
        """What is wrong with the values of arrays whose types and shapes are right, or None."""
        if not (np.isfinite(state["scale"]).all() and (state["scale"] >= 0).all()):
            return "scale has negative or non-finite values"
        step = state["group_scale"]
        if int(step.min()) < 1 or int(step.max()) > self.largest_step:
            return f"group_scale has values outside 1..{self.largest_step}"
        if int(state["group_zero"].max()) > self.highest:
            return f"group_zero has values above {self.highest}"
        return None

    def _level2(self, lo: Tensor, step: Tensor, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        step = step.clamp(1, self.largest_step)
        zero = (-lo / step).round().clamp(0, self.highest)
        return {**rows, "group_scale": step.to(torch.uint8), "group_zero": zero.to(torch.uint8)}

    def _errors(self, w: Tensor, tables: dict[str, Tensor]) -> Tensor:
        """Squared error of each group, (out, groups)."""
        delta = self.decode(self.encode(w, tables), tables) - w
        return groups.split(delta.square(), self.group_size).sum(2)
