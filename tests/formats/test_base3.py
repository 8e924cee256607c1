"""Digits in base 3: every pattern comes back, and a byte that is none is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.formats import Trits, base3


def test_every_pattern_of_five_digits_comes_back() -> None:
    patterns = np.array(list(itertools.product((-1, 0, 1), repeat=5)), np.int8)
    packed = base3.pack(patterns)
    assert packed.shape == (243, 1)
    assert len(np.unique(packed)) == 243
    assert np.array_equal(base3.unpack(packed, 5), patterns)


@given(st.lists(st.integers(-1, 1), min_size=1, max_size=33))
def test_rows_of_any_length_come_back(row: list[int]) -> None:
    digits = np.array([[row], [row[::-1]]], np.int8)
    packed = base3.pack(digits)
    assert packed.shape == (2, 1, -(-len(row) // 5))
    assert np.array_equal(base3.unpack(packed, len(row)), digits)


@pytest.mark.parametrize("byte", [243, 255])
def test_a_byte_that_is_no_five_digits_is_refused(byte: int) -> None:
    layout = Trits(1, group_size=8)
    state = layout.store(np.zeros((1, 2, 11), np.int8), np.ones((1, 2, 2), np.float16))
    assert layout.faults(state, (2, 11)) is None
    state["digits"][0, 1, 2] = byte
    assert "no five digits" in (layout.faults(state, (2, 11)) or "")


def test_scales_are_finite_and_not_negative() -> None:
    layout = Trits(2, group_size=8)
    for bad in (-1, np.inf, np.nan):
        scale = np.ones((2, 3, 1), np.float16)
        scale[1, 2, 0] = bad
        state = layout.store(np.zeros((2, 3, 8), np.int8), scale)
        assert "scale" in (layout.faults(state, (3, 8)) or "")


def test_bits_are_counted() -> None:
    assert sum(a.nbits for a in Trits(2, 64).arrays((10, 320)).values()) / 3200 == pytest.approx(3.7)
