"""What goes wrong in a step: one request fails alone, or none of them loses anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intaglio.engine.draft_model import DraftModel
from intaglio.engine.llm import LLM
from intaglio.engine.output import SamplingParams
from intaglio.engine.pages import pages_for
from intaglio.engine.request import Request
from intaglio.errors import IntaglioError
from intaglio.models import open_checkpoint
from intaglio.models.checkpoint import Checkpoint
from intaglio.types import Array
from tests import tiny_llm
from tests.engine.drafters import always

PARAMS = SamplingParams(max_tokens=70, ignore_eos=True)
TEXTS = ["a" * 100, "b" * 10, "a" * 90 + "c", "d" * 64]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llm.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def answers(directory: Path) -> list[tuple[int, ...]]:
    return [output.outputs[0].token_ids for output in LLM(directory).generate(TEXTS, PARAMS)]


def run(llm: LLM, requests: list[Request]) -> list[tuple[int, ...]]:
    while not all(request.finished for request in requests):
        assert llm.step()
    return [tuple(request.sequence.output) for request in requests]


def failing_at(calls: set[int], call: Callable[..., Any], error: type[BaseException]) -> Callable[..., Any]:
    """`call`, but at these calls of it (from 0 on) `error`."""
    seen = 0

    def wrapped(*arguments: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen - 1 in calls:
            raise error("out of luck")
        return call(*arguments)

    return wrapped


@pytest.mark.parametrize("draft", [None, "prompt-lookup", "itself"])
@given(
    failures=st.sets(st.integers(0, 60), min_size=1, max_size=8),
    dropped=st.booleans(),
    limits=st.sampled_from([{}, {"pages": 4, "max_context": 200, "max_tokens": 30}]),
    error=st.sampled_from([RuntimeError, KeyboardInterrupt]),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_step_that_fails_is_as_if_it_had_not_begun(
    directory: Path,
    answers: list[tuple[int, ...]],
    draft: str | None,
    failures: set[int],
    dropped: bool,
    limits: dict[str, int],
    error: type[BaseException],
) -> None:
    """Requests go on, or are dropped and all pages are free; what comes after them is answered as ever."""
    with pytest.MonkeyPatch.context() as patch:
        llm = LLM(directory, draft=directory if draft == "itself" else draft, **limits)
        if draft:
            always(llm)
        patch.setattr(llm.executor, "step", failing_at(failures, llm.executor.step, error))
        requests = [llm.submit(text, PARAMS) for text in TEXTS]
        while not all(request.finished for request in requests):
            try:
                llm.step()
            except error:
                for sequence in llm.scheduler.running:
                    assert len(sequence.pages) == pages_for(len(sequence.tokens))
                if dropped:
                    break
    if dropped:
        for request in requests:
            llm.drop(request)
        assert llm.scheduler.pool.available == llm.scheduler.pool.count
        requests = [llm.submit(text, PARAMS) for text in TEXTS]
    assert run(llm, requests) == answers
    for pool in [llm.scheduler.pool, *draft_pools(llm)]:
        assert pool.available == pool.count


def draft_pools(llm: LLM) -> list[Any]:
    drafter = llm.loop.drafter
    return [drafter.executor.pool] if isinstance(drafter, DraftModel) else []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["draft", "text", "logprobs"])
def test_wherever_it_fails_nothing_is_lost(
    directory: Path, answers: list[tuple[int, ...]], where: str, error: type[BaseException]
) -> None:
    """In the drafter, as a token becomes text, when its log probabilities are read."""
    llm = always(LLM(directory, draft="prompt-lookup"))
    params = SamplingParams(max_tokens=70, ignore_eos=True, logprobs=1)
    requests = [llm.submit(text, params) for text in TEXTS]
    with pytest.MonkeyPatch.context() as patch:
        target, name = {
            "draft": (llm.loop.drafter, "propose"),
            "text": (requests[1], "take"),
            "logprobs": (llm.executor, "logprobs"),
        }[where]
        patch.setattr(target, name, failing_at({5}, getattr(target, name), error))
        raised = 0
        while not all(request.finished for request in requests):
            try:
                llm.step()
            except error:
                raised += 1
    alone = where != "draft" and error is RuntimeError
    assert raised == (0 if alone else 1)
    failed = [request for request in requests if request.error]
    assert len(failed) == alone
    for request, answer in zip(requests, answers, strict=True):
        if request in failed:
            assert request.error == f"request {request.number} failed by an internal error"
            assert isinstance(request.failure, RuntimeError)
        else:
            assert tuple(request.sequence.output) == answer
    assert llm.scheduler.pool.available == llm.scheduler.pool.count


def broken_at(checkpoint: Checkpoint, token: int) -> Checkpoint:
    """Where this token is read, nothing is finite from there on."""
    coded = checkpoint.linears["model.embed_tokens"]
    value = coded.state["0.value"].copy()
    value[token] = np.nan
    return checkpoint.replace(
        {"model.embed_tokens": type(coded)(value.shape, coded.terms, {"0.value": value})}
    )


@pytest.mark.parametrize("draft", [None, "prompt-lookup"])
def test_broken_logits_end_the_request_that_has_them(
    directory: Path, answers: list[tuple[int, ...]], draft: str | None
) -> None:
    """A prompt with a token whose embedding is broken, among others; its pages are known to nobody."""
    checkpoint = open_checkpoint(directory)
    (token,) = LLM(checkpoint).tokenizer.encode("~")
    llm = LLM(broken_at(checkpoint, token), draft=draft)
    assert not any(token in answer for answer in answers)
    requests = [llm.submit(text, PARAMS) for text in ("x" * 70 + "~", *TEXTS)]
    assert run(llm, requests)[1:] == answers
    bad = requests[0]
    assert (bad.finish_reason, bad.sequence.output) == ("error", [])
    assert bad.error == (
        "the logits after position 70 of request 0 are not finite: the model's weights are broken or overflow"
    )
    assert llm.scheduler.pool.available == llm.scheduler.pool.count
    assert llm.scheduler.pool.find(bad.sequence.chain.keys(bad.sequence.tokens, 0, 1)) == []
    with pytest.raises(IntaglioError, match="logits after position 1 of request 5 are not finite"):
        llm.generate(["~~"], PARAMS)
    with pytest.raises(IntaglioError, match="logits after position 0 of request 6 are not finite"):
        list(llm.stream("~", PARAMS))
    assert not llm.scheduler.busy


def test_a_mask_may_raise_what_it_likes(directory: Path, answers: list[tuple[int, ...]]) -> None:
    def mask(said: Any) -> Array | None:
        return None if len(said) < 3 else [][1]

    llm = LLM(directory)
    bad, good = llm.submit("x", SamplingParams(token_mask=mask)), llm.submit(TEXTS[0], PARAMS)
    assert run(llm, [bad, good])[1] == answers[0]
    assert bad.error == "request 0 failed by an internal error"
    with pytest.raises(IndexError):
        llm.generate("x", SamplingParams(token_mask=mask))
    assert llm.scheduler.pool.available == llm.scheduler.pool.count


def test_waiting_for_pages_that_nobody_will_free_is_an_error(directory: Path) -> None:
    llm = LLM(directory, pages=3)
    held = llm.executor.pool.allocate(2)
    assert not llm.step()
    with pytest.raises(IntaglioError, match=r"1 of 3 KV pages are free, too few .* no request runs"):
        llm.generate("x" * 100, PARAMS)
    request = llm.submit("x" * 100, PARAMS)
    assert not llm.step()
    llm.executor.pool.free(held)
    assert llm.step()
    llm.drop(request)
