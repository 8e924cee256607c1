"""Functions of one token's vector, on every instruction set of this machine."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from intaglio import _native
from intaglio.types import Array

pytestmark = pytest.mark.parametrize("isa", _native.isas())
SIZES = (1, 7, 8, 17, 31, 64, 577)
ACTIVATIONS = (
    lambda g: g / (1 + np.exp(-g)),
    lambda g: 0.5 * g * (1 + np.tanh(math.sqrt(2 / math.pi) * (g + 0.044715 * g**3))),
    lambda g: 0.5 * g * (1 + np.vectorize(math.erf)(g / math.sqrt(2))),
)


def draw(n: int, spread: float = 1.0) -> Array:
    return (np.random.default_rng(n).standard_normal(n) * spread).astype(np.float32)


@settings(max_examples=80, deadline=None)
@given(
    x=arrays(np.float32, st.integers(1, 200), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    group=st.integers(1, 70),
)
def test_quantize_is_exact(isa: str, x: Array, group: int) -> None:
    q, scale, sums = _native.quantize(x[None], group, isa)
    largest = np.float32(np.abs(x).max())
    largest = np.float32(0) if largest < 2.0**-120 else largest
    step = largest / np.float32(127)
    inverse = np.float32(127) / largest if largest else np.float32(0)
    codes = np.clip(np.rint(x * inverse), -127, 127).astype(np.int64)
    assert scale[0] == step
    assert np.array_equal(q[0, : len(x)], codes)
    assert q.shape[1] % 64 == 0
    assert not q[0, len(x) :].any()
    assert np.array_equal(sums[0], np.add.reduceat(codes, np.arange(0, len(x), group)))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 8, 69])
def test_quantize_marks_what_it_cannot_code(isa: str, wrong: float, at: int) -> None:
    x = np.ones((1, 70), np.float32)
    x[0, at] = wrong
    q, scale, sums = _native.quantize(x, 8, isa)
    assert np.isnan(scale[0])
    assert not q.any()
    assert not sums.any()


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("activation", range(3))
def test_gate(isa: str, n: int, activation: int) -> None:
    g, u = draw(n, 4), draw(n + 1)[:n]
    expected = ACTIVATIONS[activation](g.astype(np.float64)) * u
    np.testing.assert_allclose(_native.gate(g, u, activation, isa), expected, rtol=1e-5, atol=2e-6)


def test_gate_far_from_zero(isa: str) -> None:
    g = np.array([-1000, -200, -90, -20, 0, 20, 90, 200, 1000], np.float32)
    for activation in range(3):
        y = _native.gate(g, np.ones_like(g), activation, isa)
        np.testing.assert_allclose(y, np.where(g > 0, g, 0), atol=1e-6)


@pytest.mark.parametrize("n", SIZES)
def test_softcap(isa: str, n: int) -> None:
    x = draw(n, 40)
    np.testing.assert_allclose(
        _native.softcap(x, 30, isa), 30 * np.tanh(x.astype(np.float64) / 30), rtol=2e-6
    )


@pytest.mark.parametrize("n", SIZES)
def test_rms_norm(isa: str, n: int) -> None:
    x, w = draw(n, 3), draw(n + 1)[:n]
    expected = x / np.sqrt(np.square(x, dtype=np.float64).mean() + 1e-5)
    np.testing.assert_allclose(_native.rms_norm(x, w, 1e-5, isa), expected * w, rtol=1e-5)
    np.testing.assert_allclose(_native.rms_norm(x, None, 1e-5, isa), expected, rtol=1e-5)


@pytest.mark.parametrize("n", [2, 6, 16, 34, 128])
def test_rope(isa: str, n: int) -> None:
    x, angle = draw(n), draw(n // 2, 3)
    z = (x[: n // 2] + 1j * x[n // 2 :]) * np.exp(1j * angle.astype(np.float64))
    found = _native.rope(x, np.cos(angle), np.sin(angle), isa)
    np.testing.assert_allclose(found, np.concatenate([z.real, z.imag]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", SIZES)
def test_axpy(isa: str, n: int) -> None:
    x, y = draw(n), draw(n + 1)[:n]
    np.testing.assert_allclose(_native.axpy(0.3, x, y, isa), y + np.float32(0.3) * x, rtol=1e-5, atol=1e-6)
