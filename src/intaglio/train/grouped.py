"""Grouped: a matrix of integer codes whose weights, scales and zero points gradients reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from intaglio.formats import Bsr, Integer, groups
from intaglio.formats.arrays import to_numpy, to_torch
from intaglio.lazy import lazy
from intaglio.terms import Coded, Dense, GroupSparse
from intaglio.types import State

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")

LEAST = 2.0**-24  # of a scale: what float16 can hold


@dataclass(frozen=True)
class Grouped:
    """w = scale * (code - zero) in each group, 0 where a group is not kept.

    codes uint8 (out, in); scale, zero float32 (out, groups); kept bool (out, groups), or None: all.
    """

    coded: Coded
    grid: Integer
    codes: Tensor
    scale: Tensor
    zero: Tensor
    kept: Tensor | None

    def latent(self, w: Tensor) -> Tensor:
        """Where training begins: w (out, in), but a code's own value where w would be rounded to another."""
        tables = {"scale": self._stored(self.scale), "zero": self.zero}
        return torch.where(self.grid.encode(w, tables) == self.codes, w, self.decode(self.scale))

    def decode(self, scale: Tensor) -> Tensor:
        """W (out, in) of the same codes, in other scales."""
        return self._joined((groups.split(self.codes.float(), self._size) - self.zero[..., None]), scale)

    def rounded(self, w: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        """w (out, in) rounded to the grid; backwards as if not rounded, but for what was cut off."""
        low, high, scale = int(self.grid.symmetric), self.grid.highest, scale.clamp(min=LEAST)
        zero = (self.zero if self.grid.symmetric else _straight(zero.clamp(0, high)))[..., None]
        codes = _straight(groups.split(w, self._size) / scale[..., None]) + zero
        return self._joined(codes.clamp(low, high) - zero, scale)

    def refitted(self, w: Tensor, scale: Tensor, zero: Tensor, notes: Mapping[str, float]) -> Coded:
        """The matrix with the nearest codes to w (out, in) on another grid."""
        tables = {"scale": self._stored(scale), "zero": zero.clamp(0, self.grid.highest).round().byte()}
        return self._store(self.grid.encode(w, tables), tables, notes)

    def rescaled(self, scale: Tensor, notes: Mapping[str, float]) -> Coded:
        """The matrix with its own codes in other scales."""
        return self._store(self.codes, {"scale": self._stored(scale), "zero": self.zero.byte()}, notes)

    @property
    def _size(self) -> int:
        return self.grid.group_size or self.codes.shape[1]

    def _stored(self, scale: Tensor) -> Tensor:
        dtype = torch.float32 if self.grid.group_size is None else torch.float16
        return scale.clamp(min=LEAST).to(dtype)

    def _joined(self, levels: Tensor, scale: Tensor) -> Tensor:
        """levels (out, groups, size) -> (out, in)"""
        if self.kept is not None:
            scale = scale * self.kept
        return (levels * scale[..., None]).flatten(1)[:, : self.codes.shape[1]]

    def _store(self, codes: Tensor, tables: dict[str, Tensor], notes: Mapping[str, float]) -> Coded:
        (term,) = self.coded.terms
        if self.kept is None:
            used = {"scale": tables["scale"]} if self.grid.symmetric else tables
            state = self.grid.pack(codes, used)
        else:
            assert isinstance(term, GroupSparse)
            arrays = (self.kept, codes, tables["scale"], tables["zero"])
            state = Bsr(term.bits, term.group_size).store(*map(to_numpy, arrays))
        named = {f"0.{name}": array for name, array in state.items()}
        return replace(self.coded, state=named, notes={**self.coded.notes, **notes})


def grouped(coded: Coded) -> Grouped | None:
    """The matrix as something to train, if its one term is integer codes in groups."""
    if len(coded.terms) != 1:
        return None
    term, state = coded.terms[0], coded.term_state(0)
    if isinstance(term, Dense) and isinstance(term.format, Integer):
        codes, tables = term.format.unpack(state, coded.shape)
        grid = term.format.grid(tables)
        return Grouped(coded, term.format, codes, grid.step, grid.zero, None)
    if isinstance(term, GroupSparse) and term.bits < 16:
        return _sparse(coded, term, state)
    return None


def _sparse(coded: Coded, term: GroupSparse, state: State) -> Grouped:
    layout = Bsr(term.bits, term.group_size)
    kept, (blocks, scales, zeros) = layout.kept(state, coded.shape), layout.codes(state)
    codes = np.zeros((*kept.shape, term.group_size), np.uint8)
    scale, zero = np.ones(kept.shape, np.float32), np.zeros(kept.shape, np.float32)
    codes[kept], scale[kept], zero[kept] = blocks, scales, zeros
    flat = np.ascontiguousarray(codes.reshape(len(kept), -1)[:, : coded.shape[1]])
    grid = Integer(term.bits, group_size=term.group_size)
    return Grouped(coded, grid, to_torch(flat), to_torch(scale), to_torch(zero), to_torch(kept))


def _straight(x: Tensor) -> Tensor:
    """Rounded; the gradient is that of x."""
    return x + (x.round() - x).detach()
