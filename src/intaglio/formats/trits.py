"""Trits: a few planes of digits -1, 0, 1, with a scale per plane, row and group of columns."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from intaglio.formats import base3, groups
from intaglio.formats.arrays import Stored
from intaglio.formats.integer import GroupSize
from intaglio.types import Array, State

Planes = Annotated[int, msgspec.Meta(ge=1, le=3)]


class Trits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="trits"):
    """w[n, i] = sum over planes p of scale[p, n, g] * digit[p, n, i], digits in -1, 0, 1.

    digits uint8 (planes, out, ceil(in/5)), base 3 | scale float16 (planes, out, groups), not negative
    bits/weight = planes * (8/5 + 16 / group_size): 3.7 for two planes in groups of 64
    """

    planes: Planes = 2
    group_size: GroupSize = 64

    def arrays(self, shape: tuple[int, int]) -> dict[str, Stored]:
        """Type and shape of everything stored for a matrix of this shape."""
        rows, cols = shape
        tables = (self.planes, rows, groups.count(cols, self.group_size))
        return {
            "digits": Stored(np.dtype(np.uint8), (self.planes, rows, base3.packed_width(cols))),
            "scale": Stored(np.dtype(np.float16), tables),
        }

    def faults(self, state: State, shape: tuple[int, int]) -> str | None:
        """What is wrong with the values of arrays whose types and shapes are right, or None."""
        if int(state["digits"].max()) >= base3.PATTERNS:
            return f"digits has bytes above {base3.PATTERNS - 1}, which are no five digits"
        if not (np.isfinite(state["scale"]).all() and (state["scale"] >= 0).all()):
            return "scale has negative or non-finite values"
        return None

    def values(self, state: State, shape: tuple[int, int]) -> Array:
        """float32 (out, in)."""
        cols = shape[1]
        w = np.zeros(shape, np.float32)
        of = np.arange(cols) // self.group_size
        for digits, scale in zip(state["digits"], state["scale"], strict=True):
            w += base3.unpack(digits, cols) * scale.astype(np.float32)[:, of]
        return w

    def store(self, digits: Array, scale: Array) -> State:
        """What is stored of digits int8 (planes, out, in) and scales float16 (planes, out, groups)."""
        return {"digits": base3.pack(digits), "scale": scale}
