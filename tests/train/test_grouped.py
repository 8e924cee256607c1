"""Matrices in training: forward what they will be stored as, backward what rounding lets through."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from intaglio import terms
from intaglio.formats import Bsr, Floating, Integer
from intaglio.solvers import Greedy
from intaglio.terms import Coded, Dense, GroupSparse, LowRank, Metric, Term
from intaglio.train.grouped import Grouped, grouped

EXAMPLES: list[Term] = [
    GroupSparse(0.5),
    GroupSparse(0.3, bits=2, group_size=24),
    Dense(Integer(4, group_size=16)),
    Dense(Integer(2, group_size=64)),
    Dense(Integer(3, symmetric=True, group_size=16)),
    Dense(Integer(8)),
]


def weights() -> torch.Tensor:
    return torch.randn(17, 67, generator=torch.Generator().manual_seed(0))


def found(term: Term) -> tuple[Coded, Grouped]:
    coded = Greedy().solve(weights(), (term,), Metric(), bias=torch.ones(17))
    made = grouped(coded)
    assert made
    return coded, made


@pytest.mark.parametrize("term", EXAMPLES, ids=repr)
class TestGrouped:
    def test_starts_as_what_is_stored(self, term: Term) -> None:
        coded, made = found(term)
        w = terms.decode(coded)
        torch.testing.assert_close(made.decode(made.scale), w, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(made.rounded(weights(), made.scale, made.zero), w, rtol=1e-5, atol=1e-6)

    def test_stores_what_it_computes(self, term: Term) -> None:
        """Of changed weights, scales and zero points, but for the rounding of scales to float16."""
        _, made = found(term)
        gen = torch.Generator().manual_seed(1)
        w = weights() + 0.1 * torch.randn(weights().shape, generator=gen)
        scale = (made.scale * (1 + 0.1 * torch.rand(made.scale.shape, generator=gen))).half().float()
        zero = made.zero + 2 * torch.rand(made.zero.shape, generator=gen) - 1
        coded = made.refitted(w, scale, zero, {"x": 1.0})
        terms.validate(coded)
        assert coded.notes["x"] == 1
        assert coded.bias is not None
        torch.testing.assert_close(made.rounded(w, scale, zero), terms.decode(coded), rtol=1e-5, atol=1e-6)
        again = made.rescaled(scale, {})
        torch.testing.assert_close(made.decode(scale), terms.decode(again), rtol=1e-5, atol=1e-6)
        tables = {"0.scale", "scale"}
        assert all(np.array_equal(again.state[n], a) for n, a in made.coded.state.items() if n not in tables)

    def test_begins_where_the_weights_were_if_they_are_rounded_to_what_was_found(self, term: Term) -> None:
        """Codes moved by a solver are what training begins with: a grid point of their own each."""
        _, made = found(term)
        kept = made.decode(made.scale) != 0
        assert torch.equal(made.latent(weights())[kept], weights()[kept])
        moved = weights() + 0.2 * torch.randn(17, 67, generator=torch.Generator().manual_seed(2))
        again = made.refitted(moved, made.scale, made.zero, {})
        start = grouped(again)
        assert start
        latent = start.latent(weights())
        torch.testing.assert_close(
            start.rounded(latent, start.scale, start.zero), terms.decode(again), rtol=1e-5, atol=1e-6
        )
        assert 0.05 < (latent != weights())[kept].double().mean() < 0.95

    def test_a_hopeless_scale_is_stored_as_a_valid_one(self, term: Term) -> None:
        _, made = found(term)
        terms.validate(made.refitted(weights(), -made.scale, made.zero - 100, {}))


def test_what_is_dropped_gets_no_gradient() -> None:
    coded, made = found(GroupSparse(0.5))
    w, scale, zero = (t.clone().requires_grad_() for t in (weights(), made.scale, made.zero))
    made.rounded(w, scale, zero).square().sum().backward()  # type: ignore[no-untyped-call]
    kept = torch.from_numpy(Bsr(4, 16).kept(coded.term_state(0), coded.shape))
    assert w.grad is not None
    assert scale.grad is not None
    assert zero.grad is not None
    assert not w.grad[~kept.repeat_interleave(16, 1)[:, :67]].any()
    assert not scale.grad[~kept].any()
    assert not zero.grad[~kept].any()
    assert (w.grad[kept.repeat_interleave(16, 1)[:, :67]] != 0).double().mean() > 0.8
    assert scale.grad[kept].any()


@pytest.mark.parametrize(
    "sum_", [(Dense(Floating("float16")),), (GroupSparse(0.5, bits=16),), (Dense(Integer(4)), LowRank(2))]
)
def test_other_sums_are_left_alone(sum_: tuple[Term, ...]) -> None:
    assert grouped(Greedy().solve(weights(), sum_, Metric())) is None
