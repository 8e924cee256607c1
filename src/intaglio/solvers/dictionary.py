"""Dictionaries and block bases of a matrix, learnt where the metric is plain distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from intaglio.formats.arrays import to_numpy
from intaglio.lazy import lazy
from intaglio.solvers.learning import Learning, learn
from intaglio.solvers.sequence import Found
from intaglio.solvers.whitening import root
from intaglio.terms import DenseSparse, Dictionary, Metric
from intaglio.types import Array

if TYPE_CHECKING:
    import torch

    from intaglio.types import Tensor
else:
    torch = lazy("torch", extra="compress")


def shared(w: Tensor, term: Dictionary, metric: Metric, how: Learning) -> Found:
    """W (out, in) by atoms for whole rows (CoSpaDi, 2509.22075)."""
    atoms, codes = term.factors((w.shape[0], w.shape[1]))
    count, nonzeros = term.sizes((w.shape[0], w.shape[1]))
    values, columns, coefficients, sweeps = _coded(w, metric, count, nonzeros, how)
    stored = term.codes((w.shape[0], w.shape[1])).store(columns, coefficients, count)
    state = {**atoms.rename({"value": values}), **codes.rename(stored)}
    return Found(state, {"atoms": count, "nonzeros": nonzeros, "sweeps": sweeps})


def blockwise(w: Tensor, term: DenseSparse, metric: Metric, how: Learning) -> Found:
    """W (out, in) by a basis for each block of columns, under the block's own part of the metric."""
    bases, codes = term.factors((w.shape[0], w.shape[1]))
    basis, nonzeros, per_bin = term.sizes((w.shape[0], w.shape[1]))
    found = []
    for block in range(codes.shape[1] // basis):
        here = slice(block * term.width, (block + 1) * term.width)
        part = metric.block(here.start, here.stop)
        values, columns, coefficients, _ = _coded(w[:, here], part, basis, nonzeros, how, per_bin)
        found.append((values, columns + np.uint16(block * basis), coefficients))
    values, columns, coefficients = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
    stored = term.codes((w.shape[0], w.shape[1])).store(columns, coefficients, codes.shape[1])
    return Found({**bases.rename({"value": values}), **codes.rename(stored)}, {"nonzeros": nonzeros})


def _coded(
    w: Tensor, metric: Metric, count: int, nonzeros: int, how: Learning, per_bin: int = 1
) -> tuple[Array, Array, Array, int]:
    """Atoms float16 (count, in), columns and coefficients (out, nonzeros), and the sweeps it took.

    Under H = C C^T the error of the outputs is the plain distance of W C, so atoms are learnt for its rows
    and multiplied by C^-1 in the end.
    """
    factor = root(metric, w.shape[1])
    learnt = learn((w.double() @ factor).float(), count, nonzeros, how, per_bin)
    atoms = to_numpy(torch.linalg.solve_triangular(factor, learnt.atoms.double(), upper=False, left=False))
    scale = _balance(np.abs(atoms).max(1), _largest(learnt.columns, learnt.values, count))
    coefficients = learnt.values / scale[learnt.columns]
    return (atoms * scale[:, None]).astype(np.float16), learnt.columns, coefficients, len(learnt.errors)


def _largest(columns: Array, values: Array, count: int) -> Array:
    """The largest coefficient of each atom."""
    most = np.zeros(count)
    np.maximum.at(most, columns.ravel(), np.abs(values).ravel())
    return most


def _balance(atoms: Array, coefficients: Array) -> Array:
    """What to multiply atoms by so that they are as large as their coefficients, and both fit float16."""
    used = (atoms > 0) & (coefficients > 0)
    ratio = np.divide(coefficients, atoms, out=np.ones_like(atoms), where=used)
    return np.where(used, np.sqrt(ratio), 1 / np.maximum(atoms, 1e-30))
