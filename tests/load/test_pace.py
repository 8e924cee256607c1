"""Arrivals: as many a second as asked for, as bursty as asked for, the same for a seed."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import mean, pstdev

import pytest

from intaglio.load.pace import Pace


@pytest.mark.parametrize(("burstiness", "spread"), [(1.0, 1.0), (4.0, 0.5), (0.25, 2.0)])
def test_gaps_have_the_mean_and_the_spread_of_their_distribution(burstiness: float, spread: float) -> None:
    arrivals = Pace(rate=50.0, burstiness=burstiness).arrivals(20_000, "1")
    gaps = [after - before for before, after in pairwise([0.0, *arrivals])]
    assert min(gaps) >= 0
    assert mean(gaps) == pytest.approx(1 / 50, rel=0.04)
    assert pstdev(gaps) / mean(gaps) == pytest.approx(spread, rel=0.04)


def test_poisson_gaps_are_exponential() -> None:
    gaps = [after - before for before, after in pairwise(Pace(rate=2.0).arrivals(20_000, "x"))]
    for seconds in (0.1, 0.5, 1.5):
        share = sum(gap > seconds for gap in gaps) / len(gaps)
        assert share == pytest.approx(math.exp(-2 * seconds), abs=0.01)


def test_a_seed_is_a_schedule() -> None:
    pace = Pace(rate=3.0)
    assert pace.arrivals(50, "7") == pace.arrivals(50, "7")
    assert pace.arrivals(50, "7") != pace.arrivals(50, "8")
    assert pace.arrivals(50, "7")[:20] == pace.arrivals(20, "7")


def test_without_a_rate_there_is_no_schedule() -> None:
    assert not Pace().open
    assert Pace(rate=1e9).open
