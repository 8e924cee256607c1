"""Products with a series of N:M terms are those of the matrix they add up to."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio import _native
from intaglio.formats import NM
from intaglio.kernels import cpu
from intaglio.types import Array

SERIES = [
    (NM(2, 4),),
    (NM(1, 4), NM(1, 4)),
    (NM(4, 8), NM(1, 8)),
    (NM(4, 8, "int8"), NM(2, 8)),
    (NM(8, 16), NM(1, 8), NM(3, 4)),
]


def split(w: Array, forms: tuple[NM, ...]) -> list[cpu.Operand]:
    """A view of w, of what that leaves, and so on."""
    operands = []
    for form in forms:
        blocks = np.pad(w, ((0, 0), (0, -w.shape[1] % form.m))).reshape(len(w), -1, form.m)
        kept = np.abs(blocks).argsort(2).argsort(2) >= form.m - form.n
        part = np.where(kept, blocks, 0).reshape(len(w), -1)[:, : w.shape[1]]
        operands.append(cpu.Operand((w.shape[0], w.shape[1]), form, form.store(part)))
        w = w - part
    return operands


@pytest.mark.parametrize("isa", _native.isas())
@pytest.mark.parametrize("forms", SERIES, ids=str)
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (7, 65), (17, 127), (41, 192)])
def test_a_series_multiplies_as_its_sum(rows: int, cols: int, forms: tuple[NM, ...], isa: str) -> None:
    rng = np.random.default_rng(rows)
    operands = split(rng.standard_normal((rows, cols)).astype(np.float32), forms)
    packed = [cpu.pack([m], cpu.choose(m), isa=isa) for m in operands]
    assert {cpu.choose(m).kernel for m in operands} <= {"nm", "nm-int8"}
    w = sum(form.values(m.state, m.shape).astype(np.float64) for form, m in zip(forms, operands, strict=True))
    x = rng.standard_normal((13, cols)).astype(np.float32)
    for n in (1, 3, 13):
        y = x[:n].astype(np.float64) @ np.asarray(w).T
        found = np.sum([one.linear(x[:n]) for one in packed], axis=0)
        assert np.abs(found - y).max() <= 1e-5 * max(1.0, float(np.abs(y).max()))
        assert all(np.array_equal(one.linear(x[:n]), one.linear(x[:n])) for one in packed)
