"""SparseRows: equally many elements of each row, and of each block of it; the rest is zero."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import numpy as np

from intaglio.formats.arrays import Stored
from intaglio.formats.bits import from_stream, stream_bytes, to_stream
from intaglio.types import Array, State

Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]


class SparseRows(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="sparse_rows"
):
    """w[n, column[n, j]] = value[n, j], `nonzeros` columns in every `block` of a row; else 0.

    `block` None: a row is one. The columns take a bit each, or a number each within their block, whichever is
    shorter for the shape:
    mask uint8 (out, ceil(in/8)) | index uint8 (out, ceil(count*ceil(log2 block)/8)), in rising order
    value float16 (out, count), or as bit streams uint8 if `bits` is 14: float16 without its two last bits
    """

    nonzeros: Count
    block: Count | None = None
    bits: Literal[14, 16] = 16

    MOST_COLUMNS = 1 << 16

    def sizes(self, cols: int) -> tuple[int, int, int]:
        """Of a row: blocks, columns of a block, nonzeros of a block."""
        width = min(self.block or cols, cols)
        return -(-cols // width), width, min(self.nonzeros, width)

    def support_bits(self, cols: int) -> tuple[int, int]:
        """Bits that the columns of a row take as a mask, and as numbers."""
        blocks, width, nonzeros = self.sizes(cols)
        return cols, blocks * nonzeros * _index_bits(width)

    def arrays(self, shape: tuple[int, int]) -> dict[str, Stored]:
        """Type and shape of everything stored for a matrix of this shape."""
        rows, cols = shape
        blocks, _, nonzeros = self.sizes(cols)
        mask, index = self.support_bits(cols)
        byte, count = np.dtype(np.uint8), blocks * nonzeros
        support = Stored(byte, (rows, stream_bytes(1, min(mask, index))))
        values = Stored(np.dtype(np.float16), (rows, count))
        short = Stored(byte, (rows, stream_bytes(count, 14)))
        return {"mask" if mask <= index else "index": support, "value": values if self.bits == 16 else short}

    def faults(self, state: State, shape: tuple[int, int]) -> str | None:
        """What is wrong with the values of arrays whose types and shapes are right, or None."""
        blocks, width, nonzeros = self.sizes(shape[1])
        if shape[1] > self.MOST_COLUMNS:
            return f"columns are numbered in 16 bits, got {shape[1]} of them"
        if shape[1] % width:
            return f"{shape[1]} columns are no whole number of blocks of {width}"
        if "mask" in state:
            return _mask_faults(state["mask"], shape[1], blocks, nonzeros) or self._value_faults(state, shape)
        index = from_stream(state["index"], _index_bits(width), blocks * nonzeros).reshape(-1, nonzeros)
        if int(index.max()) >= width:
            return f"column {int(index.max())} of a block of {width}"
        if (np.diff(index.astype(np.int32), axis=1) <= 0).any():
            return "columns of a block do not rise"
        return self._value_faults(state, shape)

    def _value_faults(self, state: State, shape: tuple[int, int]) -> str | None:
        return None if np.isfinite(self._value(state, shape[1])).all() else "values are not finite"

    def parts(self, state: State, shape: tuple[int, int]) -> tuple[Array, Array]:
        """Columns uint16 (out, count), rising in a row, and their values float16 (out, count)."""
        blocks, width, nonzeros = self.sizes(shape[1])
        if "mask" in state:
            bits = np.unpackbits(state["mask"], axis=1, bitorder="little", count=shape[1])
            columns: Array = np.nonzero(bits)[1].astype(np.uint16).reshape(shape[0], blocks * nonzeros)
        else:
            within = from_stream(state["index"], _index_bits(width), blocks * nonzeros)
            columns = within + np.repeat(np.arange(blocks) * width, nonzeros).astype(np.uint16)
        return columns, self._value(state, shape[1])

    def values(self, state: State, shape: tuple[int, int]) -> Array:
        """float32 (out, in)."""
        w = np.zeros(shape, np.float32)
        columns, values = self.parts(state, shape)
        np.put_along_axis(w, columns.astype(np.int64), values.astype(np.float32), axis=1)
        return w

    def store(self, columns: Array, values: Array, cols: int) -> State:
        """What is stored of columns (out, count), rising in a row, and their values (out, count) float."""
        blocks, width, _ = self.sizes(cols)
        half = _half(values)
        value = half if self.bits == 16 else to_stream(_shortened(half), 14)
        mask, index = self.support_bits(cols)
        if mask <= index:
            bits = np.zeros((len(columns), blocks * width), np.uint8)
            np.put_along_axis(bits, columns.astype(np.int64), 1, axis=1)
            return {"mask": np.packbits(bits, axis=1, bitorder="little"), "value": value}
        within = columns.astype(np.int64) % width
        return {"index": to_stream(within.astype(np.uint16), _index_bits(width)), "value": value}

    def _value(self, state: State, cols: int) -> Array:
        if self.bits == 16:
            return state["value"]
        blocks, _, nonzeros = self.sizes(cols)
        whole: Array = from_stream(state["value"], 14, blocks * nonzeros) << np.uint16(2)
        return whole.view(np.float16)


def _index_bits(width: int) -> int:
    return max(1, (width - 1).bit_length())


def _half(values: Array) -> Array:
    """float16, what is too large as the largest of 14 bits."""
    most = np.float32(65408)
    return np.clip(values, -most, most).astype(np.float16)


def _shortened(half: Array) -> Array:
    """The 14 first bits of float16, rounded to nearest even: sign and magnitude, so integers round it."""
    whole = half.view(np.uint16)
    magnitude = (whole & 0x7FFF).astype(np.uint32)
    kept = np.minimum((magnitude + 1 + (magnitude >> 2 & 1)) >> 2, 0x7BFC >> 2).astype(np.uint16)
    short: Array = whole >> np.uint16(2) & np.uint16(0x2000) | kept
    return short


def _mask_faults(mask: Array, cols: int, blocks: int, nonzeros: int) -> str | None:
    bits = np.unpackbits(mask, axis=1, bitorder="little")
    if bits[:, cols:].any():
        return "bits are set beyond the last column"
    counts = bits[:, :cols].reshape(len(mask), blocks, -1).sum(-1, dtype=np.int64)
    if (counts != nonzeros).any():
        wrong = int(counts[counts != nonzeros][0])
        return f"a block of a row has {wrong} columns, expected {nonzeros}"
    return None
