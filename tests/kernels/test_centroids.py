"""Native k-means on a line against the optimum by dynamic programming over every interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio import _native
from intaglio.types import Array


def optimum(values: Array, weights: Array, count: int) -> float:
    """The least weighted error of `count` centers, every interval tried."""
    order = np.argsort(values)
    v, f = (part[order].astype("f8") for part in (values, weights))
    zeroth, first, second = (np.concatenate([[0], np.cumsum(part)]) for part in (f, f * v, f * v * v))
    begin, end = np.ogrid[: len(v), 1 : len(v) + 1]
    mass, moment, square = (part[end] - part[begin] for part in (zeroth, first, second))
    of_one = np.where(end > begin, square - moment**2 / np.where(mass > 0, mass, 1), np.inf)
    best = of_one[0]
    for _ in range(count - 1):
        best = np.minimum(best, (np.concatenate([[0], best[:-1]])[:, None] + of_one).min(0))
    return float(best[-1])


def error(values: Array, weights: Array, centers: Array) -> float:
    squares = (values[:, None].astype("f8") - centers) ** 2
    return float((weights * squares.min(1)).sum())


def sample(rows: int, n: int, seed: int = 0) -> tuple[Array, Array]:
    """Normal numbers, and weights as heavy-tailed as the fourth power of normal ones."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, n)).astype("f4"), (rng.standard_normal((rows, n)) ** 4).astype("f4")


@given(st.integers(1, 90), st.sampled_from([1, 2, 4, 8, 16]), st.integers(0, 1 << 16))
def test_nothing_is_better(n: int, count: int, seed: int) -> None:
    values, weights = sample(3, n, seed)
    weights[1], values[2] = 1, values[2].round(1)
    centers = _native.centroids(values, weights, count)
    assert centers.shape == (3, count)
    assert (np.diff(centers, axis=1) >= 0).all()
    for row in range(3):
        least = optimum(values[row], weights[row], count)
        assert error(values[row], weights[row], centers[row]) <= least + 1e-6 * float(weights[row].sum())


@pytest.mark.parametrize("count", [8, 16])
def test_long_rows(count: int) -> None:
    values, weights = sample(4, 1536)
    centers = _native.centroids(values, weights, count)
    for row in range(4):
        found = error(values[row], weights[row], centers[row])
        assert found == pytest.approx(optimum(values[row], weights[row], count), rel=1e-5)


def test_as_many_numbers_as_centers_are_exact() -> None:
    levels = np.array([-3, -1e-3, 0, 7, 8.5], "f4")
    values = levels[np.random.default_rng(0).integers(5, size=(6, 200))]
    weights = (10.0 ** np.random.default_rng(1).uniform(-30, 0, values.shape)).astype("f4")
    for count in (5, 6, 16):
        centers = _native.centroids(values, weights, count)
        assert (centers[:, :5] == levels).all()
        assert (centers[:, 5:] == 8.5).all()


def test_what_weighs_nothing_has_no_say() -> None:
    values, weights = sample(5, 67)
    weights[:, ::3] = 0
    moved = values.copy()
    moved[:, ::3] = 1e30
    assert np.array_equal(*(_native.centroids(v, weights, 4) for v in (values, moved)))
    assert not _native.centroids(values, np.zeros_like(weights), 4).any()


def test_weights_that_others_drown_out() -> None:
    """Sums of 1 and 1e-30 are 1: intervals that seem to weigh nothing are no better than they are."""
    values, weights = np.arange(40, dtype="f4")[None], np.full((1, 40), 1e-30, "f4")
    weights[0, [0, 5]] = 1
    centers = _native.centroids(values, weights, 4)
    assert np.isfinite(centers).all()
    assert error(values[0], weights[0], centers[0]) < 1e-20


def test_rows_and_threads_are_independent() -> None:
    values, weights = sample(37, 130)
    whole = _native.centroids(values, weights, 8, 1)
    assert np.array_equal(_native.centroids(values, weights, 8, 3), whole)
    for row in (0, 36):
        assert np.array_equal(
            _native.centroids(values[row : row + 1], weights[row : row + 1], 8)[0], whole[row]
        )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weights": np.ones((2, 5), "f4")}, "shape of the values"),
        ({"values": np.full((2, 4), np.nan, "f4")}, "values must be finite"),
        ({"weights": np.full((2, 4), -1, "f4")}, "not negative"),
        ({"weights": np.full((2, 4), np.inf, "f4")}, "finite and not negative"),
        ({"count": 0}, r"count must be in 1\.\.256"),
        ({"count": 257}, r"count must be in 1\.\.256"),
        ({"threads": 0}, "threads"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, object], says: str) -> None:
    values, weights = sample(2, 4)
    with pytest.raises(ValueError, match=says):
        _native.centroids(**({"values": values, "weights": weights, "count": 2} | change))
