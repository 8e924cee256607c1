"""NM: in every block of m columns at most n elements that are not zero (N:M structured sparsity)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import numpy as np

from intaglio.errors import IntaglioError
from intaglio.formats.arrays import Stored
from intaglio.formats.pack import pack, packed_width, unpack
from intaglio.types import Array, State


class NM(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="nm"):
    """Of columns [b*m, (b+1)*m) n are kept, in rising order; a last, short block is filled up with zeros.

    place packed: a mask of m bits a block, or n numbers of log2(m) bits, whichever is less
    value float16 (out, blocks*n), or int8 with scale float32 (out, 1)
    bits/weight = (min(m, n log2 m) + 16 n) / m: 2:4 has 9, 4:8 9, 1:8 2.375; with int8 5, 5, 1.375 + 32 / in
    """

    n: Annotated[int, msgspec.Meta(ge=1, le=16)] = 2
    m: Literal[4, 8, 16] = 4  # divides the 64 columns to which kernels see the input padded
    value: Literal["float16", "int8"] = "float16"

    def __post_init__(self) -> None:
        if self.n > self.m:
            raise ValueError(f"a block of m = {self.m} columns has no n = {self.n} to keep")

    @property
    def number_bits(self) -> int:
        """Of a place within a block."""
        return self.m.bit_length() - 1

    @property
    def masked(self) -> bool:
        """Whether places are a mask, not numbers."""
        return self.m <= self.n * self.number_bits

    def blocks(self, cols: int) -> int:
        """Of a row, the last of which may be short."""
        return -(-cols // self.m)

    def arrays(self, shape: tuple[int, int]) -> dict[str, Stored]:
        """Type and shape of everything stored for a matrix of this shape."""
        rows, blocks = shape[0], self.blocks(shape[1])
        places = (blocks * self.m, 1) if self.masked else (blocks * self.n, self.number_bits)
        stored = {
            "place": Stored(np.dtype(np.uint8), (rows, packed_width(*places))),
            "value": Stored(np.dtype(self.value), (rows, self._kept(shape))),
        }
        return stored | ({"scale": Stored(np.dtype(np.float32), (rows, 1))} if self.value == "int8" else {})

    def faults(self, state: State, shape: tuple[int, int]) -> str | None:
        """What is wrong with the values of arrays whose types and shapes are right, or None."""
        if self.masked:
            counts = self._mask(state, shape).sum(2)
            if (counts != self.n).any():
                return f"a block keeps {int(counts[counts != self.n][0])} of {self.m}, not {self.n}"
        elif (np.diff(self.places(state, shape).astype(np.int8), axis=2) <= 0).any():
            return "places in a block do not rise"
        if not np.isfinite(state["value"]).all():
            return "values are not finite"
        used = shape[1] - (self.blocks(shape[1]) - 1) * self.m  # columns of the last block
        if state["value"][:, -self.n :][self.places(state, shape)[:, -1] >= used].any():
            return f"a value stands behind the last of {shape[1]} columns"
        if self.value == "int8" and not (np.isfinite(state["scale"]).all() and (state["scale"] >= 0).all()):
            return "scale has negative or non-finite values"
        return None

    def places(self, state: State, shape: tuple[int, int]) -> Array:
        """Where in its block each kept element stands: uint8 (out, blocks, n)."""
        rows, blocks = shape[0], self.blocks(shape[1])
        if self.masked:
            return np.nonzero(self._mask(state, shape))[2].astype(np.uint8).reshape(rows, blocks, self.n)
        numbers: Array = unpack(state["place"], self.number_bits, self._kept(shape))
        return numbers.reshape(rows, blocks, self.n)

    def values(self, state: State, shape: tuple[int, int]) -> Array:
        """float32 (out, in)."""
        rows, blocks = shape[0], self.blocks(shape[1])
        kept: Array = state["value"].astype(np.float32).reshape(rows, blocks, self.n)
        if self.value == "int8":
            kept = kept * state["scale"][:, :, None]
        w = np.zeros((rows, blocks, self.m), np.float32)
        np.put_along_axis(w, self.places(state, shape).astype(np.int64), kept, axis=2)
        return np.ascontiguousarray(w.reshape(rows, -1)[:, : shape[1]])

    def store(self, w: Array) -> State:
        """What is stored of w (out, in) float, no block of which has more than n that are not zero."""
        rows, cols = w.shape
        blocks = self.blocks(cols)
        padded = np.pad(w, ((0, 0), (0, blocks * self.m - cols))).reshape(rows, blocks, self.m)
        full = padded != 0
        missing = self.n - full.sum(2, keepdims=True)
        assert (missing >= 0).all(), "a block has too many"
        kept = full | (np.cumsum(~full, axis=2, dtype=np.int8) <= missing)  # the first zeros fill up
        return {"place": self._pack(kept), **self._round(padded[kept].reshape(rows, -1))}

    def _kept(self, shape: tuple[int, int]) -> int:
        return self.blocks(shape[1]) * self.n

    def _mask(self, state: State, shape: tuple[int, int]) -> Array:
        """uint8 0 or 1 (out, blocks, m)."""
        bits: Array = unpack(state["place"], 1, self.blocks(shape[1]) * self.m)
        return bits.reshape(shape[0], -1, self.m)

    def _pack(self, kept: Array) -> Array:
        rows = len(kept)
        if self.masked:
            return pack(kept.reshape(rows, -1).view(np.uint8), 1)
        return pack(np.nonzero(kept)[2].astype(np.uint8).reshape(rows, -1), self.number_bits)

    def _round(self, kept: Array) -> State:
        most = np.abs(kept).max(1, keepdims=True, initial=0)
        if self.value == "int8":
            scale = np.maximum(most / 127, np.finfo(np.float32).tiny).astype(np.float32)
            return {"value": np.rint(kept / scale).clip(-127, 127).astype(np.int8), "scale": scale}
        if (largest := float(most.max())) > float(np.finfo(np.float16).max):
            raise IntaglioError(f"a weight of {largest:.3g} does not fit float16: value int8 holds it")
        return {"value": kept.astype(np.float16)}
