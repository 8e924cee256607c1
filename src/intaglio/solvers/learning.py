"""Atoms and sparse codes of a set of signals, learnt by turns: orthogonal matching pursuit and K-SVD."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from intaglio import _native
from intaglio.formats.arrays import to_numpy, to_torch
from intaglio.lazy import lazy
from intaglio.types import Array

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


class Learning(NamedTuple):
    """How long to learn, and how carefully: see `Ksvd`."""

    sweeps: int = 12
    picks: int = 8
    steps: int = 4
    tolerance: float = 1e-3
    seed: int = 42


class Learnt(NamedTuple):
    """signals (n, dim) ~ codes atoms: atoms (k, dim) of length 1; columns uint16, rising, and values (n, s).

    `errors`: the sum of squares that is left, after each sweep.
    """

    atoms: Tensor
    columns: Array
    values: Array
    errors: tuple[float, ...]


def learn(signals: Tensor, count: int, nonzeros: int, how: Learning, per_bin: int = 1) -> Learnt:
    """`count` atoms of which every signal uses `nonzeros`, for signals (n, dim) float32 and count <= n.

    Of `per_bin` atoms that follow one another a signal uses at most one; they divide `count`.
    """
    atoms = _start(signals, count, how.seed)
    pursued = partial(_pursued, signals, nonzeros=nonzeros, picks=how.picks, per_bin=per_bin)
    columns, values = pursued(atoms)
    errors: list[float] = []
    while True:
        left = signals - _dense(columns, values, count) @ atoms
        atoms = _with_used(atoms, left, columns)
        new = _native.update_atoms(to_numpy(atoms), to_numpy(left), columns, values, how.steps, _threads())
        atoms, values, left = to_torch(new[0]), new[1], to_torch(new[2])
        errors.append(float(left.double().square().sum()))
        if len(errors) >= how.sweeps or _settled(errors, how.tolerance):
            return Learnt(atoms, columns, values, tuple(errors))
        columns, values = _better(signals, atoms, pursued(atoms), (columns, values), left)


def _start(signals: Tensor, count: int, seed: int) -> Tensor:
    """Signals in random order, of length 1; a signal of zeros becomes a random direction."""
    gen = torch.Generator().manual_seed(seed)
    chosen = signals[torch.randperm(len(signals), generator=gen)[:count]]
    noise = torch.randn(chosen.shape, generator=gen)
    return _unit(torch.where(chosen.norm(dim=1, keepdim=True) > 0, chosen, noise))


def _unit(rows: Tensor) -> Tensor:
    unit: Tensor = rows / rows.norm(dim=1, keepdim=True)
    return unit


def _pursued(signals: Tensor, atoms: Tensor, nonzeros: int, picks: int, per_bin: int) -> tuple[Array, Array]:
    gram, correlations = to_numpy(atoms @ atoms.T), to_numpy(signals @ atoms.T)
    return _native.pursue(gram, correlations, nonzeros, picks, _threads(), per_bin)


def _dense(columns: Array, values: Array, count: int) -> Tensor:
    """Codes (n, count)."""
    codes = torch.zeros(len(columns), count)
    return codes.scatter_(1, torch.from_numpy(columns.astype(np.int64)), torch.from_numpy(values))


def _better(
    signals: Tensor, atoms: Tensor, new: tuple[Array, Array], old: tuple[Array, Array], left: Tensor
) -> tuple[Array, Array]:
    """New codes where they leave less than the old ones (which leave `left`), so that no sweep does harm."""
    leaves = signals - _dense(*new, len(atoms)) @ atoms
    gains = to_numpy(leaves.square().sum(1) < left.square().sum(1))[:, None]
    return np.where(gains, new[0], old[0]), np.where(gains, new[1], old[1])


def _with_used(atoms: Tensor, left: Tensor, columns: Array) -> Tensor:
    """Atoms no signal uses become what is left of the worst signals: changing them changes nothing yet."""
    unused = np.flatnonzero(np.bincount(columns.ravel(), minlength=len(atoms)) == 0)
    lengths = left.norm(dim=1)
    worst = torch.argsort(lengths, descending=True, stable=True)[: len(unused)]
    worst = worst[lengths[worst] > 0]
    changed = atoms.clone()
    changed[torch.from_numpy(unused[: len(worst)])] = _unit(left[worst])
    return changed


def _settled(errors: list[float], tolerance: float) -> bool:
    return len(errors) > 1 and errors[-2] - errors[-1] <= tolerance * errors[-2]


def _threads() -> int:
    return int(torch.get_num_threads())
