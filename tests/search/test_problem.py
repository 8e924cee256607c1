"""The problem's arrays and limits, on made-up measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intaglio.models import open_checkpoint, roles
from intaglio.search import Request
from intaglio.search.measure import Cell
from intaglio.search.problem import Problem
from intaglio.search.seconds import rest, seconds
from tests import tiny_llm

pytest.importorskip("scipy")

# small but slow, or large but fast; the second layer can hardly bear the small one
LAYERS = [
    {"o_in": {"small": Cell(0.01, 100, 4e-3), "large": Cell(0.0, 400, 1e-3)}},
    {"o_in": {"small": Cell(0.50, 100, 4e-3), "large": Cell(0.0, 400, 1e-3)}},
]
PROBLEM = Problem(LAYERS, ["small", "large"], outside=1000, rest=1e-3, parameters=1000, threads=2)


def solved(**limits: Any) -> list[str]:
    choice = PROBLEM.solve(Request(model="made up", **limits))
    return [PROBLEM.candidates[i] for i in choice]


def test_a_point_counts_what_is_not_chosen_too() -> None:
    point = PROBLEM.point("mixed", np.array([0, 1]))
    assert point.nbytes == 1500
    assert point.bits_per_weight == 12
    assert point.loss == pytest.approx(0.01)
    assert point.tokens_per_s == pytest.approx(1 / (1e-3 + 5e-3 / 2))
    assert point.counts == {"small": 1, "large": 1}


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_size": 1500}, ["small", "large"]),
        ({"max_size": 1499}, ["small", "small"]),
        ({"max_bits": 12}, ["small", "large"]),
        ({"max_bits": 11.9}, ["small", "small"]),
        ({"max_ppl_increase": 0.02}, ["small", "large"]),
        ({"max_ppl_increase": 0.005}, ["large", "large"]),
        ({"max_ppl_increase": 1.0}, ["small", "small"]),
        ({"max_ppl_increase": 1.0, "min_speed": 280}, ["small", "large"]),
        ({"max_ppl_increase": 1.0, "min_speed": 300}, ["large", "large"]),
    ],
)
def test_limits(limits: dict[str, float], expected: list[str]) -> None:
    found = solved(**limits)
    assert sorted(found) == sorted(expected)
    if "min_speed" not in limits:
        assert found == expected


def test_kernel_times_are_of_all_matrices_and_leave_a_rest(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny_llm.write_model(tmp_path))
    names = [roles.site(0, role) for role in roles.INPUTS["mlp_in"]]
    alone = seconds({"gate": checkpoint.linears[names[0]]})
    both = seconds({name: checkpoint.linears[name] for name in names})
    assert alone > 0
    assert both > 0
    assert rest(checkpoint, 1) >= 0
