"""Integer: the quantizer of AWQ's card, and what its stored types do to it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from intaglio.errors import IntaglioError
from intaglio.formats import Integer


def roundtrip(fmt: Integer, w: Tensor) -> Tensor:
    tables = fmt.fit(w)
    return fmt.decode(fmt.encode(w, tables), tables)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_error_is_half_a_step_inside_the_range(bits: int) -> None:
    fmt = Integer(bits=bits, group_size=16)
    w = torch.randn(32, 48, generator=torch.Generator().manual_seed(0))
    tables = fmt.fit(w)
    scale, zero = (tables[n].float().repeat_interleave(16, 1) for n in ("scale", "zero"))
    inside = (w >= -zero * scale) & (w <= (fmt.highest - zero) * scale)
    error = (fmt.decode(fmt.encode(w, tables), tables) - w).abs()
    assert inside.float().mean() > 0.5
    assert bool((error <= scale / 2 * 1.0001)[inside].all())


def test_formula_of_the_card() -> None:
    w = torch.tensor([[-1.2, 2.0, 0.45, 0.0]])
    tables = Integer(bits=4, group_size=4).fit(w)
    scale = torch.tensor(3.2 / 15).half()
    assert tables["scale"].item() == scale.item()
    assert tables["zero"].item() == 6  # 5.625 rounded
    codes = Integer(bits=4, group_size=4).encode(w, tables)
    assert codes.tolist() == [[0, 15, 8, 6]]


def test_zero_is_always_exact_and_in_range() -> None:
    w = torch.tensor([[3.0, 4.0, 0.0, 5.0], [-3.0, -4.0, 0.0, -5.0]])
    decoded = roundtrip(Integer(bits=4, group_size=4), w)
    assert decoded[:, 2].tolist() == [0.0, 0.0]
    assert bool(((decoded - w).abs() <= 5 / 15 / 2 * 1.001).all())


@pytest.mark.parametrize("fmt", [Integer(4, group_size=3), Integer(4), Integer(8, symmetric=True)], ids=repr)
def test_all_zero_rows_stay_zero(fmt: Integer) -> None:
    w = torch.zeros(2, 7)
    w[1, 3] = 1.0
    assert bool((roundtrip(fmt, w)[0] == 0).all())


def test_symmetric_eight_bits_use_codes_1_to_255() -> None:
    fmt = Integer(bits=8, symmetric=True)
    w = torch.tensor([[-127.0, 127.0, 0.0, 1.0]])
    tables = fmt.fit(w)
    assert tables["scale"].item() == 1.0
    assert tables.keys() == {"scale"}
    assert fmt.encode(w, tables).tolist() == [[1, 255, 128, 129]]
    assert fmt.encode(2 * w, tables).tolist() == [[1, 255, 128, 130]]  # activations may pass a table's range


def test_codes_belong_to_the_scale_as_stored() -> None:
    """A range whose scale rounds up in float16: encoding with the unrounded scale would give other codes."""
    w = torch.linspace(-1, 1.0007, 4096)[None]
    fmt = Integer(bits=8, group_size=4096)
    tables = fmt.fit(w)
    exact = ((w / tables["scale"].float()).round() + tables["zero"]).clamp(0, 255)
    assert torch.equal(fmt.encode(w, tables).float(), exact)
    assert (w.max() - w.min()).item() / 255 != tables["scale"].item()


def test_weights_below_float16_become_zero_not_nan() -> None:
    w = torch.full((1, 8), 1e-9)
    decoded = roundtrip(Integer(bits=4, group_size=8), w)
    assert bool(decoded.isfinite().all())
    assert bool((decoded.abs() <= 1e-7).all())


def test_a_scale_beyond_float16_is_refused_and_a_row_scale_holds_it() -> None:
    w = torch.tensor([[1e7, -1e7]])
    with pytest.raises(IntaglioError, match=r"does not fit float16.*group_size null"):
        Integer(bits=4, group_size=2).fit(w)
    assert torch.allclose(roundtrip(Integer(bits=8), w), w, rtol=0.01)


def test_shrink_narrows_the_range_of_its_group_alone() -> None:
    w = torch.randn(4, 32, generator=torch.Generator().manual_seed(1))
    fmt = Integer(bits=4, group_size=16)
    whole, half = fmt.fit(w), fmt.fit(w, shrink=torch.tensor([[1.0, 0.5]]).expand(4, 2))
    assert torch.equal(whole["scale"][:, 0], half["scale"][:, 0])
    assert torch.allclose(half["scale"][:, 1].float(), whole["scale"][:, 1].float() / 2, rtol=2e-3)


def test_salient_columns_scaled_up_halve_the_output_error() -> None:
    """AWQ in miniature: 1 % of the inputs 50 times larger; scaling their columns before rounding."""
    gen = torch.Generator().manual_seed(0)
    x, w = torch.randn(512, 256, generator=gen), torch.randn(128, 256, generator=gen)
    x[:, ::97] *= 50
    fmt = Integer(bits=3, group_size=64)

    def loss(alpha: float) -> float:
        scale = x.abs().mean(0).pow(alpha)
        return float((x @ (roundtrip(fmt, w * scale) / scale - w).T).square().mean())

    assert min(loss(alpha / 20) for alpha in range(20)) < 0.5 * loss(0)


@pytest.mark.parametrize("group_size", [32, 7])
def test_a_grid_whose_least_value_lies_between_codes_is_lost_by_a_whole_zero(group_size: int) -> None:
    """A file of 4 bits with float minima: no 4 bits with whole zeros hold it, at its own width."""
    gen = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 16, (8, 3 * group_size), generator=gen).float()
    codes[:, ::group_size], codes[:, 1::group_size] = 0, 15
    w = (codes - 6.4) * 0.25
    whole, between = (
        float((roundtrip(Integer(4, group_size=group_size, zero=zero), w) - w).abs().max())
        for zero in ("uint8", "float16")
    )
    assert between < 2e-3
    assert whole > 0.2 * 0.25


def test_a_zero_between_codes_belongs_to_no_symmetric_format() -> None:
    with pytest.raises(ValueError, match="a symmetric format stores no zero"):
        Integer(4, symmetric=True, zero="float16")


def test_a_zero_between_codes_is_finite() -> None:
    fmt = Integer(3, group_size=4, zero="float16")
    w = torch.tensor([[-1.2, 2.0, 0.45, 0.0]])
    tables = fmt.fit(w)
    state = fmt.pack(fmt.encode(w, tables), tables)
    assert float(tables["zero"]) == pytest.approx(1.2 / 3.2 * 7, rel=1e-3)
    assert fmt.faults(state) is None
    state["zero"][:] = float("inf")
    assert fmt.faults(state) == "zero has non-finite values"
