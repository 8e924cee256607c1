"""Pruning's claims in miniature, on correlated inputs with a few loud channels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from intaglio import terms
from intaglio.solvers import Prune
from intaglio.terms import NM, Metric, Sparse, Term

TERMS: list[Term] = [NM(2, 4), NM(4, 8), Sparse(0.5)]


def case() -> tuple[Tensor, Metric]:
    """Inputs that share causes; those of four channels are ten times as large."""
    gen = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 24, generator=gen) @ torch.randn(24, 64, generator=gen)
    x = x + torch.randn(2000, 64, generator=gen)
    x[:, ::16] *= 10
    return torch.randn(48, 64, generator=gen), Metric(x.T @ x / len(x))


@pytest.mark.parametrize("term", TERMS, ids=repr)
def test_each_score_sees_more(term: Term) -> None:
    w, metric = case()
    magnitude, wanda, sparsegpt = (
        Prune(score).solve(w, (term,), metric).notes["error"] for score in ("magnitude", "wanda", "sparsegpt")
    )
    assert wanda < magnitude * 0.5
    assert sparsegpt < wanda * 0.6


@pytest.mark.parametrize("score", ["magnitude", "wanda", "sparsegpt"])
def test_as_many_stay_as_asked_for(score: str) -> None:
    w, metric = case()
    kept = terms.decode(Prune(score).solve(w, (Sparse(0.25),), metric)) != 0  # type: ignore[arg-type]
    assert kept.float().mean() == 0.25
    kept = terms.decode(Prune(score).solve(w, (NM(2, 8),), metric)) != 0  # type: ignore[arg-type]
    assert (kept.reshape(48, -1, 8).sum(2) == 2).all()


def test_wanda_compares_within_rows() -> None:
    """A row of small weights keeps its share; by magnitude it would lose them all."""
    w, metric = case()
    w[0] *= 1e-3
    assert (terms.decode(Prune("wanda").solve(w, (Sparse(0.5),), metric))[0] != 0).sum() == 32
    assert not terms.decode(Prune("magnitude").solve(w, (Sparse(0.5),), metric))[0].any()


def test_the_kept_make_up_for_the_others() -> None:
    """Two equal inputs: the kept weight takes the other's on."""
    gen = torch.Generator().manual_seed(0)
    half = torch.randn(500, 16, generator=gen)
    x = half.repeat_interleave(2, dim=1)
    w = torch.randn(8, 32, generator=gen)
    coded = Prune("sparsegpt", damp=1e-4).solve(w, (NM(4, 8),), Metric(x.T @ x / len(x)))
    assert coded.notes["error"] < 0.02


@pytest.mark.parametrize("numbers", [(4, 2), (4, 1, 1), (1, 4, 4, 2)], ids=str)
def test_a_series_of_one_m_is_what_its_sum_is(numbers: tuple[int, ...]) -> None:
    """(4:8) + (2:8) == (6:8), each term in its pattern, no element in two."""
    w, metric = case()
    series = [NM(n, 8) for n in numbers]
    coded = Prune("sparsegpt").solve(w, series, metric)
    together = Prune("sparsegpt").solve(w, (NM(min(sum(numbers), 8), 8),), metric)
    assert torch.equal(terms.decode(coded), terms.decode(together))
    parts = [term.decode(coded.term_state(i), (48, 64)) for i, term in enumerate(series)]
    assert sum((part != 0).int() for part in parts).max() == 1
    for n, part in zip(numbers, parts, strict=True):
        assert ((part != 0).reshape(48, -1, 8).sum(2) <= n).all()


def test_of_a_series_only_what_has_one_m_is_found_together() -> None:
    w, metric = case()
    apart = Prune("sparsegpt").solve(w, (NM(2, 4),), metric).notes["error"]
    mixed = Prune("sparsegpt").solve(w, (NM(2, 4), NM(2, 8)), metric)
    assert mixed.terms == (NM(2, 4), NM(2, 8))
    assert mixed.notes["error"] < apart


def test_a_series_that_makes_up_for_what_it_leaves_loses_less() -> None:
    w, metric = case()
    series = (NM(4, 8), NM(2, 8))
    wanda, sparsegpt = (
        Prune(score).solve(w, series, metric).notes["error"] for score in ("wanda", "sparsegpt")
    )
    assert sparsegpt < wanda * 0.6


@pytest.mark.parametrize("term", TERMS, ids=repr)
def test_least_squares_of_what_is_kept(term: Term) -> None:
    """The same elements, moved: every row is where no change of a kept element loses less."""
    w, metric = case()
    kept, moved = (Prune("sparsegpt", refit=steps).solve(w, (term,), metric) for steps in (0, 100))
    before, after = terms.decode(kept), terms.decode(moved)
    assert torch.equal(before != 0, after != 0)
    assert moved.notes["error"] < 0.95 * kept.notes["error"]
    assert metric.h is not None
    slope = ((after - w) @ metric.h) * (after != 0)
    assert float(slope.norm()) < 0.1 * float((((before - w) @ metric.h) * (before != 0)).norm())


def test_without_statistics_all_scores_are_magnitude() -> None:
    w, _ = case()
    found = [
        terms.decode(Prune(score).solve(w, (NM(2, 4),), Metric()))
        for score in ("magnitude", "wanda", "sparsegpt")
    ]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
