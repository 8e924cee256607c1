"""Affine: a coded matrix as one evenly spaced grid, the only form that other programs share with ours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from intaglio.formats import Integer, TwoLevel
from intaglio.formats.pack import unpack
from intaglio.kernels import cpu
from intaglio.terms import Coded, Dense
from intaglio.types import Array


class Grid(NamedTuple):
    """(codes - zero) * scale, a scale and a zero for each `group` columns; `symmetric`: zero is 2^(bits-1).

    `whole`: its zeros are codes, not numbers between them.
    """

    bits: int
    group: int
    symmetric: bool
    whole: bool = True


class Affine(NamedTuple):
    """Its numbers: codes uint8 (out, in), scale and zero float32 (out, groups)."""

    grid: Grid
    codes: Array
    scale: Array
    zero: Array

    def rows(self, order: Array) -> Affine:
        """Its rows in another order."""
        return self._replace(codes=self.codes[order], scale=self.scale[order], zero=self.zero[order])


def grid_of(coded: Coded) -> Grid | None:
    """The grid that is the whole matrix; None of sums, other structures, plain numbers, inputs reordered."""
    if len(coded.terms) != 1 or coded.order is not None or not isinstance(coded.terms[0], Dense):
        return None
    cols = coded.shape[1]
    match coded.terms[0].format:
        case TwoLevel(bits=bits, group_size=size):
            return Grid(bits, min(size, cols), symmetric=False)
        case Integer(bits=bits, group_size=size, symmetric=symmetric, zero=zero):
            return Grid(bits, min(size or cols, cols), symmetric, whole=zero == "uint8")
    return None


def affine(coded: Coded) -> Affine:
    """A matrix that has a grid, as that."""
    grid = grid_of(coded)
    assert grid is not None, "no grid"
    state = coded.term_state(0)
    scale, zero = state["scale"].astype(np.float32), state.get("zero", state.get("group_zero"))
    if "group_scale" in state:
        scale = scale * state["group_scale"]
    zeros = np.full_like(scale, 1 << (grid.bits - 1)) if zero is None else zero.astype(np.float32)
    return Affine(grid, unpack(state["codes"], grid.bits, coded.shape[1]), scale, zeros)


def values(coded: Coded) -> Array:
    """Any matrix as plain numbers, float32 (out, in); only sums and structures need torch for it."""
    if coded.is_plain and len(coded.terms) == 1:
        return coded.state["0.value"].astype(np.float32)
    if grid_of(coded):
        (factor,) = coded.terms[0].factors(coded.shape)
        return cpu.decode(cpu.Operand(coded.shape, factor.layout, coded.term_state(0), None))
    from intaglio.terms import decode

    return np.asarray(decode(coded).numpy())
