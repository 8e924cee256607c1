"""Integer: evenly spaced codes with a scale, and a zero point, per group of columns or per row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np

from intaglio.errors import IntaglioError
from intaglio.formats import groups
from intaglio.formats.arrays import Stored
from intaglio.formats.grid import Grid, OnGrid, pack_grid, unpack_grid
from intaglio.formats.pack import packed_width
from intaglio.lazy import lazy
from intaglio.types import State

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

GroupSize = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]


class Integer(OnGrid, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="int"):
    """w = (codes - zero) * scale, codes unsigned; `symmetric`: zero is 2^(bits-1), not stored; code 0 unused.

    codes packed | zero uint8 (out, groups) | scale float16 (out, groups), or float32 (out, 1) without groups
    bits/weight = bits + (16 + 8) / group_size, or bits + (32 + 8) / in; without the 8 when symmetric
    `zero` float16 (16 bits, not 8) may lie between codes, so that a solver can move it; 0 is then not exact.
    """

    bits: Annotated[int, msgspec.Meta(ge=2, le=8)] = 4
    symmetric: bool = False
    group_size: GroupSize | None = None
    zero: Literal["uint8", "float16"] = "uint8"

    def __post_init__(self) -> None:
        if self.symmetric and self.zero != "uint8":
            raise ValueError("a symmetric format stores no zero: leave out `zero: float16`, or `symmetric`")

    @property
    def highest(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    def fit(self, w: Tensor, *, shrink: Tensor | None = None) -> dict[str, Tensor]:
        """Tables for w (out, in); `shrink` (out, groups) in (0, 1] narrows each group's range."""
        return self.fit_groups(w, {}, shrink=shrink)

    def fit_groups(
        self, w: Tensor, tables: dict[str, Tensor], *, shrink: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Those tables that belong to single groups: all of them."""
        lo, hi = groups.extent(w, self.group_size, shrink)
        dtype = torch.float32 if self.group_size is None else torch.float16
        if self.symmetric:
            return {"scale": round_scale(torch.maximum(-lo, hi) / (self.highest // 2), dtype)}
        scale = round_scale((hi - lo) / self.highest, dtype)  # as stored, before anything is encoded with it
        return {"scale": scale, "zero": self.stored_zero(-lo / scale.float())}

    def stored_zero(self, zero: Tensor) -> Tensor:
        """Zero points as they are stored."""
        if self.zero == "float16":
            return zero.half()
        return zero.round().clamp(0, self.highest).to(torch.uint8)

    def grid(self, tables: dict[str, Tensor]) -> Grid:
        """The grid that the tables describe."""
        scale = tables["scale"].float()
        middle = torch.full_like(scale, 1 << (self.bits - 1))
        zero = middle if self.symmetric else tables["zero"].float()
        low = torch.full_like(scale, 1 if self.symmetric else 0)
        high = torch.full_like(scale, self.highest)
        return Grid(scale, zero, low, high, scale.new_ones((len(scale), 1)), self.group_size)

    def pack(self, codes: Tensor, tables: dict[str, Tensor]) -> State:
        """What is stored, as numpy arrays."""
        return pack_grid(codes, tables, self.bits)

    def unpack(self, state: State, shape: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Codes uint8 (out, in) and tables of what is stored."""
        return unpack_grid(state, self.bits, shape[1])

    def arrays(self, shape: tuple[int, int]) -> dict[str, Stored]:
        """Type and shape of everything stored for a matrix of this shape."""
        rows, cols = shape
        tables = (rows, groups.count(cols, self.group_size))
        scale = np.dtype(np.float32 if self.group_size is None else np.float16)
        stored = {"codes": Stored(np.dtype(np.uint8), (rows, packed_width(cols, self.bits)))}
        stored["scale"] = Stored(scale, tables)
        if not self.symmetric:
            stored["zero"] = Stored(np.dtype(self.zero), tables)
        return stored

    def faults(self, state: State) -> str | None:
        """What is wrong with the values of arrays whose types and shapes are right, or None."""
        if not (np.isfinite(state["scale"]).all() and (state["scale"] >= 0).all()):
            return "scale has negative or non-finite values"
        if self.symmetric:
            return None
        if self.zero == "float16":
            return None if np.isfinite(state["zero"]).all() else "zero has non-finite values"
        return f"zero has values above {self.highest}" if int(state["zero"].max()) > self.highest else None


def round_scale(scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounded to the stored type: never 0 (the codes divide by it) and never infinite."""
    info = torch.finfo(dtype)
    if scale.numel() and float(scale.max()) > info.max:
        raise IntaglioError(
            f"a scale of {float(scale.max()):.3g} does not fit float16 (largest: {info.max:.0f}): "
            "group_size null has a float32 scale per row, or the weights are broken"
        )
    return scale.clamp(min=2.0**-24 if dtype == torch.float16 else info.tiny).to(dtype)
