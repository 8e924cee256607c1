"""Groups are dropped where the others can make up for them, and the others do."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from intaglio import terms
from intaglio.formats import Integer, groups
from intaglio.solvers import Clip, GroupObs, GroupPrune, Spqr
from intaglio.solvers.group_obs import prices
from intaglio.solvers.least_squares import least_squares
from intaglio.solvers.walk import Walk
from intaglio.terms import Dense, GroupSparse, Metric
from tests.solvers.test_group_prune import case, kept
from tests.solvers.test_obs import correlated, weights


def damped(h: Tensor, damp: float = 0.01) -> Tensor:
    """As solvers see it, float64."""
    return h.double() + damp * h.diagonal().double().mean() * torch.eye(len(h), dtype=torch.float64)


def left(w: Tensor, free: Tensor, h: Tensor) -> Tensor:
    """The least error of one row w (in,) that may be other than zero where `free` (in,)."""
    gone = ~free
    inverse = torch.linalg.inv(h)[gone][:, gone]
    return w[gone].double() @ torch.linalg.solve(inverse, w[gone].double())


def test_a_group_costs_what_is_left_when_all_others_make_up_for_it() -> None:
    w, h = weights(5, 70), correlated(70)
    walk = Walk.over(h, 16, 0.01, 128, "activation")
    found = torch.stack([price.rows(w[:, inputs]) for inputs, price in prices(walk)], dim=1)
    for g in range(5):
        free = torch.ones(70, dtype=torch.bool)
        free[16 * g : 16 * g + 16] = False
        expected = torch.stack([left(row, free, damped(h)) for row in w])
        torch.testing.assert_close(found[:, g].double(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("sparsity", [0.2, 0.5])
def test_kept_weights_stand_nearly_where_least_squares_puts_them(sparsity: float) -> None:
    w, h = weights(6, 192), correlated(192)
    coded = GroupObs().solve(w, (GroupSparse(sparsity, bits=16),), Metric(h))
    delta = terms.decode(coded).double() - w
    found = ((delta @ damped(h)) * delta).sum(1)
    stays = torch.from_numpy(kept(coded)).repeat_interleave(16, 1)
    expected = torch.stack([left(row, free, damped(h)) for row, free in zip(w, stays, strict=True)])
    assert (found <= 1.02 * expected).all()


def test_every_step_of_descent_leaves_less() -> None:
    w, h = weights(6, 96), damped(correlated(96)).float()
    stays = torch.rand(6, 96, generator=torch.Generator().manual_seed(1)) < 0.5
    errors = [Metric(h).error(least_squares(w, w, stays, h, steps) - w) for steps in range(12)]
    assert all(after < before for before, after in pairwise(errors))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bits", [3, 4, 16])
@pytest.mark.parametrize("sparsity", [0.2, 0.5])
def test_loses_less_than_half_of_what_is_lost_when_nothing_makes_up(
    sparsity: float, bits: int, seed: int
) -> None:
    w, h, term = weights(32, 160, seed), correlated(160, seed), (GroupSparse(sparsity, bits=bits),)  # type: ignore[arg-type]
    found = GroupObs().solve(w, term, Metric(h)).notes["error"]
    assert found < 0.5 * GroupPrune().solve(w, term, Metric(h)).notes["error"]


def test_rounding_and_what_it_moves_the_zeros_by_are_made_up_for_too() -> None:
    """At 2 bits the rounding of what is left would be most of the error."""
    w, h, term = weights(32, 160), correlated(160), (GroupSparse(0.5, bits=2),)
    found = GroupObs().solve(w, term, Metric(h))
    pruned = terms.decode(GroupObs().solve(w, (GroupSparse(0.5, bits=16),), Metric(h)))
    fmt = Integer(2, group_size=16)
    tables = fmt.fit(pruned)
    nearest = fmt.decode(fmt.encode(pruned, tables), tables)
    assert found.notes["error"] < 0.3 * Metric(h).relative(w, w - nearest)


@given(
    rows=st.integers(1, 7),
    cols=st.integers(2, 70),
    size=st.sampled_from([1, 7, 16, 64]),
    sparsity=st.floats(0, 0.9),
    tokens=st.integers(1, 200),
)
@settings(deadline=None, max_examples=40)
def test_never_loses_more_than_without_compensation(
    rows: int, cols: int, size: int, sparsity: float, tokens: int
) -> None:
    """Even of inputs of which few were seen, but for the damping, on whatever groups."""
    w, metric, term = (
        weights(rows, cols),
        Metric(correlated(cols, tokens=tokens)),
        GroupSparse(sparsity, 16, size),
    )
    found = GroupObs().solve(w, (term,), metric).notes["error"]
    assert found <= 1.001 * GroupPrune().solve(w, (term,), metric).notes["error"] + 1e-3


@pytest.mark.parametrize("bits", [4, 16])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.2, 0.5, 0.9])
def test_every_row_keeps_as_many_groups_whole(sparsity: float, bits: int) -> None:
    w, metric = case()
    coded = GroupObs().solve(w, (GroupSparse(sparsity, bits=bits),), metric)  # type: ignore[arg-type]
    mask, decoded = kept(coded), terms.decode(coded).numpy().reshape(48, 8, 16)
    assert (mask.sum(1) == max(1, round((1 - sparsity) * 8))).all()
    assert not decoded[~mask].any()
    assert (decoded[mask] != 0).any(1).all()


def test_a_matrix_as_a_whole_may_choose() -> None:
    w, metric = case()
    w[:4] *= 100
    counts = kept(GroupObs(balance="matrix").solve(w, (GroupSparse(0.5),), metric)).sum(1)
    assert counts.sum() == 48 * 8 // 2
    assert (counts[:4] == 8).all()


def test_a_few_at_a_time_are_better_chosen() -> None:
    """Two inputs that say the same: either may go, not both."""
    gen = torch.Generator().manual_seed(0)
    x = torch.randn(400, 64, generator=gen).repeat(1, 2) + 0.1 * torch.randn(400, 128, generator=gen)
    w, metric = weights(16, 128), Metric(x.T @ x / len(x))
    term = (GroupSparse(0.5, bits=16),)
    gradual, at_once = (GroupObs(rounds=n).solve(w, term, metric).notes["error"] for n in (8, 1))
    assert gradual < 0.3 * at_once


@pytest.mark.parametrize("clip", [None, Clip()], ids=repr)
def test_nothing_dropped_is_feedback_in_groups(clip: Clip | None) -> None:
    w, h = weights(33, 100), correlated(100)
    sparse = GroupObs().solve(w, (GroupSparse(0.0),), Metric(h), clip=clip)
    dense = Spqr(damp=0.01).solve(w, (Dense(Integer(4, group_size=16)),), Metric(h), clip=clip)
    assert torch.equal(terms.decode(sparse), terms.decode(dense))


@pytest.mark.parametrize("metric", [Metric(), Metric(torch.rand(128) + 0.1)], ids=["none", "diagonal"])
def test_inputs_that_have_nothing_in_common_are_as_without(metric: Metric) -> None:
    w, _ = case()
    found, plain = (s.solve(w, (GroupSparse(0.5),), metric) for s in (GroupObs(), GroupPrune()))
    assert all(np.array_equal(found.state[name], array) for name, array in plain.state.items())


def test_inputs_that_were_never_seen() -> None:
    h = correlated(64)
    h[:20] = h[:, :20] = 0
    for statistics in (h, torch.zeros(64, 64)):
        decoded = terms.decode(GroupObs().solve(weights(8, 64), (GroupSparse(0.5),), Metric(statistics)))
        assert bool(decoded.isfinite().all())
        assert ((groups.split(decoded, 16) != 0).any(2).sum(1) == 2).all()
