"""Comparison: everything that was found, plain data that is printed, drawn and stored."""

from __future__ import annotations

import msgspec

from intaglio.compression.report import SiteReport
from intaglio.evaluation import Result


class Verdict(msgspec.Struct, frozen=True):
    """A claim of a recipe, and whether this run bears it out; None: what it names was not compared."""

    claim: str
    holds: bool | None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One recipe. Without a result, `failure` says why. A site's `error` is a share of its output's power."""

    recipe: str
    summary: str
    commands: tuple[str, ...]
    result: Result | None = None
    failure: str | None = None
    sites: tuple[SiteReport, ...] = ()
    claims: tuple[Verdict, ...] = ()
    baseline: bool = False  # it merely rounds to nearest
    dominated_by: tuple[str, ...] = ()  # recipes of no more bits and less perplexity, the best first
    over_budget: bool = False


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """`best`: the recipe of the least perplexity within the budget."""

    model: str
    command: str
    original: Result
    rows: tuple[Row, ...]
    budget_bits: float | None
    best: str | None
    calibration: str
    versions: dict[str, str]

    @property
    def measured(self) -> dict[str, Result]:
        """Recipe -> its numbers, of those that did not fail."""
        return {row.recipe: row.result for row in self.rows if row.result is not None}

    def row(self, recipe: str) -> Row:
        """By the name of its recipe."""
        return next(row for row in self.rows if row.recipe == recipe)
