"""Whole groups are kept or dropped: as many as asked for, those that matter, on the grid they would have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from intaglio import terms
from intaglio.formats import Bsr, Integer
from intaglio.solvers import Greedy, GroupPrune
from intaglio.terms import Coded, Dense, GroupSparse, Metric


def case(rows: int = 48, cols: int = 128) -> tuple[Tensor, Metric]:
    """Correlated inputs, some channels of which are loud."""
    gen = torch.Generator().manual_seed(0)
    mix = torch.randn(cols, cols, generator=gen) / cols**0.5 + torch.eye(cols)
    loud = torch.exp(torch.randn(cols, generator=gen))
    x = torch.randn(800, cols, generator=gen) @ mix * loud
    return torch.randn(rows, cols, generator=gen), Metric(x.T @ x / len(x))


def kept(coded: Coded) -> np.ndarray:
    (term,) = coded.terms
    assert isinstance(term, GroupSparse)
    return Bsr(term.bits, term.group_size).kept(coded.term_state(0), coded.shape)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("saliency", ["activation", "obs", "magnitude"])
def test_every_row_keeps_as_many_groups_whole(saliency: str, sparsity: float) -> None:
    w, metric = case()
    coded = GroupPrune(saliency).solve(w, (GroupSparse(sparsity, bits=16),), metric)  # type: ignore[arg-type]
    mask, decoded = kept(coded), terms.decode(coded).numpy().reshape(48, 8, 16)
    assert (mask.sum(1) == max(1, round((1 - sparsity) * 8))).all()
    assert np.array_equal((decoded != 0).all(2), mask)
    assert np.array_equal((decoded != 0).any(2), mask)


def test_a_matrix_as_a_whole_may_choose() -> None:
    w, metric = case()
    w[:4] *= 100
    coded = GroupPrune(balance="matrix").solve(w, (GroupSparse(0.5),), metric)
    counts = kept(coded).sum(1)
    assert counts.sum() == 48 * 8 // 2
    assert (counts[:4] == 8).all()
    assert coded.notes["error"] < GroupPrune().solve(w, (GroupSparse(0.5),), metric).notes["error"]


def test_nothing_dropped_is_the_dense_format() -> None:
    w, metric = case(33, 67)
    sparse = GroupPrune().solve(w, (GroupSparse(0.0),), metric)
    dense = Greedy().solve(w, (Dense(Integer(4, group_size=16)),), metric)
    assert torch.equal(terms.decode(sparse), terms.decode(dense))


def test_sixteen_bits_are_pruning_alone() -> None:
    w, metric = case()
    coded = GroupPrune().solve(w, (GroupSparse(0.5, bits=16),), metric)
    mask = torch.from_numpy(kept(coded)).repeat_interleave(16, 1)
    assert torch.equal(terms.decode(coded), torch.where(mask, w.half().float(), 0))


def test_what_is_dropped_has_no_part_in_the_grid_of_what_is_kept() -> None:
    """A kept group decodes to the very numbers it has in the dense format."""
    w, metric = case()
    coded = GroupPrune().solve(w, (GroupSparse(0.5),), metric)
    dense = terms.decode(Greedy().solve(w, (Dense(Integer(4, group_size=16)),), metric))
    mask = torch.from_numpy(kept(coded)).repeat_interleave(16, 1)
    assert torch.equal(terms.decode(coded), torch.where(mask, dense, 0))


@pytest.mark.parametrize("saliency", ["activation", "obs"])
def test_knowing_the_inputs_beats_magnitude(saliency: str) -> None:
    w, metric = case()
    informed, blind = (
        GroupPrune(s).solve(w, (GroupSparse(0.5),), metric).notes["error"]  # type: ignore[arg-type]
        for s in (saliency, "magnitude")
    )
    assert informed < 0.8 * blind


def test_more_sparsity_is_more_error() -> None:
    w, metric = case()
    errors = [
        GroupPrune().solve(w, (GroupSparse(s),), metric).notes["error"] for s in (0, 0.1, 0.2, 0.3, 0.4, 0.5)
    ]
    assert errors == sorted(errors)


@pytest.mark.parametrize("workers", range(1, 8))
def test_rows_of_equal_work_split_evenly_and_others_do_not(workers: int) -> None:
    """The executor hands out rows: with `row` a fair share of the groups, with `matrix` not."""
    w, metric = case(rows=420)
    w[:60] *= 10

    def uneven(solver: GroupPrune) -> float:
        work = kept(solver.solve(w, (GroupSparse(0.5),), metric)).sum(1)
        shares = [part.sum() for part in np.split(work, workers)]
        return float(max(shares) / np.mean(shares))

    assert uneven(GroupPrune()) == 1.0
    assert uneven(GroupPrune(balance="matrix")) > (1.02 if workers > 1 else 0)
