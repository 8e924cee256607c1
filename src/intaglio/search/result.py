"""Found: the choice, the recipe that carries it out, and what other budgets would have given."""

from __future__ import annotations

import msgspec

from intaglio.recipe import Recipe


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One choice, as predicted: `loss` in nats a token, and how many groups took each candidate."""

    name: str
    nbytes: int
    bits_per_weight: float
    loss: float
    tokens_per_s: float
    counts: dict[str, int]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """`uniform`: every candidate alone. `curve`: the best choices by size, under no other limit.

    `left_out`: of candidates that are recipes, the parts of these that are not their first rule.
    """

    model: str
    command: str
    limits: dict[str, float | None]
    chosen: Point
    recipe: Recipe
    uniform: tuple[Point, ...]
    curve: tuple[Point, ...]
    choice: dict[str, dict[str, str]]  # layer -> point -> candidate
    left_out: dict[str, tuple[str, ...]] = {}
