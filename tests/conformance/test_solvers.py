"""What every solver must do with every sum of terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from intaglio import terms
from intaglio.errors import IntaglioError
from intaglio.formats import Bilevel, Floating, Integer, TwoLevel
from intaglio.solvers import (
    Alternate,
    Clip,
    Greedy,
    GroupObs,
    GroupPrune,
    Hqq,
    KMeans,
    Ksvd,
    Obs,
    Prune,
    Ptqtp,
    Solver,
    Spqr,
)
from intaglio.terms import (
    NM,
    Codebook,
    Coded,
    Dense,
    DenseSparse,
    Dictionary,
    GroupSparse,
    LowRank,
    Metric,
    Outliers,
    Sparse,
    Term,
    TritPlanes,
)

Sum = tuple[Term, ...]
DENSE: list[Sum] = [
    (Dense(Integer(4, group_size=16)),),
    (Dense(Integer(8, symmetric=True)),),
    (Dense(TwoLevel(3, group_size=16)),),
    (Dense(Floating("bfloat16")),),
    (Dense(Bilevel(3)),),
    (Dense(Integer(2, group_size=16)), Dense(Integer(2, group_size=16))),
]
COMPENSATED: Sum = (Dense(Integer(3, group_size=16, zero="float16")), LowRank(2))
APART: Sum = (Dense(Bilevel(3, group_size=8)), Outliers(0.02))
TABLES: Sum = (Outliers(0.02), Codebook(2))
GROUPS: Sum = (GroupSparse(0.2), Dense(Integer(4, group_size=16)))
SERIES: Sum = (NM(4, 8), NM(2, 8, "int8"))
PLANES: Sum = (TritPlanes(2, group_size=16),)
BASES: Sum = (DenseSparse(0.3, width=16, basis=8), LowRank(1))
BINS: Sum = (DenseSparse(0.5, width=16, basis=8, per_bin=2),)
OTHERS: list[Sum] = [
    *(COMPENSATED, APART, TABLES, GROUPS, SERIES, PLANES, BASES, BINS),
    *((Codebook(3),), (Sparse(0.7),), (Dictionary(0.2),)),
]
# what each solver is for; what it is not for is found the natural way
CASES: list[tuple[Solver, list[Sum]]] = [
    (Greedy(), [*DENSE, *OTHERS]),
    (Obs(), [*DENSE, COMPENSATED, APART]),
    (Obs(order="natural"), DENSE[:3]),
    (Obs(order="natural", grid="moving", block=16), DENSE[:3]),
    (KMeans(), [DENSE[0], TABLES, (Codebook(3),)]),
    (GroupPrune("obs"), [DENSE[0], GROUPS]),
    (GroupPrune("magnitude", balance="matrix"), [GROUPS]),
    (GroupObs(), [DENSE[0], GROUPS]),
    (GroupObs(rounds=3, balance="matrix", block=16), [GROUPS]),
    (Spqr(), [DENSE[0], APART]),
    (Spqr(0.05, order="natural", block=16), [APART]),
    (Prune("magnitude"), [SERIES, (Sparse(0.7),)]),
    (Prune("wanda"), [DENSE[0], SERIES]),
    (Prune("sparsegpt", block=16), [SERIES, (Sparse(0.7),)]),
    (Hqq(), [DENSE[0], COMPENSATED]),
    (Alternate(rounds=3), [DENSE[0], COMPENSATED]),
    (Alternate(rounds=2, inner=Obs()), [DENSE[0], COMPENSATED[::-1]]),
    (Alternate(rounds=2, inner=Spqr()), [(LowRank(2), Dense(Bilevel(3, group_size=8)))]),
    (Ptqtp(weighted=True), [DENSE[0], PLANES]),
    (Ksvd(sweeps=3, picks=2), [DENSE[0], (Dictionary(0.2),), BASES, BINS]),
]
SHAPES = [(1, 1), (3, 17), (13, 64), (5, 67)]


@dataclass(frozen=True)
class Case:
    solver: Solver
    terms: tuple[Term, ...]
    w: Tensor
    h: Tensor

    def solve(self, clip: Clip | None = None) -> Coded:
        return self.solver.solve(self.w, self.terms, Metric(self.h), clip=clip, bias=torch.ones(len(self.w)))


def keeps_shape(case: Case) -> None:
    coded = case.solve()
    assert coded.shape == tuple(case.w.shape)
    assert terms.decode(coded).shape == case.w.shape
    assert coded.bias is not None
    assert coded.bias.dtype == np.float32


def is_deterministic(case: Case) -> None:
    w, h = case.w.clone(), case.h.clone()
    first, second = case.solve(Clip()), case.solve(Clip())
    assert all(np.array_equal(first.state[name], second.state[name]) for name in first.state)
    assert torch.equal(case.w, w)
    assert torch.equal(case.h, h)


def is_valid_and_counts_its_bits(case: Case) -> None:
    coded = case.solve(Clip())
    terms.validate(coded)
    assert terms.nbits(coded) == 8 * coded.nbytes


def measures_its_error(case: Case) -> None:
    coded = case.solve()
    assert coded.notes["error"] == pytest.approx(
        Metric(case.h).relative(case.w, case.w - terms.decode(coded)), rel=1e-3, abs=1e-9
    )
    assert 0 <= coded.notes["error"] < 0.5


def refuses_broken_weights(case: Case) -> None:
    w = case.w.clone()
    w[0, 0] = torch.nan
    with pytest.raises(IntaglioError, match=r"layer 3 q: 1 of \d+ weights are NaN or infinite"):
        case.solver.solve(w, case.terms, Metric(case.h), name="layer 3 q")


def refuses_broken_statistics(case: Case) -> None:
    h = case.h.clone()
    h[0, 0] = torch.inf
    with pytest.raises(IntaglioError, match=r"matrix: 1 of \d+ input statistics \(Hessian\) are NaN"):
        case.solver.solve(case.w, case.terms, Metric(h))
    with pytest.raises(IntaglioError, match="statistics of shape"):
        case.solver.solve(case.w, case.terms, Metric(torch.eye(case.w.shape[1] + 1)))


def takes_half_precision(case: Case) -> None:
    coded = case.solver.solve(case.w.bfloat16(), case.terms, Metric(case.h.double()))
    terms.validate(coded)
    assert coded.notes["error"] < 0.5


def survives_yaml(case: Case) -> None:
    assert msgspec.yaml.decode(msgspec.yaml.encode(case.solver), type=Solver) == case.solver
    assert msgspec.yaml.decode(msgspec.yaml.encode(case.terms), type=tuple[Term, ...]) == case.terms


CHECKS = [
    keeps_shape,
    is_deterministic,
    is_valid_and_counts_its_bits,
    measures_its_error,
    refuses_broken_weights,
    refuses_broken_statistics,
    takes_half_precision,
    survives_yaml,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("solver", "sum_"), [(solver, one) for solver, sums in CASES for one in sums], ids=repr
)
def test_solver(solver: Solver, sum_: Sum, shape: tuple[int, int], check: Callable[[Case], None]) -> None:
    gen = torch.Generator().manual_seed(sum(shape))
    x = torch.randn(80, shape[1], generator=gen) @ torch.randn(shape[1], shape[1], generator=gen)
    check(Case(solver, sum_, torch.randn(shape, generator=gen), x.T @ x / len(x)))


def test_a_second_term_codes_what_the_first_left() -> None:
    w = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    one, two = (Greedy().solve(w, (Dense(Integer(2, group_size=16)),) * n, Metric()) for n in (1, 2))
    assert two.notes["error"] < one.notes["error"] / 4
    assert torch.allclose(
        terms.decode(two), terms.decode(one) + two.terms[1].decode(two.term_state(1), two.shape)
    )


def test_a_vector_or_no_terms_is_refused() -> None:
    with pytest.raises(IntaglioError, match="need a matrix"):
        Greedy().solve(torch.ones(3), (Dense(Integer(4)),), Metric())
    with pytest.raises(IntaglioError, match="0 terms"):
        Greedy().solve(torch.ones(3, 3), (), Metric())
