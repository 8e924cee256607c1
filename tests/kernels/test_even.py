"""Rows of equally many elements, on every instruction set: few are gathered, many lie behind a bitmask."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio import _native
from intaglio.formats import SparseRows
from intaglio.kernels import cpu
from intaglio.types import Array
from tests.kernels.matrices import multiplies


def operand(rows: int, cols: int, nonzeros: int, block: int | None = None) -> cpu.Operand:
    rng, layout = np.random.default_rng(0), SparseRows(nonzeros, block)
    blocks, width, count = layout.sizes(cols)
    chosen: Array = np.sort(np.argsort(rng.random((rows, blocks, width)), axis=2)[:, :, :count], axis=2)
    columns = (chosen + np.arange(blocks)[:, None] * width).reshape(rows, -1).astype(np.uint16)
    state = layout.store(columns, rng.standard_normal(columns.shape).astype(np.float32), cols)
    return cpu.Operand((rows, cols), layout, state)


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize(
    ("rows", "cols", "nonzeros", "block", "kernel"),
    [
        (1, 8, 1, None, "even-rows"),
        (37, 97, 12, None, "even-rows"),
        (37, 96, 12, None, "even-rows"),
        (37, 95, 12, None, "bitmask"),
        (50, 128, 2, 32, "even-rows"),
        (50, 128, 8, 32, "bitmask"),
        (3, 5, 5, None, "bitmask"),
        (37, 128, 1, 16, "even-rows"),  # one of each bin
        (37, 63, 1, 3, "bitmask"),
        (5, 7, 1, 1, "bitmask"),
    ],
)
def test_linear(rows: int, cols: int, nonzeros: int, block: int | None, kernel: str, isa: str) -> None:
    m = operand(rows, cols, nonzeros, block)
    assert cpu.choose(m).kernel == kernel
    multiplies(m, isa)
