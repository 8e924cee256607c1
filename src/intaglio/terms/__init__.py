"""Additive coded parts of a matrix: W ~ sum of terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from intaglio.errors import IntaglioError
from intaglio.formats.arrays import to_torch
from intaglio.terms.codebook import Codebook
from intaglio.terms.coded import Coded
from intaglio.terms.dense import Dense
from intaglio.terms.dense_sparse import DenseSparse
from intaglio.terms.dictionary import Dictionary
from intaglio.terms.factor import Factor
from intaglio.terms.group_sparse import GroupSparse
from intaglio.terms.low_rank import LowRank
from intaglio.terms.metric import Metric
from intaglio.terms.nm import NM
from intaglio.terms.outliers import Outliers
from intaglio.terms.reading import Reading
from intaglio.terms.sparse import Sparse
from intaglio.terms.trit_planes import TritPlanes

if TYPE_CHECKING:
    from intaglio.types import Tensor

Term = (
    Dense | Outliers | Sparse | LowRank | Codebook | TritPlanes | GroupSparse | NM | Dictionary | DenseSparse
)

__all__ = [
    "NM",
    "Codebook",
    "Coded",
    "Dense",
    "DenseSparse",
    "Dictionary",
    "Factor",
    "GroupSparse",
    "LowRank",
    "Metric",
    "Outliers",
    "Reading",
    "Sparse",
    "Term",
    "TritPlanes",
    "decode",
    "nbits",
    "validate",
]


def decode(coded: Coded) -> Tensor:
    """What a coded matrix means: the sum of its terms, float32 (out, in), columns as its input has them."""
    first, *others = (term.decode(coded.term_state(i), coded.shape) for i, term in enumerate(coded.terms))
    w = sum(others, start=first)
    return w if coded.order is None else w[:, to_torch(coded.order).long().argsort()]


def nbits(coded: Coded) -> int:
    """All stored bits of a matrix; the bias counts too."""
    return 8 * coded.nbytes


def validate(coded: Coded, name: str = "matrix") -> None:
    """Refuses, naming the array, a matrix whose arrays are not what its terms declare. Needs numpy alone.

    Afterwards every index, offset and size that a kernel derives from shape and terms lies inside the arrays.
    """
    rows, cols = coded.shape
    if rows < 1 or cols < 1 or not coded.terms:
        raise IntaglioError(f"{name}: a matrix of {rows} x {cols} with {len(coded.terms)} terms is empty")
    declared = {
        f"{i}.{array}": stored
        for i, term in enumerate(coded.terms)
        for array, stored in term.arrays(coded.shape).items()
    }
    if unknown := sorted(coded.state.keys() - declared.keys()):
        raise IntaglioError(f"{name}: array {unknown[0]!r} belongs to none of its terms")
    for array, stored in declared.items():
        found = coded.state.get(array)
        if found is None:
            raise IntaglioError(f"{name}: array {array!r} is missing")
        if not stored.matches(found):
            raise IntaglioError(
                f"{name}: array {array!r} is {found.dtype} {found.shape}, "
                f"expected {stored.dtype} {stored.shape}"
            )
    for i, term in enumerate(coded.terms):
        if fault := term.faults(coded.term_state(i), coded.shape):
            raise IntaglioError(f"{name}: term {i}: {fault}")
    _validate_bias(coded, name)
    _validate_order(coded, name)


def _validate_bias(coded: Coded, name: str) -> None:
    bias = coded.bias
    if bias is None:
        return
    if bias.dtype != np.float32 or bias.shape != coded.shape[:1] or not np.isfinite(bias).all():
        raise IntaglioError(
            f"{name}: bias is {bias.dtype} {bias.shape}, expected {coded.shape[0]} finite float32"
        )


def _validate_order(coded: Coded, name: str) -> None:
    order, cols = coded.order, coded.shape[1]
    if order is None:
        return
    whole = order.dtype == np.uint16 and order.shape == (cols,) and cols <= 1 << 16
    if not whole or (np.sort(order) != np.arange(cols)).any():
        raise IntaglioError(
            f"{name}: order is {order.dtype} {order.shape}, expected each of {cols} inputs once"
        )
