"""Who beats whom: dominance, the frontier, what counts as the baseline."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.comparison.dominance import dominated_by, frontier, rounds_to_nearest
from intaglio.recipe import load_recipe, shipped_names


class Numbers(NamedTuple):
    bits_per_weight: float
    perplexity: float


def test_fewer_bits_and_less_perplexity_dominate_the_best_first() -> None:
    found = {"a": Numbers(5, 20), "b": Numbers(4, 18), "c": Numbers(4.5, 19), "d": Numbers(6, 10)}
    assert dominated_by("a", found) == ("b", "c")
    assert dominated_by("b", found) == ()
    assert dominated_by("d", found) == ()


def test_nearly_equal_bytes_count_as_equal() -> None:
    """A recipe cannot hide from plain rounding behind a few bytes less."""
    found = {"method": Numbers(5.249, 26), "rtn": Numbers(5.25, 25), "wide": Numbers(5.4, 20)}
    assert dominated_by("method", found) == ("rtn",)
    assert dominated_by("rtn", found) == ()


@pytest.mark.parametrize("name", shipped_names())
def test_only_plain_rounding_is_the_baseline(name: str) -> None:
    plain = ("rtn-w3", "rtn-w4", "rtn-w4a4", "rtn-w4a8kv4-channel")
    assert rounds_to_nearest(load_recipe(name)) == (name in plain)


POINTS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12)


@given(POINTS, st.booleans())
def test_the_frontier_is_what_none_beats(points: list[tuple[int, int]], higher: bool) -> None:
    kept = frontier(points, higher=higher)
    sign = -1 if higher else 1

    def beats(a: tuple[int, int], b: tuple[int, int]) -> bool:
        return a[0] <= b[0] and sign * a[1] <= sign * b[1] and a != b

    unbeaten = {p for p in points if not any(beats(other, p) for other in points)}
    assert {points[i] for i in kept} == unbeaten
    assert [points[i][0] for i in kept] == sorted({points[i][0] for i in kept})


@given(st.lists(st.tuples(st.floats(4, 4.1), st.floats(10, 20)), min_size=1, max_size=8, unique=True))
def test_the_plot_and_the_table_agree(points: list[tuple[float, float]]) -> None:
    """Also where bytes are nearly equal."""
    measured = {str(i): Numbers(*point) for i, point in enumerate(points)}
    kept = {str(i) for i in frontier(points, higher=False)}
    free = {name for name in measured if not dominated_by(name, measured)}
    assert kept <= free
    assert {measured[name].perplexity for name in kept} == {measured[name].perplexity for name in free}
