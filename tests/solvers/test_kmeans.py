"""Weighted k-means of rows, beside the exact optimum, and codebooks with a few elements apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from intaglio import _native, terms
from intaglio.formats.arrays import to_numpy, to_torch
from intaglio.solvers import KMeans
from intaglio.solvers.codebook import nearest
from intaglio.solvers.outliers import sensitive_and_large
from intaglio.terms import Codebook, Metric, Outliers


def sample(rows: int, cols: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Normal weights, and a Fisher information as heavy-tailed as squares of normal numbers."""
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(rows, cols, generator=gen), torch.randn(rows, cols, generator=gen).square()


def test_it_is_the_best_table_there_is() -> None:
    """Fifty of Lloyd's iterations, as SqueezeLLM takes, lose no less from any start and more on the whole."""
    w, f = sample(30, 576)
    fitted = to_torch(_native.centroids(to_numpy(w), to_numpy(f), 8))
    least = _error(w, f, fitted)
    for start in (torch.linspace(-2, 2, 8).repeat(30, 1), w[:, :8].sort(1).values):
        centers = start
        for _ in range(50):
            own = torch.nn.functional.one_hot(nearest(w, centers), 8) * f[..., None]
            mass = own.sum(1)
            moved = torch.where(mass > 0, (own * w[..., None]).sum(1) / mass.clamp(min=1e-30), centers)
            centers = moved.sort(1).values
        assert bool((least <= _error(w, f, centers) * (1 + 1e-5)).all())
        assert float(least.sum()) < 0.99 * float(_error(w, f, centers).sum())


def _error(w: Tensor, f: Tensor, centers: Tensor) -> Tensor:
    """What every row loses, (rows,)."""
    return (f * (w - centers.gather(1, nearest(w, centers))).square()).sum(1)


@pytest.mark.parametrize("distinct", [1, 2, 15, 16])
def test_few_distinct_values_come_back_exactly(distinct: int) -> None:
    gen = torch.Generator().manual_seed(distinct)
    levels = torch.randn(distinct, generator=gen).half().float()
    w = levels[torch.randint(distinct, (9, 131), generator=gen)]
    w[0] = 0
    coded = KMeans().solve(
        w, (Codebook(4),), Metric(elements=10 ** torch.empty_like(w).uniform_(-9, 0, generator=gen))
    )
    assert torch.equal(terms.decode(coded), w)


def test_weights_serve_what_they_weigh() -> None:
    """Of every row: the weighted fit has less weighted error, and more of the other kind."""
    w, f = sample(40, 576)
    f = f.square()  # a real one's tails are heavier still
    plain, weighted = (
        terms.decode(KMeans().solve(w, (Codebook(3),), metric)) for metric in (Metric(), Metric(elements=f))
    )
    assert bool((Metric(elements=f).rows(weighted - w) < Metric(elements=f).rows(plain - w)).all())
    assert bool((Metric().rows(weighted - w) > Metric().rows(plain - w)).all())


def test_weights_of_nothing_and_dead_inputs_are_no_obstacle() -> None:
    w, f = sample(8, 67)
    f[0], f[1, 5:], w[1, :5] = 0, 0, 0.01 * w[1, :5]
    coded = KMeans().solve(w, (Codebook(3),), Metric(elements=f))
    assert np.isfinite(coded.state["0.table"]).all()
    assert float((terms.decode(coded) - w).abs().max()) < 1.5


@pytest.mark.parametrize("share", [0.0045, 0.02])
def test_what_is_apart_is_exact(share: float) -> None:
    w, f = sample(64, 576)
    w.view(-1)[:: 64 * 9] *= 10
    coded = KMeans().solve(w, (Outliers(share), Codebook(3)), Metric(elements=f))
    taken = sensitive_and_large(w, share, 0.0005, Metric(elements=f))
    assert int(taken.sum()) == round(share * w.numel())
    assert len(coded.state["0.index"]) == pytest.approx(share * w.numel(), rel=0.1)
    error = (terms.decode(coded) - w).abs()
    assert float(error[taken].max()) < 2e-2  # 10 times float16's 2^-11, of what the table misses
    assert bool(
        (
            error[taken] <= (w - coded.terms[1].decode(coded.term_state(1), coded.shape))[taken].abs() / 1024
        ).all()
    )


def test_the_most_sensitive_and_then_the_largest_are_taken() -> None:
    w, f = sample(20, 100)
    f[3, 4], w[5, 6] = 1000, 1000
    taken = sensitive_and_large(w, 0.002, 0.0005, Metric(elements=f))
    assert int(taken.sum()) == 4
    assert taken[3, 4]
    assert taken[5, 6]
    assert int(sensitive_and_large(w, 0.002, 1, Metric(elements=f))[5, 6]) == 0


def test_what_is_apart_weighs_nothing_in_the_table() -> None:
    w, f = sample(32, 130)
    w.view(-1)[::200] *= 30
    sum_ = (Outliers(0.01), Codebook(2))
    taken = sensitive_and_large(w, 0.01, 0.0005, Metric(elements=f))
    moved = torch.where(taken, w * 2, w)
    tables = [KMeans().solve(one, sum_, Metric(elements=f)).state["1.table"] for one in (w, moved)]
    assert np.array_equal(*tables)
    alone = KMeans().solve(w, (Codebook(2),), Metric(elements=f))
    assert KMeans().solve(w, sum_, Metric(elements=f)).notes["error"] < alone.notes["error"]
