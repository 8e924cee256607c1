"""Digits -1, 0, 1, five to a byte: 3^5 = 243 patterns. numpy only.

Byte j of a row is the sum over i < 5 of (digit[5j + i] + 1) * 3^i; past the end of a row the digit is 0.
"""

from __future__ import annotations

import numpy as np

from intaglio.types import Array

PER_BYTE = 5
PATTERNS: int = 3**PER_BYTE
_POWERS = 3 ** np.arange(PER_BYTE)
# (256, 5) int8: the digits of each byte; those no five digits make are refused before they are looked up
_DIGITS = (np.arange(256)[:, None] // _POWERS % 3 - 1).astype(np.int8)


def packed_width(cols: int) -> int:
    """Bytes of one packed row."""
    return -(-cols // PER_BYTE)


def pack(digits: Array) -> Array:
    """int8 (..., cols) of -1, 0, 1 -> uint8 (..., ceil(cols / 5))."""
    assert digits.dtype == np.int8
    assert digits.size == 0 or int(np.abs(digits).max()) <= 1
    cols = digits.shape[-1]
    whole = np.zeros((*digits.shape[:-1], packed_width(cols) * PER_BYTE), np.int8)
    whole[..., :cols] = digits
    fives = whole.reshape(*digits.shape[:-1], -1, PER_BYTE)
    return ((fives + 1) @ _POWERS.astype(np.uint8)).astype(np.uint8)


def unpack(packed: Array, cols: int) -> Array:
    """uint8 (..., ceil(cols / 5)) of bytes below 243 -> int8 (..., cols)."""
    assert packed.dtype == np.uint8
    assert packed.shape[-1] == packed_width(cols)
    return np.ascontiguousarray(_DIGITS[packed].reshape(*packed.shape[:-1], -1)[..., :cols])
