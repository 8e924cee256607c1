"""Perplexity, KL and agreement from logits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.engine import score
from intaglio.errors import IntaglioError


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.parametrize("rows", [1, score.ROWS, score.ROWS + 1, 37])
@pytest.mark.parametrize("vocab", [1, 2, 257])
@pytest.mark.parametrize("size", [0.1, 30.0, 1e4])
def test_equals_the_definition_in_float64(rows: int, vocab: int, size: float) -> None:
    rng = np.random.default_rng(rows * vocab)
    base, candidate = (rng.standard_normal((rows, vocab), np.float32) * size for _ in range(2))
    targets = rng.integers(0, vocab, rows)
    p, q = log_softmax(base), log_softmax(candidate)
    tolerance = 2e-6 * max(1.0, size)
    np.testing.assert_allclose(score.nll(base, targets), -p[np.arange(rows), targets], atol=tolerance)
    np.testing.assert_allclose(score.kl(base, candidate), (np.exp(p) * (p - q)).sum(-1), atol=tolerance)
    assert (score.top1(base, candidate) == (p.argmax(-1) == q.argmax(-1))).all()


@given(shift=st.floats(-50, 50), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_kl_is_zero_for_the_same_distribution_and_never_negative(shift: float, seed: int) -> None:
    x, y = np.random.default_rng(seed).standard_normal((2, 3, 65)).astype(np.float32) * 5
    assert score.kl(x, x).max() == 0
    assert score.kl(x, x + np.float32(shift)).max() < 1e-5
    assert score.kl(x, y).min() >= 0


def test_nan_is_not_hidden() -> None:
    x = np.zeros((2, 5), np.float32)
    broken = x.copy()
    broken[1, 3] = np.nan
    assert np.isnan(score.nll(broken, np.array([0, 0]))).tolist() == [False, True]
    assert np.isnan(score.kl(x, broken)).tolist() == [False, True]


def test_windows_do_not_overlap_and_are_whole() -> None:
    found = score.windows(range(23), 5, None)
    assert [w.tolist() for w in found] == [list(range(i, i + 5)) for i in (0, 5, 10, 15)]
    assert len(score.windows(range(23), 5, 2)) == 2
    with pytest.raises(IntaglioError, match=r"note\.txt has 4 tokens, shorter than one window of 5"):
        score.windows(range(4), 5, None, "note.txt")
    with pytest.raises(IntaglioError, match="at least 2"):
        score.windows(range(4), 1, None)
