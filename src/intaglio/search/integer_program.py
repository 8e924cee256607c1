"""The choice of one candidate for each group, exactly: a multiple-choice knapsack as an integer program.

    min  sum_gc objective[g,c] x[g,c]
    s.t. sum_c x[g,c] = 1                      for every group g
         sum_gc cost[g,c] x[g,c] <= most       for every budget
         x binary

solved by branch and cut (HiGHS). Its tolerances are relative to the numbers it is given, so these are scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from intaglio.errors import IntaglioError
from intaglio.lazy import lazy
from intaglio.types import Array

if TYPE_CHECKING:
    from scipy import optimize, sparse
else:
    optimize = lazy("scipy.optimize", extra="search")
    sparse = lazy("scipy.sparse", extra="search")

TIGHTENED = 1e-6  # of a budget, each time that a solution exceeds it within the solver's tolerance


class Budget(NamedTuple):
    """`cost` (groups, candidates) summed over the choice is at most `most`."""

    cost: Array
    most: float


def choose(objective: Array, budgets: Sequence[Budget]) -> Array | None:
    """objective (groups, candidates) -> the candidate of each group (groups,); None if nothing fits."""
    shrink = 1.0
    for _ in range(20):
        choice = _solve(objective, [Budget(b.cost, b.most * shrink) for b in budgets])
        if choice is None or all(total(budget.cost, choice) <= budget.most for budget in budgets):
            return choice
        shrink -= TIGHTENED
    raise IntaglioError("the integer program has no solution that its solver can express exactly")


def total(cost: Array, choice: Array) -> float:
    """Summed over the groups."""
    return float(cost[np.arange(len(choice)), choice].sum())


def _solve(objective: Array, budgets: Sequence[Budget]) -> Array | None:
    groups, candidates = objective.shape
    one_each = sparse.kron(sparse.eye(groups), np.ones((1, candidates)), format="csr")
    constraints = [optimize.LinearConstraint(one_each, 1, 1)]
    for cost, most in budgets:
        if most <= 0:
            return None
        constraints.append(optimize.LinearConstraint(cost.reshape(1, -1) / most, -np.inf, 1))
    found = optimize.milp(
        objective.ravel() / (np.abs(objective).max() or 1.0),
        constraints=constraints,
        integrality=np.ones(objective.size),
        bounds=optimize.Bounds(0, 1),
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        return None
    chosen: Array = found.x.reshape(groups, candidates).argmax(1)
    return chosen
