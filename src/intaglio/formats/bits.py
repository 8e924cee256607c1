"""Rows of whole numbers of up to 16 bits as dense little-endian bit streams; numpy only.

`pack.py` does the same for codes of a byte or less, faster.
"""

from __future__ import annotations

import numpy as np

from intaglio.types import Array

_BLOCK = 1 << 18  # numbers


def stream_bytes(count: int, bits: int) -> int:
    """Bytes of a row of `count` numbers."""
    return (count * bits + 7) // 8


def to_stream(numbers: Array, bits: int) -> Array:
    """uint16 (rows, count) of numbers below 2^bits -> uint8 (rows, ceil(count*bits/8))."""
    rows, count = numbers.shape
    assert numbers.dtype == np.uint16
    out = np.empty((rows, stream_bytes(count, bits)), np.uint8)
    for here in _slices(rows, count):
        part = np.ascontiguousarray(numbers[here], "<u2").view(np.uint8)
        each = np.unpackbits(part, axis=1, bitorder="little").reshape(len(part), count, 16)
        kept = each[:, :, :bits].reshape(len(part), count * bits)
        out[here] = np.packbits(kept, axis=1, bitorder="little")
    return out


def from_stream(stream: Array, bits: int, count: int) -> Array:
    """uint8 (rows, ceil(count*bits/8)) -> uint16 (rows, count)."""
    rows = len(stream)
    assert stream.shape[1] == stream_bytes(count, bits)
    out = np.empty((rows, count), "<u2")
    for here in _slices(rows, count):
        each = np.unpackbits(stream[here], axis=1, bitorder="little")[:, : count * bits]
        wide = np.zeros((len(each), count, 16), np.uint8)
        wide[:, :, :bits] = each.reshape(len(each), count, bits)
        out[here] = np.packbits(wide.reshape(len(each), count * 16), axis=1, bitorder="little").view("<u2")
    return out


def _slices(rows: int, count: int) -> list[slice]:
    """Rows handled at once: a byte for each of their bits stays small."""
    step = max(1, _BLOCK // max(1, count))
    return [slice(begin, begin + step) for begin in range(0, rows, step)]
