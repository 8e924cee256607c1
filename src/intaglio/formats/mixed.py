"""Mixed: groups of few bits, and a last few of more, for the inputs that matter most.   Used by: atom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np

from intaglio.formats import groups
from intaglio.formats.arrays import Stored, to_numpy, to_torch
from intaglio.formats.grid import Grid, OnGrid
from intaglio.formats.integer import GroupSize, round_scale
from intaglio.formats.pack import pack, packed_width, unpack
from intaglio.lazy import lazy
from intaglio.types import State

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

Share = Annotated[float, msgspec.Meta(ge=0.05, le=1)]


class Mixed(OnGrid, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="mixed"):
    """w = (code - 2^(b-1)) * scale, b = `bits`, but `kept_bits` in the last `kept` groups (Atom, 2310.19102).

    scale = clip * max|w| / (2^(bits-1) - 1) of a group, and of those kept max|w| / (2^(kept_bits-1) - 1),
    never clipped. `rows`: so many neighbours share their scales. Of activations the same, each token a row.

    codes packed | kept packed | scale float16 (out / rows, groups)
    bits/weight = bits + 16 / (group_size * rows) + (kept_bits - bits) * kept * group_size / in
    """

    bits: Annotated[int, msgspec.Meta(ge=2, le=8)] = 4
    group_size: GroupSize = 64
    kept: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] = 1
    kept_bits: Annotated[int, msgspec.Meta(ge=2, le=8)] = 8
    clip: Share = 1.0
    rows: Literal[1, 2] = 1

    def fit(self, w: Tensor, *, shrink: Tensor | None = None) -> dict[str, Tensor]:
        """Tables for w (out, in); `shrink` (out, groups) in (0, 1] narrows groups, the kept ones excepted."""
        return self.fit_groups(w, {}, shrink=shrink)

    def fit_groups(
        self, w: Tensor, tables: dict[str, Tensor], *, shrink: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Those tables that belong to single groups: all of them."""
        lo, hi = groups.extent(w, self.group_size, shrink)
        few, top = self.few(w.shape[1]), (1 << (self.bits - 1)) - 1
        scale = torch.maximum(-lo, hi) * (self.clip / top)
        lo, hi = groups.extent(w[:, few * self.group_size :], self.group_size, None)
        scale[:, few:] = torch.maximum(-lo, hi) / ((1 << (self.kept_bits - 1)) - 1)
        return {"scale": round_scale(self._shared(scale), torch.float16)}

    def alone(self, group: int, cols: int) -> Mixed:
        """The format of one group, of a matrix of so many columns, by itself."""
        return msgspec.structs.replace(self, kept=int(group >= self.few(cols)))

    def few(self, cols: int) -> int:
        """Groups of `bits` in a row; the others are kept."""
        return max(0, groups.count(cols, self.group_size) - self.kept)

    def grid(self, tables: dict[str, Tensor]) -> Grid:
        """The grid that the tables describe; 8 bits end at -127, which is what kernels multiply."""
        scale = tables["scale"].float()
        few = max(0, scale.shape[1] - self.kept)
        bits = torch.tensor([self.bits] * few + [self.kept_bits] * (scale.shape[1] - few))
        zero = torch.pow(2.0, bits - 1).repeat(len(scale), 1)
        low = (bits == 8).float().repeat(len(scale), 1)
        return Grid(scale, zero, low, 2 * zero - 1, scale.new_ones((len(scale), 1)), self.group_size)

    def pack(self, codes: Tensor, tables: dict[str, Tensor]) -> State:
        """What is stored, as numpy arrays."""
        split, all_codes = self.split(codes.shape[1]), to_numpy(codes)
        parts = {"codes": (all_codes[:, :split], self.bits), "kept": (all_codes[:, split:], self.kept_bits)}
        state = {name: pack(part, bits) for name, (part, bits) in parts.items() if part.shape[1]}
        return state | {"scale": np.ascontiguousarray(to_numpy(tables["scale"])[:: self.rows])}

    def unpack(self, state: State, shape: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Codes uint8 (out, in) and tables of what is stored; `scale` has a row for each of the matrix."""
        split = self.split(shape[1])
        widths = {"codes": (split, self.bits), "kept": (shape[1] - split, self.kept_bits)}
        parts = [to_torch(unpack(state[name], bits, n)) for name, (n, bits) in widths.items() if n]
        scale = to_torch(state["scale"]).repeat_interleave(self.rows, 0)[: shape[0]]
        return torch.cat(parts, 1), {"scale": scale}

    def arrays(self, shape: tuple[int, int]) -> dict[str, Stored]:
        """Type and shape of everything stored for a matrix of this shape; no array is empty."""
        rows, cols = shape
        split, byte = self.split(cols), np.dtype(np.uint8)
        widths = {"codes": packed_width(split, self.bits), "kept": packed_width(cols - split, self.kept_bits)}
        scales = (-(-rows // self.rows), groups.count(cols, self.group_size))
        stored = {name: Stored(byte, (rows, width)) for name, width in widths.items() if width}
        return stored | {"scale": Stored(np.dtype(np.float16), scales)}

    def faults(self, state: State) -> str | None:
        """What is wrong with the values of arrays whose types and shapes are right, or None."""
        if not (np.isfinite(state["scale"]).all() and (state["scale"] >= 0).all()):
            return "scale has negative or non-finite values"
        return None

    def split(self, cols: int) -> int:
        """The first column that is kept."""
        return min(cols, self.few(cols) * self.group_size)

    def _shared(self, scale: Tensor) -> Tensor:
        """The largest of each `rows` neighbours, for all of them."""
        if self.rows == 1:
            return scale
        padded = torch.nn.functional.pad(scale, (0, 0, 0, -len(scale) % self.rows))
        most = padded.reshape(-1, self.rows, scale.shape[1]).amax(1)
        return most.repeat_interleave(self.rows, 0)[: len(scale)]
