"""Obs: error feedback lowers the error of the output; its algebra is the textbook's."""

from __future__ import annotations

import msgspec
import pytest
import torch
from torch import Tensor

from intaglio import terms
from intaglio.formats import Bilevel, Format, Integer, Mixed, TwoLevel, rows
from intaglio.solvers import Clip, Greedy, Obs, Solver
from intaglio.solvers.obs import inverse_factor
from intaglio.terms import Dense, Metric


def correlated(cols: int, seed: int = 0, tokens: int = 1000) -> Tensor:
    """Input statistics with shared directions and a few loud channels."""
    gen = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, cols, generator=gen) + torch.randn(tokens, 4, generator=gen) @ (
        2 * torch.randn(4, cols, generator=gen)
    )
    x[:, ::17] *= 6
    return x.T @ x / tokens


def weights(rows: int, cols: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(100 + seed))


def error(solver: Solver, w: Tensor, h: Tensor, fmt: Format, clip: Clip | None = None) -> float:
    return solver.solve(w, (Dense(fmt),), Metric(h), clip=clip).notes["error"]


FORMATS: list[Format] = [
    Integer(4, group_size=32),
    Integer(3, group_size=50),
    Integer(4),
    TwoLevel(4, group_size=32),
    TwoLevel(2, group_size=64),
]
VARIANTS = [Obs(), Obs(order="natural"), Obs(order="natural", grid="moving"), Obs(block=7)]


@pytest.mark.parametrize("fmt", FORMATS, ids=repr)
@pytest.mark.parametrize("solver", VARIANTS, ids=repr)
def test_never_worse_than_rounding_to_nearest(solver: Obs, fmt: Format) -> None:
    for seed in range(3):
        w, h = weights(24, 130, seed), correlated(130, seed)
        assert error(solver, w, h, fmt) < 0.8 * error(Greedy(), w, h, fmt)
        assert error(solver, w, h, fmt, Clip()) < error(Greedy(), w, h, fmt, Clip())


def test_the_default_is_the_best_variant() -> None:
    w, h = weights(64, 256), correlated(256)
    fmt = Integer(3, group_size=64)
    best, *others = (error(solver, w, h, fmt, Clip()) for solver in VARIANTS[:3])
    assert all(best < other for other in others)


def test_uncorrelated_inputs_leave_nothing_to_compensate() -> None:
    w = weights(8, 40)
    fmt = Integer(4, group_size=8)
    nearest = terms.decode(Greedy().solve(w, (Dense(fmt),), Metric()))
    for metric in (Metric(), Metric(torch.rand(40)), Metric(torch.diag(torch.rand(40) + 0.1))):
        assert torch.equal(terms.decode(Obs().solve(w, (Dense(fmt),), metric)), nearest)


def test_one_column_of_feedback_is_least_squares() -> None:
    """The last input is free to move: after rounding the others it must stand where least squares puts it."""
    h = correlated(3)
    h += 0.01 * h.diagonal().mean() * torch.eye(3)
    w = weights(5, 3)
    rounded = terms.decode(Obs(damp=1e-9, order="natural").solve(w, (Dense(Integer(2)),), Metric(h)))
    delta = (rounded - w)[:, :2]
    ideal = w[:, 2] - delta @ h[:2, 2] / h[2, 2]
    grid = Integer(2)
    tables = grid.fit(w)
    moved = torch.cat([w[:, :2], ideal[:, None]], dim=1)
    assert torch.equal(grid.decode(grid.encode(moved, tables), tables)[:, 2], rounded[:, 2])


@pytest.mark.parametrize("block", [1, 13, 64, 4096])
def test_the_block_is_only_a_matter_of_speed(block: int) -> None:
    w, h = weights(16, 96), correlated(96)
    whole = error(Obs(block=96), w, h, Integer(4, group_size=16))
    assert error(Obs(block=block), w, h, Integer(4, group_size=16)) == pytest.approx(whole, rel=0.02)


@pytest.mark.parametrize(
    "fmt", [*FORMATS, Mixed(4, group_size=16, rows=2), Bilevel(3, group_size=16)], ids=repr
)
@pytest.mark.parametrize("at_once", [1, 96 * 33])
def test_outputs_do_not_depend_on_how_many_are_coded_at_once(
    fmt: Format, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    w, h = weights(50, 96), correlated(96)
    whole = Obs().solve(w, (Dense(fmt),), Metric(h), clip=Clip())
    monkeypatch.setattr(rows, "AT_ONCE", at_once)
    apart = Obs().solve(w, (Dense(fmt),), Metric(h), clip=Clip())
    assert torch.allclose(terms.decode(whole), terms.decode(apart), atol=1e-6)


@pytest.mark.parametrize("block", [8, 20, 200])
def test_moving_grids_are_fitted_to_up_to_date_weights(block: int) -> None:
    w, h = weights(16, 100), correlated(100)
    whole, blocked = (
        Obs(block=size, order="natural", grid="moving").solve(
            w, (Dense(Integer(4, group_size=20)),), Metric(h)
        )
        for size in (4096, block)
    )
    assert (
        whole.state["0.scale"] == blocked.state["0.scale"]
    ).mean() > 0.95  # but for float32's order of sums


def test_inverse_factor() -> None:
    h = correlated(37)
    factor, damp = inverse_factor(h, 0.01)
    damped = h + damp * h.diagonal().mean() * torch.eye(37)
    assert torch.equal(factor, factor.triu())
    assert torch.allclose(factor.T @ factor @ damped, torch.eye(37), atol=1e-3)


def test_statistics_that_are_not_positive_definite_take_more_damping_and_say_so() -> None:
    h = correlated(20)
    h[3, 3] -= 0.3 * h.diagonal().mean()
    h[3, :3] = h[:3, 3] = 0
    h[3, 4:] = h[4:, 3] = 0
    h[3, 3] = -0.05 * h.diagonal().mean()
    coded = Obs(damp=0.01).solve(weights(4, 20), (Dense(Integer(4)),), Metric(h))
    assert coded.notes["damp"] == pytest.approx(0.1)
    assert bool(terms.decode(coded).isfinite().all())


def test_inputs_that_were_never_seen_are_rounded_to_nearest() -> None:
    h = correlated(32)
    h[5] = h[:, 5] = 0
    w = weights(8, 32)
    fmt = Integer(4, group_size=16)
    nearest = terms.decode(Greedy().solve(w, (Dense(fmt),), Metric(h)))
    assert torch.equal(terms.decode(Obs().solve(w, (Dense(fmt),), Metric(h)))[:, 5], nearest[:, 5])
    silent = terms.decode(Obs().solve(w, (Dense(fmt),), Metric(torch.zeros(32, 32))))
    assert torch.equal(silent, nearest)


def test_moving_grids_need_natural_order() -> None:
    with pytest.raises(msgspec.ValidationError, match="needs order `natural`"):
        msgspec.yaml.decode(b"{type: obs, grid: moving, order: activation}", type=Solver)


def test_the_clip_search_weighs_each_input_by_its_own_cost() -> None:
    """Independent inputs: nothing compensates, so a column costs its (damped) power, whatever the order."""
    d = torch.rand(64, generator=torch.Generator().manual_seed(0)) ** 4 + 1e-3
    w, fmt = weights(16, 64), (Dense(Integer(3, group_size=32)),)
    damped = Metric(d + 0.05 * d.mean())
    expected = terms.decode(Greedy().solve(w, fmt, damped, clip=Clip()))
    assert torch.equal(terms.decode(Obs().solve(w, fmt, Metric(torch.diag(d)), clip=Clip())), expected)
