"""Which of several choices no other beats on both counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from intaglio.recipe import Recipe
from intaglio.solvers import Greedy
from intaglio.terms import Dense

EQUAL = 0.005  # sizes that differ by less, relatively, count as equal: two recipes' bytes are never the same


class Measured(Protocol):
    """What a choice costs, and how well it predicts."""

    @property
    def bits_per_weight(self) -> float: ...

    @property
    def perplexity(self) -> float: ...


def dominated_by(name: str, measured: Mapping[str, Measured]) -> tuple[str, ...]:
    """Those of at most as many bits (or equal ones) and less perplexity, the best first."""
    own = measured[name]
    room = own.bits_per_weight * (1 + EQUAL)
    better = [
        other
        for other, found in measured.items()
        if found.bits_per_weight <= room and found.perplexity < own.perplexity
    ]
    return tuple(sorted(better, key=lambda other: measured[other].perplexity))


def rounds_to_nearest(recipe: Recipe) -> bool:
    """Whether it is the baseline of every method: no transform, no search, nearest codes."""
    plain = all(
        isinstance(rule.solver, Greedy)
        and (rule.clip is None or not rule.clip.enabled)
        and all(isinstance(term, Dense) for term in rule.terms)
        for rule in recipe.weights
    )
    return plain and not recipe.search and not any(transform.enabled for transform in recipe.transforms)


def frontier(points: Sequence[tuple[float, float]], *, higher: bool) -> list[int]:
    """Indices of the points that none beats at no more x, left to right; `higher` y is better, or less."""
    sign = -1.0 if higher else 1.0

    def beaten(i: int) -> bool:
        x, y = points[i]
        nearer = any(sign * other < sign * y and at <= x * (1 + EQUAL) for at, other in points)
        return nearer or any(other == y and at < x for at, other in points)

    kept = [i for i in range(len(points)) if not beaten(i) and points[i] not in points[:i]]
    return sorted(kept, key=lambda i: points[i][0])
