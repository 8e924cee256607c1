"""Thinned: matrices as they are, whose inputs are thinned at run time (TASD-A, 2403.07953)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from intaglio.compression.ways import Move
from intaglio.formats import Floating
from intaglio.models import roles
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.observe import Observation
from intaglio.recipe import Rule, Search
from intaglio.terms import Coded, Dense


@dataclass(frozen=True)
class Thinned:
    """Harm is how much sparser an input is made than it is, cost the multiplications that are left.

    Taking moves up to some harm is the paper's rule with this number as its knob: an input of sparsity z, one
    less its pseudo-density, gets the sparsest way that is not sparser than z and that much.
    """

    checkpoint: Checkpoint
    settings: Search
    names: frozenset[str]

    def moves(self, layer: int, observation: Observation) -> Iterator[Move]:
        """Every way of every input, once for each matrix that reads it."""
        for point, members in roles.INPUTS.items():
            density = observation.density(point)
            for name in (roles.site(layer, role) for role in members):
                for way, kept in enumerate(self.settings.inputs if name in self.names else ()):
                    rows, cols = self.checkpoint.linears[name].shape
                    share = kept.n / kept.m
                    yield Move(name, way, density - share, share * rows * cols)

    def exchanged(self, made: Mapping[str, int]) -> dict[str, Coded]:
        """The matrices, reading so."""
        linears, inputs = self.checkpoint.linears, self.settings.inputs
        return {name: replace(linears[name], activation=inputs[way]) for name, way in made.items()}

    def rule(self, way: int) -> Rule:
        """Plain numbers that read so."""
        return Rule(terms=(Dense(Floating("float16")),), activation=self.settings.inputs[way])
