"""Codes of 1..8 bits as dense little-endian bit streams, one a row. numpy only.

Element i of a row occupies bits [i*bits, (i+1)*bits) of that row's ceil(cols*bits/8) bytes; the rest is 0.
Eight codes are one 64-bit word: three rounds of masks and shifts close (or open) the gaps between them, first
between neighbours, then between pairs, then between fours, so that no loop runs over single codes.
"""

from __future__ import annotations

import numpy as np

from intaglio.types import Array

_WORD = np.dtype("<u8")
_BLOCK = 1 << 18  # codes handled at once: the words stay in the cache between the rounds


def packed_width(cols: int, bits: int) -> int:
    """Bytes of one packed row."""
    return (cols * bits + 7) // 8


def pack(codes: Array, bits: int) -> Array:
    """uint8 (rows, cols) of codes below 2^bits -> uint8 (rows, ceil(cols*bits/8))."""
    rows, cols = codes.shape
    assert codes.dtype == np.uint8
    assert 1 <= bits <= 8
    assert codes.size == 0 or int(codes.max()) >> bits == 0, "a code does not fit its bits"
    out = np.empty((rows, packed_width(cols, bits)), np.uint8)
    step = _rows_at_once(cols)
    for begin in range(0, rows, step):
        out[begin : begin + step] = _pack_rows(codes[begin : begin + step], bits)
    return out


def unpack(packed: Array, bits: int, cols: int) -> Array:
    """uint8 (rows, ceil(cols*bits/8)) -> uint8 (rows, cols)."""
    rows, width = packed.shape
    assert packed.dtype == np.uint8
    assert 1 <= bits <= 8
    assert width == packed_width(cols, bits)
    out = np.empty((rows, cols), np.uint8)
    step = _rows_at_once(cols)
    for begin in range(0, rows, step):
        out[begin : begin + step] = _unpack_rows(packed[begin : begin + step], bits, cols)
    return out


def _rows_at_once(cols: int) -> int:
    return max(1, _BLOCK // max(1, cols))


def _pack_rows(codes: Array, bits: int) -> Array:
    if bits == 8:
        return codes
    rows, cols = codes.shape
    words = _padded(codes, -(-cols // 8) * 8).view(_WORD)  # (rows, words)
    for lane in (8, 16, 32):
        low, gap = _lanes(lane, bits)
        words = (words & low) | ((words >> gap) & (low << _word(lane // 8 * bits)))
    dense = words.view(np.uint8).reshape(rows, -1, 8)[:, :, :bits]
    return dense.reshape(rows, -1)[:, : packed_width(cols, bits)]


def _unpack_rows(packed: Array, bits: int, cols: int) -> Array:
    if bits == 8:
        return packed
    rows, count = len(packed), -(-cols // 8)
    spread = np.zeros((rows, count, 8), np.uint8)
    spread[:, :, :bits] = _padded(packed, count * bits).reshape(rows, count, bits)
    words = spread.reshape(rows, -1).view(_WORD)
    for lane in (32, 16, 8):
        low, gap = _lanes(lane, bits)
        words = (words & low) | ((words & (low << _word(lane // 8 * bits))) << gap)
    return words.view(np.uint8)[:, :cols]


def _lanes(lane: int, bits: int) -> tuple[np.uint64, np.uint64]:
    """Mask of the used bits in every even lane of `lane` bits; the gap from them to the next lane."""
    used = lane // 8 * bits
    mask = sum(((1 << used) - 1) << at for at in range(0, 64, 2 * lane))
    return _word(mask), _word(lane - used)


def _word(value: int) -> np.uint64:
    return np.uint64(value)


def _padded(rows: Array, width: int) -> Array:
    """Contiguous rows of `width` bytes, zeros at the end."""
    if rows.shape[1] == width:
        return np.ascontiguousarray(rows)
    out = np.zeros((len(rows), width), np.uint8)
    out[:, : rows.shape[1]] = rows
    return out
