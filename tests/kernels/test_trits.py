"""The kernel of trit planes: equal to the dense matrix, whatever the number of rows, tokens and columns."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from intaglio import _native
from intaglio.formats import Trits
from intaglio.kernels import cpu

CASES = [(1, 1, 1, 1), (300, 131, 2, 64), (129, 64, 3, 64), (33, 40, 1, 100), (161, 67, 2, 5)]


def operand(rows: int, cols: int, planes: int, group: int) -> cpu.Operand:
    rng = np.random.default_rng(rows)
    digits = rng.integers(-1, 2, (planes, rows, cols)).astype(np.int8)
    scale = rng.random((planes, rows, -(-cols // group))).astype(np.float16)
    layout = Trits(planes, group)
    return cpu.Operand((rows, cols), layout, layout.store(digits, scale))


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize(("rows", "cols", "planes", "group"), CASES)
def test_multiplies_as_the_dense_matrix(rows: int, cols: int, planes: int, group: int, isa: str) -> None:
    m = operand(rows, cols, planes, group)
    w, packed = cpu.decode(m).astype(np.float64), cpu.pack([m], cpu.choose(m), isa=isa)
    rng = np.random.default_rng(0)
    x, bias = rng.standard_normal((19, cols)).astype(np.float32), rng.standard_normal(rows).astype(np.float32)
    expected = 2 * (x @ w.T + bias) + 1
    found = packed.linear(x, bias=bias, alpha=2.0, onto=np.ones((19, rows), np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-4 * float(np.abs(expected).max()))
    for r in {0, rows // 2, rows - 1}:
        np.testing.assert_array_equal(packed.row(r), cpu.decode(m)[r])


@pytest.mark.parametrize("isa", _native.isas())
def test_every_pattern_of_eight_digits_is_kept(isa: str) -> None:
    """Two bytes of what the kernel makes of five digits to a byte: two bits a digit."""
    patterns = np.array(list(itertools.product((-1, 0, 1), repeat=8)), np.int8)
    layout = Trits(1, 8)
    state = layout.store(patterns[None], np.ones((1, len(patterns), 1), np.float16))
    m = cpu.Operand(patterns.shape, layout, state)
    packed = cpu.pack([m], cpu.choose(m), isa=isa)
    found = packed.linear(np.eye(8, dtype=np.float32))
    np.testing.assert_array_equal(found.T, patterns)
    assert all(np.array_equal(packed.row(r), patterns[r]) for r in range(0, len(patterns), 5))


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize(("rows", "cols", "planes", "group"), CASES)
def test_inputs_of_eight_bits_give_the_integers_of_a_group(
    rows: int, cols: int, planes: int, group: int, isa: str
) -> None:
    """Scales that are powers of two: then nothing is rounded, and a token of codes is exact."""
    rng = np.random.default_rng(rows)
    digits = rng.integers(-1, 2, (planes, rows, cols)).astype(np.int8)
    powers = rng.integers(-2, 3, (planes, rows, -(-cols // group)))
    layout = Trits(planes, group)
    m = cpu.Operand((rows, cols), layout, layout.store(digits, (2.0**powers).astype(np.float16)))
    q = rng.integers(-127, 128, (19, cols))
    q[:, 0] = 127
    scale = 4 * np.exp2(powers).repeat(group, 2)[:, :, :cols]
    expected = q @ (scale * digits).sum(0).T
    found = 4 * cpu.pack([m], cpu.choose(m), isa=isa).linear(q.astype(np.float32)).astype(np.float64)
    np.testing.assert_array_equal(np.rint(found), expected)
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("isa", _native.isas())
def test_a_token_does_not_depend_on_its_neighbours(isa: str) -> None:
    m = operand(300, 131, 2, 64)
    packed = cpu.pack([m], cpu.choose(m), isa=isa)
    x = np.random.default_rng(0).standard_normal((19, 131)).astype(np.float32)
    alone = np.concatenate([packed.linear(x[t : t + 1]) for t in range(19)])
    np.testing.assert_array_equal(packed.linear(x), alone)


@pytest.mark.parametrize("isa", _native.isas())
def test_what_is_not_a_number_spoils_its_token_alone(isa: str) -> None:
    m = operand(40, 8, 1, 8)
    x = np.ones((3, 8), np.float32)
    x[1, 3] = np.nan
    found = cpu.pack([m], cpu.choose(m), isa=isa).linear(x)
    assert np.isnan(found[1]).any()
    assert np.isfinite(found[[0, 2]]).all()


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize(("cols", "group"), [(66_000, 128), (9_000, 1)])
def test_rows_too_wide_or_groups_too_many_to_be_kept_as_integers(cols: int, group: int, isa: str) -> None:
    m = operand(3, cols, 1, group)
    x = np.random.default_rng(0).standard_normal((2, cols)).astype(np.float32)
    found, expected = cpu.pack([m], cpu.choose(m), isa=isa).linear(x), x.astype(np.float64) @ cpu.decode(m).T
    np.testing.assert_allclose(found, expected, atol=1e-4 * float(np.abs(expected).max()))


@pytest.mark.parametrize("isa", _native.isas())
def test_sums_of_a_long_group_hold(isa: str) -> None:
    """Every product at its largest, in more columns than 16 bits could add up."""
    layout, cols = Trits(1, 4_096), 4_096
    digits = np.ones((1, 33, cols), np.int8)
    m = cpu.Operand((33, cols), layout, layout.store(digits, np.ones((1, 33, 1), np.float16)))
    found = cpu.pack([m], cpu.choose(m), isa=isa).linear(np.full((5, cols), -3, np.float32))
    np.testing.assert_allclose(found, -3 * cols, rtol=1e-6)


def test_it_reads_half_a_byte_a_weight() -> None:
    """Two bits a digit, and two planes' float16 scales in groups of 64."""
    m = operand(128, 640, 2, 64)
    assert cpu.pack([m], cpu.choose(m)).nbytes * 8 / (128 * 640) == pytest.approx(4 + 2 * 16 / 64)


def test_broken_arrays_are_refused() -> None:
    m = operand(4, 10, 2, 5)
    digits, scale = (a.reshape(-1) for a in m.state.values())
    for group, arrays, sentence in [
        (0, [digits, scale], "at least one column"),
        (5, [digits[:-1], scale], "a byte for five digits"),
        (5, [digits, scale[:-1]], "1 to 3 planes"),
        (5, [np.full_like(digits, 243), scale], "at most 242"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            _native.structured(cpu.TRITS, 4, 10, group, arrays)
