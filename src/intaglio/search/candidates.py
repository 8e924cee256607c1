"""Candidates: the forms that a matrix may take, each a rule of a recipe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from intaglio.errors import UsageError
from intaglio.formats import Floating, Integer
from intaglio.recipe import Recipe, Rule, load_recipe
from intaglio.solvers import Clip, Obs
from intaglio.terms import Dense

DEFAULT = ("int2", "int3", "int4", "int8", "float16")
GROUP = 64
HARMLESS = ("claims", "limits")  # parts of a recipe that change no code
PLAIN = {"float16": Floating("float16"), "bfloat16": Floating("bfloat16")}


class Candidate(NamedTuple):
    """A name, the rule without what it matches, and the parts of its recipe that are no part of the rule."""

    name: str
    rule: Rule
    left_out: tuple[str, ...] = ()


def named(names: Iterable[str]) -> tuple[Candidate, ...]:
    """`int4`: groups of 64, clipped, with error feedback; `float16`; of a recipe the first rule alone."""
    found = tuple(_candidate(name) for name in dict.fromkeys(names))
    if len(found) < 2:
        raise UsageError(f"a search needs at least two candidates to choose from, got {len(found)}")
    return found


def left_out(candidates: Iterable[Candidate]) -> dict[str, tuple[str, ...]]:
    """Of those that are less than their recipe."""
    return {one.name: one.left_out for one in candidates if one.left_out}


def notes(left_out: Mapping[str, Sequence[str]]) -> list[str]:
    """The same in sentences."""
    return [
        f"{name}: only its first rule is a candidate, without its {', '.join(parts)}"
        for name, parts in left_out.items()
    ]


def _candidate(name: str) -> Candidate:
    if bits := re.fullmatch(r"int([2-8])", name):
        form = Integer(bits=int(bits[1]), group_size=GROUP)
        return Candidate(name, Rule(terms=(Dense(form),), solver=Obs(), clip=Clip()))
    if name in PLAIN:
        return Candidate(name, Rule(terms=(Dense(PLAIN[name]),)))
    recipe = load_recipe(name)
    rule = recipe.weights[0]
    if not rule.terms:
        raise UsageError(f"candidate {name}: its first rule has no terms")
    return Candidate(name, replace(rule, match=("linear",), layers=None), tuple(_left_out(recipe)))


def _left_out(recipe: Recipe) -> Iterator[str]:
    """By the names of their fields."""
    first, *later = recipe.weights
    yield from (name for name in ("match", "layers") if getattr(first, name) != getattr(Rule(), name))
    yield from (f"weights[{index}]" for index, _ in enumerate(later, 1))
    bare = Recipe(name=recipe.name, source=recipe.source, summary=recipe.summary, weights=recipe.weights)
    for name in Recipe.__struct_fields__:
        if name not in HARMLESS and getattr(recipe, name) != getattr(bare, name):
            yield name
