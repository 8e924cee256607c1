"""Whether what a recipe claims is borne out by numbers measured side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Protocol

from intaglio.comparison.dominance import Measured
from intaglio.comparison.result import Verdict
from intaglio.recipe import Claim, Recipe, load_recipe, shipped_names

WORDS = {"perplexity": "perplexity", "kl_mean": "KL", "bits_per_weight": "bits per weight"}


class Scored(Measured, Protocol):
    """And how far from full precision it is, in nats a token; None: nobody asked."""

    @property
    def kl_mean(self) -> float | None: ...


def judge(
    claims: Iterable[Claim], own: Scored, others: Mapping[str, Scored], original: Measured
) -> tuple[Verdict, ...]:
    """One verdict a claim, `own` beside `others` by recipe and beside full precision."""
    return tuple(_verdict(claim, own, others, original) for claim in claims)


def missing(recipes: Iterable[Recipe]) -> list[str]:
    """What else must be compared for every claim to be examined: whom claims name, and whom those name."""
    waiting = list(recipes)
    known = {recipe.name for recipe in waiting}
    found: list[str] = []
    while waiting:
        named = {claim.better_than for claim in waiting.pop().claims if claim.better_than}
        found += named - known
        waiting += [load_recipe(name) for name in named - known if name in shipped_names()]
        known |= named
    return sorted(found)


def closed(own: Measured, other: Measured, original: Measured) -> float:
    """Share of the log-perplexity gap to full precision that `other` leaves and `own` closes."""
    gap = math.log(other.perplexity / original.perplexity)
    return math.log(other.perplexity / own.perplexity) / gap if gap > 0 else 0.0


def _verdict(claim: Claim, own: Scored, others: Mapping[str, Scored], original: Measured) -> Verdict:
    value, word = getattr(own, claim.metric), WORDS[claim.metric]
    if claim.within is not None:
        most = getattr(original, claim.metric) * (1 + claim.within)
        return Verdict(f"{word} within {claim.within:.1%} of the original's", value <= most)
    assert claim.better_than is not None
    other = others.get(claim.better_than)
    if claim.closes is None:
        said, theirs = f"{word} below that of {claim.better_than}", getattr(other, claim.metric, None)
        return Verdict(said, None if value is None or theirs is None else value < theirs)
    said = f"closes {claim.closes:.0%} of the gap that {claim.better_than} leaves"
    if other is None:
        return Verdict(said, None)
    share = closed(own, other, original)
    return Verdict(f"{said}: {share:.0%}", value < getattr(other, claim.metric) and share >= claim.closes)
