"""What training draws, and how fast it goes."""

from __future__ import annotations

import pytest
import torch

from intaglio.train.schedule import Descent, cosine, count, windows

BATCHES = [torch.arange(5.0)[:, None], torch.arange(5.0, 8.0)[:, None]]


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_every_window_once_an_epoch_beside_its_target(size: int) -> None:
    drawn = list(windows(BATCHES, [-batch for batch in BATCHES], size, 3))
    assert len(drawn) == count(BATCHES, size, 3)
    assert all(torch.equal(x, -y) for x, y in drawn)
    seen = torch.cat([x for x, _ in drawn]).flatten().reshape(3, 8)
    assert all(sorted(epoch.tolist()) == list(range(8)) for epoch in seen)
    again = list(windows(BATCHES, BATCHES, size, 3))
    assert all(torch.equal(x, z) for (x, _), (z, _) in zip(drawn, again, strict=True))


def test_epochs_differ_in_order() -> None:
    seen = torch.cat([x for x, _ in windows(BATCHES, BATCHES, 1, 2)]).flatten().reshape(2, 8)
    assert not torch.equal(seen[0], seen[1])


def test_the_rate_falls_to_a_twentieth() -> None:
    rates = [cosine(step, 10) for step in range(12)]
    assert rates[0] == 1
    assert rates[10] == rates[11] == pytest.approx(1 / 20)
    assert rates == sorted(rates, reverse=True)


def test_a_step_goes_down_and_nothing_decays() -> None:
    x, idle = torch.tensor([3.0]), torch.tensor([5.0])
    descent = Descent([([x], 0.1), ([idle], 0.1)], 50)
    losses = [descent.step(x.square().sum() + 0 * idle.sum()) for _ in range(50)]
    assert losses[-1] < losses[0] / 4
    assert float(idle.detach()) == 5
