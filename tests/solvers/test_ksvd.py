"""Dictionaries: what is planted is found, no sweep does harm, and each row has its own few atoms."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from intaglio import terms
from intaglio.formats import Floating
from intaglio.solvers import Greedy, Ksvd
from intaglio.solvers.learning import Learning, learn
from intaglio.solvers.whitening import root
from intaglio.terms import Coded, DenseSparse, Dictionary, LowRank, Metric, Term


def planted(signals: int, atoms: int, dim: int, nonzeros: int) -> tuple[Tensor, Tensor]:
    """Atoms of length 1, and signals each made of a few of them."""
    gen = torch.Generator().manual_seed(0)
    d = torch.randn(atoms, dim, generator=gen)
    d /= d.norm(dim=1, keepdim=True)
    codes = torch.zeros(signals, atoms)
    for row in codes:
        row[torch.randperm(atoms, generator=gen)[:nonzeros]] = torch.randn(nonzeros, generator=gen)
    return d, codes @ d


def correlated(out: int, cols: int) -> tuple[Tensor, Metric, Tensor]:
    """Rows of several small subspaces, and inputs with a few loud channels."""
    gen = torch.Generator().manual_seed(1)
    kinds = [
        torch.randn(out // 4, cols // 8, generator=gen) @ torch.randn(cols // 8, cols, generator=gen)
        for _ in range(4)
    ]
    w = torch.cat(kinds) + 0.1 * torch.randn(out, cols, generator=gen)
    x = torch.randn(4 * cols, cols, generator=gen) @ torch.randn(cols, cols, generator=gen)
    x[:, ::17] *= 10
    return w, Metric(x.T @ x / len(x)), x


def solved(w: Tensor, term: Term, metric: Metric) -> Coded:
    return Ksvd(picks=1, tolerance=0).solve(w, (term,), metric)


def test_a_planted_dictionary_is_found() -> None:
    d, x = planted(2000, 96, 64, 4)
    found = learn(x, 96, 4, Learning(sweeps=60, picks=1, tolerance=0))
    assert found.errors[-1] < 1e-2 * float(x.square().sum())
    assert int(((found.atoms @ d.T).abs().max(0).values > 0.99).sum()) > 0.85 * 96


@pytest.mark.parametrize("picks", [1, 8])
def test_no_sweep_does_harm(picks: int) -> None:
    _, x = planted(200, 40, 24, 4)  # where new codes alone would, at 8 picks
    errors = learn(x, 40, 4, Learning(sweeps=10, picks=picks, tolerance=0)).errors
    assert len(errors) == 10
    assert all(after <= before * (1 + 1e-6) for before, after in pairwise(errors))
    assert errors[-1] < 0.9 * errors[0]


def test_it_stops_when_little_is_gained() -> None:
    x = torch.randn(80, 20, generator=torch.Generator().manual_seed(0))
    assert len(learn(x, 30, 6, Learning(sweeps=100, tolerance=0.05)).errors) < 20


def test_it_leaves_less_than_a_low_rank_of_equal_storage() -> None:
    w, metric, _ = correlated(192, 96)
    sparse = solved(w, Dictionary(0.3), metric)
    thin = Greedy().solve(w, (LowRank(compression=0.3),), metric)
    assert sparse.nbytes <= 1.02 * thin.nbytes
    assert sparse.notes["error"] < 0.7 * thin.notes["error"]


def test_the_metric_is_what_it_lowers() -> None:
    w, metric, x = correlated(96, 96)
    aware, blind = (solved(w, Dictionary(0.4), m) for m in (metric, Metric()))
    assert aware.notes["error"] < 0.5 * metric.relative(w, w - terms.decode(blind))
    lost = (terms.decode(aware) - w) @ x.T
    assert float(lost.square().sum() / (w @ x.T).square().sum()) == pytest.approx(
        aware.notes["error"], rel=1e-2
    )


def test_the_error_of_the_outputs_is_the_distance_in_whitened_coordinates() -> None:
    _, metric, _ = correlated(32, 48)
    c = root(metric, 48)
    delta = torch.randn(32, 48, generator=torch.Generator().manual_seed(2))
    assert float((delta.double() @ c).square().sum()) == pytest.approx(
        float(metric.rows(delta).sum()), rel=1e-4
    )


def test_output_errors_are_the_distances_at_which_atoms_were_learnt() -> None:
    """|X (W - D S)|^2 = |W C - D C S|^2 with H = C C^T, after D was taken back through C."""
    w, metric, x = correlated(64, 53)
    factor = root(metric, 53)
    found = learn((w.double() @ factor).float(), 30, 9, Learning(sweeps=3))
    codes = torch.zeros(64, 30, dtype=torch.float64)
    codes.scatter_(
        1, torch.from_numpy(found.columns.astype(np.int64)), torch.from_numpy(found.values).double()
    )
    atoms = torch.linalg.solve_triangular(factor, found.atoms.double(), upper=False, left=False)
    lost = x.double() @ (w - codes @ atoms).T
    assert float(lost.square().sum()) / len(x) == pytest.approx(found.errors[-1], rel=1e-4)


def test_inputs_never_seen_do_not_let_the_weights_explode() -> None:
    """Fewer tokens than inputs: the metric is singular, and C^-1 would be without the little added to it."""
    w, _, _ = correlated(48, 96)
    x = torch.randn(20, 96, generator=torch.Generator().manual_seed(3))
    coded = solved(w, Dictionary(0.3), Metric(x.T @ x / len(x)))
    assert coded.notes["error"] < 1e-3
    assert float(terms.decode(coded).norm()) < 3 * float(w.norm())


@pytest.mark.parametrize(
    ("shape", "atoms", "nonzeros", "rank"), [((576, 576), 307, 153, 230), ((1536, 576), 526, 263, 335)]
)
def test_sizes_at_a_fifth_less_storage_are_the_papers(
    shape: tuple[int, int], atoms: int, nonzeros: int, rank: int
) -> None:
    assert Dictionary(0.2).sizes(shape) == (atoms, nonzeros)
    assert LowRank(compression=0.2).rank_of(shape) == rank


@pytest.mark.parametrize("bits", [14, 16])
@pytest.mark.parametrize("shape", [(1, 1), (61, 67), (64, 96)], ids=str)
def test_a_dictionary_takes_the_bytes_of_the_formula(shape: tuple[int, int], bits: Literal[14, 16]) -> None:
    """Atoms in 16 bits; of every row a bit for each atom, and its codes."""
    w = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    term = Dictionary(0.2, bits=bits)
    atoms, nonzeros = term.sizes(shape)
    row = -(-atoms // 8) + -(-nonzeros * bits // 8)
    assert Ksvd(sweeps=1).solve(w, (term,), Metric()).nbytes == 2 * atoms * shape[1] + shape[0] * row


def test_as_many_codes_as_atoms_is_the_low_rank() -> None:
    """s = k = r: every row uses all atoms, so they span the best subspace."""
    w, metric, _ = correlated(64, 48)
    signals = (w.double() @ root(metric, 48)).float()
    errors = learn(signals, 20, 20, Learning(sweeps=60, picks=20, tolerance=0)).errors
    best = Greedy().solve(w, (LowRank(20, Floating("float32")),), metric).notes["error"]
    assert errors[-1] / float(signals.square().sum()) == pytest.approx(best, rel=0.05)


def test_as_many_codes_as_inputs_is_exact() -> None:
    x = torch.randn(60, 24, generator=torch.Generator().manual_seed(0))
    assert learn(x, 40, 40, Learning(sweeps=1)).errors[-1] < 1e-6 * float(x.square().sum())


@pytest.mark.parametrize(
    "term", [Dictionary(0.2), Dictionary(0.2, bits=16), DenseSparse(0.4, width=16, basis=24)], ids=repr
)
@pytest.mark.parametrize("shape", [(64, 96), (61, 67)], ids=str)
def test_every_row_has_its_share_and_all_stay_within_the_storage(term: Term, shape: tuple[int, int]) -> None:
    w = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    coded = Ksvd(sweeps=2).solve(w, (term,), Metric())
    codes = term.factors(shape)[-1]
    state = codes.state(coded.term_state(0))
    columns, _ = codes.layout.parts(state, codes.shape)  # type: ignore[union-attr]
    assert isinstance(term, Dictionary | DenseSparse)
    blocks, _, nonzeros = term.codes(shape).sizes(codes.shape[1])
    assert columns.shape == (shape[0], blocks * nonzeros)
    if "mask" in state:
        assert np.unpackbits(state["mask"]).sum() == columns.size
    spare = 2 * shape[0]  # what rounding a row's streams up to bytes may add
    assert coded.nbytes <= (1 - term.compression) * 2 * w.numel() + spare
    assert coded.nbytes >= 0.9 * (1 - term.compression) * 2 * w.numel()


def test_block_bases_beat_a_low_rank_where_rows_share_no_subspace() -> None:
    _, x = planted(256, 24, 16, 3)
    w = torch.cat([x, x.flip(0), x.roll(7, 0)], dim=1)
    sparse = solved(w, DenseSparse(0.5, width=16, basis=24), Metric())
    thin = Greedy().solve(w, (LowRank(compression=0.5),), Metric())
    assert sparse.nbytes <= 1.02 * thin.nbytes
    assert sparse.notes["error"] < 0.5 * thin.notes["error"]


def test_a_block_of_its_own_has_the_rank_of_its_basis() -> None:
    """One block as wide as the matrix and every vector used: a low rank."""
    w = torch.randn(40, 24, generator=torch.Generator().manual_seed(0))
    coded = Ksvd(sweeps=60, picks=64, tolerance=0).solve(w, (DenseSparse(0.01, width=24, basis=8),), Metric())
    best = Greedy().solve(w, (LowRank(8),), Metric()).notes["error"]
    assert coded.notes["nonzeros"] == 8
    assert coded.notes["error"] == pytest.approx(best, rel=0.05)


def test_a_basis_of_one_gives_every_row_of_a_block_its_share_of_the_same() -> None:
    """The last block is narrower than the others."""
    w = torch.randn(32, 20, generator=torch.Generator().manual_seed(0))
    decoded = terms.decode(solved(w, DenseSparse(0.5, width=8, basis=1), Metric()))
    for begin in (0, 8, 16):
        block, found = w[:, begin : begin + 8], decoded[:, begin : begin + 8]
        assert torch.linalg.matrix_rank(found, rtol=1e-3) == 1
        best = torch.linalg.svdvals(block)[1:].square().sum()
        assert float((found - block).square().sum()) == pytest.approx(float(best), rel=1e-2)


def test_zeros_are_coded_as_zeros() -> None:
    for term in (Dictionary(0.2), DenseSparse(0.4, width=8, basis=8)):
        w = torch.zeros(16, 24)
        w[3] = 1
        coded = Ksvd().solve(w, (term,), Metric())
        assert float((terms.decode(coded) - w).abs().max()) < 2e-3
        assert float(terms.decode(Ksvd().solve(0 * w, (term,), Metric())).abs().max()) == 0
