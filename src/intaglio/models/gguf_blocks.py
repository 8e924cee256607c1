"""The number types of GGUF: blocks of packed codes with their scales, decoded to float32 with numpy.

A decoder takes raw (rows, blocks * bytes) uint8 and gives (rows, blocks * elements). Inside, `b` is
(blocks, bytes); codes of a block lie in planes of 16 or 32: the low halves of all bytes, then the high.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from intaglio.types import Array

CHUNK = 1 << 16  # blocks decoded at once, so that the temporaries stay small


@dataclass(frozen=True)
class Kind:
    """One type: `elements` numbers in `bytes` bytes; `numbers`: their type, or decodes blocks (n, bytes)."""

    name: str
    elements: int
    bytes: int
    numbers: np.dtype[Any] | Callable[[Array], Array]

    def decode(self, raw: Array) -> Array:
        """uint8 (rows, width) -> (rows, columns): float32, or the plain type itself, viewing the file."""
        if isinstance(self.numbers, np.dtype):
            plain: Array = raw.view(self.numbers)
            return plain if plain.flags.aligned else plain.copy()
        flat = raw.reshape(-1, self.bytes)
        out = np.empty((len(flat), self.elements), np.float32)
        with np.errstate(all="ignore"):  # broken scales decode to NaN or infinity, which check_finite reports
            for i in range(0, len(flat), CHUNK):
                out[i : i + CHUNK] = self.numbers(flat[i : i + CHUNK])
        return out.reshape(len(raw), -1)


def _half(b: Array, at: int) -> NDArray[np.float32]:
    """The float16 at byte `at` of every block, as float32 (n, 1)."""
    return b[:, at : at + 2].copy().view(np.float16).astype(np.float32)


def _centred(codes: Array, middle: int) -> NDArray[np.float32]:
    """Unsigned codes as numbers around 0."""
    numbers: NDArray[np.float32] = codes.astype(np.float32) - np.float32(middle)
    return numbers


def _nibbles(b: Array) -> Array:
    """(n, k) -> (n, 2k): all low nibbles, then all high ones."""
    return np.concatenate([b & 15, b >> 4], axis=1)


def _bits(b: Array, at: int) -> Array:
    """32 bits from byte `at`, one a code: (n, 32) of 0, 1."""
    return np.unpackbits(b[:, at : at + 4], axis=1, bitorder="little")


def _planes(b: Array, width: int, bits: int) -> Array:
    """(n, k) -> (n, k/width, 8/bits, width): each run of `width` bytes holds planes of `bits` bits."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    return (b.reshape(len(b), -1, 1, width) >> shifts) & np.uint8((1 << bits) - 1)


def _q4_0(b: Array) -> Array:
    return _half(b, 0) * _centred(_nibbles(b[:, 2:]), 8)


def _q4_1(b: Array) -> Array:
    return _half(b, 0) * _nibbles(b[:, 4:]) + _half(b, 2)


def _q5_0(b: Array) -> Array:
    codes = _nibbles(b[:, 6:]) | (_bits(b, 2) << 4)
    return _half(b, 0) * _centred(codes, 16)


def _q5_1(b: Array) -> Array:
    codes = _nibbles(b[:, 8:]) | (_bits(b, 4) << 4)
    return _half(b, 0) * _centred(codes, 0) + _half(b, 2)


def q8_0_integers(raw: Array) -> dict[str, Array]:
    """Q8_0 rows uint8 (rows, blocks * 34) as the arrays of `Integer(8, symmetric, group_size=32)`."""
    b = raw.reshape(len(raw), -1, 34)
    codes = b[:, :, 2:] ^ np.uint8(0x80)  # int8 q to unsigned q + 128
    return {"codes": codes.reshape(len(raw), -1), "scale": b[:, :, :2].copy().view(np.float16)[:, :, 0]}


def _q8_0(b: Array) -> Array:
    return _half(b, 0) * _centred(b[:, 2:].view(np.int8), 0)


_IQ4_NL = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)


def _iq4_nl(b: Array) -> Array:
    return _half(b, 0) * _IQ4_NL[_nibbles(b[:, 2:])]


def _q2_k(b: Array) -> Array:
    """16 groups of 16: 4-bit scale and minimum each."""
    scale = _half(b, 80) * (b[:, :16] & 15)
    low = _half(b, 82) * (b[:, :16] >> 4)
    codes = _planes(b[:, 16:80], 32, 2).reshape(-1, 16, 16)
    return (scale[:, :, None] * codes - low[:, :, None]).reshape(-1, 256)


def _q3_k(b: Array) -> Array:
    """16 groups of 16: 6-bit scales; the third bit of all codes lies in the first 32 bytes."""
    packed, high = b[:, 96:104], b[:, 104:108]
    tops = [(high >> shift & 3) << 4 for shift in (0, 2, 4, 6)]
    scales = _nibbles(packed) | np.concatenate(tops, axis=1)
    scale = _half(b, 108) * _centred(scales, 32)
    third = _planes(b[:, :32], 32, 1).reshape(-1, 16, 16)
    codes = _planes(b[:, 32:96], 32, 2).reshape(-1, 16, 16) | (third << 2)
    return (scale[:, :, None] * _centred(codes, 4)).reshape(-1, 256)


def _scales_6bit(s: Array) -> tuple[Array, Array]:
    """12 bytes -> 8 scales and 8 minima of 6 bits; the upper four have their high bits in the lower's."""
    first, second, third = s[:, :4], s[:, 4:8], s[:, 8:]
    scales = [first & 63, (third & 15) | (first >> 6 << 4)]
    minima = [second & 63, (third >> 4) | (second >> 6 << 4)]
    return np.concatenate(scales, axis=1), np.concatenate(minima, axis=1)


def _k_affine(b: Array, codes: Array) -> Array:
    """8 groups of 32 codes (n, 8, 32), with the scales that Q4_K and Q5_K share."""
    scales, minima = _scales_6bit(b[:, 4:16])
    scale, low = _half(b, 0) * scales, _half(b, 2) * minima
    return (scale[:, :, None] * codes - low[:, :, None]).reshape(-1, 256)


def _q4_k(b: Array) -> Array:
    return _k_affine(b, _planes(b[:, 16:], 32, 4).reshape(-1, 8, 32))


def _q5_k(b: Array) -> Array:
    fifth = _planes(b[:, 16:48], 32, 1).reshape(-1, 8, 32)
    return _k_affine(b, _planes(b[:, 48:], 32, 4).reshape(-1, 8, 32) | (fifth << 4))


def _q6_k(b: Array) -> Array:
    """16 groups of 16 with int8 scales."""
    low = _planes(b[:, :128], 64, 4).reshape(-1, 16, 16)
    high = _planes(b[:, 128:192], 32, 2).reshape(-1, 16, 16)
    scale = _half(b, 208) * b[:, 192:208].view(np.int8)
    return (scale[:, :, None] * _centred(low | (high << 4), 32)).reshape(-1, 256)


KINDS = {
    0: Kind("F32", 1, 4, np.dtype(np.float32)),
    1: Kind("F16", 1, 2, np.dtype(np.float16)),
    2: Kind("Q4_0", 32, 18, _q4_0),
    3: Kind("Q4_1", 32, 20, _q4_1),
    6: Kind("Q5_0", 32, 22, _q5_0),
    7: Kind("Q5_1", 32, 24, _q5_1),
    8: Kind("Q8_0", 32, 34, _q8_0),
    10: Kind("Q2_K", 256, 84, _q2_k),
    11: Kind("Q3_K", 256, 110, _q3_k),
    12: Kind("Q4_K", 256, 144, _q4_k),
    13: Kind("Q5_K", 256, 176, _q5_k),
    14: Kind("Q6_K", 256, 210, _q6_k),
    20: Kind("IQ4_NL", 32, 18, _iq4_nl),
    30: Kind("BF16", 1, 2, np.dtype(ml_dtypes.bfloat16)),
}
# those that exist and are not decoded, for the message
OTHERS = {
    9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S",
    23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0",
    39: "MXFP4", 40: "NVFP4",
}  # fmt: skip


def type_name(number: int) -> str:
    """What a type that is not decoded is called."""
    return OTHERS.get(number, str(number))
