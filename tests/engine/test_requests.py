"""What an executor refuses, before anything runs, and in which words."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intaglio.engine.chunk import Chunk, flatten
from intaglio.engine.executor import Executor
from intaglio.engine.sampling import Sampling
from intaglio.errors import IntaglioError, UsageError
from intaglio.models import roles
from intaglio.terms import Coded
from tests.engine.small import ISAS, plain, tokens


@pytest.fixture(scope="module")
def one() -> Executor:
    return Executor(plain("llama"), max_tokens=16, max_sequences=2, max_draft=1, max_context=100, pages=5)


GOOD = Chunk([1, 2, 3], 0, [0], 1)
REFUSED: dict[str, tuple[list[Chunk], str]] = {
    "empty batch": ([], "at least one chunk"),
    "no tokens": ([replace(GOOD, tokens=[])], "tokens in a step must be in 1..16"),
    "one chunk without tokens": ([GOOD, replace(GOOD, tokens=[], pages=[1])], "tokens in a chunk"),
    "token id too large": ([replace(GOOD, tokens=[1, 131])], "token id 131 is not in 0..130"),
    "negative token id": ([replace(GOOD, tokens=[-1])], "token id -1 is not in 0..130"),
    "token id past int32": ([replace(GOOD, tokens=[2**40])], "too large|out of bounds"),
    "too many tokens": ([replace(GOOD, tokens=[1] * 17)], "must be in 1..16, got 17"),
    "too many chunks": (
        [replace(GOOD, pages=[i]) for i in range(4)],
        "chunks in a step must be in 1..2, got 4",
    ),
    "negative position": ([replace(GOOD, position=-1)], "positions -1..1 are not in 0..99"),
    "past max_context": ([replace(GOOD, position=98, pages=[0, 1])], r"positions 98..100 are not in 0..99"),
    "huge position": ([replace(GOOD, position=2**31 - 1)], "are not in 0..99"),
    "too few pages": ([replace(GOOD, position=62)], "positions up to 64 need 2 pages, got 1"),
    "no pages": ([replace(GOOD, pages=[])], "pages of a chunk"),
    "page id too large": ([replace(GOOD, pages=[5])], "page id 5 is not in 0..4"),
    "negative page id": ([replace(GOOD, pages=[-1])], "page id -1 is not in 0..4"),
    "page written twice": ([GOOD, GOOD], "page 0 would be written twice"),
    "one page for two blocks": ([replace(GOOD, position=62, pages=[0, 0])], "page 0 would be written twice"),
    "NaN temperature": (
        [replace(GOOD, params=Sampling(temperature=float("nan")))],
        "temperature must be 0 or more",
    ),
    "negative temperature": (
        [replace(GOOD, params=Sampling(temperature=-1.0))],
        "temperature must be 0 or more",
    ),
    "top_p of 0": ([replace(GOOD, params=Sampling(top_p=0.0))], "top_p must be in"),
    "min_p of 2": ([replace(GOOD, params=Sampling(min_p=2.0))], "min_p must be in"),
    "negative top_k": ([replace(GOOD, params=Sampling(top_k=-1))], "top_k must be 0 or more"),
    "penalty of 0": (
        [replace(GOOD, params=Sampling(repetition_penalty=0.0))],
        "repetition_penalty must be above 0",
    ),
    "NaN presence": (
        [replace(GOOD, params=Sampling(presence_penalty=float("nan")))],
        "presence_penalty must be",
    ),
    "infinite frequency": (
        [replace(GOOD, params=Sampling(frequency_penalty=float("inf")))],
        "frequency_penalty must be",
    ),
    "bias of no token": (
        [replace(GOOD, params=Sampling(logit_bias={131: 1.0}))],
        "token id of a bias 131 is not in 0..130",
    ),
    "NaN bias": ([replace(GOOD, params=Sampling(logit_bias={1: float("nan")}))], "a bias must be a number"),
    "more draws than tokens": ([replace(GOOD, draws=4)], "draws of a chunk must be in 0..3, got 4"),
    "negative draws": ([replace(GOOD, draws=-1)], "draws of a chunk must be in"),
    "too many draws": (
        [replace(GOOD, draws=3), replace(GOOD, pages=[1], draws=2)],
        "draws in a step must be in 0..4, got 5",
    ),
    "prompt beyond the history": (
        [replace(GOOD, params=Sampling(frequency_penalty=1.0), history=[1, 2, 3], prompt=4)],
        "the prompt must be a part of the history",
    ),
    "history shorter than the draws": (
        [replace(GOOD, draws=2, params=Sampling(frequency_penalty=1.0), history=[3])],
        "the history must hold the tokens it draws after",
    ),
    "mask of the wrong width": ([replace(GOOD, masks=np.ones((1, 4), np.uint32))], r"shape \(1, 5\)"),
    "mask of bytes": ([replace(GOOD, masks=np.ones((1, 5), np.uint8))], "32-bit words"),
    "one mask for two draws": ([replace(GOOD, draws=2, masks=np.ones((1, 5), np.uint32))], r"shape \(2, 5\)"),
    "mask that allows nothing": (
        [replace(GOOD, masks=np.array([[0, 0, 0, 0, 8]], np.uint32))],  # bit 131
        "chunk 0: the mask of draw 0 allows no token",
    ),
    "too many logprobs": ([replace(GOOD, logprobs=21)], r"logprobs must be in 0\.\.20, got 21"),
    "negative logprobs": ([replace(GOOD, logprobs=-2)], "logprobs must be in"),
    "wrong history": (
        [replace(GOOD, params=Sampling(repetition_penalty=2.0), history=[5, 999])],
        "token id 999 is not in 0..130",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_step_is_refused_and_changes_nothing(one: Executor, case: str) -> None:
    batch, sentence = REFUSED[case]
    before = one.step([GOOD])
    with pytest.raises(UsageError, match=sentence):
        one.step(batch)
    np.testing.assert_array_equal(one.step([GOOD]), before)


def test_logits_of_wrong_tokens_are_refused_and_give_their_pages_back(one: Executor) -> None:
    with pytest.raises(UsageError, match="token id 500"):
        one.logits([1, 500])
    with pytest.raises(UsageError, match="101 tokens exceed max_context, 100"):
        one.logits(tokens(101))
    for wrong in ([], [[1, 2]]):
        with pytest.raises(UsageError, match="a sequence of tokens"):
            one.logits(np.array(wrong, np.int32))
    assert one.pool.available == one.pool.count


def test_out_of_pages(one: Executor) -> None:
    held = one.pool.allocate(4)
    with pytest.raises(IntaglioError, match=r"out of KV pages: 2 needed \(128 tokens\), 1 of 5 free"):
        one.logits(tokens(100))
    one.pool.free(held)
    assert one.logits(tokens(100)).shape == (100, 131)


def test_only_chunks_that_drew_have_logits(one: Executor) -> None:
    batch = [replace(GOOD, draws=0), replace(GOOD, pages=[1], logprobs=3)]
    drawn = one.step(batch)
    assert (drawn.dtype, drawn.shape) == (np.int32, (1,))
    row = one.last_logits(1).astype(np.float64)
    assert drawn[0] == row.argmax()
    found = one.logprobs(1)
    expected = row - np.log(np.exp(row).sum())
    assert (found.logprob, found.rank) == (pytest.approx(expected.max(), abs=1e-6), 1)
    assert list(found.tokens) == np.argsort(-row, kind="stable")[:3].tolist()
    assert found.logprobs == pytest.approx(expected[list(found.tokens)], abs=1e-6)
    for wrong in (0, 2, -1):
        with pytest.raises(UsageError, match="has no logits"):
            one.last_logits(wrong)
    with pytest.raises(UsageError, match="draw 1 of chunk 1 has no logits"):
        one.last_logits(1, 1)
    one.step([GOOD])
    with pytest.raises(UsageError, match="did not ask for log probabilities"):
        one.logprobs(0)


def test_broken_weights_are_an_error_with_the_place() -> None:
    checkpoint = plain("llama")
    name = roles.site(1, "down")
    value = checkpoint.linears[name].state["0.value"].copy()
    value[3, 3] = np.nan
    broken = Coded(value.shape, checkpoint.linears[name].terms, {"0.value": value})
    executor = Executor(checkpoint.replace({name: broken}), max_sequences=2)
    with pytest.raises(IntaglioError, match="logits after position 2 of chunk 0 are not finite"):
        executor.step([GOOD])


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ({"isa": "sse9"}, "isa is 'sse9'; this build and processor run .*scalar"),
        ({"kv": "fp8"}, "kv is 'fp8', expected one of fp32, fp16, int8, int4"),
        ({"threads": 0}, "threads must be in 1..1024, got 0"),
        ({"max_tokens": 0}, "max_tokens must be in"),
        ({"max_sequences": 0}, "max_sequences must be in"),
        ({"max_context": 257}, "the model has positions for 1..256 tokens"),
        ({"max_context": 0}, "max_context is 0"),
        ({"pages": -1}, "pages must be in"),
    ],
)
def test_an_executor_that_makes_no_sense(chosen: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Executor(plain("llama"), **chosen)


def test_the_environment_chooses_the_instruction_set_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for isa in ISAS:
        monkeypatch.setenv("INTAGLIO_ISA", isa)
        assert Executor(plain("llama")).isa == isa
    monkeypatch.setenv("INTAGLIO_ISA", "mmx")
    with pytest.raises(UsageError, match="INTAGLIO_ISA is 'mmx'; this build and processor run"):
        Executor(plain("llama"))
    monkeypatch.setenv("INTAGLIO_ISA", "scalar")
    monkeypatch.setenv("INTAGLIO_THREADS", "3")
    assert Executor(plain("llama")).threads == 3
    monkeypatch.setenv("INTAGLIO_THREADS", "many")
    with pytest.raises(UsageError, match="INTAGLIO_THREADS is 'many'"):
        Executor(plain("llama"))


def test_pages_are_kept_as_the_checkpoint_was_made_for() -> None:
    checkpoint = plain("llama")
    made = replace(checkpoint, config={**checkpoint.config, "quantization_config": {"cache": {"bits": 4}}})
    assert Executor(made).kv_bits == 4
    assert Executor(made, kv="int8").kv_bits == 8
    wrong = replace(checkpoint, config={**checkpoint.config, "quantization_config": {"cache": {"bits": 5}}})
    with pytest.raises(IntaglioError, match=r"cache\.bits is 5"):
        Executor(wrong)


def test_a_closed_executor_refuses_and_says_so() -> None:
    executor = Executor(plain("llama"))
    executor.close()
    with pytest.raises(UsageError, match="closed"):
        executor.step([GOOD])


INTEGERS = st.one_of(st.integers(-3, 140), st.sampled_from([-(2**31), 2**31 - 1, 2**30]))
COLUMNS, SETTINGS, WORDS = 10, 6, 5  # of a request; words of a mask over 131 tokens


def lists(most: int) -> st.SearchStrategy[list[int]]:
    return st.lists(INTEGERS, max_size=most)


@given(
    st.lists(st.tuples(*[INTEGERS] * COLUMNS), max_size=5),
    st.tuples(lists(20), lists(8), lists(8), lists(4)),
    st.integers(0, 4),
    st.lists(st.floats(width=32), min_size=30, max_size=30),
)
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_request_reaches_past_the_memory(
    one: Executor,
    table: list[tuple[int, ...]],
    integers: tuple[list[int], ...],
    masks: int,
    numbers: list[float],
) -> None:
    """Whatever the arrays hold, the native step runs it or refuses it with a sentence."""
    chunks = len(table)
    tokens, pages, history, biased = (np.array(x, np.int32) for x in integers)
    floats = np.array(numbers, np.float32)
    arrays = (
        tokens,
        np.reshape(np.array(table, np.int32), (chunks, COLUMNS)),
        pages,
        history,
        biased,
        floats[: len(biased)],
        np.full((masks, WORDS), 5, np.uint32),
        np.resize(floats, (chunks, SETTINGS)),
        np.zeros(chunks, np.uint64),
    )
    with contextlib.suppress(ValueError):
        one._open().step(arrays)
    assert one.step([GOOD])[0] >= 0


@given(st.data())
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_draw_reaches_past_the_memory(one: Executor, data: st.DataObject) -> None:
    """The same around a request that would run but for one value of its table."""
    hostile = replace(
        GOOD,
        draws=2,
        params=Sampling(frequency_penalty=0.5, logit_bias={3: 1.0}),
        history=[1, 2, 3],
        masks=np.full((2, WORDS), 7, np.uint32),
        logprobs=2,
    )
    arrays = flatten([hostile], 131)
    arrays[1][0, data.draw(st.integers(0, COLUMNS - 1))] = data.draw(INTEGERS)
    with contextlib.suppress(ValueError):
        one._open().step(arrays)
    assert one.step([GOOD])[0] >= 0
