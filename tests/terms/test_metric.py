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
    assert Metric(H).relative(DELTA, torch.zeros_like(DELTA)) == 0
    assert Metric(H).relative(DELTA, DELTA) == pytest.approx(1)
    assert Metric(H).relative(DELTA, DELTA / 2) == pytest.approx(0.25)
    assert Metric(H).relative(torch.zeros_like(DELTA), torch.zeros_like(DELTA)) == 0


def test_elements_weigh_each_error_alone() -> None:
    elements = torch.rand(5, 12, generator=torch.Generator().manual_seed(1))
    metric = Metric(elements=elements)
    assert torch.allclose(metric.weigh(DELTA.square()), elements * DELTA.square())
    assert torch.allclose(metric.rows(DELTA), (elements * DELTA.square()).sum(1))
    assert metric.error(DELTA) == pytest.approx(float((elements * DELTA.square()).sum() / 5), rel=1e-5)
    assert torch.allclose(metric.diagonal(12), elements.mean(0))
    parts = metric.block(0, 5).error(DELTA[:, :5]) + metric.block(5, 12).error(DELTA[:, 5:])
    assert parts == pytest.approx(metric.error(DELTA), rel=1e-5)


def test_a_diagonal_is_elements_alike_in_every_row() -> None:
    d = H.diagonal().clone()
    assert Metric(elements=d.expand(5, 12)).error(DELTA) == pytest.approx(Metric(d).error(DELTA), rel=1e-6)


MANY = torch.randn(
    50, 12, generator=torch.Generator().manual_seed(7)
)  # rows of four parts, if these are smallest


@pytest.mark.parametrize(
    "metric", [Metric(), Metric(H), Metric(elements=MANY.square())], ids=["identity", "full", "elements"]
)
@pytest.mark.parametrize("at_once", [1, 12 * 16, 12 * 33, 12 * 50])
def test_many_rows_are_weighed_in_parts(
    metric: Metric, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = metric.error(MANY)
    monkeypatch.setattr("intaglio.formats.rows.AT_ONCE", at_once)
    assert metric.error(MANY) == pytest.approx(whole, rel=1e-6)
