"""SparseRows and BlockDiagonal: what is stored is what the formulas say, and what is broken is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.formats import BlockDiagonal, SparseRows
from intaglio.formats.bits import from_stream, to_stream
from intaglio.types import Array, State


@given(st.data(), st.integers(1, 16), st.integers(1, 9), st.integers(0, 70))
def test_streams_round_trip(data: st.DataObject, bits: int, rows: int, count: int) -> None:
    gen = np.random.default_rng(data.draw(st.integers(0, 99)))
    numbers = gen.integers(0, 1 << bits, (rows, count)).astype(np.uint16)
    stream = to_stream(numbers, bits)
    assert stream.shape == (rows, -(-count * bits // 8))
    np.testing.assert_array_equal(from_stream(stream, bits, count), numbers)


def random_support(gen: np.random.Generator, rows: int, blocks: int, width: int, nonzeros: int) -> Array:
    each = [
        [np.sort(gen.permutation(width)[:nonzeros]) + b * width for b in range(blocks)] for _ in range(rows)
    ]
    return np.array(each, np.uint16).reshape(rows, blocks * nonzeros)


@st.composite
def matrices(draw: st.DrawFn) -> tuple[SparseRows, tuple[int, int], Array, Array]:
    width, blocks, rows = draw(st.integers(1, 40)), draw(st.integers(1, 4)), draw(st.integers(1, 9))
    nonzeros, bits = draw(st.integers(1, width)), draw(st.sampled_from([14, 16]))
    gen = np.random.default_rng(draw(st.integers(0, 99)))
    columns = random_support(gen, rows, blocks, width, nonzeros)
    values = gen.standard_normal(columns.shape).astype(np.float32)
    return SparseRows(nonzeros, width, bits), (rows, width * blocks), columns, values  # type: ignore[arg-type]


@given(matrices())
def test_rows_come_back_in_the_bits_that_the_formula_says(
    made: tuple[SparseRows, tuple[int, int], Array, Array],
) -> None:
    layout, shape, columns, values = made
    state = layout.store(columns, values, shape[1])
    declared = layout.arrays(shape)
    assert {name: (a.dtype, a.shape) for name, a in state.items()} == {
        n: (s.dtype, s.shape) for n, s in declared.items()
    }
    assert layout.faults(state, shape) is None
    blocks, width, nonzeros = layout.sizes(shape[1])
    places = min(shape[1], blocks * nonzeros * max(1, math.ceil(math.log2(width))))
    assert sum(a.nbytes for a in state.values()) == shape[0] * (
        -(-places // 8) + -(-blocks * nonzeros * layout.bits // 8)
    )
    w = layout.values(state, shape)
    expected = np.zeros(shape, np.float32)
    np.put_along_axis(expected, columns.astype(int), values, 1)
    np.testing.assert_allclose(w, expected, rtol=0.003 if layout.bits == 14 else 0.0005, atol=1e-6)
    np.testing.assert_array_equal(layout.parts(state, shape)[0], columns)


def test_a_zero_that_was_chosen_keeps_its_place() -> None:
    layout, columns = SparseRows(3), np.array([[0, 2, 4]], np.uint16)
    state = layout.store(columns, np.array([[1.0, 0.0, 2.0]], np.float32), 5)
    np.testing.assert_array_equal(layout.parts(state, (1, 5))[0], columns)


def test_what_is_too_large_stays_finite() -> None:
    for bits in (14, 16):
        layout = SparseRows(2, bits=bits)  # type: ignore[arg-type]
        state = layout.store(np.array([[0, 1]], np.uint16), np.array([[1e9, -1e9]], np.float32), 2)
        np.testing.assert_allclose(layout.values(state, (1, 2)), [[65408, -65408]])


MASKED, NUMBERED = SparseRows(2, 4), SparseRows(1, 32)


def flipped(layout: SparseRows, cols: int, name: str) -> State:
    gen = np.random.default_rng(0)
    blocks, width, nonzeros = layout.sizes(cols)
    columns = random_support(gen, 3, blocks, width, nonzeros)
    state = dict(layout.store(columns, np.ones(columns.shape, np.float32), cols))
    state[name] = state[name].copy()
    state[name].view(np.uint8)[-1, -1] ^= 0x80
    return state


def test_broken_supports_are_refused() -> None:
    assert "a block of a row has" in str(MASKED.faults(flipped(MASKED, 8, "mask"), (3, 8)))
    assert "beyond the last column" in str(MASKED.faults(flipped(MASKED, 4, "mask"), (3, 4)))
    assert "no whole number of blocks" in str(MASKED.faults(flipped(MASKED, 8, "value"), (3, 9)))
    wide = SparseRows(2, 33)
    state = dict(wide.store(np.array([[3, 32]], np.uint16), np.ones((1, 2), np.float32), 33))
    assert "columns of a block do not rise" in str(
        wide.faults({**state, "index": to_stream(np.array([[3, 3]], np.uint16), 6)}, (1, 33))
    )
    assert "column 40 of a block of 33" in str(
        wide.faults({**state, "index": to_stream(np.array([[3, 40]], np.uint16), 6)}, (1, 33))
    )
    assert "not finite" in str(wide.faults({**state, "value": np.full((1, 2), np.nan, np.float16)}, (1, 33)))
    assert "numbered in 16 bits" in str(SparseRows(1).faults({}, (1, 1 << 17)))


def test_an_element_outside_its_bin_is_refused() -> None:
    """One of every three: numbers of two bits can say a fourth. Of every one: there is no other."""
    values = np.ones((1, 4), np.float16)
    three, one = SparseRows(1, 3), SparseRows(1, 1)
    state = three.store(np.array([[2, 3, 7, 9]], np.uint16), values, 12)
    assert three.faults(state, (1, 12)) is None
    outside = to_stream(np.array([[2, 0, 3, 0]], np.uint16), 2)
    assert three.faults({**state, "index": outside}, (1, 12)) == "column 3 of a block of 3"
    whole = one.store(np.array([[0, 1, 2, 3]], np.uint16), values, 4)
    assert one.faults(whole, (1, 4)) is None
    assert "a block of a row has 0 columns, expected 1" in str(
        one.faults({**whole, "mask": np.array([[0b1011]], np.uint8)}, (1, 4))
    )


def test_the_last_block_of_a_diagonal_may_be_narrower() -> None:
    layout = BlockDiagonal(4)
    value = np.arange(1, 21, dtype=np.float16).reshape(2, 10)
    w = layout.values({"value": value}, (6, 10))
    assert layout.arrays((6, 10))["value"].shape == (2, 10)
    for block in range(3):
        here = slice(4 * block, 4 * block + 4)
        np.testing.assert_array_equal(w[2 * block : 2 * block + 2, here], value[:, here])
    assert np.count_nonzero(w) == value.size
    assert layout.faults({"value": value}, (6, 10)) is None
    assert layout.faults({"value": value}, (7, 10)) == "7 rows do not divide among 3 blocks"


@pytest.mark.parametrize("cols", [5, 64, 65])
def test_no_more_nonzeros_than_columns(cols: int) -> None:
    assert SparseRows(1000).sizes(cols) == (1, cols, cols)
