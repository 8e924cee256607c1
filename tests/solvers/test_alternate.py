"""Alternate under the metric of the inputs: error feedback and the closest product, in turn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from torch import Tensor

from intaglio.formats import Bilevel, Floating, Integer
from intaglio.solvers import Alternate, Greedy, Hqq, Obs, Spqr
from intaglio.terms import Dense, LowRank, Metric, Term
from tests.solvers.test_hqq import heavy
from tests.solvers.test_obs import correlated, weights

INNER: list[tuple[Obs | Spqr, Dense]] = [
    (Obs(), Dense(Integer(3, group_size=64))),
    (Spqr(), Dense(Bilevel(3, group_size=64, scale_bits=4, zero_bits=4))),
]
EXACT = Floating("float32")
each = pytest.mark.parametrize(("inner", "dense"), INNER, ids=["obs", "spqr"])


def narrow(bits: int) -> Integer:
    return Integer(bits, symmetric=True, group_size=64)


def error(w: Tensor, h: Tensor, sum_: tuple[Term, ...], inner: Hqq | Obs | Spqr, rounds: int = 3) -> float:
    return Alternate(rounds=rounds, tolerance=0, inner=inner).solve(w, sum_, Metric(h)).notes["error"]


@each
def test_no_round_and_no_rank_does_harm(inner: Obs | Spqr, dense: Dense) -> None:
    """In the error of the outputs; alternation is worth a twentieth of it, a rank of 16 more than a third."""
    w, h = heavy(48, 128), correlated(128)
    rounds = [error(w, h, (LowRank(16, EXACT), dense), inner, n) for n in (1, 2, 4)]
    assert all(later <= 1.01 * earlier for earlier, later in pairwise(rounds))
    assert rounds[-1] < 0.95 * rounds[0]
    alone = inner.solve(w, (dense,), Metric(h)).notes["error"]
    ranks = [alone, *(error(w, h, (LowRank(r, EXACT), dense), inner) for r in (4, 16))]
    assert all(larger <= 1.01 * smaller for smaller, larger in pairwise(ranks))
    assert ranks[-1] < 0.65 * ranks[0]


@each
def test_without_a_rank_it_is_what_it_alternates(inner: Obs | Spqr, dense: Dense) -> None:
    w, h = weights(24, 130), correlated(130)
    alone, found = (s.solve(w, (dense,), Metric(h)) for s in (inner, Alternate(inner=inner)))
    assert all(np.array_equal(found.state[name], array) for name, array in alone.state.items())


@each
def test_it_beats_the_blind_and_both_terms_one_after_another(inner: Obs | Spqr, dense: Dense) -> None:
    w, h = heavy(48, 128), correlated(128)
    sum_ = (LowRank(8, narrow(8)), dense)
    found = error(w, h, sum_, inner)
    assert found < 0.5 * error(w, h, sum_, Hqq())
    assert found < 0.7 * Greedy().solve(w, sum_, Metric(h)).notes["error"]


def test_the_product_is_the_closest_in_the_outputs() -> None:
    """A rank alone is the truncated decomposition in whitened coordinates, nearly: it is drawn at random."""
    w, h = weights(64, 96), correlated(96)
    sum_ = (LowRank(8, EXACT),)
    best = Greedy().solve(w, sum_, Metric(h)).notes["error"]
    assert best <= error(w, h, sum_, Obs()) <= 1.03 * best
    assert error(w, h, sum_, Hqq()) > 1.2 * best


@each
def test_weights_behind_the_factors_make_up_for_their_rounding(inner: Obs | Spqr, dense: Dense) -> None:
    """In front of them they cannot: three bits then take a good part of what the product brings."""
    w, h = heavy(48, 128), correlated(128)

    def lost(bits: int, *, behind: bool) -> float:
        sum_: tuple[Term, ...] = (LowRank(16, narrow(bits)), dense)
        return error(w, h, sum_ if behind else sum_[::-1], inner)

    assert lost(3, behind=True) < 0.7 * lost(3, behind=False)
    assert lost(8, behind=True) == pytest.approx(lost(8, behind=False), rel=0.1)


@each
def test_what_it_finds_depends_on_the_inputs_and_it_says_so(inner: Obs | Spqr, dense: Dense) -> None:
    sum_ = (LowRank(2), dense)
    assert Alternate(inner=inner).reads_inputs(sum_, None)
    assert not Alternate().reads_inputs(sum_, None)
    w = weights(8, 64)
    one, other = (Alternate(inner=inner).solve(w, sum_, Metric(h)) for h in (None, correlated(64)))
    assert any(not np.array_equal(one.state[name], other.state[name]) for name in one.state)
