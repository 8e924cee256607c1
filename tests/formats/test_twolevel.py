"""TwoLevel: nothing leaves int8, whatever the weights; what QServe's card says is exact is exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from intaglio.formats import TwoLevel
from intaglio.types import Array

BITS = [2, 3, 4]


def largest(protective: int, bits: int, up: bool) -> int:
    """max |W8'| over every range (lo, hi) and every integer v in it, by the formulas of the card."""
    top = (1 << bits) - 1
    lo, hi = np.meshgrid(np.arange(-protective, 1), np.arange(protective + 1), indexing="ij")
    step = np.maximum(1, (np.ceil if up else np.rint)((hi - lo) / top))[..., None]
    zero = np.clip(np.rint(-lo[..., None] / step), 0, top)
    v = np.arange(-protective, protective + 1)
    codes = np.clip(np.rint(v / step) + zero, 0, top)
    inside = (lo[..., None] <= v) & (v <= hi[..., None])
    return int(np.abs((codes - zero) * step)[inside].max())


def test_the_protective_range_of_the_card_is_the_largest_safe_one() -> None:
    assert TwoLevel(4).protective == 119
    assert [largest(119, 4, up) for up in (False, True)] == [121, 121]
    assert largest(120, 4, False) == 128


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("up", [False, True])
def test_the_protective_range_holds_for_fewer_bits(bits: int, up: bool) -> None:
    protective = TwoLevel(bits).protective
    assert largest(protective, bits, up) <= 127
    assert largest(protective + 1, bits, up) > 127 or largest(protective + 1, bits, not up) > 127


def every_range(fmt: TwoLevel) -> Tensor:
    """One row per (lo, hi): a first group that spans it, a second that sets the row's scale to 1."""
    p = fmt.protective
    lo, hi = torch.meshgrid(-torch.arange(p + 1.0), torch.arange(p + 1.0), indexing="ij")
    share = torch.linspace(0, 1, 8)
    first = lo.reshape(-1, 1) * (1 - share) + hi.reshape(-1, 1) * share
    return torch.cat([first, torch.tensor([[-p, p, 0, 1.0]]).expand(len(first), 4)], dim=1)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shrink", [1.0, 0.55])
def test_every_range_stays_in_int8_and_errs_at_most_half_a_step(bits: int, shrink: float) -> None:
    fmt = TwoLevel(bits, group_size=8)
    w = every_range(fmt)
    tables = fmt.fit(w, shrink=torch.full((len(w), 2), shrink))
    assert bool((tables["scale"] == 1).all())
    inner = fmt.decode(fmt.encode(w, tables), tables)
    assert bool((inner.abs() <= 127).all())
    step, zero = (tables[n].float().repeat_interleave(8, 1)[:, :12] for n in ("group_scale", "group_zero"))
    covered = (w >= -zero * step) & (w <= (fmt.highest - zero) * step)
    assert bool(((inner - w).abs() <= step / 2)[covered].all())
    assert int(tables["group_scale"].max()) <= fmt.largest_step


@pytest.mark.parametrize("bits", BITS)
def test_weights_moved_beyond_the_row_stay_in_int8(bits: int) -> None:
    """Error feedback moves weights past the range that the tables were fitted to."""
    fmt = TwoLevel(bits, group_size=8)
    w = every_range(fmt)
    tables = fmt.fit(w)
    assert bool((fmt.decode(fmt.encode(3 * w, tables), tables).abs() <= 127).all())


def test_wrapped_byte_arithmetic_is_exact() -> None:
    """q*step without a carry out of the byte, minus zero*step modulo 256, read as int8: (q - zero)*step."""
    for bits in BITS:
        fmt = TwoLevel(bits)
        q, zero, step = np.meshgrid(
            np.arange(fmt.highest + 1), np.arange(fmt.highest + 1), np.arange(1, fmt.largest_step + 1)
        )
        assert int((q * step).max()) < 256
        exact = (q - zero) * step
        wrapped = _byte(q * step) - _byte(zero * step)
        fits = (exact >= -128) & (exact <= 127)
        assert np.array_equal(wrapped.view(np.int8)[fits], exact[fits])


def _byte(a: Array) -> Array:
    return (a & 255).astype(np.uint8)


def test_rounding_up_never_leaves_a_value_out() -> None:
    """Span 22: the rounded step 1 covers 15 of it. The fit must not choose that where it errs more."""
    fmt = TwoLevel(4, group_size=8)
    w = torch.tensor([[-11.0, 11, -9, 9, -7, 7, -5, 5, 119, -119, 0, 0, 0, 0, 0, 0]])
    tables = fmt.fit(w)
    assert tables["group_scale"][0, 0].item() == 2
    assert bool(((fmt.decode(fmt.encode(w, tables), tables) - w).abs()[:, :8] <= 1).all())


@given(
    bits=st.sampled_from(BITS),
    rows=st.integers(1, 5),
    cols=st.integers(1, 70),
    size=st.sampled_from([1, 7, 16, 64]),
    tail=st.sampled_from([0.1, 1.0, 3.0]),
    shrink=st.sampled_from([1.0, 0.6]),
    moved=st.sampled_from([1.0, 2.0]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=150)
def test_random_weights_are_a_row_of_signed_bytes(
    bits: int, rows: int, cols: int, size: int, tail: float, shrink: float, moved: float, seed: int
) -> None:
    gen = torch.Generator().manual_seed(seed)
    w = torch.randn(rows, cols, generator=gen) * (tail * torch.randn(rows, cols, generator=gen)).exp()
    fmt = TwoLevel(bits, group_size=size)
    tables = fmt.fit(w, shrink=torch.full((rows, -(-cols // size)), shrink))
    codes = fmt.encode(moved * w, tables)
    inner = fmt.decode(codes, {**tables, "scale": torch.ones(rows, 1)})
    assert torch.equal(inner, inner.round())
    assert float(inner.abs().max()) <= 127
    assert torch.allclose(fmt.decode(codes, tables), inner * tables["scale"], rtol=1e-6)


@pytest.mark.parametrize("bits", BITS)
def test_a_step_that_was_rounded_up_errs_half_of_it_at_most(bits: int) -> None:
    """Of every range, for every integer in it: none is left out."""
    fmt = TwoLevel(bits, group_size=2 * TwoLevel(bits).protective + 1)
    p = fmt.protective
    lo, hi = torch.meshgrid(-torch.arange(p + 1.0), torch.arange(p + 1.0), indexing="ij")
    lo, hi = lo.reshape(-1, 1), hi.reshape(-1, 1)
    every = torch.arange(-p, p + 1.0).clamp(lo, hi)
    w = torch.cat([every, torch.full((len(lo), 1), float(p))], dim=1)  # so that the row's scale is 1
    tables = fmt.fit(w)
    assert bool((tables["scale"] == 1).all())
    up = tables["group_scale"][:, :1] >= (hi - lo) / fmt.highest
    inner = fmt.decode(fmt.encode(w, tables), tables)[:, :-1]
    assert bool(((inner - every).abs() <= tables["group_scale"][:, :1] / 2)[up[:, 0]].all())
    assert 0.5 < up.float().mean() < 1


def test_the_row_scale_does_not_shrink() -> None:
    w = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    fmt = TwoLevel(4, group_size=16)
    narrowed = fmt.fit(w, shrink=torch.full((4, 2), 0.6))
    assert torch.equal(narrowed["scale"], w.abs().amax(1, keepdim=True) / 119)


def test_all_zero_rows_stay_zero() -> None:
    fmt = TwoLevel(4, group_size=4)
    w = torch.zeros(2, 9)
    w[1] = 1.0
    tables = fmt.fit(w)
    assert bool((fmt.decode(fmt.encode(w, tables), tables)[0] == 0).all())
