"""The official client drives the server, knowing nothing of it but the URL."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest

from tests.server.serving import Running

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def ask(running: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_models(ask: openai.OpenAI) -> None:
    (model,) = ask.models.list().data
    assert (model.id, model.object, model.owned_by) == ("tiny", "model", "intaglio")
    assert ask.models.retrieve("tiny").id == "tiny"


def test_a_whole_answer(ask: openai.OpenAI) -> None:
    answer = ask.chat.completions.create(model="tiny", messages=HELLO, max_completion_tokens=8, seed=1)
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.finish_reason in ("length", "stop")
    assert answer.usage
    assert answer.usage.completion_tokens <= 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_says_what_the_whole_answer_says(ask: openai.OpenAI) -> None:
    wanted = {"model": "tiny", "messages": HELLO, "max_completion_tokens": 24, "seed": 3, "temperature": 1.0}
    whole = ask.chat.completions.create(**wanted)
    chunks = list(ask.chat.completions.create(**wanted, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[-1] == whole.choices[0].finish_reason
    assert not any(reasons[:-1])


def test_several_choices_differ_and_come_back_with_the_seed(ask: openai.OpenAI) -> None:
    wanted = {"model": "tiny", "messages": HELLO, "n": 3, "max_tokens": 16, "seed": 5}
    first, again = (ask.chat.completions.create(**wanted) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in again.choices]
    assert len(set(texts)) > 1
    assert [choice.index for choice in first.choices] == [0, 1, 2]


def test_logprobs_of_a_chat(ask: openai.OpenAI) -> None:
    answer = ask.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=4, logprobs=True, top_logprobs=3, temperature=0
    )
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    for token in content:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob == pytest.approx(token.logprob)  # greedy: the likeliest
        assert bytes(token.bytes).decode(errors="replace") == token.token


def test_completions(ask: openai.OpenAI) -> None:
    answer = ask.completions.create(model="tiny", prompt=["one", "two"], max_tokens=5, temperature=0, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[0].text == answer.choices[1].text  # greedy: alike
    assert answer.usage.prompt_tokens == 6


def test_echo_and_the_log_probabilities_of_a_prompt(ask: openai.OpenAI) -> None:
    answer = ask.completions.create(model="tiny", prompt="abcdef", max_tokens=0, echo=True, logprobs=2)
    (choice,) = answer.choices
    assert choice.text == "abcdef"
    found = choice.logprobs
    assert found.tokens == list("abcdef")
    assert found.token_logprobs[0] is None
    assert all(p <= 0 for p in found.token_logprobs[1:])
    assert all(len(top) <= 2 for top in found.top_logprobs[1:])
    assert found.text_offset == [0, 1, 2, 3, 4, 5]


def test_embeddings_do_not_depend_on_their_company(ask: openai.OpenAI) -> None:
    together = ask.embeddings.create(model="tiny", input=["first", "second text"], encoding_format="float")
    alone = ask.embeddings.create(model="tiny", input="second text")  # the client's default is base64
    assert together.data[1].embedding == pytest.approx(alone.data[0].embedding, abs=1e-6)
    assert together.data[0].embedding != together.data[1].embedding
    assert together.usage.prompt_tokens == 16


def test_stop_and_bias(ask: openai.OpenAI) -> None:
    only_a = ask.completions.create(
        model="tiny", prompt="x", max_tokens=6, temperature=0, logit_bias={"68": 100}
    )  # token 68 of this tokenizer is a letter
    letter = only_a.choices[0].text[0]
    assert only_a.choices[0].text == 6 * letter
    stopped = ask.completions.create(
        model="tiny", prompt="x", max_tokens=6, temperature=0, logit_bias={"68": 100}, stop=[3 * letter]
    )
    assert stopped.choices[0].text == ""
    assert stopped.choices[0].finish_reason == "stop"


def test_an_unknown_model_is_not_found(ask: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="served: tiny"):
        ask.chat.completions.create(model="gpt-5", messages=HELLO)


def test_a_prompt_that_is_too_long(ask: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"context of tiny 1024") as caught:
        ask.completions.create(model="tiny", prompt=1200 * "a")
    assert caught.value.code == "context_length_exceeded"


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather somewhere.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "maximum": 9}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


def called(call: Any) -> None:
    """It satisfies the function's schema."""
    assert call.function.name == "weather"
    arguments = json.loads(call.function.arguments)
    assert arguments["city"] in ("Rome", "Oslo")
    assert arguments["days"] <= 9


def test_a_call_that_is_required(ask: openai.OpenAI) -> None:
    wanted = {"model": "tiny", "messages": HELLO, "tools": [WEATHER], "tool_choice": "required", "seed": 2}
    answer = ask.chat.completions.create(**wanted, max_tokens=300, parallel_tool_calls=False)
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert call.id
    called(call)
    streamed = ask.chat.completions.create(**wanted, max_tokens=300, parallel_tool_calls=False, stream=True)
    pieces = [c.choices[0] for c in streamed if c.choices]
    deltas = [call for piece in pieces for call in piece.delta.tool_calls or ()]
    assert deltas[0].function.name == "weather"
    assert "".join(d.function.arguments for d in deltas) == call.function.arguments
    assert pieces[-1].finish_reason == "tool_calls"
    history = [
        *HELLO,
        choice.message.model_dump(),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    again = ask.chat.completions.create(model="tiny", messages=history, tools=[WEATHER], max_tokens=8)
    assert again.usage.prompt_tokens > answer.usage.prompt_tokens


def test_an_answer_in_a_schema(ask: openai.OpenAI) -> None:
    schema = WEATHER["function"]["parameters"]
    answer = ask.chat.completions.create(
        model="tiny",
        messages=HELLO,
        max_tokens=300,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "w", "schema": schema, "strict": True},
        },
    )
    assert answer.choices[0].finish_reason == "stop"
    jsonschema.validate(json.loads(answer.choices[0].message.content), schema)


@pytest.mark.parametrize("form", [{"regex": "[ab]{3}c"}, {"choice": ["aabc", "babc"]}])
def test_other_forms(ask: openai.OpenAI, form: dict[str, Any]) -> None:
    answer = ask.completions.create(
        model="tiny", prompt="x", max_tokens=20, extra_body={"structured_outputs": form}
    )
    assert re.fullmatch("[ab]{3}c", answer.choices[0].text)


def test_a_schema_out_of_bounds(ask: openai.OpenAI) -> None:
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"type": "array", "items": deep}
    form = {"type": "json_schema", "json_schema": {"name": "deep", "schema": deep}}
    with pytest.raises(openai.BadRequestError, match="deeper"):
        ask.chat.completions.create(model="tiny", messages=HELLO, response_format=form)
