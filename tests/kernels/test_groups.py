"""Products of groups of codes with activations that have a scale a group, on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio import _native
from intaglio.formats import Activation, Integer, Mixed
from intaglio.formats.rounding import rounded, rounding_of
from intaglio.kernels import cpu
from intaglio.types import Array

ISAS = _native.isas()
A4 = Mixed(4, group_size=64, clip=0.9)
A8 = Integer(8, symmetric=True, group_size=64)
ROUNDINGS = [
    (64, 4, 1, 8, 0.9),
    (64, 8, 0, 8, 1.0),
    (16, 4, 2, 8, 0.9),
    (8, 3, 0, 8, 0.5),
    (24, 4, 1, 8, 0.9),
    (400, 8, 0, 8, 1.0),
]
# rows, cols, group
SHAPES = [
    (1, 1, 64),
    (7, 5, 64),
    (17, 8, 8),
    (31, 97, 32),
    (33, 64, 64),
    (65, 129, 40),
    (40, 576, 64),
    (3, 1031, 512),
    (5, 2100, 512),
]


def operand(form: Integer | Mixed, rows: int, cols: int, *, seed: int = 0) -> tuple[cpu.Operand, Array]:
    """A random matrix of this format, and its values."""
    w = torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))
    tables = form.fit(w)
    codes = form.encode(w, tables)
    activation = Integer(8, symmetric=True, group_size=form.group_size)
    return cpu.Operand((rows, cols), form, form.pack(codes, tables), activation), form.decode(
        codes, tables
    ).numpy()


def packed(m: cpu.Operand, isa: str) -> _native.Matrix:
    choice = cpu.choose(m)
    assert choice.kernel == "groups"
    return cpu.pack([m], choice, isa=isa)


def dequantized(x: Array, activation: Activation) -> Array:
    return rounded(torch.from_numpy(x), activation).numpy().astype(np.float64)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("how", ROUNDINGS, ids=str)
@pytest.mark.parametrize("n", [1, 7, 64, 65, 130, 400])
def test_quantizing_is_the_definition(isa: str, how: tuple[int, int, int, int, float], n: int) -> None:
    """Codes, scales and sums are those of the plain loops, bit for bit, and mean what torch says."""
    x = np.random.default_rng(n).standard_normal((3, n)).astype(np.float32)
    x[1, ::3] *= 30
    x[2, : min(n, 8)] = 0
    q, scale, sums = _native.quantize_groups(x, how, isa)
    expected = _native.quantize_groups(x, how, "scalar")
    for found, wanted in zip((q, scale, sums), expected, strict=True):
        assert np.array_equal(found, wanted)
    size, bits, kept, kept_bits, clip = how
    of = np.arange(n) // size
    form = Mixed(bits, size, kept, kept_bits, clip)
    np.testing.assert_allclose(
        q[:, :n] * scale[:, of], dequantized(x, form), atol=1e-6 * float(np.abs(x).max())
    )
    assert (q[:, n:] == 0).all()
    assert np.array_equal(sums, np.stack([q[:, :n][:, of == g].sum(1) for g in range(of[-1] + 1)], 1))


@pytest.mark.parametrize("isa", ISAS)
def test_what_is_not_finite_stays_so(isa: str) -> None:
    x = np.ones((1, 32), np.float32)
    x[0, 3], x[0, 17] = np.nan, np.inf
    q, scale, _ = _native.quantize_groups(x, (8, 4, 0, 8, 1.0), isa)
    assert np.isnan(scale[0, [0, 2]]).all()
    assert np.isfinite(scale[0, [1, 3]]).all()
    assert (q[0, :8] == 0).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("rows", "cols", "group"), SHAPES)
@pytest.mark.parametrize("kept", [0, 1, 2])
@pytest.mark.parametrize("widths", [(4, 8), (4, 6), (6, 8)], ids=str)
def test_a_product_is_that_of_the_dequantized(
    isa: str, rows: int, cols: int, group: int, kept: int, widths: tuple[int, int]
) -> None:
    group = group if widths == (4, 8) else -(-group // 16) * 16
    form = Mixed(widths[0], group, kept, widths[1], clip=0.85)
    activation = Mixed(4, group, kept, clip=0.9)
    m, w = operand(form, rows, cols)
    matrix, rng = packed(m, isa), np.random.default_rng(cols)
    bias = rng.standard_normal(rows).astype(np.float32)
    assert np.array_equal(np.stack([matrix.row(r) for r in range(rows)]), w)
    for tokens in (1, 2, 3, 4, 7, 9):
        x = rng.standard_normal((tokens, cols)).astype(np.float32)
        found = matrix.linear(x, bias, 0.5, rounding=tuple(rounding_of(activation, cols)))
        expected = 0.5 * (dequantized(x, activation) @ w.T.astype(np.float64) + bias)
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_integers_are_exact(isa: str, data: st.DataObject) -> None:
    """With scales that are powers of two, of one group at a time, the floats are the integers themselves."""
    rows, cols, tokens = (data.draw(st.integers(1, most)) for most in (70, 400, 12))
    few_bits, many_bits = data.draw(st.sampled_from([(4, 8), (4, 6), (6, 8)]))
    group = (8 if 6 not in (few_bits, many_bits) else 16) * data.draw(st.integers(1, 20))
    kept = data.draw(st.integers(0, 3))
    extreme, bits = data.draw(st.booleans()), data.draw(st.sampled_from([4, 8]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    form = Mixed(few_bits, group, kept, many_bits)
    split, groups = form.split(cols), -(-cols // group)
    levels = rng.integers(0, 1 << few_bits, (rows, cols))
    levels[:, split:] = rng.integers(1, 1 << many_bits, (rows, cols - split))
    if extreme:
        levels[:, :split], levels[:, split:] = (
            rng.integers(0, 2) * ((1 << few_bits) - 1),
            (1 << many_bits) - 1,
        )
    tables = {"scale": torch.ones(rows, groups, dtype=torch.float16)}
    state = form.pack(torch.from_numpy(levels.astype(np.uint8)), tables)
    reads = Integer(8, symmetric=True, group_size=group)
    matrix = packed(cpu.Operand((rows, cols), form, state, reads), isa)
    w = levels - np.where(np.arange(cols) < split, 1 << (few_bits - 1), 1 << (many_bits - 1))
    top, one = (1 << (bits - 1)) - 1, data.draw(st.integers(0, groups - 1))
    x = np.zeros((tokens, cols), np.int64)
    at = slice(one * group, min(cols, (one + 1) * group))
    x[:, at] = rng.integers(-top, top + 1, x[:, at].shape)
    x[:, at.start] = top  # so that the scale is 1
    if extreme:
        x[:, at] = top
    found = matrix.linear(x.astype(np.float32), rounding=(min(group, cols), bits, 0, 8, 1.0))
    assert np.array_equal(found, x @ w.T)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("form", [Mixed(4, 64), Integer(6, True, 64)])
def test_a_token_alone_is_the_same_in_company(isa: str, form: Integer | Mixed) -> None:
    m, _ = operand(form, 40, 576)
    matrix, x = packed(m, isa), np.random.default_rng(0).standard_normal((9, 576)).astype(np.float32)
    together = matrix.linear(x)
    for t in range(9):
        assert np.array_equal(matrix.linear(x[t : t + 1])[0], together[t])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "form",
    [
        Integer(4, True, 32),
        Integer(6, True, 32),
        Integer(8, True, 32),
        Mixed(8, 32, kept=2),
        Mixed(4, 32, rows=2),
        Mixed(6, 32, kept=1),
    ],
)
def test_stacked_matrices(isa: str, form: Integer | Mixed) -> None:
    """Of one input, of any of the formats the kernel runs; shared scales of an odd number of rows too."""
    (a, w), (b, v) = operand(form, 5, 96), operand(form, 17, 96, seed=1)
    matrix = cpu.pack([a, b], cpu.choose(a), isa=isa)
    x = np.random.default_rng(0).standard_normal((5, 96)).astype(np.float32)
    expected = dequantized(x, Integer(8, True, 32)) @ np.concatenate([w, v]).T
    assert np.abs(matrix.linear(x) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_broken_pieces_are_refused() -> None:
    four, six, eight = (np.zeros(3 * width, np.uint8) for width in (24, 36, 32))
    none, scale = np.empty(0, np.uint8), np.zeros(3 * 8, np.float16)
    _native.structured(cpu.GROUPS, 3, 128, 16, [four, six, eight, scale])
    for arrays, group, sentence in (
        ([four[:-1], six, eight, scale], 16, "6 bits must fill whole"),
        ([four, six[:-1], eight, scale], 16, "6 bits must fill whole"),
        ([four, six, eight[:-1], scale], 16, "8 bits must fill whole"),
        ([four, six, eight, scale[:-1]], 16, "scale"),
        ([four, six, eight, scale], 60, "multiple of 8"),
        ([four, six, eight, scale], 40, "whole groups"),
        ([four, six, eight, scale], 8, "multiple of 16"),
        ([four, none, eight, scale], 16, "4 bits must fill the other"),
        ([four, six, np.zeros(3 * 129, np.uint8), scale], 16, "8 bits must fill whole"),
    ):
        with pytest.raises(ValueError, match=sentence):
            _native.structured(cpu.GROUPS, 3, 128, group, arrays)
