"""Affine: the bound of QServe's card, and vectors that make scales and zero points hard."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.attention import Affine

BITS = [4, 8]


@given(
    bits=st.sampled_from(BITS),
    offset=st.floats(-1000, 1000, width=32),
    spread=st.floats(0, 100, width=32),
    tenth=st.integers(0, 8),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=200)
def test_error_is_half_a_step_and_float16s_rounding(
    bits: int, offset: float, spread: float, tenth: int, seed: int
) -> None:
    x = offset + spread * torch.randn(3, 64, generator=torch.Generator().manual_seed(seed))
    x *= 10.0**-tenth
    codec = Affine(bits)
    step = codec.encode(x)["scale"].float()
    largest = x.abs().amax(-1, keepdim=True)
    # z is a float16 as large as the least value in steps: off by 2^-11 of that. The scale's rounding loses as
    # much of the range at its upper end. 2^-24 is float16's smallest number.
    allowed = 0.5 * step + largest * 2.0**-10 + (2**bits) * 2.0**-24
    assert bool(((codec.roundtrip(x) - x).abs() <= allowed * 1.001).all())


@given(bits=st.sampled_from(BITS), offset=st.floats(-20, 20, width=32), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=100)
def test_the_least_and_the_greatest_value_are_the_ends_of_the_codes(
    bits: Literal[4, 8], offset: float, seed: int
) -> None:
    x = offset + torch.randn(3, 64, generator=torch.Generator().manual_seed(seed))
    state = Affine(bits).encode(x)
    ends = torch.stack([state["code"].amin(-1), state["code"].amax(-1)], -1).int()
    off = 2 if bits == 8 else 0  # float16's rounding of the zero point, in steps
    assert bool(((ends - torch.tensor([0, 2**bits - 1])).abs() <= off).all())


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 3.14159, -1234.5, 6e4, 6e-4, -1e-5])
def test_constant_vectors_come_back(bits: int, value: float) -> None:
    x = torch.full((2, 64), value)
    assert torch.allclose(Affine(bits).roundtrip(x), x, rtol=2.0**-10, atol=2.0**-25)


@pytest.mark.parametrize("bits", BITS)
def test_values_of_one_sign_lose_no_range(bits: int) -> None:
    """A zero point rounded and clamped to the codes would waste them on values down to zero."""
    x = 10 + torch.rand(4, 64, generator=torch.Generator().manual_seed(0))
    step = Affine(bits).encode(x)["scale"].float()
    assert bool((step <= 1.01 / (2**bits - 1)).all())


def test_values_below_float16_are_zeros() -> None:
    assert bool((Affine(4).roundtrip(torch.full((1, 64), 1e-9)).abs() <= 1e-8).all())


def test_formula_of_the_card() -> None:
    x = torch.tensor([[0.54, 2.04, 1.0, 1.25]])
    state = Affine(4).encode(x)
    scale = torch.tensor(0.1).half()
    zero = (-0.54 / scale.float()).half()  # -5.4, not an integer
    assert state["scale"].item() == scale.item()
    assert state["zero"].item() == zero.item()
    assert state["code"].tolist() == [[0, 15, 5, 7]]
