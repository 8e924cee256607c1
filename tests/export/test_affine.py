"""The grid of a coded matrix, and GGUF's blocks of it, mean what the matrix means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intaglio import terms
from intaglio.export.affine import affine, grid_of, values
from intaglio.export.blocks import blocks, kind_of
from intaglio.formats import Bilevel, Floating, Format, Integer, TwoLevel
from intaglio.models.gguf_blocks import KINDS
from intaglio.solvers import Greedy
from intaglio.terms import Coded, Dense, LowRank, Metric

BY_NAME = {kind.name: kind for kind in KINDS.values()}


def matrix(form: Format, rows: int = 5, cols: int = 64, seed: int = 0) -> Coded:
    w = torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))
    return Greedy().solve(w, (Dense(form),), Metric())


@given(
    bits=st.integers(2, 8),
    symmetric=st.booleans(),
    group=st.sampled_from([None, 8, 32, 64]),
    rows=st.integers(1, 7),
    cols=st.sampled_from([1, 31, 64, 96, 101]),
)
def test_an_affine_matrix_is_its_grid(
    bits: int, symmetric: bool, group: int | None, rows: int, cols: int
) -> None:
    coded = matrix(Integer(bits=bits, symmetric=symmetric, group_size=group), rows, cols)
    found = affine(coded)
    of_column = np.arange(cols) // found.grid.group
    made = (found.codes - found.zero[:, of_column]) * found.scale[:, of_column]
    wanted = terms.decode(coded).numpy()
    np.testing.assert_allclose(made, wanted, rtol=0, atol=1e-6)
    np.testing.assert_allclose(values(coded), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_two_levels_are_one_grid(bits: int) -> None:
    coded = matrix(TwoLevel(bits=bits, group_size=32))
    found = affine(coded)
    of_column = np.arange(64) // 32
    made = (found.codes - found.zero[:, of_column]) * found.scale[:, of_column]
    np.testing.assert_allclose(made, terms.decode(coded).numpy(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        (Integer(bits=4, symmetric=True, group_size=64), "Q4_0"),
        (Integer(bits=4, group_size=64), "Q4_1"),
        (Integer(bits=4, group_size=32, zero="float16"), "Q4_1"),
        (Integer(bits=3, symmetric=True, group_size=32), "Q4_1"),
        (Integer(bits=2), "Q4_1"),
        (TwoLevel(bits=4, group_size=64), "Q4_1"),
        (Integer(bits=5, symmetric=True, group_size=32), "Q5_0"),
        (Integer(bits=5, group_size=32), "Q5_1"),
        (Integer(bits=6, group_size=32), "Q8_0"),
        (Integer(bits=7), "Q8_0"),
        (Integer(bits=8, symmetric=True), "Q8_0"),
    ],
)
def test_blocks_decode_to_the_matrix(form: Format, kind: str) -> None:
    coded = matrix(form, rows=3, cols=128)
    grid = grid_of(coded)
    assert grid is not None
    assert kind_of(grid, 128) == kind
    read = BY_NAME[kind].decode(blocks(affine(coded), kind))
    wanted = terms.decode(coded).numpy()
    assert read.shape == wanted.shape
    assert np.abs(read - wanted).max() <= 2e-3 * np.abs(wanted).max()  # scales and minima as float16


@pytest.mark.parametrize(
    ("form", "cols"),
    [
        (Integer(bits=8, group_size=32), 64),  # codes less zeros leave int8
        (Integer(bits=6, group_size=32, zero="float16"), 64),
        (Integer(bits=4, group_size=24), 96),
        (Integer(bits=4), 100),
    ],
)
def test_what_no_block_can_hold(form: Format, cols: int) -> None:
    grid = grid_of(matrix(form, cols=cols))
    assert grid is not None
    assert kind_of(grid, cols) is None


def test_sums_structures_and_plain_numbers_have_no_grid() -> None:
    w = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    both = Greedy().solve(w, (Dense(Integer(group_size=32)), LowRank(rank=2)), Metric())
    for coded in (both, matrix(Floating("float16")), matrix(Bilevel(), rows=16)):
        assert grid_of(coded) is None
    np.testing.assert_allclose(values(both), terms.decode(both).numpy(), rtol=0, atol=1e-6)
