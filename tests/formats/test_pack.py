"""Bit streams: the definition, read bit by bit, and back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.formats.pack import pack, packed_width, unpack
from intaglio.types import Array


def bit_by_bit(codes: Array, bits: int) -> Array:
    """The definition in docs/architecture.md: element i occupies bits [i*bits, (i+1)*bits), least first."""
    planes = (codes[:, :, None] >> np.arange(bits)) & 1
    return np.packbits(
        planes.reshape(len(codes), codes.shape[1] * bits).astype(np.uint8), axis=1, bitorder="little"
    )


@given(
    bits=st.integers(1, 8),
    rows=st.integers(0, 5),
    cols=st.integers(0, 200),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=200)
def test_streams_are_dense_and_come_back(bits: int, rows: int, cols: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (rows, cols), dtype=np.uint8)
    packed = pack(codes, bits)
    assert packed.shape == (rows, packed_width(cols, bits))
    assert np.array_equal(packed, bit_by_bit(codes, bits))
    assert np.array_equal(unpack(packed, bits, cols), codes)


@pytest.mark.parametrize(("bits", "count"), [(2, 4), (4, 2), (3, 5)])
def test_every_pattern_of_neighbours_comes_back(bits: int, count: int) -> None:
    patterns = np.array(list(itertools.product(range(1 << bits), repeat=count)), np.uint8)
    packed = pack(patterns, bits)
    assert len(np.unique(packed, axis=0)) == len(patterns)
    assert np.array_equal(unpack(packed, bits, count), patterns)


@given(st.integers(1, 20), st.integers(0, 99))
@settings(deadline=None)
def test_three_bits_waste_nothing_in_whole_words(words: int, seed: int) -> None:
    """32 codes in three words of 32 bits."""
    codes = np.random.default_rng(seed).integers(0, 8, (2, 32 * words), dtype=np.uint8)
    packed = pack(codes, 3)
    assert packed.nbytes * 8 == 3 * codes.size
    assert np.array_equal(unpack(packed, 3, 32 * words), codes)


@pytest.mark.parametrize("bits", range(1, 9))
def test_rows_beyond_one_block(bits: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 1 << bits, (1031, 517), dtype=np.uint8)
    packed = pack(codes, bits)
    assert np.array_equal(packed, bit_by_bit(codes, bits))
    assert np.array_equal(unpack(packed, bits, 517), codes)


@pytest.mark.parametrize("bits", [3, 4])
def test_strided_and_read_only_input(bits: int) -> None:
    codes = np.random.default_rng(0).integers(0, 1 << bits, (34, 9), dtype=np.uint8)[::2].T
    packed = pack(codes, bits)
    packed.flags.writeable = False
    assert np.array_equal(unpack(packed, bits, codes.shape[1]), codes)


def test_a_code_that_does_not_fit_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="does not fit"):
        pack(np.full((1, 3), 8, np.uint8), 3)
