"""Structured output through the engine: in a batch, drafted, preempted, beyond its end."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from intaglio.engine.llm import LLM
from intaglio.engine.output import SamplingParams
from intaglio.server.grammars import Grammars
from tests import tiny_llm
from tests.engine.drafters import Foreseeing, always
from tests.server.answers import END, LIST, PERSON, schema_grammar, vllm


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llm.write_model(tmp_path_factory.mktemp("model"))


FORMS = [
    schema_grammar(PERSON),
    schema_grammar(LIST),
    vllm(choice=["yes", "no", "no!"]),
    vllm(regex="(ab|cd)+e"),
    vllm(grammar='start: n ("+" n)*\nn: /[0-9]+/'),
]
HOLDS = [
    lambda text: jsonschema.Draft202012Validator(PERSON).is_valid(json.loads(text)),
    lambda text: jsonschema.Draft202012Validator(LIST).is_valid(json.loads(text)),
    lambda text: text in ("yes", "no", "no!"),
    lambda text: re.fullmatch("(ab|cd)+e", text),
    lambda text: re.fullmatch(r"\d+(\+\d+)*", text),
]


def asked(llm: LLM) -> list[SamplingParams]:
    made = Grammars(llm.tokenizer, tiny_llm.VOCAB)
    return [
        SamplingParams(
            max_tokens=300, temperature=1.0, seed=seed, token_mask=made.compiled(form).mask(), logprobs=0
        )
        for seed, form in enumerate(FORMS)
    ]


def test_a_batch_of_forms_says_what_each_says_alone(directory: Path) -> None:
    llm = LLM(directory)
    prompts = ["Say it:"] * len(FORMS)
    together = llm.generate(prompts, asked(llm))
    for output, holds, prompt, params in zip(together, HOLDS, prompts, asked(llm), strict=True):
        assert llm.generate([prompt], params)[0].outputs == output.outputs
        (one,) = output.outputs
        assert one.finish_reason == "stop"
        assert holds(one.text), one.text


@pytest.mark.parametrize("wrong", [0.0, 0.3])
def test_drafts_change_nothing(directory: Path, wrong: float) -> None:
    llm = LLM(directory)
    prompts = ["Say it:"] * len(FORMS)
    plain = llm.generate(prompts, asked(llm))
    known = [(output.prompt_token_ids, output.outputs[0].token_ids) for output in plain]
    drafting = LLM(directory, draft="prompt-lookup")
    for output, params, answer in zip(plain, asked(drafting), known, strict=True):
        drafter = Foreseeing([answer], wrong, tiny_llm.VOCAB)
        drafted = always(drafting, drafter).generate(["Say it:"], params)[0]
        assert drafted.outputs == output.outputs
    assert drafted.timing.accepted > 0


def test_preempted_requests_go_on_as_before(directory: Path) -> None:
    llm, narrow = LLM(directory), LLM(directory, pages=3, max_context=130)
    prompts = ["Say it: " + "x" * 40] * len(FORMS)
    ample = llm.generate(prompts, asked(llm))
    scarce = narrow.generate(prompts, asked(narrow))
    for one, other in zip(ample, scarce, strict=True):
        said, cut = one.outputs[0], other.outputs[0]
        assert said.token_ids[: len(cut.token_ids)] == cut.token_ids


def test_an_answer_goes_on_after_its_end_if_ends_are_ignored(directory: Path) -> None:
    llm = LLM(directory)
    form = Grammars(llm.tokenizer, tiny_llm.VOCAB).compiled(vllm(choice=["ab"])).mask()
    output = llm.generate(["x"], SamplingParams(max_tokens=6, ignore_eos=True, token_mask=form))[0].outputs[0]
    assert output.text == "ab"
    assert output.token_ids[2:] == (END,) * 4
