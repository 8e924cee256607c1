"""Pseudo-density: TASDER's measure of inputs in which nothing is exactly zero."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intaglio.models.density import Density, pseudo_density


@given(st.integers(0, 99), st.integers(1, 300), st.floats(-3, 3))
def test_behind_a_relu_it_is_no_more_than_the_density(seed: int, count: int, shift: float) -> None:
    x = torch.relu(torch.randn(count, generator=torch.Generator().manual_seed(seed)) + shift)
    assert pseudo_density(x) <= float((x != 0).float().mean()) + 1e-7


@pytest.mark.parametrize("count", [1, 7, 64, 1000])
def test_of_one_element_it_is_its_share(count: int) -> None:
    x = torch.zeros(count)
    x[count // 2] = -3
    assert pseudo_density(x) == 1 / count
    assert pseudo_density(x * 0) == 0


def test_it_is_the_fewest_that_hold_nearly_all() -> None:
    """Of 100 elements 98 that are small hold 1 % and more until the last of them is left out."""
    x = torch.cat([torch.tensor([50.0, -40.0]), torch.full((98,), 10 / 98)])
    assert pseudo_density(x) == pytest.approx((2 + 89) / 100)  # 90 + 89 * 10 / 98 = 99.08 of 100
    assert pseudo_density(x[torch.randperm(100)]) == pseudo_density(x) == pseudo_density(-2 * x)


def test_dense_numbers_are_dense() -> None:
    uniform, normal = torch.rand(10_000), torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    assert pseudo_density(torch.ones(1000)) == pytest.approx(0.99)
    assert pseudo_density(uniform) == pytest.approx(0.9, abs=0.01)  # x^2 of the sum is below x
    assert 0.8 < pseudo_density(normal) < 0.9
    assert (
        pseudo_density(torch.nn.functional.silu(8 * normal)) < 0.55
    )  # nothing is zero, nearly half as good as


def test_batches_count_by_their_tokens() -> None:
    one, two = torch.eye(8), torch.ones(24, 8)
    density = Density()
    density.add(one)
    density.add(two)
    assert density.value == pytest.approx((pseudo_density(one) + 3 * pseudo_density(two)) / 4)
