"""Blocks of a row, kept or dropped: what is stored, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio import terms
from intaglio.errors import IntaglioError
from intaglio.formats import Bsr
from intaglio.terms import Coded, GroupSparse
from intaglio.types import State


def sample(layout: Bsr, shape: tuple[int, int], share: float, seed: int = 0) -> tuple[State, np.ndarray]:
    """Random blocks as stored, and what they mean, element by element."""
    rng = np.random.default_rng(seed)
    blocks = layout.blocks(shape[1])
    kept = rng.random((shape[0], blocks)) < share
    if layout.bits == 16:
        w = rng.standard_normal(shape).astype(np.float16)
        spread = np.repeat(kept, layout.group_size, axis=1)[:, : shape[1]]
        return layout.store_values(kept, w), np.where(spread, w, 0).astype(np.float32)
    codes = rng.integers(0, 1 << layout.bits, shape).astype(np.uint8)
    scale = (rng.random(kept.shape) + 0.1).astype(np.float16)
    zero = rng.integers(0, 1 << layout.bits, kept.shape).astype(np.uint8)
    w = np.zeros(shape, np.float32)
    for n, k in np.ndindex(*shape):
        g = k // layout.group_size
        if kept[n, g]:
            w[n, k] = (float(codes[n, k]) - float(zero[n, g])) * np.float32(scale[n, g])
    return layout.store(kept, codes, scale, zero), w


@given(
    bits=st.sampled_from([2, 3, 4, 8, 16]),
    size=st.sampled_from([1, 7, 16, 17, 64]),
    rows=st.integers(1, 9),
    cols=st.integers(1, 70),
    share=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=100)
def test_means_its_kept_blocks_and_zeros(
    bits: int, size: int, rows: int, cols: int, share: float, seed: int
) -> None:
    layout = Bsr(bits, size)  # type: ignore[arg-type]
    state, w = sample(layout, (rows, cols), share, seed)
    assert layout.faults(state, (rows, cols)) is None
    assert np.array_equal(layout.values(state, (rows, cols)), w)
    declared = layout.arrays((rows, cols))
    assert declared.keys() == state.keys()
    assert all(declared[name].matches(array) for name, array in state.items())


def test_costs_what_its_docstring_says() -> None:
    state, _ = sample(Bsr(4, 16), (64, 256), 1.0)
    kept = np.zeros((64, 16), bool)
    kept[:, ::2] = True
    half = Bsr(4, 16).store(kept, np.zeros((64, 256), np.uint8), *(np.ones((64, 16), t) for t in "eB"))
    for arrays, share in ((state, 1.0), (half, 0.5)):
        bits = 8 * sum(array.nbytes for array in arrays.values()) / (64 * 256)
        assert bits == share * (4 + (16 + 4) / 16) + 1 / 16


def broken(**changes: np.ndarray) -> Coded:
    state, _ = sample(Bsr(4, 16), (6, 40), 0.7)
    return Coded((6, 40), (GroupSparse(),), {f"0.{name}": a for name, a in (state | changes).items()})


def with_bit(block: int) -> np.ndarray:
    kept = sample(Bsr(4, 16), (6, 40), 0.7)[0]["kept"].copy()
    kept[2] |= np.uint8(1 << block)
    return kept


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kept": np.full((6, 1), 7, np.uint8)}, "for 18 kept blocks"),
        ({"kept": with_bit(3)}, "a block beyond the 3 of a row"),
        ({"scale": np.full(10, -1, np.float16)}, "negative or non-finite"),
        ({"scale": np.full(10, np.nan, np.float16)}, "negative or non-finite"),
        ({"codes": np.zeros((10, 7), np.uint8)}, "expected uint8"),
        ({"zero": np.zeros(6, np.uint8)}, r"packed zeros of \(10, 10, 6\)"),
    ],
)
def test_a_strangers_blocks_are_refused(changes: dict[str, np.ndarray], expected: str) -> None:
    terms.validate(broken())
    with pytest.raises(IntaglioError, match=expected):
        terms.validate(broken(**changes))
