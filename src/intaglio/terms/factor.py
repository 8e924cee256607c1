"""Factor: one stored matrix. A term is a product of a few, and everything about it follows from theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from intaglio.formats import Format, Layout
from intaglio.formats.arrays import Stored, to_torch
from intaglio.types import State

if TYPE_CHECKING:
    from intaglio.types import Tensor


class Factor(NamedTuple):
    """A matrix (out, in) of a term in some layout; its arrays are stored as `<name>.<array>`, or bare."""

    name: str
    shape: tuple[int, int]
    layout: Layout

    def arrays(self) -> dict[str, Stored]:
        """Type and shape of everything stored."""
        return {self._stored(array): stored for array, stored in self.layout.arrays(self.shape).items()}

    def state(self, term: State) -> State:
        """Its own arrays, by their own names, among a term's."""
        return {array: term[self._stored(array)] for array in self.layout.arrays(self.shape)}

    def rename(self, state: State) -> State:
        """Its own arrays under the names they have among a term's."""
        return {self._stored(array): values for array, values in state.items()}

    def faults(self, term: State) -> str | None:
        """What is wrong with the values of arrays whose types and shapes are right, or None."""
        state = self.state(term)
        if isinstance(self.layout, Format):
            return self.layout.faults(state)
        return self.layout.faults(state, self.shape)

    def decode(self, term: State) -> Tensor:
        """float32 (out, in)."""
        state = self.state(term)
        if isinstance(self.layout, Format):
            return self.layout.decode(*self.layout.unpack(state, self.shape))
        return to_torch(self.layout.values(state, self.shape))

    def _stored(self, array: str) -> str:
        return f"{self.name}.{array}" if self.name else array


class Product:
    """What every term is: the product of its factors, the first of which reads the input."""

    factors: Callable[[tuple[int, int]], tuple[Factor, ...]]

    def reader(self, shape: tuple[int, int]) -> frozenset[str]:
        """The names of the arrays of the first factor."""
        return frozenset(self.factors(shape)[0].arrays())

    def arrays(self, shape: tuple[int, int]) -> dict[str, Stored]:
        """Type and shape of everything stored for a matrix of this shape."""
        return {name: stored for factor in self.factors(shape) for name, stored in factor.arrays().items()}

    def faults(self, state: State, shape: tuple[int, int]) -> str | None:
        """What is wrong with the values of arrays whose types and shapes are right, or None."""
        found = (factor.faults(state) for factor in self.factors(shape))
        return next((fault for fault in found if fault), None)

    def decode(self, state: State, shape: tuple[int, int]) -> Tensor:
        """float32 (out, in)."""
        first, *others = (factor.decode(state) for factor in self.factors(shape))
        for factor in others:
            first = factor @ first
        return first
