"""Metric: the mean square error of a layer's output, computed from statistics of its inputs."""

from __future__ import annotations

import pytest
import torch

from intaglio.terms import Metric

GEN = torch.Generator().manual_seed(0)
X = torch.randn(300, 12, generator=GEN) @ torch.randn(12, 12, generator=GEN)
H = X.T @ X / len(X)
DELTA = torch.randn(5, 12, generator=GEN)


def test_full_metric_is_the_output_error() -> None:
    output = (X @ DELTA.T).square().mean()
    assert Metric(H).error(DELTA) == pytest.approx(float(output), rel=1e-4)


def test_diagonal_and_identity_are_its_special_cases() -> None:
    d = H.diagonal().clone()
    assert Metric(d).error(DELTA) == pytest.approx(Metric(torch.diag(d)).error(DELTA), rel=1e-5)
    assert Metric().error(DELTA) == pytest.approx(Metric(torch.eye(12)).error(DELTA), rel=1e-5)
    assert torch.allclose(Metric(H).weigh(DELTA.square()), DELTA.square() * d)


@pytest.mark.parametrize("h", [None, H.diagonal(), H], ids=["identity", "diagonal", "full"])
def test_a_block_is_the_metric_of_its_inputs(h: torch.Tensor | None) -> None:
    alone = torch.zeros_like(DELTA)
    alone[:, 3:7] = DELTA[:, 3:7]
    assert Metric(h).block(3, 7).error(DELTA[:, 3:7]) == pytest.approx(Metric(h).error(alone), rel=1e-4)


def test_relative_error() -> None:
    assert Metric(H).relative(DELTA, DELTA) == 0
    assert Metric(H).relative(DELTA, torch.zeros_like(DELTA)) == pytest.approx(1)
    assert Metric(H).relative(torch.zeros_like(DELTA), torch.zeros_like(DELTA)) == 0
