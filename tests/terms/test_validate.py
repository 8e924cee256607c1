"""A matrix from a stranger's file: everything its terms do not declare is refused by name, without torch."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio import terms
from intaglio.errors import IntaglioError
from intaglio.formats import Floating, Format, Integer, Mixed, TwoLevel
from intaglio.solvers import Greedy
from intaglio.terms import Coded, Dense, Metric
from intaglio.types import Array


def coded(fmt: Format) -> Coded:
    w = torch.randn(6, 21, generator=torch.Generator().manual_seed(0))
    return Greedy().solve(w, (Dense(fmt),), Metric(), bias=torch.ones(6))


INT = coded(Integer(3, group_size=8))
TWO = coded(TwoLevel(4, group_size=8))
MIXED = dataclasses.replace(coded(Mixed(4, group_size=8)), order=np.arange(21, dtype=np.uint16)[::-1])
PLAIN = coded(Floating("bfloat16"))


def altered(matrix: Coded, **arrays: Any) -> Coded:
    """`matrix` with some arrays replaced; None takes one away."""
    state = dict(matrix.state) | {f"0.{name}": a for name, a in arrays.items()}
    return dataclasses.replace(matrix, state={k: a for k, a in state.items() if a is not None})


def with_value(matrix: Coded, name: str, value: float) -> Coded:
    array = matrix.state[f"0.{name}"].copy()
    array[-1, -1] = value
    return altered(matrix, **{name: array})


@pytest.mark.parametrize("matrix", [INT, TWO, MIXED, PLAIN], ids=["int", "two_level", "mixed", "float"])
def test_what_a_solver_made_is_valid_and_counted(matrix: Coded) -> None:
    terms.validate(matrix)
    assert terms.nbits(matrix) == 8 * matrix.nbytes
    assert terms.decode(matrix).shape == matrix.shape


REFUSED = {
    "missing": (altered(INT, zero=None), r"w: array '0\.zero' is missing"),
    "unknown": (altered(INT, other=np.zeros(3)), r"array '0\.other' belongs to none of its terms"),
    "dtype": (altered(INT, scale=np.ones((6, 3), np.float32)), r"'0\.scale' is float32 .* expected float16"),
    "shape": (altered(INT, codes=np.zeros((6, 7), np.uint8)), r"'0\.codes' is uint8 \(6, 7\), .*\(6, 8\)"),
    "rank": (altered(INT, codes=np.zeros(48, np.uint8)), r"expected uint8 \(6, 8\)"),
    "byte order": (altered(INT, scale=np.ones((6, 3), ">f2")), r"'0\.scale' is >f2"),
    "mixed scale": (with_value(MIXED, "scale", float("nan")), "negative or non-finite"),
    "nothing kept": (altered(MIXED, kept=None), r"w: array '0\.kept' is missing"),
    "zero": (with_value(INT, "zero", 8), "zero has values above 7"),
    "nan scale": (with_value(INT, "scale", float("nan")), "negative or non-finite"),
    "infinite scale": (with_value(TWO, "scale", float("inf")), "negative or non-finite"),
    "negative scale": (with_value(TWO, "scale", -1), "negative or non-finite"),
    "step of 0": (with_value(TWO, "group_scale", 0), r"outside 1\.\.16"),
    "step of 17": (with_value(TWO, "group_scale", 17), r"outside 1\.\.16"),
    "group zero": (with_value(TWO, "group_zero", 16), "above 15"),
    "float": (altered(PLAIN, value=np.zeros((6, 21), np.float16)), "expected bfloat16"),
    "no rows": (dataclasses.replace(INT, shape=(0, 21)), "0 x 21 .* is empty"),
    "huge": (dataclasses.replace(INT, shape=(1 << 62, 1 << 62)), r"'0\.codes' is"),
    "no terms": (dataclasses.replace(INT, terms=()), "0 terms is empty"),
    "bias shape": (dataclasses.replace(INT, bias=np.zeros(5, np.float32)), "bias is float32"),
    "order twice": (
        dataclasses.replace(INT, order=np.zeros(21, np.uint16)),
        "expected each of 21 inputs once",
    ),
    "order shape": (
        dataclasses.replace(INT, order=np.arange(20, dtype=np.uint16)),
        r"order is uint16 \(20,\)",
    ),
    "order type": (dataclasses.replace(INT, order=np.arange(21)), "order is int64"),
    "bias nan": (dataclasses.replace(INT, bias=np.full(6, np.nan, np.float32)), "expected 6 finite float32"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_refused_with_a_sentence(case: tuple[Coded, str]) -> None:
    matrix, sentence = case
    with pytest.raises(IntaglioError, match=sentence):
        terms.validate(matrix, "w")


DTYPES = [np.uint8, np.int8, np.float16, np.float32, np.float64, np.int64]


@st.composite
def anything(draw: st.DrawFn) -> Array:
    shape = tuple(draw(st.lists(st.integers(0, 9), max_size=3)))
    return np.zeros(shape, draw(st.sampled_from(DTYPES)))


@given(st.dictionaries(st.sampled_from(["codes", "scale", "zero", "x"]), anything(), min_size=1))
@settings(deadline=None, max_examples=100)
def test_any_other_arrays_are_refused_or_declared(arrays: dict[str, Array]) -> None:
    matrix = altered(INT, **arrays)
    declared = INT.terms[0].arrays(INT.shape)
    honest = all(name in declared and (a.dtype, a.shape) == declared[name] for name, a in arrays.items())
    if honest:
        terms.validate(matrix)
    else:
        with pytest.raises(IntaglioError):
            terms.validate(matrix)


def test_validation_needs_numpy_alone() -> None:
    script = (
        "import sys, numpy as np\n"
        "from intaglio import terms\n"
        "from intaglio.formats import TwoLevel\n"
        "term = terms.Dense(TwoLevel(4, 8))\n"
        "state = {f'0.{k}': np.ones(s.shape, s.dtype) for k, s in term.arrays((3, 9)).items()}\n"
        "terms.validate(terms.Coded((3, 9), (term,), state))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
