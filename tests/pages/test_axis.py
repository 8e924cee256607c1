"""Axes: everything in sight, round ticks, neither too few nor too many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.pages.axis import Axis, around

VALUES = st.lists(st.floats(1e-4, 1e9), min_size=1, max_size=8)


@given(VALUES, st.booleans())
def test_all_values_are_in_sight_and_ticks_are_enough(values: list[float], log: bool) -> None:
    axis = around(values, 10, 500, log=log)
    assert all(10 < axis.at(value) < 500 for value in values)
    ticks = axis.ticks()
    assert 3 <= len(ticks) <= 16
    assert ticks == sorted(set(ticks))
    assert all(10 <= axis.at(tick) <= 500 for tick in ticks)


def test_equal_ratios_take_equal_room_on_a_logarithmic_axis() -> None:
    axis = Axis(1, 100, 0, 200)
    assert axis.at(10) == pytest.approx(100)
    assert Axis(1, 100, 0, 200, log=False).at(50.5) == pytest.approx(100)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.9, 11000, [1, 10, 100, 1000, 10000]),
        (4.3, 36, [6, 8, 10, 15, 20, 30]),
        (860, 1250, [900, 950, 1000, 1050, 1100, 1150, 1200, 1250]),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert Axis(low, high, 0, 1).ticks() == ticks
