"""The native core means by stored arrays and codecs what the torch definitions mean, whatever the ISA."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from intaglio import _native as native
from intaglio import terms
from intaglio.attention import Affine, Codec, Half
from intaglio.formats import Bilevel, Floating, Format, Integer, TwoLevel
from intaglio.formats.arrays import to_numpy
from intaglio.kernels import cpu
from intaglio.solvers import Clip, Obs
from intaglio.terms import Coded, Dense, Metric
from intaglio.types import Array

A8 = Integer(8, symmetric=True)
FORMATS: list[Format] = [
    Integer(4, group_size=64),
    Integer(3, group_size=8),
    Integer(2),
    Integer(8, symmetric=True),
    Integer(6, group_size=16),
    Integer(5, symmetric=True, group_size=24),
    Integer(3, group_size=64, zero="float16"),
    Integer(8, zero="float16"),
    TwoLevel(4, group_size=64),
    TwoLevel(3, group_size=8),
    TwoLevel(2, group_size=40),
    Bilevel(3),
    Bilevel(4, group_size=24, scale_bits=4, zero_bits=2),
    Bilevel(2, group_size=16, scale_bits=6),
    Floating("float32"),
    Floating("float16"),
    Floating("bfloat16"),
]
SHAPES = [(1, 1), (5, 67), (33, 128), (17, 65)]


def coded(fmt: Format, shape: tuple[int, int], activation: Integer | None = None) -> Coded:
    gen = torch.Generator().manual_seed(sum(shape))
    x = torch.randn(200, shape[1], generator=gen)
    metric = Metric(x.T @ x / len(x))
    return Obs().solve(
        torch.randn(shape, generator=gen), (Dense(fmt),), metric, clip=Clip(), activation=activation
    )


def operand(matrix: Coded) -> cpu.Operand:
    (factor,) = matrix.terms[0].factors(matrix.shape)
    return cpu.Operand(matrix.shape, factor.layout, matrix.term_state(0), matrix.activation)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("fmt", FORMATS, ids=repr)
def test_decodes_what_the_definition_decodes(fmt: Format, shape: tuple[int, int]) -> None:
    matrix = coded(fmt, shape)
    np.testing.assert_allclose(
        cpu.decode(operand(matrix)), terms.decode(matrix).numpy(), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("isa", native.isas())
@pytest.mark.parametrize("activation", [None, A8], ids=["a16", "a8"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("fmt", FORMATS, ids=repr)
def test_multiplies_by_the_decoded_matrix(
    fmt: Format, shape: tuple[int, int], activation: Integer | None, isa: str
) -> None:
    """A row of integers with a 127 in it quantizes to itself: rounding has no part in the difference."""
    matrix = operand(coded(fmt, shape, activation))
    x = np.random.default_rng(0).integers(-127, 128, (3, shape[1])).astype(np.float32)
    x[:, 0] = 127
    choice = cpu.choose(matrix)
    exact = x.astype(np.float64) @ cpu.decode(matrix).T.astype(np.float64)
    got = cpu.pack([matrix], choice, isa=isa).linear(x)
    np.testing.assert_allclose(got, exact, rtol=1e-4, atol=1e-4 * float(np.abs(exact).max()))


def vectors() -> Array:
    """Keys of many kinds: plain, one-signed, constant, zero, tiny, large."""
    x = np.random.default_rng(0).standard_normal((12, 64)).astype(np.float32)
    x[1] += 10
    x[2] = 3.14159
    x[3] = 0
    x[4] *= 1e-7
    x[5] *= 1e4
    x[6] = -5 + 1e-4 * x[6]
    x[7] = 6e-4
    return x


@pytest.mark.parametrize("isa", native.isas())
@pytest.mark.parametrize("codec", [Affine(4), Affine(8), Half()], ids=repr)
def test_pages_hold_what_the_codec_says(codec: Codec, isa: str) -> None:
    x = vectors()
    expected = codec.roundtrip(torch.from_numpy(x)).numpy()
    pages = native.Pages(kv_heads=1, head_dim=64, bits=codec.bits, count=2, isa=isa)
    for token, vector in enumerate(x):
        pages.write(60 + token, vector[None], -vector[None])
    got = np.stack([pages.read(60 + token)[0][0] for token in range(len(x))])
    # s*q - s*z may be one fused operation: an ulp of the largest product apart
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6 * float(np.abs(x).max()))
    assert np.array_equal(got[3], np.zeros(64))


@pytest.mark.parametrize("isa", native.isas())
@pytest.mark.parametrize("cols", [1, 67, 128])
def test_activations_are_rounded_as_the_format_says(cols: int, isa: str) -> None:
    x = torch.randn(5, cols, generator=torch.Generator().manual_seed(cols))
    tables = A8.fit(x)
    q, scale, _ = native.quantize(x.numpy(), 64, isa)
    np.testing.assert_allclose(scale.reshape(-1, 1), to_numpy(tables["scale"]), rtol=1e-6)
    off = np.abs(q[:, :cols].astype(int) - (A8.encode(x, tables).int() - 128).numpy())
    assert off.max() <= 1  # a quotient and a product with the reciprocal may part at a tie
    assert off.mean() < 0.01
