"""Clip: narrower ranges where they pay, the same ranges where they do not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from intaglio.formats import Floating, Integer, TwoLevel, groups
from intaglio.solvers import Clip, Greedy
from intaglio.terms import Dense, Metric


def inputs(cols: int, tokens: int = 400) -> Tensor:
    gen = torch.Generator().manual_seed(0)
    return torch.randn(tokens, cols, generator=gen) @ torch.randn(cols, cols, generator=gen)


def weights(rows: int, cols: int, tail: float = 0.2) -> Tensor:
    gen = torch.Generator().manual_seed(1)
    return torch.randn(rows, cols, generator=gen) * (tail * torch.randn(rows, cols, generator=gen)).exp()


FORMATS = [Integer(3, group_size=48), Integer(3), Integer(3, symmetric=True, group_size=48), TwoLevel(3, 48)]


@pytest.mark.parametrize("fmt", FORMATS, ids=repr)
@pytest.mark.parametrize("kind", ["identity", "diagonal", "full"])
@pytest.mark.parametrize("tail", [0.2, 1.0])
def test_no_group_does_worse_and_the_sum_is_less(fmt: Integer | TwoLevel, kind: str, tail: float) -> None:
    """The error of a group is the mean square of its partial dot product with the inputs."""
    w, x = weights(12, 110, tail), inputs(110)
    h = x.T @ x / len(x)
    metric = {"identity": Metric(), "diagonal": Metric(h.diagonal()), "full": Metric(h)}[kind]
    seen = {
        "identity": torch.eye(110) * 110**0.5,
        "diagonal": torch.diag(h.diagonal().sqrt()) * 110**0.5,
        "full": x,
    }

    def partial_losses(shrink: Tensor | None) -> Tensor:
        tables = fmt.fit(w, shrink=shrink)
        delta = groups.split(fmt.decode(fmt.encode(w, tables), tables) - w, fmt.group_size)
        partial = torch.einsum("tgc,ngc->tng", groups.split(seen[kind], fmt.group_size), delta)
        return partial.square().mean(0)  # (out, groups)

    before, after = partial_losses(None), partial_losses(Clip().search(w, fmt, metric))
    assert bool((after <= before * 1.001).all())
    assert float(after.sum()) < (0.95 if tail < 1 else 1) * float(before.sum())


@pytest.mark.parametrize("fmt", FORMATS, ids=repr)
def test_the_whole_search_is_a_choice_among_its_steps(fmt: Integer | TwoLevel) -> None:
    shrink = Clip(steps=4, lowest=0.4).search(weights(9, 33), fmt, Metric())
    assert shrink is not None
    assert shrink.shape == (9, groups.count(33, fmt.group_size))
    assert {round(v, 4) for v in shrink.unique().tolist()} <= {1.0, 0.8, 0.6, 0.4}


def test_weights_on_the_grid_are_not_clipped() -> None:
    w = torch.arange(-7.0, 9.0).repeat(3, 2)
    assert bool((Clip().search(w, Integer(4, group_size=16), Metric()) == 1).all())


def test_disabled_or_nothing_to_clip() -> None:
    w = weights(4, 16)
    assert Clip(enabled=False).search(w, Integer(4), Metric()) is None
    assert Clip().search(w, Floating(), Metric()) is None
    plain = Greedy().solve(w, (Dense(Integer(4)),), Metric())
    off = Greedy().solve(w, (Dense(Integer(4)),), Metric(), clip=Clip(enabled=False))
    assert all((plain.state[name] == off.state[name]).all() for name in plain.state)
