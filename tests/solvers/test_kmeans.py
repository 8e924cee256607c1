"""Weighted k-means of rows, beside the exact optimum, and codebooks with a few elements apart."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from intaglio import terms
from intaglio.solvers import KMeans
from intaglio.solvers.centroids import Line, fit, nearest
from intaglio.solvers.outliers import sensitive_and_large
from intaglio.terms import Codebook, Metric, Outliers
from intaglio.types import Array


def optimum(values: Array, weights: Array, count: int) -> float:
    """The least weighted error of `count` centers, by dynamic programming over the sorted values."""
    order = np.argsort(values)
    v, f = values[order], weights[order]
    zeroth, first, second = (np.concatenate([[0], np.cumsum(part)]) for part in (f, f * v, f * v * v))
    begin, end = np.ogrid[: len(v), 1 : len(v) + 1]
    mass, moment, square = (part[end] - part[begin] for part in (zeroth, first, second))
    of_one = np.where(end > begin, square - moment**2 / np.where(mass > 0, mass, 1), np.inf)
    best = of_one[0]
    for _ in range(count - 1):
        best = np.minimum(best, (np.concatenate([[0], best[:-1]])[:, None] + of_one).min(0))
    return float(best[-1])


def sample(rows: int, cols: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Normal weights, and a Fisher information as heavy-tailed as squares of normal numbers."""
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(rows, cols, generator=gen), torch.randn(rows, cols, generator=gen).square()


def draws(starts: int, rows: int, count: int) -> Tensor:
    return torch.rand(starts, rows, count, generator=torch.Generator().manual_seed(0))


def test_it_is_near_the_optimum() -> None:
    w, f = (t.double() for t in sample(100, 576))
    found = Line(w, f).error(fit(w, f, draws(8, 100, 8), 50))
    best = [optimum(values, weights, 8) for values, weights in zip(w.numpy(), f.numpy(), strict=True)]
    assert float(found.sum()) <= 1.05 * sum(best)
    assert float(found.sum()) >= (1 - 1e-9) * sum(best)  # or the oracle would be none


def test_no_iteration_makes_it_worse() -> None:
    w, f = (t.double() for t in sample(50, 67))
    f[:, ::3] = 0
    line = Line(w, f)
    centers = line.spread(draws(1, 50, 8)[0].double())
    centers[:, 5:] = 100  # three with nothing close to them
    errors = []
    for _ in range(30):
        errors.append(line.error(centers))
        centers = line.means(centers)
    assert all(bool((after <= before + 1e-9).all()) for before, after in pairwise(errors))
    assert float(errors[-1].sum()) < 0.2 * float(errors[0].sum())
    assert bool((centers < 99).all()), "an empty center was left where it was"


def test_running_sums_give_the_error_of_the_definition() -> None:
    w, f = (t.double() for t in sample(7, 33))
    centers = fit(w, f, draws(2, 7, 4), 50)
    error = (f * (w - centers.gather(1, nearest(w, centers))).square()).sum(1)
    assert torch.allclose(Line(w, f).error(centers), error)


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


def test_settings_say_how_it_is_found() -> None:
    w, f = sample(16, 200)
    first, again, other = (
        KMeans(starts=1, seed=seed).solve(w, (Codebook(3),), Metric(elements=f)) for seed in (0, 0, 1)
    )
    assert np.array_equal(first.state["0.codes"], again.state["0.codes"])
    assert not np.array_equal(first.state["0.codes"], other.state["0.codes"])
