"""GGUF's blocks of 32 columns, made of codes as they are: what a matrix means there is what it means here.

Q4_0, Q5_0 and Q8_0 have a scale, Q4_1 and Q5_1 a scale and the value of code 0, both float16. A group of our
columns is several blocks with the same numbers.
"""

from __future__ import annotations

import numpy as np

from intaglio.errors import IntaglioError
from intaglio.export.affine import Affine, Grid
from intaglio.types import Array

BLOCK = 32


def kind_of(grid: Grid, cols: int) -> str | None:
    """The kind that holds a grid exactly, but for the rounding of scales to float16; or none does."""
    if cols % BLOCK or grid.group % BLOCK:
        return None
    if grid.symmetric and grid.bits in (4, 5):
        return f"Q{grid.bits}_0"
    if grid.bits <= 5:
        return "Q4_1" if grid.bits <= 4 else "Q5_1"
    return "Q8_0" if grid.whole and (grid.symmetric or grid.bits < 8) else None


def blocks(found: Affine, kind: str) -> Array:
    """uint8 (out, bytes), the rows of `kind`."""
    rows, cols = found.codes.shape
    of_block = np.arange(0, cols, BLOCK) // found.grid.group
    scale, zero = found.scale[:, of_block], found.zero[:, of_block]  # (out, blocks)
    codes = found.codes.reshape(rows, -1, BLOCK)
    parts = [_half(scale)]
    if kind.endswith("_1"):
        parts.append(_half(-scale * zero))
    if kind == "Q8_0":
        numbers = codes.astype(np.int16) - zero[:, :, None].astype(np.int16)
        parts.append(numbers.astype(np.int8).view(np.uint8))
    else:
        if kind.startswith("Q5"):
            parts.append(np.packbits(codes >> 4, axis=2, bitorder="little"))
        parts.append(codes[:, :, :16] & 15 | (codes[:, :, 16:] & 15) << 4)
    return np.concatenate(parts, axis=2).reshape(rows, -1)


def _half(values: Array) -> Array:
    """float32 (out, blocks) -> the bytes of float16, (out, blocks, 2)."""
    with np.errstate(over="ignore"):
        narrow = values.astype("<f2")
    if not np.isfinite(narrow).all():
        raise IntaglioError(f"a scale or minimum of {np.abs(values).max():.3g} does not fit float16")
    return np.ascontiguousarray(narrow)[:, :, None].view(np.uint8)
