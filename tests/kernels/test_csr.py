"""Products with compressed rows: full, empty and ragged rows on every instruction set of this machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio import _native
from intaglio.formats import Csr
from intaglio.kernels import cpu
from intaglio.types import Array
from tests.kernels.matrices import multiplies

ISAS = _native.isas()
SPARSE = cpu.Choice("csr", cpu.CSR, ())  # whatever the share of nonzeros


def operand(counts: list[int], cols: int, seed: int = 0) -> cpu.Operand:
    """Row r has counts[r] nonzeros in random columns."""
    rng, w = np.random.default_rng(seed), np.zeros((len(counts), cols), np.float32)
    for row, count in zip(w, counts, strict=True):
        row[rng.permutation(cols)[:count]] = 1 + rng.random(count)
    return cpu.Operand(w.shape, Csr(), Csr().store(w))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("counts", "cols"),
    [
        ([1], 1),
        ([0, 0, 0], 5),
        ([0] * 20 + [577] + [0] * 19, 577),
        ([67, 0, 0, 0, 1, 0, 66], 67),
        (list(range(36)), 36),  # every number past whole vectors of 4, 8 and 16
        ([0, 1, 0, 3], 1 << 16),  # columns up to the last that 16 bits can name
    ],
    ids=["one", "nothing", "one full row among empty ones", "full and empty", "ragged", "wide"],
)
def test_adversarial_rows(counts: list[int], cols: int, isa: str) -> None:
    multiplies(operand(counts, cols), isa, choice=SPARSE)


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_rows(isa: str, data: st.DataObject) -> None:
    cols = data.draw(st.integers(1, 90))
    counts = data.draw(st.lists(st.integers(0, cols), min_size=1, max_size=20))
    multiplies(operand(counts, cols, data.draw(st.integers(0, 9))), isa, choice=SPARSE)


def test_the_last_column_is_read() -> None:
    w = np.zeros((2, 1 << 16), np.float32)
    w[1, -1] = 3
    m = cpu.Operand(w.shape, Csr(), Csr().store(w))
    x = np.arange(1 << 16, dtype=np.float32)[None]
    for isa in ISAS:
        assert cpu.pack([m], SPARSE, isa=isa).linear(x).tolist() == [[0, 3 * 65535]]


@pytest.mark.parametrize(
    ("offset", "index", "values", "says"),
    [
        ([0, 1, 2], [0, 1], 1, "a column is needed for each value"),
        ([0, 1], [0, 1], 2, "offsets must be one more than rows"),
        ([0, 1, 1], [0, 1], 2, "from 0 to 2"),
        ([1, 1, 2], [0, 1], 2, "from 0 to 2"),
        ([0, 3, 2], [0, 1], 2, "must not fall"),
        ([0, 1, 2], [0, 7], 2, "below 7"),
    ],
)
def test_wrong_arrays_are_refused(offset: list[int], index: list[int], values: int, says: str) -> None:
    arrays: list[Array] = [
        np.array(offset, np.uint32),
        np.array(index, np.uint16),
        np.zeros(values, np.float16),
    ]
    with pytest.raises(ValueError, match=says):
        _native.structured(cpu.CSR, 2, 7, 0, arrays)
