"""Prompts scored in slices, between the steps of others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.engine.llm import LLM
from intaglio.engine.output import SamplingParams
from intaglio.engine.pages import OutOfPages
from intaglio.engine.sampling import Logprobs
from intaglio.engine.scoring import PromptScore, logprobs_of
from intaglio.errors import IntaglioError, UsageError
from intaglio.models import open_checkpoint
from intaglio.types import Array

TEXT = "".join(chr(97 + n * n % 23) for n in range(200))


def finished(score: PromptScore) -> list[Logprobs]:
    while not score.finished:
        score.step()
    return score.logprobs


def log_softmax(x: Array) -> Array:
    x = x.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.parametrize("length", [1, 2, 64, 65, 66, 130, 200])
@pytest.mark.parametrize("size", [1, 64, 1000])
def test_scores_are_those_of_the_logits(llm: LLM, length: int, size: int) -> None:
    tokens = llm.tokenizer.encode(TEXT[:length])
    rows = llm.executor.logits(tokens)
    found = finished(llm.start_score(tokens, top=3, size=size))
    assert len(found) == length - 1
    for one, row, token in zip(found, rows, tokens[1:], strict=False):
        expected, order = log_softmax(row), np.argsort(-row, kind="stable")
        assert one.logprob == pytest.approx(expected[token], abs=1e-12)
        assert order[one.rank - 1] == token
        assert one.tokens == tuple(order[:3])
        assert one.logprobs == pytest.approx(expected[order[:3]], abs=1e-12)
    assert llm.scheduler.pool.available == llm.scheduler.pool.count
    assert llm.score(TEXT[:length], top=3) == [found]


@given(
    st.lists(st.sampled_from([-np.inf, -1.5, 0.0, 2.0, 30.0]), min_size=1, max_size=40),
    st.integers(0, 20),
    st.integers(0, 39),
)
@settings(max_examples=200, deadline=None)
def test_ranks_and_likeliest_are_in_the_order_of_ids_among_equals(
    values: list[float], top: int, at: int
) -> None:
    row, token = np.array(values, np.float32), at % len(values)
    found = logprobs_of(row, token, top)
    if np.isneginf(row).all():
        assert found is None
        return
    assert found is not None
    order = [i for i in np.argsort(-row, kind="stable") if row[i] > -np.inf][:top]
    assert found.tokens == (*order, *[-1] * (top - len(order)))
    assert np.isneginf(found.logprobs[len(order) :]).all()
    assert np.argsort(-row, kind="stable")[found.rank - 1] == token
    for broken in (np.nan, np.inf):
        row[-1] = broken
        assert logprobs_of(row, token, top) is None


def test_an_answer_scores_what_was_told_of_it(llm: LLM) -> None:
    params = SamplingParams(max_tokens=30, temperature=1.0, seed=1, ignore_eos=True, logprobs=2)
    output = llm.generate(TEXT[:50], params)[0]
    told = output.outputs[0].logprobs
    assert told is not None
    (found,) = llm.score([[*output.prompt_token_ids, *output.outputs[0].token_ids]], top=2)
    for one, other in zip(found[-30:], told, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=2e-6)
        assert (one.rank, one.tokens) == (other.rank, other.tokens)


def test_slices_between_steps_disturb_nobody(directory: Path) -> None:
    params = SamplingParams(max_tokens=40, ignore_eos=True, logprobs=1)
    llm = LLM(directory)
    alone = [output.outputs for output in llm.generate([TEXT[:70], "x"], params)]
    scored, embedded = llm.score(TEXT), llm.embed(TEXT)
    requests = [llm.submit(text, params) for text in (TEXT[:70], "x")]
    score, embedding = llm.start_score(TEXT, size=9), llm.start_embedding(TEXT, size=9)
    while llm.scheduler.busy or not score.finished or not embedding.finished:
        if llm.scheduler.busy:
            llm.step()
        for work in (score, embedding):
            if not work.finished:
                work.step()
    assert [request.output().outputs for request in requests] == alone
    assert score.logprobs == scored[0]
    np.testing.assert_allclose(embedding.vector, embedded[0], atol=1e-6)


def test_without_pages_it_can_be_tried_again(directory: Path) -> None:
    llm = LLM(directory, pages=4, prefix_cache=False)
    request = llm.submit(TEXT[:100], SamplingParams(max_tokens=20, ignore_eos=True))
    llm.step()
    score = llm.start_score(TEXT)
    refused = 0
    while not request.finished:
        with pytest.raises(OutOfPages, match=r"out of KV pages: 4 needed \(256 tokens\), 2 of 4 free"):
            score.step()
        refused += 1
        llm.step()
    assert refused > 10
    assert finished(score) == LLM(directory).score(TEXT)[0]
    assert llm.scheduler.pool.available == 4


def test_what_is_kept_gives_way_to_scores(directory: Path) -> None:
    llm = LLM(directory, pages=4)
    answer = llm.generate(TEXT, SamplingParams(max_tokens=20, ignore_eos=True))[0].outputs
    assert llm.scheduler.pool.kept == 3
    assert llm.score(TEXT) == LLM(directory).score(TEXT)
    assert llm.generate(TEXT, SamplingParams(max_tokens=20, ignore_eos=True))[0].outputs == answer


def test_closing_frees_the_pages_and_ends_it(llm: LLM) -> None:
    for work in (llm.start_score(TEXT), llm.start_embedding(TEXT)):
        work.step()
        assert llm.scheduler.pool.available == llm.scheduler.pool.count - 4
        work.close()
        work.close()
        assert llm.scheduler.pool.available == llm.scheduler.pool.count
        with pytest.raises(UsageError, match="finished or was closed"):
            work.step()


def test_many_prompts_in_their_order(llm: LLM) -> None:
    texts = ["one", TEXT, "two"]
    assert llm.score(texts) == [llm.score(text)[0] for text in texts]
    for one, text in zip(llm.embed(texts), texts, strict=True):
        (alone,) = llm.embed(llm.tokenizer.encode(text))
        np.testing.assert_array_equal(one, alone)
        assert (one.dtype, one.shape) == (np.float32, (64,))


def test_what_cannot_be_scored_is_refused(directory: Path, llm: LLM) -> None:
    for prompt, sentence in (
        ("", "prompt is empty"),
        ([1, 259], "token 259 of the prompt is outside the vocabulary of 259"),
        ("x" * 257, "257 tokens, the context 256"),
        ("bad \udcff", "not valid Unicode"),
    ):
        for start in (llm.start_score, llm.start_embedding):
            with pytest.raises(UsageError, match=sentence):
                start(prompt)
    with pytest.raises(UsageError, match=r"logprobs is 21, it must be in 0\.\.20"):
        llm.start_score("x", top=21)
    with pytest.raises(IntaglioError, match="129 tokens does not fit a KV memory of 64"):
        LLM(directory, pages=1).start_score("x" * 129)
    assert len(llm.score("x" * 256)[0]) == 255


def test_broken_weights_are_one_sentence(directory: Path) -> None:
    checkpoint = open_checkpoint(directory)
    broken = LLM(checkpoint.replace(vectors={"model.norm": np.full(64, np.inf, np.float32)}))
    with pytest.raises(IntaglioError, match="the logits after position 0 of the prompt are not finite"):
        broken.score("abc")
    with pytest.raises(IntaglioError, match="embedding is not finite"):
        broken.embed("abc")
    score = broken.start_score(TEXT)
    with pytest.raises(IntaglioError, match="not finite"):
        score.step()
    assert broken.scheduler.pool.available == broken.scheduler.pool.count


def test_a_slice_that_fails_can_be_tried_again(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`score` and `embed` give up, and give the pages back."""
    llm, expected = LLM(directory), LLM(directory).score(TEXT)
    for name, all_at_once in (("extend", llm.score), ("hidden", llm.embed)):
        with monkeypatch.context() as patched:
            patched.setattr(llm.executor, name, lambda *arguments: [][1])
            with pytest.raises(IndexError):
                all_at_once(TEXT)
    assert llm.scheduler.pool.available == llm.scheduler.pool.count
    score = llm.start_score(TEXT)
    score.step()
    with monkeypatch.context() as patched:
        patched.setattr(llm.executor, "extend", lambda *arguments: [][1])
        with pytest.raises(IndexError):
            score.step()
    assert finished(score) == expected[0]
