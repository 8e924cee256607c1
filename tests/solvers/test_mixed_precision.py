"""Atom (2310.19102) in miniature: each step lowers the error of a linear with a few loud inputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from intaglio.compression import blocks
from intaglio.compression.workers import solve
from intaglio.formats import Activation, Format, Integer, Mixed
from intaglio.recipe import Rule
from intaglio.solvers import Greedy, Obs, Solver
from intaglio.terms import Coded, Dense, Metric, decode
from intaglio.terms.reading import Reading

COLS, LOUD = 192, 12
W4 = Integer(4, symmetric=True)
GPTQ = Obs(damp=0.01, order="natural", grid="moving")


@pytest.fixture(scope="module")
def problem() -> tuple[Tensor, Tensor, Tensor]:
    """Weights (out, in), inputs to calibrate on and inputs to judge by: correlated, a few channels loud."""
    gen = torch.Generator().manual_seed(0)
    mix = torch.randn(COLS, COLS, generator=gen) * 0.15 + torch.eye(COLS)
    size = torch.rand(COLS, generator=gen) + 0.5
    size[torch.randperm(COLS, generator=gen)[:LOUD]] *= 30
    calibration, x = (torch.randn(n, COLS, generator=gen) @ mix * size for n in (800, 300))
    return torch.randn(48, COLS, generator=gen), calibration, x


def coded(
    problem: tuple[Tensor, Tensor, Tensor], form: Format, activation: Activation, solver: Solver, order: bool
) -> Coded:
    w, calibration, _ = problem
    rule = Rule(terms=(Dense(form),), activation=activation, solver=solver, order="power" if order else None)
    metric = Metric(calibration.T @ calibration / len(calibration))
    return solve(blocks.task(rule, {"site.weight": w}, "site", metric, "site"))


def error(problem: tuple[Tensor, Tensor, Tensor], one: Coded) -> float:
    """Power that the output loses, weights and activations rounded, in parts of its own."""
    w, _, x = problem
    y = x @ w.T
    return float((one.reading(x) @ decode(one).T - y).square().sum() / y.square().sum())


def test_every_step_helps(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    """The keeper most of all; then groups, clipping, and errors fed forward."""
    rungs = {
        "rtn": coded(problem, W4, W4, Greedy(), False),
        "+keeper": coded(problem, Mixed(4, COLS - 16), Mixed(4, COLS - 16), Greedy(), True),
        "+groups": coded(problem, Mixed(4, 16), Mixed(4, 16), Greedy(), True),
        "+clip": coded(problem, Mixed(4, 16, clip=0.95), Mixed(4, 16, clip=0.95), Greedy(), True),
        "+gptq": coded(problem, Mixed(4, 16, clip=0.95), Mixed(4, 16, clip=0.95), GPTQ, True),
    }
    errors = {name: error(problem, one) for name, one in rungs.items()}
    assert errors["+keeper"] < errors["rtn"] / 3
    assert list(errors.values()) == sorted(errors.values(), reverse=True), errors


def test_what_is_kept_is_chosen_by_power(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    chosen = error(problem, coded(problem, Mixed(4, 16), Mixed(4, 16), Greedy(), True))
    as_they_are = error(problem, coded(problem, Mixed(4, 16), Mixed(4, 16), Greedy(), False))
    assert chosen < as_they_are / 2


def test_the_order_is_the_inputs_by_rising_power(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    _, calibration, _ = problem
    one = coded(problem, Mixed(4, 16), Mixed(4, 16), GPTQ, True)
    assert one.order is not None
    power = calibration.square().mean(0)[torch.from_numpy(one.order.astype("int64"))]
    assert bool((power.diff() >= 0).all())


def test_the_metric_follows_the_order(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    """The error a solver reports is that of the matrix in the order of its inputs: nothing was mixed up."""
    w, calibration, _ = problem
    one = coded(problem, Mixed(4, 16), Mixed(4, 16), GPTQ, True)
    metric = Metric(calibration.T @ calibration / len(calibration))
    assert one.notes["error"] == pytest.approx(metric.relative(w, w - decode(one)), rel=1e-3)


def test_moved_weights_of_kept_groups_get_scales_of_eight_bits(
    problem: tuple[Tensor, Tensor, Tensor],
) -> None:
    """A grid that moves fits each group alone, with the bits it has in the matrix."""
    one = coded(problem, Mixed(4, 16, clip=0.85), Mixed(4, 16), GPTQ, True)
    scale = torch.from_numpy(one.state["0.scale"]).float()
    assert float(scale[:, -1].mean()) < float(scale[:, :-1].mean()) / 5


def test_a_reading_puts_every_channel_back(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    _, _, x = problem
    one = coded(problem, Mixed(8, 16, kept=0), Mixed(8, 16, kept=0), Greedy(), True)
    assert torch.allclose(one.reading(x), x, atol=float(x.abs().max()) / 127)
    assert one.reading != Reading(one.activation)
    assert torch.equal(Reading(None, one.order)(x), x)
