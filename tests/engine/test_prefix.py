"""The prefix cache on real executors: the same tokens, for less work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.engine.chunk import Chunk
from intaglio.engine.executor import Executor
from intaglio.engine.llm import LLM
from intaglio.engine.output import RequestOutput, SamplingParams
from intaglio.engine.pages import PAGE, pages_for
from intaglio.formats import TwoLevel
from intaglio.models import open_checkpoint
from intaglio.models.checkpoint import Checkpoint
from intaglio.types import Array
from tests import tiny_llm
from tests.engine.drafters import Foreseeing, always
from tests.engine.small import A8, rounded

KINDS = ["float", "windows", "w4a8kv4"]
TEXT = "".join(chr(97 + n * n % 23) for n in range(400))
SHORT = SamplingParams(max_tokens=4, ignore_eos=True)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llm.write_model(tmp_path_factory.mktemp("llama"), max_position_embeddings=512)


@pytest.fixture(scope="module")
def models(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Checkpoint, str]]:
    plain = open_checkpoint(directory)
    gemma = tiny_llm.write_model(tmp_path_factory.mktemp("gemma2"), "gemma2", max_position_embeddings=512)
    return {
        "float": (plain, "fp16"),
        "windows": (open_checkpoint(gemma), "int8"),
        "w4a8kv4": (rounded(plain, TwoLevel(4, group_size=32), A8), "int4"),
    }


def ids(outputs: list[RequestOutput]) -> list[tuple[int, ...]]:
    return [output.outputs[0].token_ids for output in outputs]


@contextmanager
def computing(executor: Executor, patch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The tokens of each step."""
    sizes: list[int] = []
    step = executor.step

    def counting(batch: list[Chunk]) -> Array:
        sizes.append(sum(len(chunk.tokens) for chunk in batch))
        return step(batch)

    with patch.context() as patched:
        patched.setattr(executor, "step", counting)
        yield sizes


@st.composite
def prompts(draw: st.DrawFn) -> str:
    """Many begin alike, and end anywhere around a page's end."""
    length = draw(st.one_of(st.integers(1, 210), st.sampled_from([63, 64, 65, 127, 128, 129, 192])))
    other = draw(st.sampled_from([0, 0, 0, 1, 64, 100]))
    return TEXT[:other] + ("!" if other else "") + TEXT[other : max(length, other)]


@st.composite
def asked(draw: st.DrawFn) -> tuple[str, SamplingParams]:
    chosen: dict[str, Any] = {"max_tokens": draw(st.sampled_from([1, 5, 70])), "ignore_eos": True}
    if draw(st.booleans()):
        chosen |= {"temperature": 1.0, "seed": draw(st.integers(0, 3)), "repetition_penalty": 1.2}
    if draw(st.booleans()):
        chosen |= {"logprobs": 2, "stop": ["e", "ab"]}
    return draw(prompts()), SamplingParams(**chosen)


@pytest.mark.parametrize("kind", KINDS)
@given(
    rounds=st.lists(st.lists(asked(), min_size=1, max_size=5), min_size=2, max_size=3),
    max_tokens=st.sampled_from([9, 64, 300]),
    limits=st.sampled_from([{}, {"pages": 5}, {"pages": 7, "max_sequences": 3}]),
    drafting=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_answers_are_those_without_a_cache(
    models: dict[str, tuple[Checkpoint, str]],
    kind: str,
    rounds: list[list[tuple[str, SamplingParams]]],
    max_tokens: int,
    limits: dict[str, int],
    drafting: bool,
) -> None:
    """Whatever was asked before, however few pages there are, with drafts that are mostly wrong."""
    checkpoint, kv = models[kind]
    shared: dict[str, Any] = {"kv": kv, "threads": 2, "max_context": 300}
    plain = LLM(checkpoint, prefix_cache=False, **shared)
    llm = LLM(
        checkpoint, max_tokens=max_tokens, draft="prompt-lookup" if drafting else None, **shared, **limits
    )
    if drafting:
        always(llm)
    for each in rounds:
        texts, params = [text for text, _ in each], [one for _, one in each]
        expected = plain.generate(texts, params)
        assert [o.outputs for o in llm.generate(texts, params)] == [o.outputs for o in expected]
        assert llm.scheduler.pool.available == llm.scheduler.pool.count
    assert (plain.scheduler.prefix_queries, plain.scheduler.pool.kept) == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_known_page_has_the_keys_and_values_of_its_text(
    models: dict[str, tuple[Checkpoint, str]], kind: str
) -> None:
    """After answers by drafts of which half are wrong, stopped in the middle of one, and preempted."""
    checkpoint, kv = models[kind]
    params = SamplingParams(max_tokens=120, ignore_eos=True, stop=["zz"], temperature=1.5, seed=3)
    texts = [TEXT[:60], TEXT[:100], TEXT[30:70]]
    plain = LLM(checkpoint, kv=kv, prefix_cache=False).generate(texts, params)
    llm = LLM(checkpoint, kv=kv, pages=8, max_context=256, draft="prompt-lookup")
    answers = [(o.prompt_token_ids, o.outputs[0].token_ids) for o in plain]
    always(llm, Foreseeing(answers, 0.5, tiny_llm.VOCAB))
    outputs = llm.generate(texts, params)
    assert ids(outputs) == ids(plain)
    assert sum(o.timing.drafted - o.timing.accepted for o in outputs) > 20
    assert llm.scheduler.preemptions > 0
    found = [_check_pages(llm, LLM(checkpoint, kv=kv).executor, output) for output in outputs]
    assert sum(found) == llm.scheduler.pool.kept >= 4


def _check_pages(llm: LLM, fresh: Executor, output: RequestOutput) -> int:
    """How many pages of this text are kept; all are compared with those of another executor."""
    tokens = [*output.prompt_token_ids, *output.outputs[0].token_ids]
    request = llm.submit(tokens[: len(tokens) // PAGE * PAGE + 1], SHORT)
    llm.scheduler.schedule()
    kept = request.sequence.pages[: request.sequence.known]
    pages = fresh.pool.allocate(pages_for(len(tokens)))
    fresh.extend(tokens, 0, pages)
    spec = fresh.spec
    for mine, theirs in zip(kept, pages, strict=False):
        for layer in range(spec.num_layers):
            for head in range(spec.num_kv_heads):
                for slot in range(PAGE):
                    for is_value in (False, True):
                        np.testing.assert_array_equal(
                            llm.executor.read_page(mine, layer, head, slot, is_value),
                            fresh.read_page(theirs, layer, head, slot, is_value),
                        )
    llm.drop(request)
    return len(kept)


def test_a_conversation_computes_only_what_is_new(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is part of the next prompt, and known up to its last full page."""
    llm = LLM(directory)
    said = llm.tokenizer.encode(TEXT[:100])
    for _ in range(4):
        known = max(0, len(said) - 10) // PAGE * PAGE  # of its answer the last token was not computed
        with computing(llm.executor, monkeypatch) as sizes:
            (output,) = llm.generate([said], SamplingParams(max_tokens=40, ignore_eos=True))
        assert output.timing.cached_tokens == (known if len(said) > 100 else 0)
        assert sum(sizes) == len(said) - output.timing.cached_tokens + 39
        said = [*output.prompt_token_ids, *output.outputs[0].token_ids, *said[:10]]


@pytest.mark.parametrize(("length", "cached"), [(63, 0), (64, 0), (65, 64), (128, 64), (129, 128)])
def test_one_token_is_always_computed(directory: Path, length: int, cached: int) -> None:
    llm = LLM(directory)
    outputs = [llm.generate(TEXT[:length], SHORT)[0] for _ in range(2)]
    assert [output.timing.cached_tokens for output in outputs] == [0, cached]
    assert (llm.scheduler.prefix_queries, llm.scheduler.prefix_hits) == (2 * length, cached)
    assert ids(outputs)[0] == ids(outputs)[1]


def test_sixty_four_requests_compute_their_common_beginning_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [TEXT[:384] + f" {n}" for n in range(64)]
    plain, llm = LLM(directory, prefix_cache=False), LLM(directory, max_tokens=256)
    work = []
    outputs = []
    for each in (plain, llm):
        with computing(each.executor, monkeypatch) as sizes:
            outputs.append(each.generate(texts, SHORT))
        work.append(sum(sizes) - 64 * 3)  # without decodes
    assert ids(outputs[0]) == ids(outputs[1])
    assert work == [sum(map(len, texts)), sum(map(len, texts)) - 63 * 384]
    assert sum(output.timing.cached_tokens for output in outputs[1]) == 63 * 384


def test_a_salt_keeps_prefixes_apart(directory: Path) -> None:
    llm = LLM(directory)

    def cached(salt: str | None) -> int:
        request = llm.submit(TEXT[:200], SHORT, cache_salt=salt)
        while not request.finished:
            llm.step()
        return request.timing.cached_tokens

    assert [cached(salt) for salt in (None, "a", "b", "", None, "a", "b", "")] == [0] * 4 + [192] * 4


def test_who_was_preempted_finds_what_is_left_of_its_pages(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that need 2 pages and then 4, in 5: the younger gives way, and one of its pages to the other."""
    params = SamplingParams(max_tokens=100, ignore_eos=True)
    texts = [TEXT[:100], "x" + TEXT[:99]]
    plain, llm = (LLM(directory, pages=5, max_context=256, prefix_cache=on) for on in (False, True))
    work = []
    for each in (plain, llm):
        with computing(each.executor, monkeypatch) as sizes:
            outputs = each.generate(texts, params)
        work.append(sum(sizes))
        assert each.scheduler.preemptions == 1
        assert [o.timing.cached_tokens for o in outputs] == [0, 0]
    assert work == [2 * 199 + 2 * PAGE, 2 * 199 + PAGE]


def test_priority_is_the_schedulers(directory: Path) -> None:
    llm = LLM(directory, max_sequences=1)
    requests = [llm.submit("a", SHORT, priority=priority) for priority in (1, 0, -1)]
    ended = []
    while llm.scheduler.busy:
        llm.step()
        ended += [request for request in requests if request.finished and request not in ended]
    assert ended == requests[::-1]
    assert requests[0].timing.queued > requests[2].timing.queued > 0
