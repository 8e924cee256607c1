"""Lookup: every element names an entry of its row's table, whose values may lie anywhere."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from intaglio.errors import IntaglioError
from intaglio.formats.arrays import Stored
from intaglio.formats.pack import pack, packed_width, unpack
from intaglio.types import Array, State


class Lookup(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="lookup"):
    """w[n, i] = table[n, code[n, i]], codes of `bits`.

    codes uint8 (out, ceil(in * bits / 8)), one dense bit stream a row | table float16 (out, 2^bits)
    bits/weight = bits + 16 * 2^bits / in: of a row of 576 inputs 3.22 at 3 bits, 4.44 at 4
    """

    bits: Annotated[int, msgspec.Meta(ge=2, le=4)] = 3

    @property
    def entries(self) -> int:
        """Of a row's table."""
        return 1 << self.bits

    def arrays(self, shape: tuple[int, int]) -> dict[str, Stored]:
        """Type and shape of everything stored for a matrix of this shape."""
        return {
            "codes": Stored(np.dtype(np.uint8), (shape[0], packed_width(shape[1], self.bits))),
            "table": Stored(np.dtype(np.float16), (shape[0], self.entries)),
        }

    def faults(self, state: State, shape: tuple[int, int]) -> str | None:
        """What is wrong with the values of arrays whose types and shapes are right, or None."""
        return None if np.isfinite(state["table"]).all() else "table is not finite"

    def values(self, state: State, shape: tuple[int, int]) -> Array:
        """float32 (out, in)."""
        codes = unpack(state["codes"], self.bits, shape[1]).astype(np.intp)
        return np.take_along_axis(state["table"].astype(np.float32), codes, axis=1)

    def store(self, codes: Array, table: Array) -> State:
        """What is stored of codes uint8 (out, in) and a table (out, 2^bits) that float16 holds exactly."""
        return {"codes": pack(codes, self.bits), "table": table.astype(np.float16)}

    @staticmethod
    def round(table: Array) -> Array:
        """The nearest tables that can be stored: what codes must be chosen for. float32 (out, 2^bits)."""
        with np.errstate(over="ignore"):
            rounded = table.astype(np.float16).astype(np.float32)
        if not np.isfinite(rounded).all():
            largest = float(np.abs(table).max())
            raise IntaglioError(
                f"a table entry of {largest:.3g} does not fit float16: scale the weights down"
            )
        return rounded
