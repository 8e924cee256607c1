"""Rows of whole numbers of up to 16 bits as dense little-endian bit streams; numpy only.

`pack.py` does the same for codes of a byte or less, faster.
"""

from __future__ import annotations

import numpy as np

from intaglio.types import Array


def stream_bytes(count: int, bits: int) -> int:
    """Bytes of a row of `count` numbers."""
    return (count * bits + 7) // 8


def to_stream(numbers: Array, bits: int) -> Array:
    """uint16 (rows, count) of numbers below 2^bits -> uint8 (rows, ceil(count*bits/8))."""
    rows, count = numbers.shape
    assert numbers.dtype == np.uint16
    each = np.unpackbits(np.ascontiguousarray(numbers, "<u2").view(np.uint8), axis=1, bitorder="little")
    kept = each.reshape(rows, count, 16)[:, :, :bits].reshape(rows, count * bits)
    return np.packbits(kept, axis=1, bitorder="little")


def from_stream(stream: Array, bits: int, count: int) -> Array:
    """uint8 (rows, ceil(count*bits/8)) -> uint16 (rows, count)."""
    rows = len(stream)
    assert stream.shape[1] == stream_bytes(count, bits)
    each = np.unpackbits(stream, axis=1, bitorder="little")[:, : count * bits]
    wide = np.zeros((rows, count, 16), np.uint8)
    wide[:, :, :bits] = each.reshape(rows, count, bits)
    return np.packbits(wide.reshape(rows, count * 16), axis=1, bitorder="little").view("<u2")
