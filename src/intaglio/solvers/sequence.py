"""A matrix as a sum of terms, found one after another: what all solvers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from intaglio.errors import IntaglioError
from intaglio.formats import Activation
from intaglio.formats.arrays import to_numpy
from intaglio.solvers.clip import Clip
from intaglio.terms import Coded, Metric, Term
from intaglio.types import Array, State

if TYPE_CHECKING:
    from intaglio.types import Tensor


class Found(NamedTuple):
    """One term of a matrix: its arrays, and what is worth telling about how they were found."""

    state: State
    notes: dict[str, float]


class InSequence:
    """A solver that finds the terms of a matrix in their order, each for what those before it leave."""

    def find(self, w: Tensor, terms: Sequence[Term], metric: Metric, clip: Clip | None) -> tuple[Found, ...]:
        """The first of `terms`, or as many of the first as are found together, for W (out, in) float32."""
        raise NotImplementedError

    def reads_inputs(self, terms: Sequence[Term], clip: Clip | None) -> bool:
        """Whether what is found depends on the metric: else no text needs to be read."""
        return True

    def solve(
        self,
        w: Tensor,
        terms: Sequence[Term],
        metric: Metric,
        *,
        clip: Clip | None = None,
        activation: Activation | None = None,
        bias: Tensor | None = None,
        name: str = "matrix",
    ) -> Coded:
        """W (out, in) as the sum of `terms`.

        Raises IntaglioError: no terms, or no finite matrix, or no finite metric of its shape.
        """
        _check(w, terms, metric, name)
        state: dict[str, Array] = {}
        notes: dict[str, float] = {}
        rest, done = w.detach().float(), 0
        while done < len(terms):
            for found in self.find(rest, terms[done:], metric, clip):
                state |= {f"{done}.{name}": array for name, array in found.state.items()}
                notes |= found.notes
                rest = rest - terms[done].decode(found.state, (w.shape[0], w.shape[1]))
                done += 1
        notes["error"] = metric.relative(w.float(), rest)
        stored_bias = None if bias is None else to_numpy(bias.float())
        return Coded((w.shape[0], w.shape[1]), tuple(terms), state, activation, stored_bias, notes)


def _check(w: Tensor, terms: Sequence[Term], metric: Metric, name: str) -> None:
    if w.ndim != 2 or not w.numel() or not terms:
        raise IntaglioError(
            f"{name}: {len(terms)} terms for weights of shape {tuple(w.shape)}; need a matrix"
        )
    if bad := int((~w.isfinite()).sum()):
        raise IntaglioError(f"{name}: {bad} of {w.numel()} weights are NaN or infinite")
    if metric.elements is not None:
        _check_elements(w, metric.elements, name)
    h = metric.h
    if h is None:
        return
    if h.ndim not in (1, 2) or any(n != w.shape[1] for n in h.shape):
        raise IntaglioError(f"{name}: statistics of shape {tuple(h.shape)} for {w.shape[1]} inputs")
    if bad := int((~h.isfinite()).sum()):
        raise IntaglioError(f"{name}: {bad} of {h.numel()} input statistics (Hessian) are NaN or infinite")


def _check_elements(w: Tensor, elements: Tensor, name: str) -> None:
    if elements.shape != w.shape:
        raise IntaglioError(
            f"{name}: elements' weights of shape {tuple(elements.shape)} for {tuple(w.shape)}"
        )
    if bad := int((~(elements.isfinite() & (elements >= 0))).sum()):
        raise IntaglioError(
            f"{name}: {bad} of {elements.numel()} elements' weights are NaN, infinite or negative"
        )
