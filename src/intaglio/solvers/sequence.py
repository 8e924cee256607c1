"""Terms found one after another, each on what those before it left: what all solvers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from intaglio.errors import IntaglioError
from intaglio.formats import Activation
from intaglio.formats.arrays import to_numpy
from intaglio.terms import Coded, Metric, Term
from intaglio.types import Array, State

if TYPE_CHECKING:
    from intaglio.types import Tensor


class Found(NamedTuple):
    """One term of a matrix: its arrays, and what is worth telling about how they were found."""

    state: State
    notes: dict[str, float]


def in_sequence(
    w: Tensor,
    terms: Sequence[Term],
    metric: Metric,
    find: Callable[[Tensor, Term], Found],
    *,
    activation: Activation | None,
    bias: Tensor | None,
    name: str,
) -> Coded:
    """W (out, in) as the sum of `terms`, `find` coding what is left of W as each."""
    _check(w, terms, metric, name)
    state: dict[str, Array] = {}
    notes: dict[str, float] = {}
    rest = w.detach().float()
    for i, term in enumerate(terms):
        found = find(rest, term)
        state |= {f"{i}.{name}": array for name, array in found.state.items()}
        notes |= found.notes
        rest = rest - term.decode(found.state, (w.shape[0], w.shape[1]))
    notes["error"] = metric.relative(w.float(), w.float() - rest)
    stored_bias = None if bias is None else to_numpy(bias.float())
    return Coded((w.shape[0], w.shape[1]), tuple(terms), state, activation, stored_bias, notes)


def _check(w: Tensor, terms: Sequence[Term], metric: Metric, name: str) -> None:
    if w.ndim != 2 or not w.numel() or not terms:
        raise IntaglioError(
            f"{name}: {len(terms)} terms for weights of shape {tuple(w.shape)}; need a matrix"
        )
    if bad := int((~w.isfinite()).sum()):
        raise IntaglioError(f"{name}: {bad} of {w.numel()} weights are NaN or infinite")
    h = metric.h
    if h is None:
        return
    if h.ndim not in (1, 2) or any(n != w.shape[1] for n in h.shape):
        raise IntaglioError(f"{name}: statistics of shape {tuple(h.shape)} for {w.shape[1]} inputs")
    if bad := int((~h.isfinite()).sum()):
        raise IntaglioError(f"{name}: {bad} of {h.numel()} input statistics (Hessian) are NaN or infinite")
