"""Search: the cheapest way to run every matrix that a bound on the quality allows (TASDER, 2403.07953).

Sorted by what speaks against them, ways are taken as long as they make their matrix cheaper, so many as the
bound on the perplexity allows: found by bisection, since each look at the perplexity is a run of the model.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from msgspec import structs

from intaglio.compression import fisher
from intaglio.compression.summed import Summed
from intaglio.compression.thinned import Thinned
from intaglio.compression.ways import Move, Ways, taken
from intaglio.engine import score
from intaglio.engine.executor import Executor
from intaglio.errors import IntaglioError
from intaglio.formats import Floating
from intaglio.lazy import lazy
from intaglio.models import transformer
from intaglio.models.checkpoint import Checkpoint
from intaglio.models.observe import Observation
from intaglio.recipe import Recipe, Rule, Search, assign, sites
from intaglio.terms import Dense
from intaglio.types import Array

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", extra="compress")

HELD_OUT = 4  # one window of so many tells the perplexity, the others the statistics
WEIGHED = 8  # windows that go back through the model, for what errors cost: these few already order them well
TOKENS = 4096  # that go through a block together, about


def searched(
    checkpoint: Checkpoint,
    recipe: Recipe,
    windows: Array,
    threads: int | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Recipe:
    """The recipe with a rule for each way that was chosen, in place of its search. `windows` (n, seq_len)."""
    settings = recipe.search
    if settings is None:
        return recipe
    if len(windows) < HELD_OUT:
        raise IntaglioError(f"a search needs at least {HELD_OUT} calibration windows, got {len(windows)}")
    names = _names(checkpoint, settings)
    with tempfile.TemporaryDirectory(prefix="intaglio-") as directory:
        ways: Ways = Thinned(checkpoint, settings, names)
        if settings.menu:
            weighed = Path(directory, "fisher")
            fisher.measure(checkpoint, _observed(windows)[:WEIGHED], names, weighed)
            ways = Summed(checkpoint, settings, names, weighed, Path(directory))
        made = _Search(checkpoint, settings, windows, threads, ways).chosen(say)
    rules = tuple(
        structs.replace(ways.rule(way), match=tuple(f"re:{re.escape(n)}" for n in made if made[n] == way))
        for way in sorted(set(made.values()))
    )
    return structs.replace(recipe, weights=(*recipe.weights, *rules), search=None)


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


def _names(checkpoint: Checkpoint, settings: Search) -> frozenset[str]:
    """The matrices that the search is about."""
    everywhere = Rule(match=settings.match, terms=(Dense(Floating()),))
    asked = Recipe(name="search", source="", summary="", weights=(everywhere,))
    known = sites(checkpoint.spec)
    return frozenset(assign(asked, known)) & {site.name for site in known if site.layer is not None}


def _observed(windows: Array) -> Array:
    kept: Array = np.delete(windows, np.s_[::HELD_OUT], axis=0)
    return kept


@dataclass(frozen=True)
class _Search:
    checkpoint: Checkpoint
    settings: Search
    windows: Array
    threads: int | None
    ways: Ways

    def chosen(self, say: Callable[[str], None]) -> dict[str, int]:
        """Name -> way of every matrix that becomes cheaper."""
        moves = sorted(self._moves(), key=lambda move: move.harm)
        bound = self._perplexity([]) * (1 + self.settings.within)
        say(f"{len(moves)} ways to run {len({m.name for m in moves})} matrices, perplexity up to {bound:.2f}")

        def allowed(count: int) -> bool:
            perplexity = self._perplexity(moves[:count])
            say(f"{count} of them: perplexity {perplexity:.2f}")
            return perplexity <= bound

        return taken(moves[: most(len(moves), self.settings.steps, allowed)])

    def _moves(self) -> Iterator[Move]:
        """Those of every layer, which reads what the original's layers before it put out."""
        spec, checkpoint = self.checkpoint.spec, self.checkpoint
        outer = transformer.outer_weights(checkpoint)
        observed = _observed(self.windows)
        size = max(1, TOKENS // self.windows.shape[1])
        parts = (torch.from_numpy(observed[i : i + size]) for i in range(0, len(observed), size))
        batches = [transformer.embed(spec, outer, part) for part in parts]
        for layer in range(spec.num_layers):
            w = transformer.layer_weights(checkpoint, layer)
            yield from self.ways.moves(layer, Observation(spec, layer, w, batches))
            batches = [transformer.block(spec, layer, w, batch) for batch in batches]

    def _perplexity(self, moves: list[Move]) -> float:
        """Of the held-out windows, run natively after these moves."""
        seq_len = self.windows.shape[1]
        changed = self.checkpoint.replace(self.ways.exchanged(taken(moves)))
        executor = Executor(changed, threads=self.threads, max_context=seq_len, max_sequences=1)
        held_out = self.windows[::HELD_OUT].astype(np.int32)
        nll = [score.nll(executor.logits(window)[:-1], window[1:]) for window in held_out]
        return math.exp(min(float(np.concatenate(nll).mean()), 700))
