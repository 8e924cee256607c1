"""Bilevel: what its statistics share, how exact they are, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.errors import IntaglioError
from intaglio.formats import Bilevel
from intaglio.types import State


def stored(fmt: Bilevel, w: torch.Tensor) -> State:
    tables = fmt.fit(w)
    return fmt.pack(fmt.encode(w, tables), tables)


def test_statistics_are_shared_along_the_outputs() -> None:
    """Only the run that holds an unlike row is coded otherwise, and in it only that row's group."""
    w = torch.randn(48, 64, generator=torch.Generator().manual_seed(0))
    other = w.clone()
    other[20, 16:32] *= 5
    one, two = (Bilevel().fit(v)["scale_range"] for v in (w, other))
    changed = (one != two).any(2)
    assert changed.nonzero().tolist() == [[1, 1]]


def test_codes_are_made_with_the_statistics_that_are_read_back() -> None:
    fmt = Bilevel(4, group_size=16, scale_bits=1, zero_bits=1)  # statistics so coarse that it matters
    w = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    tables = fmt.fit(w)
    codes = fmt.encode(w, tables)
    error = (fmt.decode(codes, tables) - w).abs()
    for off in (-1, 1):
        moved = (codes.int() + off).clamp(0, 15).to(torch.uint8)
        assert bool(((fmt.decode(moved, tables) - w).abs() >= error - 1e-6).all())


def test_zeros_are_no_integers() -> None:
    """Fine statistics are nearly those of each row and group alone, whose zero is a real number."""
    w = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    grid = Bilevel(scale_bits=8, zero_bits=8).grid(Bilevel(scale_bits=8, zero_bits=8).fit(w))
    scale = (w.amax(1) - w.amin(1)) / 7
    assert torch.allclose(grid.step[:, 0], scale, rtol=1e-2)
    assert torch.allclose(grid.zero[:, 0], -w.amin(1) / scale, atol=2e-2)


@settings(max_examples=40, deadline=None)
@given(
    bits=st.integers(2, 4),
    group=st.integers(1, 40),
    codes=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    rows=st.integers(1, 20),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 90)),
)
def test_numpy_and_torch_mean_the_same(
    bits: int, group: int, codes: tuple[int, int], rows: int, shape: tuple[int, int]
) -> None:
    fmt = Bilevel(bits, group, *codes, rows)
    w = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    state = stored(fmt, w)
    expected = fmt.decode(*fmt.unpack(state, shape)).numpy()
    np.testing.assert_allclose(fmt.values(state, shape), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("array", "at", "value", "says"),
    [
        ("scale_range", (0, 0, 0), 0, "not positive"),
        ("scale_range", (0, 1, 1), -1, "negative"),
        ("scale_range", (1, 0, 1), np.nan, "not finite"),
        ("zero_range", (1, 1, 0), np.inf, "zero_range"),
    ],
)
def test_faults(array: str, at: tuple[int, int, int], value: float, says: str) -> None:
    state = stored(Bilevel(), torch.randn(20, 32))
    assert Bilevel().faults(state) is None
    state[array][at] = value
    assert says in str(Bilevel().faults(state))


def test_scales_beyond_float16_are_refused() -> None:
    with pytest.raises(IntaglioError, match="does not fit float16"):
        Bilevel().fit(torch.full((1, 16), 1e6))
