"""Which rule holds for which matrix."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from intaglio.errors import UsageError
from intaglio.models import roles
from intaglio.models.spec import ModelSpec
from intaglio.recipe.schema import Recipe, Rule

OUTSIDE = {"embedding": roles.EMBEDDING, "lm_head": roles.HEAD}


class Site(NamedTuple):
    """A matrix of a model: its full name, its role, and its layer (None outside the layers)."""

    name: str
    role: str
    layer: int | None


def sites(spec: ModelSpec) -> tuple[Site, ...]:
    """Every matrix of the model, in the order of execution; a tied lm_head is the embedding."""
    inside = [Site(roles.site(i, role), role, i) for i in range(spec.num_layers) for role in roles.LINEARS]
    outside = [
        Site(name, role, None) for role, name in OUTSIDE.items() if not (spec.tied and role == "lm_head")
    ]
    return (outside[0], *inside, *outside[1:])


def assign(recipe: Recipe, known: Sequence[Site]) -> dict[str, Rule]:
    """Site name -> the rule that codes it: the last that matches; sites without terms are absent."""
    found: dict[str, Rule] = {}
    for index, rule in enumerate(recipe.weights):
        for name in _matched(rule, known, f"recipe {recipe.name}: weights[{index}]"):
            found[name] = rule
    return {site.name: found[site.name] for site in known if site.name in found and found[site.name].terms}


def _matched(rule: Rule, known: Sequence[Site], where: str) -> list[str]:
    layers = _layers(rule.layers, [site.layer for site in known if site.layer is not None], where)
    names: list[str] = []
    tied = all(site.role != "lm_head" for site in known)
    for pattern in rule.match:
        role = "embedding" if tied and pattern == "lm_head" else pattern
        hits = [site for site in known if _matches(role, site, where)]
        hits = [site for site in hits if layers is None or site.layer in layers]
        if not hits:
            raise UsageError(
                f"{where}: {pattern!r}{_within(rule.layers)} matches nothing: there is {_exists(known)}"
            )
        names += [site.name for site in hits]
    return names


def _matches(pattern: str, site: Site, where: str) -> bool:
    if pattern == "linear":
        return site.layer is not None
    if not pattern.startswith("re:"):
        return pattern == site.role
    try:
        return re.fullmatch(pattern[3:], site.name) is not None
    except re.error as error:
        raise UsageError(f"{where}: {pattern!r} is no regular expression: {error}") from None


def _layers(ranges: str | None, known: Sequence[int], where: str) -> set[int] | None:
    """`"0-3,-1"` of 30 layers -> {0, 1, 2, 3, 29}."""
    if ranges is None:
        return None
    count = max(known, default=-1) + 1
    found: set[int] = set()
    for part in ranges.split(","):
        bounds = [int(part)] if part.startswith("-") else [int(bound) for bound in part.split("-")]
        low, high = (bound % count if -count <= bound < 0 else bound for bound in (bounds[0], bounds[-1]))
        if not 0 <= low <= high < count:
            raise UsageError(
                f"{where}: layers {ranges!r}: there is no {part!r} among layers 0 to {count - 1}"
            )
        found.update(range(low, high + 1))
    return found


def _within(ranges: str | None) -> str:
    return f" in layers {ranges}" if ranges else ""


def _exists(known: Iterable[Site]) -> str:
    """Roles and layer names a pattern may name, short."""
    known = tuple(known)
    inside = [site for site in known if site.layer is not None]
    named = ["linear", *dict.fromkeys(site.role for site in known)]
    return f"{', '.join(named)}; names like {inside[0].name} to {inside[-1].name}"
