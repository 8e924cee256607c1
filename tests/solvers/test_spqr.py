"""Spqr: what SpQR's authors say of it, in miniature."""

from __future__ import annotations

import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch import Tensor

from intaglio import terms
from intaglio.formats import Bilevel, Integer
from intaglio.solvers import Greedy, Obs, Spqr
from intaglio.solvers.isolate import spared, without_outliers
from intaglio.solvers.statistics import best_pairs
from intaglio.terms import Coded, Dense, Metric, Outliers, Term
from tests.solvers.test_obs import correlated, weights

BOTH: tuple[Term, ...] = (Dense(Bilevel()), Outliers())
ALONE: tuple[Term, ...] = (Dense(Bilevel()),)


def solved(solver: Spqr | Obs, w: Tensor, h: Tensor, sum_: tuple[Term, ...] = BOTH) -> Coded:
    return solver.solve(w, sum_, Metric(h))


def kept(coded: Coded) -> set[int]:
    """Places of the outliers."""
    return set(np.flatnonzero(coded.terms[1].decode(coded.term_state(1), coded.shape).numpy()).tolist())


def test_a_smaller_tau_isolates_more_and_loses_less() -> None:
    w, h = weights(48, 130), correlated(130)
    found = [solved(Spqr(tau), w, h).notes for tau in (1.0, 0.3, 0.1, 0.03)]
    assert all(a["outliers"] < b["outliers"] for a, b in pairwise(found))
    assert all(a["error"] > b["error"] for a, b in pairwise(found))


def test_without_outliers_it_is_obs_with_moving_grids() -> None:
    w, h = weights(33, 100), correlated(100)
    plain = Spqr(math.inf, damp=0.01, order="natural", block=16, statistics="extent")
    found = solved(plain, w, h)
    expected = solved(Obs(damp=0.01, order="natural", grid="moving", block=16), w, h, ALONE)
    assert found.notes["outliers"] == 0
    assert all(np.array_equal(found.state[name], array) for name, array in expected.state.items())


@pytest.mark.parametrize("sum_", [(Dense(Integer(3)), Outliers()), (Dense(Integer(3)),)], ids=len)
def test_one_group_a_row_is_plain_gptq(sum_: tuple[Term, ...]) -> None:
    """However the inputs are ordered: their only group is fitted before any has moved."""
    w, h = weights(16, 96), correlated(96)
    found, expected = solved(Spqr(math.inf), w, h, sum_), solved(Obs(block=96), w, h, (Dense(Integer(3)),))
    assert all(np.array_equal(found.state[name], array) for name, array in expected.state.items())


@pytest.mark.parametrize("block", [1, 32, 50, 4096])
def test_the_block_is_only_a_matter_of_speed(block: int) -> None:
    w, h = weights(24, 150), correlated(150)
    whole, other = (solved(Spqr(block=size), w, h) for size in (128, block))
    assert len(kept(whole) ^ kept(other)) <= 0.02 * len(kept(whole))  # but for float32's order of sums
    assert other.notes["error"] == pytest.approx(whole.notes["error"], rel=0.02)


def test_planted_outliers_are_found() -> None:
    """One in a group at most: two of one sign hide each other from a search that leaves out one."""
    gen = torch.Generator().manual_seed(0)
    w = torch.randn(128, 256, generator=gen)
    group = torch.randperm(w.numel() // 16, generator=gen)[: w.numel() // 200]
    planted = 16 * group + torch.randint(16, group.shape, generator=gen)
    w.view(-1)[planted] = 20 * w.view(-1)[planted].sign()
    coded = solved(Spqr(), w, torch.eye(256))
    assert len(kept(coded) & set(planted.tolist())) >= 0.95 * len(planted)
    assert solved(Spqr(), w, torch.eye(256), ALONE).notes["error"] > 3 * coded.notes["error"]


def test_the_outliers_leave_nothing_to_make_up_for() -> None:
    """With every weight an outlier the sum is W, to float16 of what the codes miss."""
    w, h = weights(20, 40), correlated(40)
    coded = solved(Spqr(1e-12), w, h)
    assert coded.notes["outliers"] > 0.98
    assert torch.allclose(terms.decode(coded), w, atol=2e-3)


def test_small_groups_with_outliers_beat_the_same_bits_without() -> None:
    w, h = weights(64, 256), correlated(256)
    coded = solved(Spqr(0.25), w, h)
    bits = terms.nbits(coded) / w.numel()
    assert bits < 4.375
    four = (Dense(Integer(4, group_size=64)),)
    assert coded.notes["error"] < 0.5 * Greedy().solve(w, four, Metric(h)).notes["error"]
    assert (
        coded.notes["error"] < 0.6 * solved(Obs(), w, h, (Dense(Integer(3, group_size=64)),)).notes["error"]
    )


def test_every_step_helps() -> None:
    """Small groups, errors fed forward, both, coded statistics with few outliers, and with more of them."""
    w, h = weights(48, 192), correlated(192)
    wide, small = ((Dense(Integer(3, group_size=size, zero="float16")),) for size in (64, 16))
    rungs = {
        "rtn 64": Greedy().solve(w, wide, Metric(h)),
        "rtn 16": Greedy().solve(w, small, Metric(h)),
        "gptq 64": solved(Obs(), w, h, wide),
        "gptq 16": solved(Obs(), w, h, small),
        "tau 0.3": solved(Spqr(0.3), w, h),
        "tau 0.1": solved(Spqr(0.1), w, h),
    }
    errors = {name: coded.notes["error"] for name, coded in rungs.items()}
    assert list(errors.values()) == sorted(errors.values(), reverse=True), errors
    assert errors["tau 0.1"] < 0.2 * errors["rtn 64"]


@pytest.mark.parametrize(("bits", "shape"), [(3, (192, 576)), (4, (576, 1536))])
def test_measured_bits_are_the_formula(bits: int, shape: tuple[int, int]) -> None:
    share = 0.01
    formula = bits + (3 + 3) / 16 + 2 * (16 + 16) / (16 * 16) + 32 * share + 32 / shape[1]
    w = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    coded = Greedy().solve(w, (Outliers(share), Dense(Bilevel(bits))), Metric())
    assert terms.nbits(coded) / w.numel() == pytest.approx(formula, rel=0.01)


def test_activation_order_helps_when_a_few_groups_are_loud() -> None:
    w, h = weights(48, 192), correlated(192)
    h[160:] *= 10
    h[:, 160:] *= 10
    first, last = (solved(Spqr(damp=0.01, order=order), w, h, ALONE) for order in ("activation", "natural"))
    assert first.notes["error"] < last.notes["error"]


def test_a_weight_is_likely_where_the_others_suffer_from_it() -> None:
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    x[5, 1] = 30
    gain = spared(x, torch.ones(16), 3)
    assert int(gain[:, 1].argmax()) == 5
    assert float(gain[5, 1]) > 10 * float(gain[:, [0, 2]].max())
    left = without_outliers(x, torch.ones(16), 3, limit=float(gain[5, 1]) - 1e-3)
    assert torch.equal(left[:, [0, 2]], x[:, [0, 2]])
    assert float(left[5, 1]) == pytest.approx(float((x[:, 1].sum() - 30) / 15), abs=1e-6)


def test_leaving_one_out_is_what_it_says() -> None:
    """By the definition, weight by weight; ties of the least and the greatest among them."""
    x = torch.tensor([[0.0, 1.0], [0.0, 5.0], [1.3, 5.0], [2.9, 2.2], [4.0, 0.7]])
    cost = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0])

    def error(v: Tensor, c: Tensor) -> Tensor:
        step = (v.max() - v.min()) / 7
        return ((((v - v.min()) / step).round() * step + v.min() - v).square() * c).sum()

    for n in range(2):
        for j in range(5):
            others = [i for i in range(5) if i != j]
            expected = error(x[:, n], cost) - error(x[others, n], cost[others])
            assert float(spared(x, cost, 3)[j, n]) == pytest.approx(float(expected), abs=1e-5)


def test_pairs_of_codes_lose_a_fifth_less_than_the_nearest_of_each() -> None:
    """In the same bits; and fewer weights are outliers on the better grid."""
    w, h = weights(64, 256), correlated(256)
    for tau in (math.inf, 0.2):
        nearest, best = (solved(Spqr(tau, statistics=how), w, h) for how in ("extent", "searched"))  # type: ignore[arg-type]
        assert best.notes["error"] < 0.8 * nearest.notes["error"]
        assert best.notes["outliers"] <= 0.8 * nearest.notes["outliers"]


@pytest.mark.parametrize("limit", [math.inf, 0.3])
def test_no_pair_is_better(limit: float) -> None:
    """By the definition: each output with every scale and every zero of its run."""
    fmt, gen = Bilevel(2, group_size=16, scale_bits=2, zero_bits=3, rows=4), torch.Generator().manual_seed(0)
    x, cost = torch.randn(16, 6, generator=gen), torch.rand(16, generator=gen)
    tables = fmt.fit(x.t())
    found = best_pairs(x, fmt, tables, cost, limit)
    scale, zero = (tables[f"{name}_range"].float() for name in ("scale", "zero"))
    for n in range(6):
        errors = {}
        for a, b in product(range(4), range(8)):
            step = scale[n // 4, 0, 0] + scale[n // 4, 0, 1] * a
            middle = zero[n // 4, 0, 0] + zero[n // 4, 0, 1] * b
            rounded = ((x[:, n] / step + middle).round().clamp(0, 3) - middle) * step
            errors[a, b] = float(((rounded - x[:, n]).square() * cost).clamp(max=limit).sum())
        chosen = int(found["scale_code"][n, 0]), int(found["zero_code"][n, 0])
        assert errors[chosen] <= min(errors.values()) + 1e-5
    assert all(torch.equal(found[name], tables[name]) for name in ("scale_range", "zero_range"))


def test_fine_statistics_stay_the_nearest() -> None:
    x, fmt = torch.randn(16, 40), Bilevel(3, scale_bits=8, zero_bits=5)
    tables = fmt.fit(x.t())
    assert best_pairs(x, fmt, tables, torch.ones(16), math.inf) is tables
