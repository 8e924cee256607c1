"""Rows: the outputs of a matrix, some at a time, so that a vocabulary is not held in many copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from intaglio.types import Tensor

AT_ONCE = 1 << 24  # weights
SHARED = 16  # rows that may share statistics of their groups, as in formats.Bilevel


def parts(w: Tensor) -> list[slice]:
    """Of w (out, in): rows that share statistics stay together."""
    rows = max(1, AT_ONCE // (w.shape[1] * SHARED)) * SHARED
    return [slice(begin, begin + rows) for begin in range(0, len(w), rows)]
