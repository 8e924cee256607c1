"""Search: the cheapest sum of terms for every matrix that a bound on the quality allows (TASDER, 2403.07953).

Every matrix is coded in every way of the menu, as it stands in the original. Sorted by what they lose of a
matrix's output, ways are taken as long as they make their matrix smaller, so many as the bound on the
perplexity allows: found by bisection, since each look at the perplexity is a run of the model.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from msgspec import structs

from intaglio.compression.blocks import Block, task
from intaglio.compression.stored import read_block, write_block
from intaglio.compression.workers import solve
from intaglio.engine import score
from intaglio.engine.executor import Executor
from intaglio.errors import IntaglioError
from intaglio.lazy import lazy
from intaglio.models import roles, transformer
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.observe import Observation
from intaglio.recipe import Recipe, Rule, Search, assign, sites
from intaglio.terms import Coded, Metric
from intaglio.types import Array

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", extra="compress")

HELD_OUT = 4  # one window of so many tells the perplexity, the others the statistics
TOKENS = 4096  # that go through a block together, about


class Move(NamedTuple):
    """A matrix coded in one way of the menu: the share of its output's power that is lost, its size."""

    name: str
    way: int
    error: float
    nbytes: int


def searched(
    checkpoint: Checkpoint,
    recipe: Recipe,
    windows: Array,
    threads: int | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Recipe:
    """The recipe with a rule for each way that was chosen, in place of its search. `windows` (n, seq_len)."""
    if recipe.search is None:
        return recipe
    with tempfile.TemporaryDirectory(prefix="intaglio-") as directory:
        found = _Search(checkpoint, recipe.search, windows, threads, Path(directory)).chosen(say)
    rules = tuple(_rule(recipe.search, way, found) for way in sorted(set(found.values())))
    return structs.replace(recipe, weights=(*recipe.weights, *rules), search=None)


def _rule(search: Search, way: int, chosen: Mapping[str, int]) -> Rule:
    names = tuple(f"re:{re.escape(name)}" for name, its in chosen.items() if its == way)
    return Rule(match=names, terms=search.menu[way], solver=search.solver)


def taken(moves: Sequence[Move]) -> dict[str, int]:
    """Name -> way, after moves each of which is made if it makes its matrix smaller."""
    made: dict[str, Move] = {}
    for move in moves:
        if move.name not in made or move.nbytes < made[move.name].nbytes:
            made[move.name] = move
    return {name: move.way for name, move in made.items()}


def most(count: int, steps: int, allowed: Callable[[int], bool]) -> int:
    """The largest number up to `count` that is allowed, as near as so many questions tell; 0 always is."""
    if allowed(count):
        return count
    low, high = 0, count
    for _ in range(steps - 1):
        if high - low <= 1:
            break
        middle = (low + high) // 2
        low, high = (middle, high) if allowed(middle) else (low, middle)
    return low


@dataclass(frozen=True)
class _Search:
    checkpoint: Checkpoint
    settings: Search
    windows: Array
    threads: int | None
    directory: Path  # of the coded matrices: <layer>.<way>

    def chosen(self, say: Callable[[str], None]) -> dict[str, int]:
        """Name -> way of every matrix that a way of the menu makes smaller."""
        if len(self.windows) < HELD_OUT:
            raise IntaglioError(
                f"a search needs at least {HELD_OUT} calibration windows, got {len(self.windows)}"
            )
        moves = sorted(self._moves(), key=lambda move: move.error)
        bound = self._perplexity({}) * (1 + self.settings.within)
        say(f"{len(moves)} ways to code {len(self._names)} matrices, perplexity up to {bound:.2f}")

        def allowed(count: int) -> bool:
            perplexity = self._perplexity(taken(moves[:count]))
            say(f"{count} of them: perplexity {perplexity:.2f}")
            return perplexity <= bound

        return taken(moves[: most(len(moves), self.settings.steps, allowed)])

    @cached_property
    def _names(self) -> frozenset[str]:
        """The matrices that the search is about."""
        everywhere = Rule(match=self.settings.match, terms=self.settings.menu[0])
        asked = Recipe(name="search", source="", summary="", weights=(everywhere,))
        known = sites(self.checkpoint.spec)
        return frozenset(assign(asked, known)) & {site.name for site in known if site.layer is not None}

    def _moves(self) -> Iterator[Move]:
        """Every way of every matrix, coded and put down; only what is smaller than the original counts."""
        spec, checkpoint = self.checkpoint.spec, self.checkpoint
        outer = transformer.outer_weights(checkpoint)
        observed = np.delete(self.windows, np.s_[::HELD_OUT], axis=0)
        size = max(1, TOKENS // self.windows.shape[1])
        parts = (torch.from_numpy(observed[i : i + size]) for i in range(0, len(observed), size))
        batches = [transformer.embed(spec, outer, part) for part in parts]
        for layer in range(spec.num_layers):
            w = transformer.layer_weights(checkpoint, layer)
            observation = Observation(spec, layer, w, batches)
            for way, linears in enumerate(self._coded(layer, observation)):
                write_block(self._path(layer, way), Block(linears, {}))
                for name, coded in linears.items():
                    if coded.nbytes < checkpoint.linears[name].nbytes:
                        yield Move(name, way, coded.notes["error"], coded.nbytes)
            batches = [transformer.block(spec, layer, w, batch) for batch in batches]

    def _coded(self, layer: int, observation: Observation) -> Iterator[dict[str, Coded]]:
        """The layer's matrices in each way of the menu."""
        for menu_terms in self.settings.menu:
            rule = Rule(terms=menu_terms, solver=self.settings.solver)
            linears = {}
            for point, members in roles.INPUTS.items():
                for role in (role for role in members if roles.site(layer, role) in self._names):
                    name, metric = roles.site(layer, role), Metric(observation.hessian(point))
                    linears[name] = solve(task(rule, observation.weights, roles.LINEARS[role], metric, name))
            yield linears

    def _perplexity(self, ways: Mapping[str, int]) -> float:
        """Of the held-out windows, run natively with these matrices exchanged."""
        linears = {
            name: coded
            for layer in range(self.checkpoint.spec.num_layers)
            for name, coded in self._read(layer, ways)
        }
        seq_len = self.windows.shape[1]
        executor = Executor(
            self.checkpoint.replace(linears), threads=self.threads, max_context=seq_len, max_sequences=1
        )
        held_out = self.windows[::HELD_OUT].astype(np.int32)
        nll = [score.nll(executor.logits(window)[:-1], window[1:]) for window in held_out]
        return math.exp(min(float(np.concatenate(nll).mean()), 700))

    def _read(self, layer: int, ways: Mapping[str, int]) -> Iterator[tuple[str, Coded]]:
        wanted = {roles.site(layer, role) for role in roles.LINEARS} & ways.keys()
        for way in sorted({ways[name] for name in wanted}):
            block = read_block(self._path(layer, way))
            yield from ((name, block.linears[name]) for name in wanted if ways[name] == way)

    def _path(self, layer: int, way: int) -> Path:
        return self.directory / f"{layer}.{way}"
