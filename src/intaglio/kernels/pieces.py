"""Pieces: the arrays of a structure in the order and the width in which the native core takes them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from intaglio.formats import Bilevel, Layout
from intaglio.types import Array, State

RUN = 16  # outputs that share a range, in native/isa/bilevel.h


class Pieces(NamedTuple):
    """Flat arrays, and what else the kind has to be told, or 0."""

    arrays: list[Array]
    group: int = 0


def pieces(layout: Layout, state: State, shape: tuple[int, int]) -> Pieces:
    """Of one matrix."""
    if isinstance(layout, Bilevel):
        return _bilevel(layout, state, shape)
    return Pieces([np.ascontiguousarray(array) for array in state.values()])


def _bilevel(layout: Bilevel, state: State, shape: tuple[int, int]) -> Pieces:
    """A byte for each code, a scale's and a zero's in its two nibbles; low and step of both together."""
    codes, scale, zero = layout.codes(state, shape)
    ranges = np.concatenate([state["scale_range"], state["zero_range"]], axis=2)
    return Pieces(
        [codes.ravel(), (scale | zero << 4).ravel(), ranges.ravel()], min(layout.group_size, shape[1])
    )
