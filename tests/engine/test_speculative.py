"""Speculation gives the same tokens, texts and log probabilities, in fewer steps where drafts are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.engine.llm import LLM
from intaglio.engine.mask import everything, without, words_of
from intaglio.engine.output import RequestOutput, SamplingParams
from intaglio.errors import IntaglioError, UsageError
from intaglio.formats import TwoLevel
from intaglio.models import open_checkpoint
from intaglio.models.checkpoint import Checkpoint
from intaglio.types import Array
from tests import tiny_llm
from tests.engine.drafters import Foreseeing, always
from tests.engine.small import A8, rounded
from tests.models.tiny import save_tiny

PROMPTS = ["a", "The quick brown fox", "héllo 🎉", "x" * 70, "abcabcabcab"]
VOCAB = tiny_llm.VOCAB
BUFFER = np.empty(words_of(VOCAB), np.int32)  # filled again and again, as those of llguidance


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llm.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def models(directory: Path) -> dict[str, tuple[Checkpoint, str]]:
    plain = open_checkpoint(directory)
    return {"float": (plain, "fp16"), "w4a8kv4": (rounded(plain, TwoLevel(4, group_size=32), A8), "int4")}


def dancing(said: list[int]) -> Array:
    """A third of the tokens, another third after each; never asked what follows a forbidden one."""
    assert not said or (said[-1] + len(said) - 1 + sum(said[-2:-1])) % 3 == 0
    forbidden = [token for token in range(VOCAB) if (token + len(said) + sum(said[-1:])) % 3]
    BUFFER[:] = without(everything(VOCAB), forbidden).view(np.int32)
    return BUFFER


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, SamplingParams]:
    chosen: dict[str, Any] = {"max_tokens": draw(st.integers(1, 45)), "ignore_eos": draw(st.booleans())}
    if draw(st.booleans()):
        chosen |= {"temperature": draw(st.sampled_from([0.3, 1.0, 2.0])), "seed": draw(st.integers(0, 9))}
        chosen |= {"top_k": draw(st.sampled_from([0, 5])), "top_p": draw(st.sampled_from([1.0, 0.8]))}
    if draw(st.booleans()):
        chosen |= {"presence_penalty": 0.5, "frequency_penalty": 0.3, "repetition_penalty": 1.1}
    if draw(st.booleans()):
        chosen |= {"token_mask": dancing}
    if draw(st.booleans()):
        chosen |= {"stop": draw(st.sampled_from([["e", "x"], ["aa", "\n"], ["e r", "0"]]))}
    if draw(st.booleans()):
        chosen |= {"stop_token_ids": [40, 90, 200], "min_tokens": draw(st.integers(0, chosen["max_tokens"]))}
    chosen |= {"logprobs": draw(st.none() | st.integers(0, 3)), "logit_bias": {50: 3.0, 60: -100.0}}
    return draw(st.sampled_from(PROMPTS)), SamplingParams(**chosen)


@pytest.mark.parametrize("kind", ["float", "w4a8kv4"])
@given(
    asked=st.lists(requests(), min_size=1, max_size=5),
    wrong=st.sampled_from([0.0, 0.2, 0.6]),
    max_draft=st.integers(1, 9),
    max_tokens=st.sampled_from([5, 24, 256]),
    limits=st.sampled_from([{}, {"pages": 3, "max_context": 130}, {"max_sequences": 2}]),
)
@settings(max_examples=25, deadline=None)
def test_any_mix_says_what_it_says_without_drafts(
    models: dict[str, tuple[Checkpoint, str]],
    kind: str,
    asked: list[tuple[str, SamplingParams]],
    wrong: float,
    max_draft: int,
    max_tokens: int,
    limits: dict[str, int],
) -> None:
    checkpoint, kv = models[kind]
    prompts, params = [prompt for prompt, _ in asked], [one for _, one in asked]
    plain = LLM(checkpoint, kv=kv, threads=2).generate(prompts, params)
    answers = [(o.prompt_token_ids, o.outputs[0].token_ids) for o in plain]
    settings: dict[str, Any] = {"kv": kv, "threads": 2, "max_tokens": max_tokens, **limits}
    llm = LLM(checkpoint, draft="prompt-lookup", max_draft=max_draft, **settings)
    for drafter in (Foreseeing(answers, wrong, VOCAB), llm.loop.drafter):
        drafted = always(llm, drafter).generate(prompts, params)
        assert [o.outputs for o in drafted] == [o.outputs for o in plain]
        assert llm.scheduler.pool.available == llm.scheduler.pool.count


def counted(llm: LLM, prompt: str | list[int], params: SamplingParams) -> tuple[RequestOutput, int]:
    before = llm.loop.steps
    output = llm.generate([prompt], params)[0]
    return output, llm.loop.steps - before


def test_right_drafts_save_steps(directory: Path) -> None:
    """A foreseen answer of 40 tokens comes in ceil(40 / 9) steps, the prompt's among them."""
    params = SamplingParams(max_tokens=40, ignore_eos=True, temperature=1.0, seed=3)
    plain, steps = counted(LLM(directory), "abc", params)
    assert steps == 40
    llm = LLM(directory, draft="prompt-lookup", max_draft=8)
    known = Foreseeing([(plain.prompt_token_ids, plain.outputs[0].token_ids)], 0.0, VOCAB)
    output, steps = counted(always(llm, known), "abc", params)
    assert output.outputs == plain.outputs
    assert steps == 5
    assert (output.timing.steps, output.timing.drafted, output.timing.accepted) == (5, 35, 35)


def test_a_text_that_repeats_needs_fewer_steps_with_prompt_lookup(directory: Path) -> None:
    """A bias that makes one token follow all: the model repeats itself, which is looked up."""
    params = SamplingParams(max_tokens=60, ignore_eos=True, logit_bias={70: 100.0})
    plain, steps = counted(LLM(directory), "once", params)
    assert steps == 60
    output, steps = counted(always(LLM(directory, draft="prompt-lookup")), "once", params)
    assert output.outputs == plain.outputs
    assert steps < 12
    assert output.timing.accepted >= 48


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(max_tokens=40, ignore_eos=True),
        SamplingParams(max_tokens=40, ignore_eos=True, temperature=1.5, seed=1, frequency_penalty=1.0),
        SamplingParams(max_tokens=40, ignore_eos=True, temperature=0.8, top_p=0.9, logit_bias={9: 4.0}),
    ],
    ids=["greedy", "penalised", "top-p"],
)
def test_a_draft_model_like_the_model_is_always_right(directory: Path, params: SamplingParams) -> None:
    """It draws with the same numbers, so even sampled tokens agree."""
    plain = LLM(directory).generate(PROMPTS, params)
    llm = always(LLM(directory, draft=directory, max_draft=4))
    drafted = llm.generate(PROMPTS, params)
    assert [o.outputs for o in drafted] == [o.outputs for o in plain]
    assert all(o.timing.accepted == o.timing.drafted > 25 for o in drafted)
    assert all(o.timing.steps == 8 for o in drafted)
    drafter: Any = llm.loop.drafter
    assert drafter.executor.pool.available == drafter.executor.pool.count


def test_another_draft_model_changes_nothing(directory: Path, tmp_path: Path) -> None:
    """One with a shorter context, whose drafts are mostly wrong, and pages that make sequences wait."""
    other = tiny_llm.write_model(tmp_path, "qwen2", max_position_embeddings=64)
    params = [
        SamplingParams(max_tokens=60, ignore_eos=True, temperature=float(i % 2), seed=i)
        for i, _ in enumerate(PROMPTS)
    ]
    plain = LLM(directory).generate(PROMPTS, params)
    llm = always(LLM(directory, draft=other, pages=4, max_context=140, max_tokens=20, max_sequences=4))
    assert [o.outputs for o in llm.generate(PROMPTS, params)] == [o.outputs for o in plain]
    assert llm.scheduler.preemptions > 0
    drafter: Any = llm.loop.drafter
    assert drafter.executor.pool.available == drafter.executor.pool.count


def test_drafts_never_take_a_page_that_somebody_needs(directory: Path) -> None:
    """Two sequences that just fit: drafting past a page's end must not push either out."""
    params = SamplingParams(max_tokens=64, ignore_eos=True, logit_bias={70: 100.0})
    plain = LLM(directory, pages=4, max_context=128)
    drafting = always(LLM(directory, pages=4, max_context=128, draft="prompt-lookup"))
    for llm in (plain, drafting):
        outputs = llm.generate(["a" * 60, "b" * 60], params)
        assert llm.scheduler.preemptions == 0
        assert [len(o.outputs[0].token_ids) for o in outputs] == [64, 64]


def test_a_vocabulary_of_its_own_cannot_draft(directory: Path, tmp_path: Path) -> None:
    small = open_checkpoint(directory)
    with pytest.raises(UsageError, match=r"cannot draft for .*: it has 131 tokens, the model 259"):
        LLM(directory, draft=save_tiny("llama", tmp_path / "small", vocab_size=131))
    files = {**small.files, "tokenizer.json": small.files["tokenizer.json"].replace(b"<pad>", b"<PAD>")}
    with pytest.raises(UsageError, match=r"their tokens differ, for instance '<(pad|PAD)>'"):
        LLM(
            directory,
            draft=Checkpoint("other", small.config, small.spec, small.linears, small.vectors, files),
        )
    for wrong in (0, 65):
        with pytest.raises(UsageError, match=f"max_draft is {wrong}, it must be in 1..64"):
            LLM(directory, draft="prompt-lookup", max_draft=wrong)


def run_out(llm: LLM) -> None:
    while llm.scheduler.busy:
        llm.step()


def test_a_mask_that_allows_nothing_names_its_request(directory: Path) -> None:
    """The others go on."""
    llm = LLM(directory, draft="prompt-lookup")
    params = SamplingParams(max_tokens=6, ignore_eos=True)
    nothing = np.zeros(9, np.uint32)
    dead_end = SamplingParams(token_mask=lambda said: nothing if len(said) == 2 else None)
    good, bad = llm.submit("good", params), llm.submit("bad", dead_end)
    run_out(llm)
    assert bad.error == "request 1: its mask allows no token after 2 tokens"
    assert (bad.finish_reason, len(bad.sequence.output)) == ("error", 2)
    assert len(good.output().outputs[0].token_ids) == 6
    with pytest.raises(IntaglioError, match="request 3: its mask allows no token after 2 tokens"):
        llm.generate(["good", "bad"], [params, dead_end])
    assert not llm.scheduler.busy


def test_no_end_before_min_tokens(directory: Path) -> None:
    llm = LLM(directory)
    wanted = {"logit_bias": {97: 100.0}, "stop_token_ids": [97], "max_tokens": 20}
    assert len(llm.generate("x", SamplingParams(**wanted))[0].outputs[0].token_ids) == 1
    ids = llm.generate("x", SamplingParams(**wanted, min_tokens=7))[0].outputs[0].token_ids
    assert (len(ids), ids[-1], 97 in ids[:-1]) == (8, 97, False)
