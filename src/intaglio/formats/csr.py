"""Csr: the few elements of each row that are not zero, with their columns."""

from __future__ import annotations

import msgspec
import numpy as np

from intaglio.formats.arrays import Stored
from intaglio.types import Array, State


class Csr(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="csr"):
    """w[n, index[j]] = value[j] for j in [offset[n], offset[n+1]), columns of a row in rising order; else 0.

    offset uint32 (out+1,) | index uint16 (nonzeros,) | value float16 (nonzeros,)
    32 bits a nonzero, and 32 a row
    """

    MOST_COLUMNS = 1 << 16

    def arrays(self, shape: tuple[int, int]) -> dict[str, Stored]:
        """Type and shape of everything stored for a matrix of this shape; None: as many as there are."""
        return {
            "offset": Stored(np.dtype(np.uint32), (shape[0] + 1,)),
            "index": Stored(np.dtype(np.uint16), (None,)),
            "value": Stored(np.dtype(np.float16), (None,)),
        }

    def faults(self, state: State, shape: tuple[int, int]) -> str | None:
        """What is wrong with the values of arrays whose types and shapes are right, or None."""
        offset, index, value = (state[name] for name in ("offset", "index", "value"))
        if shape[1] > self.MOST_COLUMNS:
            return f"columns are numbered in 16 bits, got {shape[1]} of them"
        if len(index) != len(value):
            return f"{len(index)} columns for {len(value)} values"
        if offset[0] != 0 or offset[-1] != len(index) or (np.diff(offset.astype(np.int64)) < 0).any():
            return f"offsets do not rise from 0 to {len(index)}"
        if len(index) and int(index.max()) >= shape[1]:
            return f"column {int(index.max())} of {shape[1]}"
        first = np.zeros(len(index), bool)
        first[offset[:-1][offset[:-1] < len(index)]] = True
        if len(index) and not (first[1:] | (np.diff(index.astype(np.int64)) > 0)).all():
            return "columns of a row do not rise"
        return None if np.isfinite(value).all() else "values are not finite"

    def values(self, state: State, shape: tuple[int, int]) -> Array:
        """float32 (out, in)."""
        w = np.zeros(shape, np.float32)
        offset: Array = state["offset"].astype(np.int64)
        rows = np.repeat(np.arange(shape[0]), offset[1:] - offset[:-1])
        w[rows, state["index"]] = state["value"]
        return w

    def store(self, w: Array) -> State:
        """What is stored of w (out, in) float: its elements that are not zero."""
        rows, columns = np.nonzero(w)
        counts = np.bincount(rows, minlength=len(w))
        return {
            "offset": np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32),
            "index": columns.astype(np.uint16),
            "value": w[rows, columns].astype(np.float16),
        }
