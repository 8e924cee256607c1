"""Drawing tokens: the right distribution, the right support, and the same draw for the same request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessorList
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from intaglio import _native
from intaglio.engine.sampling import Sampling
from intaglio.types import Array

LOGITS = np.array([2.0, 1.5, 0.3, -0.5, -1.0, -2.0, 1.4, 0.0], np.float32)


def draw(
    logits: Array,
    params: Sampling,
    position: int = 0,
    history: Sequence[int] = (),
    prompt: int = 0,
    mask: Array | None = None,
) -> int:
    p = params
    penalties = (p.repetition_penalty, p.presence_penalty, p.frequency_penalty)
    settings = (p.temperature, p.top_k, p.top_p, p.min_p, *penalties, p.seed)
    biases = np.array([*p.logit_bias], np.int32), np.array([*p.logit_bias.values()], np.float32)
    said = np.array(history, np.int32)
    return int(_native.sample(logits, *settings, said, prompt, position, *biases, mask))


def counts(logits: Array, params: Sampling, n: int, history: Sequence[int] = ()) -> Array:
    drawn = [draw(logits, params, position, history) for position in range(n)]
    return np.bincount(drawn, minlength=logits.size)


def expected(logits: Array, params: Sampling, history: Sequence[int] = ()) -> Array:
    """Probabilities by transformers' own processors, in the order of its generate."""
    steps = LogitsProcessorList()
    if params.repetition_penalty != 1:
        steps.append(RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    steps.append(TemperatureLogitsWarper(params.temperature))
    if params.top_k:
        steps.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        steps.append(TopPLogitsWarper(params.top_p))
    if params.min_p:
        steps.append(MinPLogitsWarper(params.min_p))
    ids = torch.tensor([list(history)], dtype=torch.long)
    scores = steps(ids, torch.from_numpy(logits)[None].double())
    return np.asarray(scores[0].softmax(-1).numpy())


def test_greedy_takes_the_first_of_the_largest() -> None:
    assert draw(np.array([0, 3, 1, 3], np.float32), Sampling()) == 1


PARAMS = [
    Sampling(temperature=1.0),
    Sampling(temperature=0.5, seed=3),
    Sampling(temperature=2.0, top_k=3),
    Sampling(temperature=1.0, top_p=0.7),
    Sampling(temperature=1.3, min_p=0.2),
    Sampling(temperature=0.9, top_k=6, top_p=0.9, min_p=0.1, repetition_penalty=1.7, seed=11),
]


@pytest.mark.parametrize("params", PARAMS, ids=repr)
def test_draws_have_the_distribution_of_transformers(params: Sampling) -> None:
    """Chi-square over 4000 draws: below the 1 - 1e-4 quantile, and nothing outside the support."""
    history = [0, 3, 3, 6]
    p, seen = expected(LOGITS, params, history), counts(LOGITS, params, 4000, history)
    assert seen[p == 0].sum() == 0
    inside = p > 0
    chi = ((seen[inside] - 4000 * p[inside]) ** 2 / (4000 * p[inside])).sum()
    limit = {1: 15.2, 2: 18.4, 3: 21.1, 4: 23.5, 5: 25.8, 6: 27.9, 7: 29.9}
    assert inside.sum() == 1 or chi < limit[int(inside.sum()) - 1]


@given(
    st.lists(
        st.integers(-512, 512), min_size=1, max_size=70, unique=True
    ),  # sixty-fourths: no two almost equal
    st.floats(0.1, 3),
    st.integers(0, 80),
    st.floats(0.05, 1),
    st.floats(0, 0.9),
)
@settings(deadline=None, max_examples=150)
def test_draws_stay_in_the_support_of_transformers(
    values: list[int], temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    logits = np.array(values, np.float32) / 64
    params = Sampling(temperature=temperature, top_k=min(top_k, logits.size), top_p=top_p, min_p=min_p)
    loose = Sampling(
        temperature=temperature, top_k=params.top_k, top_p=min(1.0, top_p + 1e-5), min_p=min_p * 0.9999
    )
    support = np.flatnonzero(expected(logits, loose))
    for position in range(20):
        assert draw(logits, params, position) in support


def test_a_token_counts_once_in_the_penalty() -> None:
    logits = np.array([4.0, 3.0, -1.0, -1.9], np.float32)
    greedy = Sampling(repetition_penalty=2.0)
    assert draw(logits, greedy, history=[0]) == 1  # 4 / 2 < 3
    assert draw(logits, greedy, history=[0, 0, 1]) == 0  # 2 > 1.5, not 1 > 1.5
    assert draw(logits[2:], greedy, history=[0]) == 1  # -1 * 2 < -1.9


def test_equal_requests_draw_equally_and_seeds_differ() -> None:
    flat = np.zeros(1000, np.float32)
    one, two = Sampling(temperature=1, seed=5), Sampling(temperature=1, seed=6)
    first = [draw(flat, one, position) for position in range(64)]
    assert first == [draw(flat, one, position) for position in range(64)]
    assert len({*first}) > 50
    assert sum(a == b for a, b in zip(first, (draw(flat, two, p) for p in range(64)), strict=True)) < 4


@pytest.mark.parametrize("chosen", [{}, {"top_k": 40}, {"top_p": 0.9}, {"min_p": 0.01}], ids=repr)
def test_a_model_that_is_close_draws_the_same_most_often(chosen: dict[str, Any]) -> None:
    """At least (1 - d) / (1 + d) of the draws agree; two independent ones hardly ever would."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 1031).astype(np.float32)
    close = logits + rng.normal(0, 0.2, 1031).astype(np.float32)
    params = Sampling(temperature=1.0, seed=3, **chosen)
    p, q = expected(logits, params), expected(close, params)
    distance = 1 - np.minimum(p, q).sum()
    same = np.mean([draw(logits, params, i) == draw(close, params, i) for i in range(2000)])
    assert same > (1 - distance) / (1 + distance) - 0.03
    assert (p * q).sum() < 0.1 < 0.6 < same


@pytest.mark.parametrize(
    "params", [Sampling(), Sampling(temperature=1), Sampling(temperature=1, top_k=2, top_p=0.5)]
)
@pytest.mark.parametrize(
    "broken", [[np.nan, 0, 1], [0, np.inf, 1], [1, 0, np.nan], [-np.inf, -np.inf, -np.inf]]
)
def test_broken_logits_are_told_apart(params: Sampling, broken: list[float]) -> None:
    assert draw(np.array(broken, np.float32), params) == -2


def test_a_masked_token_is_never_drawn() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0], np.float32)
    assert set(np.flatnonzero(counts(logits, Sampling(temperature=5), 200))) == {1, 3}


@pytest.mark.parametrize("temperature", [1e-38, 1e-6, 1e6])
def test_extreme_temperatures(temperature: float) -> None:
    seen = counts(LOGITS, Sampling(temperature=temperature), 200)
    assert seen.sum() == 200
    assert temperature > 1 or seen[0] == 200
