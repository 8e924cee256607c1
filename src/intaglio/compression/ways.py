"""Ways: what a search may do to the matrices of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from intaglio.models.observe import Observation
from intaglio.recipe import Rule
from intaglio.terms import Coded


class Move(NamedTuple):
    """A matrix run in one way: what speaks against that, and what it costs, in units of the ways."""

    name: str
    way: int
    harm: float
    cost: float


class Ways(Protocol):
    """Numbered ways to run each of some matrices."""

    def moves(self, layer: int, observation: Observation) -> Iterator[Move]:
        """All that make a matrix of the layer cheaper than it is."""
        ...

    def exchanged(self, made: Mapping[str, int]) -> dict[str, Coded]:
        """The matrices in their ways."""
        ...

    def rule(self, way: int) -> Rule:
        """Of a recipe that runs matrices so; what it matches is not said."""
        ...


def taken(moves: Sequence[Move]) -> dict[str, int]:
    """Name -> way, after moves each of which is made if it makes its matrix cheaper."""
    made: dict[str, Move] = {}
    for move in moves:
        if move.name not in made or move.cost < made[move.name].cost:
            made[move.name] = move
    return {name: move.way for name, move in made.items()}
