"""Bases cut into bins: a row uses one vector of each, and its places cost the logarithm of a bin."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from intaglio import _native, terms
from intaglio.errors import IntaglioError
from intaglio.formats.bits import to_stream
from intaglio.kernels import cpu
from intaglio.solvers import Greedy, Ksvd
from intaglio.solvers.learning import Learning, learn
from intaglio.terms import Coded, DenseSparse, LowRank, Metric

BINNED = [
    DenseSparse(0.5, width=16, basis=24, per_bin=4),
    DenseSparse(0.4, width=24, basis=50, per_bin=3),
    DenseSparse(0.6, width=200, basis=20, per_bin=5, bits=14),  # one block
]
SHAPES = [(1, 1), (3, 17), (61, 67), (64, 96)]


def matrix(rows: int, cols: int) -> Tensor:
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(rows + cols))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("term", BINNED, ids=repr)
def test_every_row_has_one_of_each_bin(term: DenseSparse, shape: tuple[int, int]) -> None:
    coded = Ksvd(sweeps=3, picks=2).solve(matrix(*shape), (term,), Metric())
    terms.validate(coded)
    basis, nonzeros, per_bin = term.sizes(shape)
    blocks = -(-shape[1] // term.width)
    assert basis == nonzeros * per_bin <= min(term.basis, shape[0])
    codes = term.factors(shape)[-1]
    columns, _ = term.codes(shape).parts(codes.state(coded.term_state(0)), codes.shape)
    assert (columns // per_bin == np.arange(blocks * nonzeros)).all()
    assert coded.notes["error"] < 0.9  # a place of another bin would read back as a wrong one


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("term", BINNED, ids=repr)
def test_what_is_stored_is_the_formula(term: DenseSparse, shape: tuple[int, int]) -> None:
    """r n of bases; of each row in each block s values and s numbers of log2 (r / s) bits, in whole bytes."""
    (rows, cols), (basis, nonzeros, per_bin) = shape, term.sizes(shape)
    used = -(-cols // term.width) * nonzeros
    places = used * max(1, math.ceil(math.log2(per_bin)))
    declared = sum(stored.nbits for stored in term.arrays(shape).values()) // 8
    assert declared == 2 * basis * cols + rows * (-(-places // 8) + -(-used * term.bits // 8))
    assert Ksvd(sweeps=1).solve(matrix(*shape), (term,), Metric()).nbytes == declared
    if nonzeros > 1:
        assert 8 * declared <= 16 * rows * cols * (1 - term.compression) + 16 * rows
    free = max(1, math.ceil(math.log2(basis)))
    assert places <= min(used * free, basis * -(-cols // term.width))


def test_as_many_bins_as_fit() -> None:
    """One more would be above the storage or the basis."""
    term = DenseSparse(0.5, basis=256, per_bin=8)
    assert term.sizes((576, 576)) == (120, 15, 8)
    assert term.sizes((1536, 576)) == (168, 21, 8)
    assert replaced(term, basis=45).sizes((576, 576)) == (40, 5, 8)  # of 45 the last bin would have 5
    assert term.sizes((30, 576)) == (8, 1, 8)  # one, though it does not fit
    assert term.sizes((5, 576)) == (5, 1, 5)  # no more vectors than rows


def replaced(term: DenseSparse, basis: int) -> DenseSparse:
    return DenseSparse(term.compression, term.width, basis, term.bits, term.per_bin)


def test_one_bin_is_a_free_choice_of_one() -> None:
    w = matrix(40, 20)
    one, free = (
        Ksvd(sweeps=4).solve(w, (DenseSparse(0.6, width=8, basis=8, per_bin=per_bin),), Metric())
        for per_bin in (8, None)
    )
    assert one.notes["nonzeros"] == free.notes["nonzeros"] == 1
    assert one.state.keys() == free.state.keys()
    assert all(np.array_equal(one.state[name], free.state[name]) for name in one.state)


def test_bins_of_one_are_a_low_rank_of_each_block() -> None:
    """Every row uses all vectors, so they span the best subspace; at that rank nothing is left."""
    w = matrix(40, 24)
    term = DenseSparse(0.01, width=24, basis=8, per_bin=1)
    assert term.sizes((40, 24)) == (8, 8, 1)
    coded = Ksvd(sweeps=60, picks=64, tolerance=0).solve(w, (term,), Metric())
    best = Greedy().solve(w, (LowRank(8),), Metric()).notes["error"]
    assert coded.notes["error"] == pytest.approx(best, rel=0.05)
    thin = matrix(40, 8) @ matrix(8, 24)
    assert Ksvd(sweeps=60, tolerance=0).solve(thin, (term,), Metric()).notes["error"] < 1e-5


def test_no_sweep_does_harm_and_bins_stay() -> None:
    x = matrix(200, 24)
    found = learn(x, 40, 8, Learning(sweeps=8, picks=4, tolerance=0), per_bin=5)
    assert all(after <= before * (1 + 1e-6) for before, after in pairwise(found.errors))
    assert found.errors[-1] < 0.95 * found.errors[0]
    assert (found.columns // 5 == np.arange(8)).all()


def test_an_atom_that_nothing_uses_is_replaced_in_its_bin() -> None:
    """Most rows are alike, and so the atoms that start; what is left of the others replaces them."""
    x = torch.cat([torch.eye(8)[:1].repeat(200, 1), matrix(12, 8)])
    found = learn(x, 12, 4, Learning(sweeps=20, tolerance=0), per_bin=3)
    assert (found.columns // 3 == np.arange(4)).all()
    assert len(np.unique(found.columns)) == 12
    assert found.errors[-1] < 0.01 * found.errors[0]


def test_zeros_take_the_first_of_each_bin() -> None:
    term = DenseSparse(0.5, width=16, basis=24, per_bin=4)
    coded = Ksvd().solve(torch.zeros(64, 96), (term,), Metric())
    codes = term.factors((64, 96))[-1]
    columns, values = term.codes((64, 96)).parts(codes.state(coded.term_state(0)), codes.shape)
    assert (columns == np.arange(columns.shape[1]) * 4).all()
    assert not values.any()


def test_a_place_outside_its_bin_is_refused() -> None:
    term = DenseSparse(0.4, width=24, basis=50, per_bin=3)
    coded = Ksvd(sweeps=1).solve(matrix(61, 67), (term,), Metric())
    outside = np.zeros((61, -(-67 // 24) * term.sizes((61, 67))[1]), np.uint16)
    outside[-1, -1] = 3
    broken = Coded(coded.shape, coded.terms, {**coded.state, "0.codes.index": to_stream(outside, 2)})
    with pytest.raises(IntaglioError, match="column 3 of a block of 3"):
        terms.validate(broken)


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize("shape", [(1, 1), (61, 67), (37, 96)], ids=str)
@pytest.mark.parametrize("term", BINNED, ids=repr)
def test_kernels_give_the_dense_product(term: DenseSparse, shape: tuple[int, int], isa: str) -> None:
    """One token and more; blocks of which the last is narrower, or one alone."""
    coded = Ksvd(sweeps=2).solve(matrix(*shape), (term,), Metric())
    x = np.random.default_rng(0).standard_normal((5, shape[1])).astype(np.float32)
    y = x @ terms.decode(coded).numpy().T
    for tokens in (1, 5):
        h = x[:tokens]
        for factor in term.factors(shape):
            m = cpu.Operand(factor.shape, factor.layout, factor.state(coded.term_state(0)))
            h = cpu.pack([m], cpu.choose(m), isa=isa).linear(h)
        assert np.abs(h - y[:tokens]).max() <= 1e-4 * np.abs(y).max() + 1e-6
