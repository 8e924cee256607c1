"""Pieces: the arrays of a structure in the order and the width in which the native core takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from intaglio.formats import (
    NM,
    Bilevel,
    BlockDiagonal,
    Bsr,
    Csr,
    Integer,
    Layout,
    Lookup,
    Mixed,
    SparseRows,
    Trits,
)
from intaglio.formats.pack import pack
from intaglio.types import Array, State

RUN = 16  # outputs that share a range, in native/isa/bilevel.h
GROUPS_BITS = 4, 6, 8  # of codes in native/isa/groups.h, in this order in a row


class Pieces(NamedTuple):
    """Flat arrays, and what else the kind has to be told, or 0."""

    arrays: list[Array]
    group: int = 0


def pieces(layout: Layout, state: State, shape: tuple[int, int]) -> Pieces:
    """Of one matrix."""
    match layout:
        case Bilevel():
            return _bilevel(layout, state, shape)
        case Bsr():
            return _bsr(layout, state, shape)
        case Integer() | Mixed():
            return _groups(layout, state, shape)
        case SparseRows():
            columns, values = layout.parts(state, shape)
            return Pieces([columns.ravel(), values.ravel()], columns.shape[1])
        case BlockDiagonal():
            return Pieces([state["value"].ravel()], min(layout.width, shape[1]))
        case Lookup():
            return Pieces([array.ravel() for array in state.values()], layout.bits)
        case Trits():
            return Pieces([array.ravel() for array in state.values()], layout.group_size)
        case NM():
            arrays = {**state, "place": layout.places(state, shape)}
            return Pieces([array.ravel() for array in arrays.values()], layout.n << 8 | layout.m)
        case _:
            return Pieces([np.ascontiguousarray(array).ravel() for array in state.values()])


def stacked(layout: Layout, each: Sequence[Pieces]) -> Pieces:
    """Of matrices of one layout and as many columns, one below the other."""
    first, arrays = each[0], list(zip(*(one.arrays for one in each), strict=True))
    if len(each) == 1:
        return first
    match layout:
        case Csr() | Bsr():
            offsets, *rest = arrays
            return Pieces([_joined(offsets), *map(np.concatenate, rest)], first.group)
        case Trits(planes=planes):
            rows = [np.hstack([array.reshape(planes, -1) for array in same]) for same in arrays]
            return Pieces([array.ravel() for array in rows], first.group)
        case _:
            return Pieces([np.concatenate(same) for same in arrays], first.group)


def _joined(offsets: Sequence[Array]) -> Array:
    """Each goes on where the one before ends."""
    counts = np.concatenate([np.diff(one.astype(np.int64)) for one in offsets])
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)


def _bilevel(layout: Bilevel, state: State, shape: tuple[int, int]) -> Pieces:
    """A byte for each code, a scale's and a zero's in its two nibbles; low and step of both together."""
    codes, scale, zero = layout.codes(state, shape)
    ranges = np.concatenate([state["scale_range"], state["zero_range"]], axis=2)
    return Pieces(
        [codes.ravel(), (scale | zero << 4).ravel(), ranges.ravel()], min(layout.group_size, shape[1])
    )


def _groups(layout: Integer | Mixed, state: State, shape: tuple[int, int]) -> Pieces:
    """Codes of 4 bits, of 6, of 8, and a scale for each group of every row."""
    scale, names = state["scale"], {"codes": layout.bits}
    if isinstance(layout, Mixed):
        scale, names["kept"] = np.repeat(scale, layout.rows, 0)[: shape[0]], layout.kept_bits
    codes = [
        _beside([state[name] for name, bits in names.items() if bits == width and name in state])
        for width in GROUPS_BITS
    ]
    return Pieces([*codes, scale.ravel()], min(layout.group_size or shape[1], shape[1]))


def _beside(codes: list[Array]) -> Array:
    """Packed rows, one behind the other in each row; flat."""
    if len(codes) > 1:
        return np.hstack(codes).ravel()
    return codes[0].ravel() if codes else np.empty(0, np.uint8)


def _bsr(layout: Bsr, state: State, shape: tuple[int, int]) -> Pieces:
    """Where each row's blocks begin, their places, and what they hold: nibbles, scales, zeros; or values."""
    kept = layout.kept(state, shape)
    offset: Array = np.concatenate([[0], np.cumsum(kept.sum(1))]).astype(np.uint32)
    where: list[Array] = [offset, np.nonzero(kept)[1].astype(np.uint16)]
    if layout.bits == 16:
        return Pieces([*where, state["value"].ravel()], layout.group_size)
    codes, scale, zero = layout.codes(state)
    return Pieces([*where, pack(codes, 4).ravel(), scale, zero], layout.group_size)
