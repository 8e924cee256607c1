"""Lookup: what is stored comes back, at the bits it says, and numbers float16 does not hold are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.errors import IntaglioError
from intaglio.formats import Lookup


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 4), st.integers(1, 9), st.sampled_from([1, 7, 31, 33, 67, 576, 1536]), st.integers(0, 99)
)
def test_codes_and_tables_come_back(bits: int, rows: int, cols: int, seed: int) -> None:
    rng, layout = np.random.default_rng(seed), Lookup(bits)
    codes = rng.integers(0, layout.entries, (rows, cols)).astype(np.uint8)
    table = layout.round(rng.standard_normal((rows, layout.entries)).astype(np.float32))
    state = layout.store(codes, table)
    assert {name: (a.dtype, a.shape) for name, a in state.items()} == layout.arrays((rows, cols))
    assert np.array_equal(layout.values(state, (rows, cols)), table[np.arange(rows)[:, None], codes])


@pytest.mark.parametrize(("bits", "cols", "expected"), [(3, 576, 3.22), (4, 576, 4.44), (3, 4096, 3.03)])
def test_tables_count(bits: int, cols: int, expected: float) -> None:
    stored = Lookup(bits).arrays((64, cols)).values()
    assert sum(array.nbits for array in stored) / (64 * cols) == pytest.approx(expected, abs=0.005)


def test_what_float16_does_not_hold_is_refused() -> None:
    with pytest.raises(IntaglioError, match=r"table entry of 1e\+06 does not fit float16"):
        Lookup(2).round(np.full((1, 4), 1e6, np.float32))
    state = Lookup(2).store(np.zeros((1, 5), np.uint8), np.full((1, 4), np.nan))
    assert Lookup(2).faults(state, (1, 5)) == "table is not finite"
