"""What changes logits before a draw, and what is told of them, beside plain numpy; sizes around blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio import _native
from intaglio.engine.mask import allows, everything, without, words_of
from intaglio.engine.sampling import Sampling
from intaglio.types import Array
from tests.engine.test_sampler import draw

SIZES = [1, 2, 31, 32, 33, 63, 64, 65, 127, 500, 1031]


def logits_of(size: int, seed: int = 0) -> Array:
    """Sixteenths, so that many are equal."""
    rng = np.random.default_rng(seed)
    return (np.round(rng.normal(0, 3, size) * 16) / 16).astype(np.float32)


def adjusted(logits: Array, p: Sampling, history: list[int], prompt: int, mask: Array | None = None) -> Array:
    """Mask, bias, repetition, frequency, presence, in the words of the OpenAI and vLLM documentation."""
    x = logits.astype(np.float64)
    if mask is not None:
        x[[not allows(mask, token) for token in range(len(x))]] = -np.inf
    for token, bias in p.logit_bias.items():
        x[token] += bias
    for token in set(history):
        x[token] = (
            x[token] / p.repetition_penalty if x[token] > 0 else x[token] * np.float32(p.repetition_penalty)
        )
    counts = np.bincount(np.array(history[prompt:], int), minlength=len(x))
    return x - p.frequency_penalty * counts - p.presence_penalty * (counts > 0)


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_penalties_bias_and_mask_are_those_of_numpy(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from(SIZES))
    tokens = st.integers(0, size - 1)
    sixteenths = st.integers(-32, 32).map(lambda n: n / 16)  # exact in float32: ties stay ties
    params = Sampling(
        repetition_penalty=data.draw(st.sampled_from([0.5, 1.0, 2.0])),
        presence_penalty=data.draw(sixteenths),
        frequency_penalty=data.draw(sixteenths),
        logit_bias=data.draw(st.dictionaries(tokens, sixteenths, max_size=5)),
    )
    history = data.draw(st.lists(tokens, max_size=20))
    prompt = data.draw(st.integers(0, len(history)))
    forbidden = data.draw(st.none() | st.sets(tokens, max_size=size - 1))
    mask = None if forbidden is None else without(everything(size), forbidden)
    logits = logits_of(size, data.draw(st.integers(0, 3)))
    expected = adjusted(logits, params, history, prompt, mask)
    assert draw(logits, params, 0, history, prompt, mask) == expected.argmax()


def test_only_generated_tokens_are_present_and_frequent() -> None:
    logits = np.array([3.0, 2.5, 1.0], np.float32)
    presence, frequency = Sampling(presence_penalty=0.4), Sampling(frequency_penalty=0.4)
    assert draw(logits, presence, history=[0, 0, 0], prompt=3) == 0
    assert draw(logits, presence, history=[0, 0, 0], prompt=0) == 0  # 2.6, however often
    assert draw(logits, frequency, history=[0, 0, 0], prompt=2) == 0  # 2.6
    assert draw(logits, frequency, history=[0, 0, 0], prompt=1) == 1  # 2.2
    assert draw(logits, Sampling(repetition_penalty=2.0), history=[0], prompt=1) == 1  # on the prompt too


@pytest.mark.parametrize("size", SIZES)
def test_every_token_can_be_the_only_one_allowed(size: int) -> None:
    logits = logits_of(size)
    for params in (Sampling(), Sampling(temperature=1.0), Sampling(temperature=1, top_k=3, top_p=0.9)):
        for token in {0, size // 2, size - 1}:
            mask = np.zeros(words_of(size), np.uint32)
            mask[token // 32] = 1 << token % 32
            assert draw(logits, params, mask=mask) == token


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", [0, 1, 5, 20])
def test_log_probabilities_are_those_of_numpy(size: int, n: int) -> None:
    for seed in range(3):
        logits = logits_of(size, seed)
        expected = logits - np.log(np.exp(logits.astype(np.float64)).sum())
        order = np.argsort(-logits, kind="stable")
        for token in {0, size // 3, size - 1}:
            logprob, rank, tokens, logprobs = _native.logprobs(logits, token, n)
            assert logprob == pytest.approx(expected[token], abs=2e-6)
            assert order[rank - 1] == token
            known = min(n, size)
            assert tokens.tolist() == order[:known].tolist() + [-1] * (n - known)
            assert logprobs[:known] == pytest.approx(expected[order[:known]], abs=2e-6)


def test_impossible_tokens_are_not_among_the_likeliest() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf, 1.0], np.float32)
    _, rank, tokens, logprobs = _native.logprobs(logits, 1, 4)
    assert (rank, tokens.tolist()) == (2, [3, 1, -1, -1])
    assert np.isneginf(logprobs[2:]).all()
    logprob, rank, tokens, _ = _native.logprobs(np.array([np.nan, 0], np.float32), 1, 1)
    assert np.isnan(logprob)
    assert (rank, tokens.tolist()) == (0, [-1])


@pytest.mark.parametrize("size", [65, 500, 1031])
@pytest.mark.parametrize("k", [1, 2, 7, 40, 64])
def test_the_k_largest_are_drawn_and_no_others(size: int, k: int) -> None:
    """A flat distribution over the k first of the stable order: every one comes, nothing else does."""
    logits = logits_of(size)
    first = np.argsort(-logits, kind="stable")[:k]
    drawn = {draw(logits, Sampling(temperature=1e6, top_k=k), position) for position in range(30 * k)}
    assert drawn == set(first.tolist())


@pytest.mark.parametrize("size", SIZES)
def test_the_largest_is_found_in_every_place(size: int) -> None:
    for place in range(size):
        logits = np.full(size, -1.0, np.float32)
        logits[place] = 2.0
        logits[-1] = max(logits[-1], 2.0)
        assert draw(logits, Sampling()) == place
        for broken in (np.nan, np.inf):
            logits[place] = broken
            assert draw(logits, Sampling()) == -2


def test_draws_from_the_whole_vocabulary_have_its_probabilities() -> None:
    """Many blocks: the shares of five groups of tokens over 4000 draws, within five standard deviations."""
    logits = logits_of(1031, 5) / 2
    p = np.exp(logits.astype(np.float64))
    p /= p.sum()
    drawn = np.bincount([draw(logits, Sampling(temperature=1.0), i) for i in range(4000)], minlength=1031)
    for group in np.array_split(np.arange(1031), 5):
        share = p[group].sum()
        assert abs(drawn[group].sum() - 4000 * share) < 5 * np.sqrt(4000 * share * (1 - share))


@pytest.mark.parametrize("wrong", [(-1, 3), (4, 3), (0, -1), (0, 21)])
def test_hostile_arguments_are_refused(wrong: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="a token without logits, or n not in"):
        _native.logprobs(np.zeros(4, np.float32), *wrong)
    with pytest.raises(ValueError, match="tokens that have no logits"):
        draw(np.zeros(4, np.float32), Sampling(logit_bias={4: 1.0}))
    with pytest.raises(ValueError, match="a bit for every token"):
        draw(np.zeros(33, np.float32), Sampling(), mask=np.zeros(1, np.uint32))
