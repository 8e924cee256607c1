"""Groups of few bits, and a last few of more: what is stored, and how far from it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.formats import Integer, Mixed
from intaglio.formats.rounding import rounded


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_unclipped_is_half_a_step_at_most(data: st.DataObject) -> None:
    rows, cols = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 200))
    form = Mixed(
        4,
        data.draw(st.integers(1, 70)),
        data.draw(st.integers(0, 3)),
        rows=data.draw(st.sampled_from([1, 2])),
    )
    w = torch.randn(rows, cols, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    tables = form.fit(w)
    step = tables["scale"].float()[:, torch.arange(cols) // form.group_size]
    error = (form.decode(form.encode(w, tables), tables) - w).abs()
    assert bool(
        (error <= step * (0.5 + 2**-7)).all()
    )  # a scale that float16 rounds down reaches a little less far


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_channel_is_half_a_step_off_unless_it_is_clipped(data: st.DataObject) -> None:
    """Activations: the last groups, never clipped, in steps of 8 bits, the others in steps of 4."""
    cols, size = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 40))
    kept, clip = data.draw(st.integers(0, 3)), data.draw(st.sampled_from([1.0, 0.9, 0.5]))
    x = torch.randn(3, cols, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    group = torch.arange(cols) // size
    few = max(0, -(-cols // size) - kept)
    top = torch.where(group < few, 7.0, 127.0)
    most = torch.stack([x[:, group == g].abs().amax(1) for g in range(int(group[-1]) + 1)], 1)[:, group]
    step = most * torch.where(group < few, clip, 1.0) / top
    error = (rounded(x, Mixed(4, size, kept, clip=clip)) - x).abs()
    reached = x.abs() <= step * (top + 0.5)
    assert bool((error <= step * 0.5001)[reached].all())
    assert bool(reached[:, group >= few].all())
    assert bool(reached.all()) or clip < 1


def test_only_what_is_not_kept_is_clipped() -> None:
    w = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    whole, clipped = (Mixed(4, 32, clip=clip).fit(w)["scale"].float() for clip in (1.0, 0.5))
    assert torch.allclose(clipped[:, :3], whole[:, :3] / 2, rtol=1e-3)
    assert torch.equal(clipped[:, 3], whole[:, 3])
    shrunk = Mixed(4, 32).fit(w, shrink=torch.full((3, 4), 0.5))["scale"]
    assert torch.equal(shrunk.float(), clipped)


def test_neighbours_share_the_larger_scale() -> None:
    w = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    one, two = Mixed(4, 32).fit(w)["scale"], Mixed(4, 32, rows=2).fit(w)["scale"]
    assert torch.equal(two[0], two[1])
    assert torch.equal(two[0], torch.maximum(one[0], one[1]))
    assert torch.equal(two[4], one[4])  # the last has no neighbour
    assert Mixed(4, 32, rows=2).arrays((5, 64))["scale"].shape == (3, 2)


def test_bits_a_weight() -> None:
    """4.2 at the paper's size: 128 of 4096 inputs of 8 bits, a scale for two rows and 128 columns."""
    shape = (4096, 4096)
    assert Mixed(4, 128, rows=2).nbits(shape) / (4096 * 4096) == 4 + 4 * 128 / 4096 + 16 / 256


@pytest.mark.parametrize(
    "form", [Mixed(4, 16, clip=0.9), Mixed(4, 8, kept=0), Integer(8, True, 16), Integer(4, True)]
)
def test_each_token_is_rounded_by_itself(form: Mixed | Integer) -> None:
    x = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    together = rounded(x, form)
    for t in range(6):
        assert torch.equal(rounded(x[t : t + 1], form)[0], together[t])
    assert torch.equal(rounded(x.reshape(2, 3, 40), form).reshape(6, 40), together)


def test_a_loud_channel_costs_its_group_alone() -> None:
    x = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    x[:, 63] *= 100
    error = (rounded(x, Mixed(4, 16)) - x).square().mean(0)
    one = (rounded(x, Integer(4, symmetric=True)) - x).square().mean(0)
    assert error[:48].max() < 0.05
    assert one[:48].min() > 0.3
    assert error[48:].max() < 0.3  # kept in 8 bits beside the loud one


def test_scales_made_at_run_time_beat_those_of_calibration() -> None:
    """Tokens differ in size: one scale for all of them, however chosen, wastes the codes of most."""
    gen = torch.Generator().manual_seed(0)
    calibration, x = (
        torch.randn(200, 64, generator=gen) * torch.randn(200, 1, generator=gen).exp() for _ in range(2)
    )
    dynamic = (rounded(x, Mixed(4, 16)) - x).square().sum()
    most = calibration.reshape(200, 4, 16).abs().amax((0, 2)).repeat_interleave(16)
    frozen = []
    for share in (1.0, 0.5, 0.25, 0.1):
        top = torch.tensor([7.0] * 48 + [127.0] * 16)
        step = share * most / top
        frozen.append(float(((x / step).round().clamp(-top - 1, top) * step - x).square().sum()))
    assert float(dynamic) < min(frozen) / 3
