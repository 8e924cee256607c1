"""Summed: matrices as sums of terms of a menu, each coded as it stands in the original."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from intaglio.compression import fisher
from intaglio.compression.blocks import Block, task
from intaglio.compression.stored import read_block, write_block
from intaglio.compression.ways import Move
from intaglio.compression.workers import solve
from intaglio.models import roles
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.observe import Observation
from intaglio.recipe import Rule, Search
from intaglio.terms import Coded, Metric, decode


@dataclass(frozen=True)
class Summed:
    """Harm is what the loss rises by, as far as each weight's Fisher information tells; cost is size.

    A share of a matrix's own output is no common measure: little of what carries a model's few massive
    activations is much. `fisher`, `coded`: directories of the information and of the matrices, <layer>.<way>.
    """

    checkpoint: Checkpoint
    settings: Search
    names: frozenset[str]
    fisher: Path
    coded: Path

    def moves(self, layer: int, observation: Observation) -> Iterator[Move]:
        """Every way of every matrix, coded and put down; only what is smaller than the original counts."""
        costs = {name: Metric(elements=one) for name, one in fisher.read(self.fisher, layer).items()}
        for way in range(len(self.settings.menu)):
            linears = self._coded(layer, way, observation)
            write_block(self._path(layer, way), Block(linears, {}))
            for name, coded in linears.items():
                if coded.nbytes < self.checkpoint.linears[name].nbytes:
                    rest = observation.weights[f"{_inside(layer, name)}.weight"] - decode(coded)
                    yield Move(name, way, costs[name].error(rest) * len(rest) / 2, coded.nbytes)

    def exchanged(self, made: Mapping[str, int]) -> dict[str, Coded]:
        """The matrices in their ways, read again."""
        found: dict[str, Coded] = {}
        for layer in range(self.checkpoint.spec.num_layers):
            wanted = {roles.site(layer, role) for role in roles.LINEARS} & made.keys()
            for way in sorted({made[name] for name in wanted}):
                block = read_block(self._path(layer, way))
                found |= {name: block.linears[name] for name in wanted if made[name] == way}
        return found

    def rule(self, way: int) -> Rule:
        """The terms, and how they are found."""
        return Rule(terms=self.settings.menu[way], solver=self.settings.solver)

    def _coded(self, layer: int, way: int, observation: Observation) -> dict[str, Coded]:
        linears = {}
        for point, members in roles.INPUTS.items():
            for role in (role for role in members if roles.site(layer, role) in self.names):
                name, metric = roles.site(layer, role), Metric(observation.hessian(point))
                linears[name] = solve(
                    task(self.rule(way), observation.weights, roles.LINEARS[role], metric, name)
                )
        return linears

    def _path(self, layer: int, way: int) -> Path:
        return self.coded / f"{layer}.{way}"


def _inside(layer: int, name: str) -> str:
    return name.removeprefix(f"model.layers.{layer}.")
