"""Bitmask: elements that are not zero, anywhere in a matrix, and a bit that says where."""

from __future__ import annotations

import msgspec
import numpy as np

from intaglio.formats.arrays import Stored
from intaglio.formats.pack import pack, packed_width, unpack
from intaglio.types import Array, State


class Bitmask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="bitmask"):
    """Rows one after another: `value` holds, in order, the elements whose bit of `mask` is set; others are 0.

    mask packed, a bit an element | value float16 (nonzeros,)
    1 bit an element, and 16 a nonzero: less than `Csr` where more than a sixteenth is not zero
    """

    def arrays(self, shape: tuple[int, int]) -> dict[str, Stored]:
        """Type and shape of everything stored for a matrix of this shape; None: as many as there are."""
        return {
            "mask": Stored(np.dtype(np.uint8), (shape[0], packed_width(shape[1], 1))),
            "value": Stored(np.dtype(np.float16), (None,)),
        }

    def faults(self, state: State, shape: tuple[int, int]) -> str | None:
        """What is wrong with the values of arrays whose types and shapes are right, or None."""
        mask, value = state["mask"], state["value"]
        if shape[1] % 8 and (mask[:, -1] >> shape[1] % 8).any():
            return f"the mask has a bit behind the last of {shape[1]} columns"
        if (count := int(unpack(mask, 1, shape[1]).sum(dtype=np.int64))) != len(value):
            return f"the mask has {count} bits for {len(value)} values"
        return None if np.isfinite(value).all() else "values are not finite"

    def values(self, state: State, shape: tuple[int, int]) -> Array:
        """float32 (out, in)."""
        w = np.zeros(shape, np.float32)
        w[unpack(state["mask"], 1, shape[1]).astype(bool)] = state["value"]
        return w

    def store(self, w: Array) -> State:
        """What is stored of w (out, in) float: its elements that are not zero."""
        kept = w != 0
        return {"mask": pack(kept.view(np.uint8), 1), "value": w[kept].astype(np.float16)}
