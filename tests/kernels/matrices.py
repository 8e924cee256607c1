"""Random matrices in the neutral layout, with what they mean in numpy."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from intaglio import _native
from intaglio.formats.pack import pack
from intaglio.kernels import cpu
from intaglio.types import Array

PLAIN = (cpu.F32, cpu.F16, cpu.BF16)
INTEGER = (cpu.W8A8, cpu.W4A8, cpu.W4A8_TWO)  # the kinds with an exact integer accumulator
ONE_GROUP = (*PLAIN, cpu.W8A8, cpu.W4A8)


@dataclass(frozen=True)
class Sample:
    """A part for `_native.Matrix`; `levels` int64 are its integers, `w` float64 its values."""

    kind: int
    part: cpu.Part
    levels: Array
    w: Array

    def packed(self, isa: str) -> _native.Matrix:
        return _native.Matrix(self.kind, self.w.shape[1], [self.part], isa)


def plain(kind: int, rows: int, cols: int, rng: np.random.Generator) -> Sample:
    """Normal values in the type of a plain kind."""
    dtype = (np.float32, np.float16, ml_dtypes.bfloat16)[kind]
    value = rng.standard_normal((rows, cols)).astype(dtype)
    part = (0, cols, value.view(np.uint8), None, None, None)
    return Sample(kind, part, np.zeros((rows, cols), np.int64), value.astype(np.float64))


def sample(
    kind: int,
    rows: int,
    cols: int,
    rng: np.random.Generator,
    *,
    group: int = 64,
    bits: int = 0,
    extreme: bool = False,
    most_step: int = 16,
) -> Sample:
    """A random matrix of any kind; `extreme`: codes and group scales at their most, zero points 0.

    Two-level group scales of at most 8 keep every level in a signed byte, where some kernels are quicker.
    """
    if kind in PLAIN:
        return plain(kind, rows, cols, rng)
    bits = bits or {cpu.W2: 2, cpu.W3: 3, cpu.W8: 8, cpu.W8A8: 8}.get(kind, 4)
    group = cols if kind in ONE_GROUP else min(fitting(kind, group), cols)
    top, groups = (1 << bits) - 1, -(-cols // group)
    codes = np.full((rows, cols), top) if extreme else rng.integers(0, top + 1, (rows, cols))
    zero = (
        None
        if kind == cpu.W8A8
        else rng.integers(0, 1 if extreme else top + 1, (rows, groups)).astype(np.uint8)
    )
    steps = (
        rng.integers(most_step if extreme else 1, most_step + 1, (rows, groups)).astype(np.uint8)
        if kind == cpu.W4A8_TWO
        else None
    )
    scale = (0.1 + rng.random((rows, 1 if kind in INTEGER else groups))).astype(np.float16).astype(np.float32)
    part = (bits, group, pack(codes.astype(np.uint8), bits), scale, zero, steps)
    return Sample(kind, part, *meaning(part, codes, cols))


def fitting(kind: int, group: int) -> int:
    """The next larger group that kernels of this kind run."""
    if kind == cpu.W3:
        return 16 if group <= 16 else -(-group // 32) * 32
    return -(-group // 16) * 16 if kind == cpu.W2 else group


def meaning(part: cpu.Part, codes: Array, cols: int) -> tuple[Array, Array]:
    """Levels int64 and values float64 of a coded part."""
    bits, group, _, scale, zero, steps = part
    of = np.arange(cols) // group
    levels = codes.astype(np.int64) - (1 << (bits - 1) if zero is None else zero.astype(np.int64)[:, of])
    if steps is not None:
        levels = levels * steps.astype(np.int64)[:, of]
    assert scale is not None
    return levels, levels * np.float64(scale[:, of] if scale.shape[1] > 1 else scale)


def quantized(x: Array) -> Array:
    """x (tokens, cols) after int8 per token, as float64."""
    scale = np.abs(x).max(1, keepdims=True) / np.float32(127)
    return np.rint(x / np.where(scale > 0, scale, 1)) * np.float64(scale)


def multiplies(m: cpu.Operand, isa: str, *, tokens: int = 9, choice: cpu.Choice | None = None) -> None:
    """As the dense matrix does, for one token and for several, onto what is there."""
    w, packed, rng = cpu.decode(m), cpu.pack([m], choice or cpu.choose(m), isa=isa), np.random.default_rng(1)
    x, bias = (rng.standard_normal(n).astype(np.float32) for n in ((tokens, m.shape[1]), m.shape[0]))
    together, y = packed.linear(x), x.astype(np.float64) @ w.T
    np.testing.assert_allclose(together, y, atol=1e-5 * max(1.0, float(np.abs(y).max())))
    for count in {1, 2, min(5, tokens)}:
        assert np.array_equal(packed.linear(x[:count]), together[:count])
    onto = rng.standard_normal(y.shape).astype(np.float32)
    expected = onto + 2 * (y + bias)
    found = packed.linear(x, bias=bias, alpha=2, onto=onto)
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1.0, float(np.abs(expected).max())))
    assert np.array_equal(np.stack([packed.row(r) for r in range(len(w))]), w)


def rounding_bound(w: Array, x: Array, top: int = 27_559) -> Array:
    """How far x @ w.T may be off where x is made integers of at most `top`: (tokens, rows)."""
    step = np.abs(x).max(1, keepdims=True) / top
    return 0.51 * step * np.abs(w).sum(1) + 1e-5 * float(np.abs(x @ w.T).max())
