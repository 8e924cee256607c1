"""Products with bilevel matrices, on every instruction set, beside the matrix that numpy decodes."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio import _native
from intaglio.formats import Bilevel, Csr
from intaglio.formats.pack import packed_width
from intaglio.kernels import cpu
from intaglio.types import Array

ISAS = _native.isas()
# rows, cols, group, bits: one, primes, one past a vector, runs that are not full, groups that cross a panel
SHAPES = [
    (1, 1, 16, 3),
    (7, 5, 16, 2),
    (16, 16, 16, 3),
    (17, 33, 16, 4),
    (31, 97, 8, 3),
    (31, 97, 32, 3),
    (21, 100, 96, 2),
    (33, 576, 16, 3),
    (65, 1031, 264, 4),
    (48, 257, 1000, 3),
]


def random_operand(rows: int, cols: int, group: int, bits: int, seed: int = 0) -> cpu.Operand:
    """Arrays as they are stored, of random codes and plausible ranges."""
    rng = np.random.default_rng(seed)
    layout = Bilevel(bits, group)
    width, groups = packed_width(cols, bits), -(-cols // group)
    ranges = (-(-rows // 16), groups, 2)

    def bytes_(width: int, used: int) -> Array:
        found = rng.integers(0, 256, (rows, width)).astype(np.uint8)
        found[:, -1] &= 0xFF >> (-used % 8)  # no bits behind the last code
        return found

    statistics = packed_width(groups, 3)
    state = {
        "codes": bytes_(width, cols * bits),
        "scale_code": bytes_(statistics, groups * 3),
        "scale_range": rng.uniform(0.01, 0.1, ranges).astype(np.float16),
        "zero_code": bytes_(statistics, groups * 3),
        "zero_range": rng.uniform(0, 1, ranges).astype(np.float16),
    }
    return cpu.Operand((rows, cols), layout, state)


def packed(operand: cpu.Operand, isa: str) -> _native.Matrix:
    choice = cpu.choose(operand)
    assert choice.kernel in ("bilevel3", "bilevel4")
    return cpu.pack([operand], choice, isa=isa)


def near(found: Array, expected: Array, tolerance: float = 1e-4) -> None:
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_linear(isa: str, sizes: tuple[int, int, int, int]) -> None:
    operand = random_operand(*sizes)
    w, matrix, rng = cpu.decode(operand).astype(np.float64), packed(operand, isa), np.random.default_rng(1)
    bias = rng.standard_normal(sizes[0]).astype(np.float32)
    for tokens in (1, 2, 3, 5, 8, 19):
        x = (1 + rng.standard_normal((tokens, sizes[1]))).astype(np.float32)
        onto = rng.standard_normal((tokens, sizes[0])).astype(np.float32)
        near(matrix.linear(x), x @ w.T)
        near(matrix.linear(x, bias=bias, alpha=2, onto=onto), onto + 2 * (x @ w.T + bias))
    for r in {0, sizes[0] // 2, sizes[0] - 1}:
        np.testing.assert_allclose(matrix.row(r), w[r], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("cols", "tokens"), [(600, 23), (520, 260), (16384 + 57, 3)])
def test_a_token_does_not_depend_on_its_batch(isa: str, cols: int, tokens: int) -> None:
    """More tokens than partial sums are kept for, and more columns than one token prepares at a time."""
    operand = random_operand(37, cols, 16, 3)
    matrix = packed(operand, isa)
    x = np.random.default_rng(0).standard_normal((tokens, cols)).astype(np.float32)
    together = matrix.linear(x)
    near(together, x.astype(np.float64) @ cpu.decode(operand).T)
    for count in (1, 2, 3, 5):
        assert np.array_equal(matrix.linear(x[:count]), together[:count])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kept", ["none", "a whole row", "some"])
def test_it_adds_up_with_outliers(isa: str, kept: str) -> None:
    operand, rng = random_operand(35, 96, 16, 3), np.random.default_rng(2)
    outliers = rng.standard_normal((35, 96)).astype(np.float16).astype(np.float32)
    mask = {"none": np.zeros((35, 96), bool), "a whole row": np.zeros((35, 96), bool)}.get(kept)
    outliers *= rng.random((35, 96)) < 0.02 if mask is None else mask
    if kept == "a whole row":
        outliers[17] = rng.standard_normal(96).astype(np.float16)
    sparse = cpu.Operand((35, 96), Csr(), Csr().store(outliers))
    x = rng.standard_normal((3, 96)).astype(np.float32)
    dense = packed(operand, isa).linear(x)
    y = cpu.pack([sparse], cpu.choose(sparse), isa=isa).linear(x, onto=dense)
    near(y, x.astype(np.float64) @ (cpu.decode(operand) + outliers).T)


@pytest.mark.parametrize("isa", ISAS)
def test_whole_runs_are_stacked(isa: str) -> None:
    first, second, short = (random_operand(rows, 80, 16, 3, seed=rows) for rows in (32, 48, 17))
    choice = cpu.choose(first)
    assert [cpu.stacks(m, choice) for m in (first, second, short)] == [True, True, False]
    matrix = cpu.pack([first, second, short], choice, isa=isa)  # behind the last, nothing follows
    w = np.concatenate([cpu.decode(m) for m in (first, second, short)])
    x = np.random.default_rng(0).standard_normal((2, 80)).astype(np.float32)
    near(matrix.linear(x), x.astype(np.float64) @ w.T)


def test_nothing_is_decoded_in_memory() -> None:
    """Codes, a byte of statistics for 16 weights, and 8 bytes of ranges for 256 of them."""
    for bits in (3, 4):
        operand = random_operand(576, 1536, 16, bits)
        most = (bits + 0.76) * 576 * 1536 / 8
        assert all(packed(operand, isa).nbytes <= most for isa in ISAS if isa != "scalar")


@pytest.mark.parametrize(
    ("layout", "kernel"),
    [
        (Bilevel(3), "bilevel3"),
        (Bilevel(2, group_size=64), "bilevel3"),
        (Bilevel(3, group_size=24), "bilevel4"),
        (Bilevel(4), "bilevel4"),
    ],
)
def test_which_kernel_runs_it(layout: Bilevel, kernel: str) -> None:
    assert cpu.choose(cpu.Operand((32, 128), layout, {})).kernel == kernel


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        (Bilevel(rows=32), "runs of 16 rows, got 32"),
        (Bilevel(scale_bits=5), "up to 4 bits, got 5 and 3"),
        (Bilevel(group_size=12), "multiple of 8 columns, got 12"),
    ],
)
def test_why_it_declines(layout: Bilevel, says: str) -> None:
    reasons = dict(cpu.choose(cpu.Operand((32, 64), layout, {})).declined)
    assert says in reasons["bilevel4"]


def test_wrong_pieces_are_refused() -> None:
    codes, statistics, ranges = (
        np.zeros(20 * 32, np.uint8),
        np.zeros(20 * 2, np.uint8),
        np.zeros(2 * 2 * 4, np.float16),
    )

    def build(*arrays: Array, group: int = 16, kind: int = cpu.BILEVEL4) -> None:
        _native.structured(kind, 20, 32, group, arrays)

    build(codes, statistics, ranges)
    with pytest.raises(ValueError, match="a code is needed"):
        build(codes[1:], statistics, ranges)
    with pytest.raises(ValueError, match="a statistic for each"):
        build(codes, statistics[1:], ranges)
    with pytest.raises(ValueError, match="a range for each run"):
        build(codes, statistics, ranges[4:])
    with pytest.raises(ValueError, match="a code may be at most 15"):
        build(codes + 16, statistics, ranges)
    with pytest.raises(ValueError, match="a code may be at most 7"):
        build(codes + 8, statistics, ranges, kind=cpu.BILEVEL3)
    with pytest.raises(ValueError, match="16 or a multiple of 32 columns, or one a row, got 8"):
        build(codes, statistics, ranges, group=8, kind=cpu.BILEVEL3)
    for group in (0, -16):
        with pytest.raises(ValueError, match="at least one column"):
            build(codes, statistics, ranges, group=group)
    with pytest.raises(ValueError, match="multiple of 8 columns"):
        build(codes, statistics, ranges, group=12)
