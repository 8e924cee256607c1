"""Bilevel: small groups of columns, whose scales and zeros are themselves coded (SpQR, arXiv 2306.03078)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from intaglio.errors import IntaglioError
from intaglio.formats import groups
from intaglio.formats.arrays import Stored, to_numpy, to_torch
from intaglio.formats.grid import Grid, OnGrid
from intaglio.formats.integer import GroupSize
from intaglio.formats.pack import pack, packed_width, unpack
from intaglio.lazy import lazy
from intaglio.types import Array, State

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

StatisticBits = Annotated[int, msgspec.Meta(ge=1, le=8)]


class Bilevel(
    OnGrid, msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="bilevel"
):
    """w = scale * (codes - zero), the zero a real number; each of both is low[r,g] + step[r,g] * code[n,g].

    A run r is `rows` neighbouring outputs, the last perhaps fewer, which share low and step in each group.
    codes, scale_code, zero_code packed | scale_range, zero_range float16 (runs, groups, 2): low, step
    bits/weight = bits + (scale_bits + zero_bits) / group_size + 64 / (group_size * rows)
    """

    bits: Annotated[int, msgspec.Meta(ge=2, le=4)] = 3
    group_size: GroupSize = 16
    scale_bits: StatisticBits = 3
    zero_bits: StatisticBits = 3
    rows: Annotated[int, msgspec.Meta(ge=1, le=1 << 16)] = 16

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
        scale = ((hi - lo) / self.highest).clamp(min=_LEAST)
        if scale.numel() and float(scale.max()) > _MOST:
            raise IntaglioError(
                f"a scale of {float(scale.max()):.3g} does not fit float16 (largest: {_MOST:.0f}): "
                "the weights are broken, or another format is needed"
            )
        scale_code, scale_range = _fit_runs(scale, self.scale_bits, self.rows, least=_LEAST)
        zero_code, zero_range = _fit_runs(-lo / scale, self.zero_bits, self.rows, least=0)
        return {
            "scale_code": scale_code,
            "scale_range": scale_range,
            "zero_code": zero_code,
            "zero_range": zero_range,
        }

    def grid(self, tables: dict[str, Tensor]) -> Grid:
        """The grid that the tables describe."""
        scale, zero = (
            _read_runs(tables[f"{name}_code"], tables[f"{name}_range"], self.rows)
            for name in ("scale", "zero")
        )
        low, high = torch.zeros_like(scale), torch.full_like(scale, self.highest)
        return Grid(scale, zero, low, high, scale.new_ones((len(scale), 1)), self.group_size)

    def statistics(self, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What every code of a scale, and of a zero, means to each output and group: (codes, out, groups)."""
        scales, zeros = (
            _read_runs(_every(bits, tables[f"{name}_code"]), tables[f"{name}_range"], self.rows)
            for name, bits in (("scale", self.scale_bits), ("zero", self.zero_bits))
        )
        return scales, zeros

    def pack(self, codes: Tensor, tables: dict[str, Tensor]) -> State:
        """What is stored, as numpy arrays."""
        return {
            "codes": pack(to_numpy(codes), self.bits),
            "scale_code": pack(to_numpy(tables["scale_code"]), self.scale_bits),
            "scale_range": to_numpy(tables["scale_range"]),
            "zero_code": pack(to_numpy(tables["zero_code"]), self.zero_bits),
            "zero_range": to_numpy(tables["zero_range"]),
        }

    def unpack(self, state: State, shape: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Codes uint8 (out, in) and tables of what is stored."""
        codes, scale_code, zero_code = self.codes(state, shape)
        tables = {
            "scale_code": scale_code,
            "scale_range": state["scale_range"],
            "zero_code": zero_code,
            "zero_range": state["zero_range"],
        }
        return to_torch(codes), {name: to_torch(array) for name, array in tables.items()}

    def codes(self, state: State, shape: tuple[int, int]) -> tuple[Array, Array, Array]:
        """The codes of weights (out, in), of scales and of zeros (out, groups), a byte each. numpy only."""
        count = groups.count(shape[1], self.group_size)
        return (
            unpack(state["codes"], self.bits, shape[1]),
            unpack(state["scale_code"], self.scale_bits, count),
            unpack(state["zero_code"], self.zero_bits, count),
        )

    def values(self, state: State, shape: tuple[int, int]) -> Array:
        """float32 (out, in): what `decode` gives, of numpy alone."""
        codes, *statistics = self.codes(state, shape)
        run, group = np.arange(shape[0]) // self.rows, np.arange(shape[1]) // self.group_size
        scale, zero = (
            (r[run, :, 0] + r[run, :, 1] * code)[:, group]
            for code, r in zip(statistics, self._ranges(state), strict=True)
        )
        found: Array = (codes - zero) * scale
        return found

    def arrays(self, shape: tuple[int, int]) -> dict[str, Stored]:
        """Type and shape of everything stored for a matrix of this shape."""
        rows, cols = shape
        count = groups.count(cols, self.group_size)
        byte = np.dtype(np.uint8)
        ranges = Stored(np.dtype(np.float16), (groups.count(rows, self.rows), count, 2))
        return {
            "codes": Stored(byte, (rows, packed_width(cols, self.bits))),
            "scale_code": Stored(byte, (rows, packed_width(count, self.scale_bits))),
            "scale_range": ranges,
            "zero_code": Stored(byte, (rows, packed_width(count, self.zero_bits))),
            "zero_range": ranges,
        }

    def faults(self, state: State) -> str | None:
        """What is wrong with the values of arrays whose types and shapes are right, or None."""
        scale, zero = self._ranges(state)
        if not (np.isfinite(scale).all() and (scale[..., 0] > 0).all() and (scale[..., 1] >= 0).all()):
            return "scale_range has a low that is not positive, or a step that is negative or not finite"
        return None if np.isfinite(zero).all() else "zero_range has non-finite values"

    def _ranges(self, state: State) -> tuple[Array, Array]:
        return state["scale_range"].astype(np.float32), state["zero_range"].astype(np.float32)


_LEAST, _MOST = 2.0**-24, 65504.0  # positive float16


def _fit_runs(statistic: Tensor, bits: int, rows: int, *, least: float) -> tuple[Tensor, Tensor]:
    """Codes uint8 (out, groups) of a statistic (out, groups), and their range float16 (runs, groups, 2).

    Low and step rather than SpQR's scale and zero: equal values are exact, and nothing is divided by 0.
    """
    out, top = len(statistic), (1 << bits) - 1
    runs = groups.count(out, rows)
    last = torch.arange(runs * rows).clamp(max=out - 1)  # repeated, it changes no extent
    grouped = statistic[last].reshape(runs, rows, -1)
    low = grouped.amin(1).half().clamp(min=least)
    step = ((grouped.amax(1) - low.float()).clamp(min=0) / top).half()
    divisor = step.float().clamp(min=torch.finfo(torch.float32).tiny)
    codes = ((grouped - low.float()[:, None]) / divisor[:, None]).round_().clamp_(0, top)
    codes = torch.where(step[:, None] > 0, codes, 0).to(torch.uint8)
    return codes.reshape(runs * rows, -1)[:out].contiguous(), torch.stack([low, step], dim=2)


def _every(bits: int, codes: Tensor) -> Tensor:
    """Each code there is, in the place of each of `codes`: (codes there are, out, groups)."""
    return torch.arange(1 << bits, dtype=torch.uint8)[:, None, None].expand(-1, *codes.shape)


def _read_runs(codes: Tensor, ranges: Tensor, rows: int) -> Tensor:
    """The statistic, float32, that codes (..., out, groups) mean."""
    low, step = ranges.float().repeat_interleave(rows, 0)[: codes.shape[-2]].unbind(2)
    return low + step * codes
