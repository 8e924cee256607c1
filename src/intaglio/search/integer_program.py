"""The choice of one candidate for each group, exactly: a multiple-choice knapsack as an integer program.

    min  sum_gc objective[g,c] x[g,c]
    s.t. sum_c x[g,c] = 1                      for every group g
         sum_gc cost[g,c] x[g,c] <= most       for every budget
         x binary

solved by branch and cut (HiGHS). A group's least cost is spent in any case, and taken off both sides: the
solver's tolerances are absolute, and become a millionth of one group's differences, or less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from intaglio.errors import IntaglioError
from intaglio.lazy import lazy
from intaglio.search.silence import silence
from intaglio.types import Array

if TYPE_CHECKING:
    from scipy import optimize, sparse
else:
    optimize = lazy("scipy.optimize", extra="search")
    sparse = lazy("scipy.sparse", extra="search")

TIGHTENED = 2e-6  # of the largest difference, each time that a solution exceeds a budget within the tolerance

WORTH = 1e4  # of the largest difference of the objective: the solver stops within 1e-6 of the best


class Budget(NamedTuple):
    """`cost` (groups, candidates) summed over the choice is at most `most`."""

    cost: Array
    most: float


def ready() -> None:
    """Raises MissingExtra where SciPy is not installed: before long work, not after it."""
    optimize.milp  # noqa: B018 - lazy: to ask is to import


def choose(objective: Array, budgets: Sequence[Budget]) -> Array | None:
    """objective (groups, candidates) -> the candidate of each group (groups,); None if nothing fits."""
    rows = [_Row.of(budget) for budget in budgets]
    for _ in range(20):
        if any(row.most < 0 for row in rows):
            return None
        choice = _solve(objective, rows)
        if choice is None or all(total(budget.cost, choice) <= budget.most for budget in budgets):
            return choice
        rows = [row._replace(most=row.most - TIGHTENED) for row in rows]
    raise IntaglioError("the integer program has no solution that its solver can express exactly")


def total(cost: Array, choice: Array) -> float:
    """Summed over the groups."""
    return float(cost[np.arange(len(choice)), choice].sum())


class _Row(NamedTuple):
    """A budget beyond the least costs, in units of the largest difference."""

    cost: Array
    most: float

    @classmethod
    def of(cls, budget: Budget) -> _Row:
        beyond, unit = _beyond(budget.cost)
        return cls(beyond, float(budget.most - budget.cost.min(1).sum()) / unit)


def _beyond(cost: Array) -> tuple[Array, float]:
    """What each candidate costs beyond the group's least, in units of the largest difference; that unit."""
    beyond = cost - cost.min(1, keepdims=True)
    unit = float(beyond.max()) or 1.0
    return beyond / unit, unit


def _solve(objective: Array, rows: Sequence[_Row]) -> Array | None:
    groups, candidates = objective.shape
    one_each = sparse.kron(sparse.eye(groups), np.ones((1, candidates)), format="csr")
    constraints = [optimize.LinearConstraint(one_each, 1, 1)]
    constraints += [optimize.LinearConstraint(row.cost.reshape(1, -1), -np.inf, row.most) for row in rows]
    with silence():
        found = optimize.milp(
            WORTH * _beyond(objective)[0].ravel(),
            constraints=constraints,
            integrality=np.ones(objective.size),
            bounds=optimize.Bounds(0, 1),
            options={"mip_rel_gap": 0.0},
        )
    if found.x is None:
        return None
    chosen: Array = found.x.reshape(groups, candidates).argmax(1)
    return chosen
