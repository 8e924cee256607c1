"""Candidates: the forms that a matrix may take, each a rule of a recipe."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from intaglio.errors import UsageError
from intaglio.formats import Floating, Integer
from intaglio.recipe import Rule, load_recipe
from intaglio.solvers import Clip, Obs
from intaglio.terms import Dense

DEFAULT = ("int2", "int3", "int4", "int8", "float16")
GROUP = 64
PLAIN = {"float16": Floating("float16"), "bfloat16": Floating("bfloat16")}


class Candidate(NamedTuple):
    """A name, and the rule without what it matches."""

    name: str
    rule: Rule


def named(names: Iterable[str]) -> tuple[Candidate, ...]:
    """`int4`: groups of 64, clipped, with error feedback; `float16`; of a recipe the first rule alone."""
    found = tuple(Candidate(name, _rule(name)) for name in dict.fromkeys(names))
    if len(found) < 2:
        raise UsageError(f"a search needs at least two candidates to choose from, got {len(found)}")
    return found


def _rule(name: str) -> Rule:
    if bits := re.fullmatch(r"int([2-8])", name):
        form = Integer(bits=int(bits[1]), group_size=GROUP)
        return Rule(terms=(Dense(form),), solver=Obs(), clip=Clip())
    if name in PLAIN:
        return Rule(terms=(Dense(PLAIN[name]),))
    rule = load_recipe(name).weights[0]
    if not rule.terms:
        raise UsageError(f"candidate {name}: its first rule has no terms")
    return replace(rule, match=("linear",), layers=None)
