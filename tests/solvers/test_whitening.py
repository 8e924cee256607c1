"""Whitening: a factor of the metric, also of one that rounding has made indefinite."""

from __future__ import annotations

import pytest
import torch

from intaglio.errors import IntaglioError
from intaglio.solvers.whitening import root
from intaglio.terms import Metric


def seen(tokens: int, cols: int = 24) -> torch.Tensor:
    """H of so many tokens, float32."""
    x = torch.randn(tokens, cols, generator=torch.Generator().manual_seed(tokens))
    return x.T @ x / tokens


def test_the_factor_is_lower_and_gives_the_metric_back() -> None:
    h = seen(100)
    factor = root(Metric(h), 24)
    assert torch.equal(factor, factor.tril())
    assert torch.allclose(factor @ factor.T, h.double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("below", [0, 1e-5, 1e-3])
def test_fewer_tokens_than_inputs_are_enough(below: float) -> None:
    """`below`: an eigenvalue under zero, such as sums in float32 leave."""
    h = seen(5) - below * torch.eye(24)
    before = h.clone()
    factor = root(Metric(h), 24)
    assert factor.isfinite().all()
    assert torch.allclose(factor @ factor.T, h.double(), rtol=0, atol=20 * below + 1e-5)
    assert torch.equal(h, before)


def test_what_is_no_metric_says_so() -> None:
    with pytest.raises(IntaglioError, match="24 inputs have eigenvalues far below zero"):
        root(Metric(seen(100) - 5 * torch.eye(24)), 24)
