"""What an executor refuses, before anything runs, and in which words."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intaglio.engine.executor import Chunk, Executor
from intaglio.engine.sampling import Sampling
from intaglio.errors import IntaglioError, UsageError
from intaglio.models import roles
from intaglio.terms import Coded
from tests.engine.small import ISAS, plain, tokens


@pytest.fixture(scope="module")
def one() -> Executor:
    return Executor(plain("llama"), max_tokens=16, max_sequences=3, max_context=100, pages=5)


GOOD = Chunk([1, 2, 3], 0, [0], True)
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
        "chunks in a step must be in 1..3, got 4",
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
    drawn = one.step([replace(GOOD, sample=False), replace(GOOD, pages=[1])])
    assert drawn.dtype == np.int32
    assert drawn[0] == -1
    assert drawn[1] == one.last_logits(1).argmax()
    row = one.last_logits(1).astype(np.float64)
    assert one.logprob(1) == pytest.approx(row.max() - np.log(np.exp(row).sum()), abs=1e-6)
    for wrong in (0, 2, -1):
        with pytest.raises(UsageError, match="has no logits"):
            one.last_logits(wrong)


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


@given(
    st.lists(st.tuples(*[INTEGERS] * 6), max_size=5),
    st.lists(INTEGERS, max_size=20),
    st.lists(INTEGERS, max_size=8),
    st.lists(INTEGERS, max_size=8),
    st.lists(st.floats(width=32), min_size=20, max_size=20),
)
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_request_reaches_past_the_memory(
    one: Executor,
    table: list[tuple[int, ...]],
    ids: list[int],
    pages: list[int],
    history: list[int],
    numbers: list[float],
) -> None:
    """Whatever the arrays hold, the native step runs it or refuses it with a sentence."""
    chunks = len(table)
    arrays = [np.array(x, np.int32) for x in (ids, np.reshape(table, (chunks, 6)), pages, history)]
    floats = np.resize(np.array(numbers, np.float32), (chunks, 4))
    with contextlib.suppress(ValueError):
        one._open().step(*arrays, floats, np.zeros(chunks, np.uint64))
    assert one.step([GOOD])[0] >= 0
