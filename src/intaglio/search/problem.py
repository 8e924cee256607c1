"""The problem as arrays: of every group and candidate the loss, the bytes, the seconds; and what binds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from intaglio.errors import UsageError
from intaglio.search.integer_program import Budget, choose, total
from intaglio.search.measure import Layer
from intaglio.search.request import Request
from intaglio.search.result import Point
from intaglio.types import Array

STEPS = 24  # budgets of the curve


@dataclass(frozen=True)
class Problem:
    """`layers` as measured; `outside`: bytes, and `rest`: seconds a token, of what is not chosen."""

    layers: Sequence[Layer]
    candidates: Sequence[str]
    outside: int
    rest: float
    parameters: int
    threads: int

    @cached_property
    def groups(self) -> list[tuple[int, str]]:
        """(layer, point), in the order of execution."""
        return [(index, point) for index, layer in enumerate(self.layers) for point in layer]

    @cached_property
    def loss(self) -> Array:
        """Nats a token (groups, candidates)."""
        return self._of("loss")

    @cached_property
    def nbytes(self) -> Array:
        """Stored bytes (groups, candidates)."""
        return self._of("nbytes")

    @cached_property
    def seconds(self) -> Array:
        """Of one token, on all threads (groups, candidates)."""
        return self._of("seconds") / self.threads

    def solve(self, request: Request) -> Array:
        """The candidate of every group under the request's limits (groups,)."""
        budgets = self._budgets(request)
        objective = self.loss
        if request.max_ppl_increase is not None:
            budgets.append(Budget(self.loss, math.log1p(request.max_ppl_increase)))
            objective = self.nbytes
        choice = choose(objective, budgets)
        if choice is None:
            raise UsageError(
                f"no choice of {', '.join(self.candidates)} keeps the limits: {self._extremes()}"
            )
        return choice

    def point(self, name: str, choice: Array) -> Point:
        """What is predicted of a choice."""
        nbytes = self.outside + int(total(self.nbytes, choice))
        return Point(
            name=name,
            nbytes=nbytes,
            bits_per_weight=8 * nbytes / self.parameters,
            loss=total(self.loss, choice),
            tokens_per_s=1 / (self.rest + total(self.seconds, choice)),
            counts=dict(Counter(self.candidates[i] for i in choice)),
        )

    def uniform(self) -> list[Point]:
        """Every candidate everywhere."""
        groups = len(self.groups)
        return [self.point(name, np.full(groups, i)) for i, name in enumerate(self.candidates)]

    def curve(self) -> list[Point]:
        """The least loss at budgets of bytes between the smallest and the largest choice."""
        least, most = self.nbytes.min(1).sum(), self.nbytes.max(1).sum()
        found: dict[int, Point] = {}
        for budget in np.linspace(least, most, STEPS):
            choice = choose(self.loss, [Budget(self.nbytes, float(budget))])
            if choice is not None:
                point = self.point("", choice)
                found.setdefault(point.nbytes, point)
        return sorted(found.values(), key=lambda point: point.nbytes)

    def _budgets(self, request: Request) -> list[Budget]:
        """Of bytes and time, without what is spent in any case."""
        found = []
        if request.max_size is not None:
            found.append(Budget(self.nbytes, request.max_size - self.outside))
        if request.max_bits is not None:
            found.append(Budget(self.nbytes, request.max_bits * self.parameters / 8 - self.outside))
        if request.min_speed is not None:
            found.append(Budget(self.seconds, 1 / request.min_speed - self.rest))
        return found

    def _extremes(self) -> str:
        """How far one can go in each direction alone."""
        ends = [choose(cost, []) for cost in (self.nbytes, self.seconds, self.loss)]
        smallest, fastest, nearest = (self.point("", end) for end in ends if end is not None)
        return (
            f"the smallest has {smallest.bits_per_weight:.2f} bits per weight "
            f"({smallest.nbytes / 1e6:.1f} MB), "
            f"the fastest {fastest.tokens_per_s:.0f} tokens/s, the nearest a perplexity increase of "
            f"{math.expm1(nearest.loss):.2%}"
        )

    def _of(self, field: str) -> Array:
        return np.array(
            [
                [getattr(self.layers[layer][point][name], field) for name in self.candidates]
                for layer, point in self.groups
            ],
            np.float64,
        )
