"""Calls keep to the schemas of their arguments, whatever family the model is of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from intaglio.engine.llm import LLM
from intaglio.engine.output import SamplingParams
from intaglio.models.tokenizer import Tokenizer
from intaglio.server.grammars import Grammars
from intaglio.server.tools import Tools
from tests import tiny_llm
from tests.models.tiny import save_tiny
from tests.server.answers import accepts, mask, random_answer, schema_grammar, tokenizer
from tests.server.offers import (
    ALL,
    CALLS,
    FAMILIES,
    HERMES_CALL,
    TOOLS,
    check_calls,
    named,
    offered,
    parsed,
    tool,
)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("choice", ["required", named("weather")])
def test_a_call_that_is_asked_for_is_made(family: str, parallel: bool, choice: Any) -> None:
    tools = offered(family, choice, parallel)
    counts = set()
    for seed in range(8):
        tokens, ended = random_answer(mask(tools.grammar(), tools.tokenizer), seed, most=900)
        words, calls = parsed(tools, tokens)
        check_calls(calls if ended else calls[:-1])
        assert words is None or not ended
        assert choice == "required" or {call["function"]["name"] for call in calls} == {"weather"}
        counts.add(len(calls))
    assert (max(counts) > 1) == (parallel and family != "llama")


@pytest.mark.parametrize("family", FAMILIES)
def test_text_is_free_until_a_call_begins(family: str) -> None:
    tools, call = offered(family), CALLS[family]
    words, grammar = tools.tokenizer, tools.grammar()
    assert all(accepts(grammar, text, words) for text in ["", "Hi!", "a < b\n\n🎉 [1] <tool", "x {", call])
    begun = call[: call.index("weather")]
    assert not accepts(grammar, begun + 'other", "arguments": {}}', words)
    assert not accepts(grammar, call[:-10], words)
    assert not accepts(grammar, call.replace("Rome", "Pompeii"), words)
    if family != "llama":
        assert accepts(grammar, "Let me see. " + call, words)
    for seed in range(5):
        begin = words.encode(begun, special=False)
        tokens, ended = random_answer(mask(grammar, words), seed, begin=begin)
        said, calls = parsed(tools, tokens)
        check_calls(calls if ended else [])
        assert said is None or not ended
        assert calls


def test_text_may_hold_control_tokens() -> None:
    tools = offered("untaught, thinking")
    thought = "<think>Which?</think>\n" + HERMES_CALL
    assert accepts(tools.grammar(), thought, tools.tokenizer)
    assert accepts(offered("llama").grammar(), "<|python_tag|>" + CALLS["llama"], FAMILIES["llama"])
    assert not accepts(offered("llama").grammar(), "<|python_tag|>{}", FAMILIES["llama"])


def test_a_marker_that_is_a_token_is_that_token() -> None:
    tools = offered("qwen", "required")
    (marker,) = tools.tokenizer.encode("<tool_call>", special=False)
    tokens, _ = random_answer(mask(tools.grammar(), tools.tokenizer), 0)
    assert tokens[0] == marker


@pytest.mark.parametrize("family", ["hermes", "qwen", "llama"])
def test_a_call_or_an_answer_of_a_form(family: str) -> None:
    answer = schema_grammar({"type": "array", "items": {"type": "boolean"}})
    tools = offered(family)
    both = tools.grammar(answer)
    assert accepts(both, CALLS[family], tools.tokenizer)
    assert accepts(both, "[true,false]", tools.tokenizer)
    assert not accepts(both, "Hi!", tools.tokenizer)
    assert not accepts(offered(family, "required").grammar(answer), "[true]", tools.tokenizer)
    assert offered(family, "none").grammar(answer) == answer


def test_arguments_are_an_object() -> None:
    grammar = offered("hermes", tools=[tool("a", ALL), tool("b", {"type": ["object", "null"]})]).grammar()
    for name in "ab":
        call = HERMES_CALL.replace("weather", name)
        assert accepts(grammar, call.replace('{"city": "Rome"}', "{}"))
        assert not accepts(grammar, call.replace('{"city": "Rome"}', "null"))


def test_as_many_tools_as_are_taken() -> None:
    many = [tool(f"tool_{n}", {**ALL, "required": ["n"]}) for n in range(128)]
    tools = offered("hermes", tools=many)
    call = '<tool_call>\n{"name": "tool_77", "arguments": {"n": 3}}\n</tool_call>'
    assert accepts(tools.grammar(), call)


@pytest.mark.parametrize("marked", [True, False])
def test_a_model_calls(tmp_path: Path, marked: bool) -> None:
    """A random model; `marked`: the marker is a control token, which its text shows if it is told to."""
    save_tiny("llama", tmp_path, vocab_size=tiny_llm.VOCAB + 1)
    tiny_llm.write_tokenizer(tmp_path)
    llm = LLM(tmp_path)
    added = (("[TOOL_CALLS]", True),) if marked else ()
    words = tokenizer("{{ tools }}[TOOL_CALLS]", added)
    llm.tokenizer = Tokenizer(words._core, words.eos_ids, words.template_source, {})
    tools = Tools.parse(TOOLS, "required", True, tokenizer=llm.tokenizer)
    grammar = tools.grammar()
    assert grammar is not None
    params = SamplingParams(
        max_tokens=400,
        temperature=1.0,
        seed=5,
        token_mask=Grammars(llm.tokenizer, tiny_llm.VOCAB + 1).compiled(grammar).mask(),
        skip_special_tokens=not tools.needs_control_tokens,
    )
    answer = llm.generate(["x"], params)[0].outputs[0]
    assert answer.text.startswith("[TOOL_CALLS][{")
