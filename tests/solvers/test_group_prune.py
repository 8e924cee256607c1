"""Whole groups are kept or dropped: as many as asked for, those that matter, on the grid they would have."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from intaglio import terms
from intaglio.formats import Bsr, Integer, groups
from intaglio.solvers import Greedy, GroupObs, GroupPrune, Prune
from intaglio.terms import NM, Coded, Dense, GroupSparse, Metric

Saliency = Literal["activation", "obs", "magnitude"]
SALIENCIES: tuple[Saliency, ...] = ("activation", "obs", "magnitude")


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


@given(
    rows=st.integers(1, 7),
    cols=st.integers(1, 70),
    size=st.sampled_from([1, 7, 16, 17, 64]),
    sparsity=st.floats(0, 0.99),
    saliency=st.sampled_from(SALIENCIES),
)
@settings(deadline=None, max_examples=40)
def test_rows_of_any_length_keep_as_many_groups_whole(
    rows: int, cols: int, size: int, sparsity: float, saliency: Saliency
) -> None:
    """The last group, which may be short, like the others."""
    w, metric = case(rows, cols)
    term = GroupSparse(sparsity, bits=16, group_size=size)
    decoded = terms.decode(GroupPrune(saliency).solve(w, (term,), metric))
    stands = groups.split((decoded != 0).float(), size) > 0
    beyond = groups.split(torch.ones(rows, cols), size) == 0
    whole = (stands | beyond).all(2)
    assert torch.equal(whole, stands.any(2))
    assert (whole.sum(1) == max(1, round((1 - sparsity) * whole.shape[1]))).all()


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


def test_the_papers_saliency_is_what_a_weight_costs_when_the_others_make_up_for_it() -> None:
    """The mean of w^2 / (H^-1)_ii over a group, H with a hundredth of its mean diagonal added."""
    w, metric = case(40, 64)
    assert metric.h is not None
    damped = metric.h.double() + 0.01 * metric.h.diagonal().double().mean() * torch.eye(64)
    saliency = (w.double().square() / torch.linalg.inv(damped).diagonal()).reshape(40, 4, 16).mean(2)
    found = kept(GroupPrune("obs").solve(w, (GroupSparse(0.5),), metric))
    assert np.array_equal(found, (saliency >= saliency.sort(1).values[:, 2:3]).numpy())


def test_the_power_of_inputs_says_most_where_nothing_makes_up_for_what_is_dropped() -> None:
    w, metric = case()
    losses = [
        GroupPrune(saliency).solve(w, (GroupSparse(0.5),), metric).notes["error"] for saliency in SALIENCIES
    ]
    assert losses == sorted(losses)


def test_two_of_every_four_lose_less_than_half_of_all_groups() -> None:
    """What training starts from: whole groups are a coarse choice."""
    w, metric = case()
    coarse = GroupPrune().solve(w, (GroupSparse(0.5, bits=16),), metric).notes["error"]
    assert Prune("wanda").solve(w, (NM(2, 4),), metric).notes["error"] < 0.5 * coarse


@pytest.mark.parametrize("solver", [GroupPrune(), GroupObs()], ids=repr)
def test_more_sparsity_is_more_error(solver: GroupPrune | GroupObs) -> None:
    w, metric = case(cols=160)
    errors = [solver.solve(w, (GroupSparse(s / 10),), metric).notes["error"] for s in range(6)]
    assert all(less < 0.9 * more for less, more in pairwise(errors))


@pytest.mark.parametrize("workers", range(1, 8))
def test_rows_of_equal_work_split_evenly_and_others_do_not(workers: int) -> None:
    """The executor hands out rows, as many to each of its workers, before they help one another: with `row`
    each has a fair share of the groups, with `matrix` the first has most of them.
    """
    w, metric = case(rows=420)
    w *= 30 / torch.arange(1, 421)[:, None]  # Zipf: the first rows are worth most

    def uneven(solver: GroupPrune) -> float:
        work = kept(solver.solve(w, (GroupSparse(0.5),), metric)).sum(1)
        shares = [part.sum() for part in np.split(work, workers)]
        return float(max(shares) / np.mean(shares))

    assert uneven(GroupPrune()) == 1.0
    assert uneven(GroupPrune(balance="matrix")) > (1.2 if workers > 1 else 0)
