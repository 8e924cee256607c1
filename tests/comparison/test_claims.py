"""Claims beside measured numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from intaglio.comparison.claims import judge, missing
from intaglio.recipe import Claim, load_recipe, shipped

MAKEFILE = Path(__file__).parents[2] / "Makefile"


class Numbers(NamedTuple):
    bits_per_weight: float
    perplexity: float
    kl_mean: float | None = None


FULL, RTN = Numbers(16, 10.0), Numbers(5, 14.4)


def holds(claim: Claim, perplexity: float, others: dict[str, Numbers] | None = None) -> bool | None:
    known = {"rtn": RTN} if others is None else others
    (verdict,) = judge([claim], Numbers(5, perplexity), known, FULL)
    return verdict.holds


def test_better_than_needs_a_lower_value() -> None:
    claim = Claim(metric="perplexity", better_than="rtn")
    assert holds(claim, 14.3) is True
    assert holds(claim, 14.4) is False
    assert holds(Claim(metric="bits_per_weight", better_than="rtn"), 11) is False


def test_closes_is_a_share_of_the_logarithm() -> None:
    """12 halves the way from ln 14.4 to ln 10."""
    claim = Claim(metric="perplexity", better_than="rtn", closes=0.5)
    assert holds(claim, 11.99) is True
    assert holds(claim, 12.1) is False
    (verdict,) = judge([claim], Numbers(5, 11.99), {"rtn": RTN}, FULL)
    assert verdict.claim == "closes 50% of the gap that rtn leaves: 50%"


def test_within_is_relative_to_the_original() -> None:
    claim = Claim(metric="perplexity", within=0.01)
    assert holds(claim, 10.09) is True
    assert holds(claim, 10.11) is False


def test_divergence_tells_apart_what_perplexity_does_not() -> None:
    claim = Claim(metric="kl_mean", better_than="rtn")

    def verdict(own: float | None, other: float | None) -> bool | None:
        return judge([claim], Numbers(8, 10, own), {"rtn": Numbers(8, 10, other)}, FULL)[0].holds

    assert verdict(0.003, 0.005) is True
    assert verdict(0.005, 0.003) is False
    assert verdict(0.003, None) is verdict(None, 0.005) is None


def test_without_the_other_nothing_is_said() -> None:
    assert holds(Claim(metric="perplexity", better_than="rtn"), 11, {}) is None
    assert holds(Claim(metric="perplexity", better_than="rtn", closes=0.5), 11, {}) is None


def test_missing_is_what_claims_name_and_what_theirs_do() -> None:
    assert missing([load_recipe("awq-w3")]) == ["rtn-w3", "rtn-w4"]
    assert missing([load_recipe("awq-w3"), load_recipe("rtn-w3")]) == ["rtn-w4"]
    assert missing([load_recipe(name) for name in ("awq-w3", "rtn-w3", "rtn-w4")]) == []
    assert missing([load_recipe("spqr-w4")]) == ["gptq-w4", "rtn-w3", "rtn-w4"]
    assert missing([load_recipe("rtn-w8a8")]) == []


def test_missing_may_be_a_recipe_that_nobody_ships() -> None:
    claims = (Claim(metric="perplexity", better_than="mine"), Claim(metric="perplexity", better_than="twin"))
    twin = replace(load_recipe("rtn-w4"), name="twin", claims=claims)
    assert missing([twin]) == ["mine"]


def test_all_that_are_shipped_examine_each_other() -> None:
    assert missing(shipped()) == []


def test_make_claims_compares_whatever_its_recipes_claim_to_beat() -> None:
    text = MAKEFILE.read_text().replace("$\\\n", "")
    found = [re.search(rf"^{name} +:= (.*)$", text, re.MULTILINE) for name in ("CLAIMED", "RUNGS")]
    names, rungs = (re.sub(r"\s", "", one[1]).split(",") for one in found if one is not None)
    assert "rtn-w3" in names
    recipes = [load_recipe(name) for name in names]
    assert missing(recipes) == []
    assert missing([*recipes, *(load_recipe(MAKEFILE.parent / rung) for rung in rungs)]) == []
