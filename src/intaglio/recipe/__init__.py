"""A recipe: which transforms, terms, solvers and cache make a compressed model, as typed frozen structs.

The published systems are data in `intaglio/recipes/*.yaml`.
"""

from intaglio.recipe.read import dump_coding, dump_recipe, load_recipe, shipped, shipped_names
from intaglio.recipe.rules import Site, assign, sites
from intaglio.recipe.schema import Calibration, Claim, Limits, Recipe, Rule, Search, json_schema

__all__ = [
    "Calibration",
    "Claim",
    "Limits",
    "Recipe",
    "Rule",
    "Search",
    "Site",
    "assign",
    "dump_coding",
    "dump_recipe",
    "json_schema",
    "load_recipe",
    "shipped",
    "shipped_names",
    "sites",
]
