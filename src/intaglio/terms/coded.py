"""A matrix as it is stored and executed: the sum of its terms, the activations it reads, its bias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from intaglio.formats import Activation, Floating
from intaglio.terms.dense import Dense
from intaglio.terms.reading import Reading
from intaglio.types import Array, State

if TYPE_CHECKING:
    from intaglio.terms import Term


@dataclass(frozen=True)
class Coded:
    """W (out, in) ~ sum of `terms`; term i's arrays are `state["<i>.<array>"]`, numpy, as on disk.

    `activation` is the format the input is quantized to at run time, per token (None: float). With `order`,
    uint16 (in,), a permutation, the terms' column j is of input `order[j]`: the input is gathered so.
    `shared`: the full name of a matrix of the same input that stores, for this one too, the factor of its
    only term that reads the input; `state` has its arrays all the same.
    """

    shape: tuple[int, int]
    terms: tuple[Term, ...]
    state: Mapping[str, Array]
    activation: Activation | None = None
    bias: Array | None = None
    notes: Mapping[str, float] = field(default_factory=dict)  # what the solver measured, for the report
    order: Array | None = None
    shared: str | None = None

    @property
    def own(self) -> Mapping[str, Array]:
        """What of `state` is stored with this matrix."""
        if self.shared is None:
            return self.state
        lent = self.terms[0].reader(self.shape)
        return {name: a for name, a in self.state.items() if name.removeprefix("0.") not in lent}

    @property
    def reading(self) -> Reading:
        """What it makes of its input."""
        return Reading(self.activation, self.order)

    def term_state(self, index: int) -> State:
        """The arrays of one term, by their own names."""
        prefix = f"{index}."
        return {name.removeprefix(prefix): a for name, a in self.state.items() if name.startswith(prefix)}

    @property
    def is_plain(self) -> bool:
        """Whether it is plain numbers, not codes."""
        return all(isinstance(term, Dense) and isinstance(term.format, Floating) for term in self.terms)

    @property
    def nbytes(self) -> int:
        """Every byte stored with it: codes, scales, zeros, bias, order."""
        more = sum(array.nbytes for array in (self.bias, self.order) if array is not None)
        return more + sum(array.nbytes for array in self.own.values())
