"""What cards promise of speed, as ratios of one run: one thread, more memory than the nearest caches hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from intaglio import _native
from intaglio.formats import Bsr
from intaglio.kernels import cpu
from tests.kernels import matrices
from tests.kernels.test_attention import PAGE, filled, queries
from tests.kernels.test_bsr import operand

pytestmark = pytest.mark.claims
ROWS, COLS, COPIES = 1536, 576, 64


def seconds(copies: Sequence[_native.Matrix]) -> float:
    """Of a product with one token, on average over all copies; the best of nine rounds."""
    x = np.random.default_rng(0).standard_normal((1, COLS)).astype(np.float32)
    return min(sum(m.seconds(x, 1)[0] for m in copies) for _ in range(9)) / len(copies)


def kept_blocks(share: float) -> list[_native.Matrix]:
    """Matrices in blocks of 16, of which each row keeps a share, in 4 bits."""
    blocks = COLS // 16
    row = np.arange(blocks) < share * blocks
    kept = np.random.default_rng(1).permuted(np.tile(row, (ROWS, 1)), axis=1)
    m = operand(Bsr(4, 16), kept, COLS)
    return [cpu.pack([m], cpu.choose(m)) for _ in range(COPIES)]


def test_half_of_the_blocks_take_two_thirds_of_the_time_of_all() -> None:
    """GQSA: at least 1.5 times as fast at 50 % as the same kernel with nothing dropped."""
    assert seconds(kept_blocks(0.5)) <= seconds(kept_blocks(1.0)) / 1.5


def copies_of(kind: int) -> list[_native.Matrix]:
    """Random matrices of a kind."""
    m = matrices.sample(kind, ROWS, COLS, np.random.default_rng(2))
    return [m.packed("") for _ in range(COPIES)]


def test_integer_scales_are_faster_than_float_ones_and_four_times_as_fast_as_float32() -> None:
    """QServe: W4A8 with two levels beside a float scale a group and beside full precision, from memory."""
    two_level = seconds(copies_of(cpu.W4A8_TWO))
    assert 1.1 * two_level <= seconds(copies_of(cpu.W4A8_GROUP))
    assert 4 * two_level <= seconds(copies_of(cpu.F32))


def test_attention_over_pages_of_four_bits_is_twice_as_fast_as_over_float32() -> None:
    """QServe: one token behind 4,096 others, three queries to each head of 64 channels."""
    context, best = 64 * PAGE, {}
    for bits in (4, 32):
        pages = filled("", bits, 3, 64, context)
        best[bits] = min(pages.seconds(queries(1, 3, 64), 60))
    assert 2 * best[4] <= best[32]


def test_four_bits_are_faster_than_float32() -> None:
    """AWQ: what multiplies 4-bit groups beats the product in full precision."""
    assert seconds(copies_of(cpu.W4)) < seconds(copies_of(cpu.F32))
