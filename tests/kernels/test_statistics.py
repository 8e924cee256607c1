"""The native search for pairs of a scale and a zero against the same in a few lines of numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio import _native
from intaglio.types import Array

LIMITS = [math.inf, 0.3]


def drawn(inputs: int, n: int, scales: int, zeros: int) -> tuple[Array, Array, Array, Array]:
    """x, cost, scales and zeros of a group."""
    rng = np.random.default_rng(inputs + 100 * n)
    x, cost = rng.standard_normal((inputs, n)), rng.random(inputs)
    every = rng.uniform(0.1, 0.5, (scales, n)), rng.uniform(0, 7, (zeros, n))
    return x.astype("f4"), cost.astype("f4"), every[0].astype("f4"), every[1].astype("f4")


def costs(x: Array, cost: Array, scale: Array, zero: Array, highest: int, limit: float) -> Array:
    """What each pair costs each output (scales * zeros, n)."""
    s, z = scale[:, None, None].astype("f8"), zero[None, :, None].astype("f8")
    rounded = s * (np.clip(np.round(x / s + z), 0, highest) - z)
    errors = np.minimum((rounded - x) ** 2 * cost[:, None], limit).sum(2)
    return errors.reshape(-1, x.shape[1])


@pytest.mark.parametrize("limit", LIMITS)
@given(
    st.integers(1, 33),
    st.integers(1, 35),
    st.integers(1, 8),
    st.integers(1, 16),
    st.sampled_from([1, 3, 7, 15]),
)
def test_no_pair_costs_less(limit: float, inputs: int, n: int, scales: int, zeros: int, highest: int) -> None:
    x, cost, scale, zero = drawn(inputs, n, scales, zeros)
    found = _native.best_pairs(x, cost, scale, zero, highest, limit)
    every = costs(x, cost, scale, zero, highest, limit)
    assert found.dtype == np.uint16
    np.testing.assert_allclose(every[found, np.arange(n)], every.min(0), rtol=1e-4, atol=1e-6)


def test_the_first_of_equal_pairs() -> None:
    x, cost, scale, zero = drawn(16, 19, 1, 1)
    found = _native.best_pairs(x, cost, scale.repeat(4, 0), zero.repeat(8, 0), 7, math.inf)
    assert not found.any()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"cost": np.ones(3, "f4")}, "cost must have 16 elements"),
        ({"scales": np.ones((2, 4), "f4")}, r"scales must have 1\.\.256 rows and 5 columns"),
        ({"zeros": np.ones((0, 5), "f4")}, r"zeros must have 1\.\.256 rows and 5 columns"),
        ({"zeros": np.ones((257, 5), "f4")}, r"zeros must have 1\.\.256 rows"),
        ({"highest": 0}, r"highest must be in 1\.\.255"),
        ({"limit": 0.0}, "limit must be positive"),
        ({"limit": math.nan}, "limit must be positive"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, object], names: str) -> None:
    x, cost, scale, zero = drawn(16, 5, 2, 2)
    given = {"x": x, "cost": cost, "scales": scale, "zeros": zero, "highest": 7, "limit": math.inf}
    with pytest.raises(ValueError, match=names):
        _native.best_pairs(**(given | change))


def test_no_outputs() -> None:
    assert _native.best_pairs(
        *(a[..., :0] if a.ndim == 2 else a for a in drawn(4, 1, 2, 2)), 7, 1.0
    ).shape == (0,)
