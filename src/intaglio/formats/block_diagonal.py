"""BlockDiagonal: each block of rows reads its own block of columns."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from intaglio.formats.arrays import Stored
from intaglio.types import Array, State


class BlockDiagonal(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="block_diagonal"
):
    """w[b*r + i, c] = value[i, c] for c in the b-th `width` columns, of which the last may be fewer; else 0.

    value float16 (r, in): the blocks side by side. out = r * blocks
    """

    width: Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]

    def blocks(self, cols: int) -> int:
        """How many there are."""
        return -(-cols // self.width)

    def arrays(self, shape: tuple[int, int]) -> dict[str, Stored]:
        """Type and shape of everything stored for a matrix of this shape."""
        return {"value": Stored(np.dtype(np.float16), (-(-shape[0] // self.blocks(shape[1])), shape[1]))}

    def faults(self, state: State, shape: tuple[int, int]) -> str | None:
        """What is wrong with the values of arrays whose types and shapes are right, or None."""
        blocks = self.blocks(shape[1])
        if shape[0] % blocks:
            return f"{shape[0]} rows do not divide among {blocks} blocks"
        return None if np.isfinite(state["value"]).all() else "values are not finite"

    def values(self, state: State, shape: tuple[int, int]) -> Array:
        """float32 (out, in)."""
        w = np.zeros(shape, np.float32)
        rows = len(state["value"])
        for block in range(self.blocks(shape[1])):
            here = slice(block * self.width, (block + 1) * self.width)
            w[block * rows : (block + 1) * rows, here] = state["value"][:, here]
        return w
