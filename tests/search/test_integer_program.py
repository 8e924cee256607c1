"""The integer program: exact beside brute force, and never over a budget."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.search.integer_program import Budget, choose, total
from intaglio.types import Array

pytest.importorskip("scipy")


def brute(objective: Array, budgets: list[Budget]) -> float | None:
    """The least objective over all choices that fit."""
    groups, candidates = objective.shape
    every = (np.array(choice) for choice in itertools.product(range(candidates), repeat=groups))
    fitting = (c for c in every if all(total(b.cost, c) <= b.most for b in budgets))
    return min((total(objective, choice) for choice in fitting), default=None)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(2, 4), st.integers(0, 3))
def test_it_finds_what_trying_everything_finds(seed: int, groups: int, candidates: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    objective = 10.0 ** draw.uniform(-6, 0, (groups, candidates))
    budgets = []
    for _ in range(count):
        cost = draw.integers(1, 10**7, (groups, candidates)).astype(float)
        low, high = cost.min(1).sum(), cost.max(1).sum()
        budgets.append(Budget(cost, float(low + draw.uniform(-0.1, 1) * (high - low))))
    expected, choice = brute(objective, budgets), choose(objective, budgets)
    if expected is None:
        assert choice is None
        return
    assert choice is not None
    assert all(total(budget.cost, choice) <= budget.most for budget in budgets)
    assert total(objective, choice) == pytest.approx(expected, rel=1e-5)


def test_a_budget_is_kept_to_the_byte() -> None:
    """The solver's tolerance is relative: of a gigabyte it would forgive a kilobyte."""
    cost = np.array([[10**9, 10**9 + 1]], float)
    loss = np.array([[1.0, 0.0]])
    assert choose(loss, [Budget(cost, 1e9)]) == [0]
    assert choose(loss, [Budget(cost, 1e9 + 1)]) == [1]
    assert choose(loss, [Budget(cost, 1e9 - 1)]) is None
    assert choose(loss, [Budget(cost, -1.0)]) is None
