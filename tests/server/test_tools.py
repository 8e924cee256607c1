"""Tools: what a request may offer, and how a model is told of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from intaglio.errors import UsageError
from tests.server.answers import mask, tokenizer
from tests.server.offers import HERMES_CALL, TOOLS, named, offered, parsed, tool


@pytest.mark.parametrize(
    ("tools", "choice", "reason"),
    [
        ("x", None, "tools is a string, expected a list"),
        ([3], None, 'tools[0] must be {"type": "function"'),
        ([{"type": "retrieval", "function": {"name": "x"}}], None, "tools[0] must be"),
        ([{"type": "function", "name": "x"}], None, "tools[0] must be"),
        ([tool("a b")], None, "tools[0].function.name must be 1 to 64 letters"),
        ([tool("a\n")], None, "tools[0].function.name must be"),
        ([tool("")], None, "tools[0].function.name must be"),
        ([tool("x" * 65)], None, "tools[0].function.name must be"),
        ([tool(None)], None, "tools[0].function.name must be"),
        ([tool("x"), tool("x")], None, "tools[1].function.name is 'x', as of another"),
        ([tool("x", {"type": "array"})], None, "tools[0].function.parameters must describe an object"),
        ([tool("x", {"type": ["null"]})], None, "tools[0].function.parameters must describe an object"),
        ([tool("x", 3)], None, "tools[0].function.parameters is a number"),
        ([tool("y"), tool("x", {"$ref": "http://x/"})], None, "tools[1].function.parameters has the $ref"),
        ([tool("x", {"not": {}})], None, 'Unimplemented keys: ["not"]'),
        ([tool(f"x{n}") for n in range(129)], None, "tools has 129 functions, at most 128"),
        ([tool("x", description="x" * 300_000)], None, "at most 262144"),
        (
            [tool(f"x{n}", {"properties": {f"p{m}": {} for m in range(400)}}) for n in range(11)],
            None,
            "tools[9].function.parameters is too large",
        ),
        (TOOLS, "always", "tool_choice is 'always', expected none, auto, required or a function"),
        (TOOLS, named("other"), "tool_choice names 'other', which is not among the tools"),
        (TOOLS, {"type": "function"}, "tool_choice must be"),
        (TOOLS, 3, "tool_choice must be"),
        (None, "required", "tool_choice asks for a call, and tools has no function"),
        ([], named("x"), "tool_choice asks for a call, and tools has no function"),
    ],
)
def test_what_is_refused(tools: Any, choice: Any, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        mask(offered("hermes", choice, tools=tools).grammar())
    assert reason in str(caught.value)


@pytest.mark.parametrize("tools", [None, []])
@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_a_request_without_tools_is_any_other(tools: Any, choice: Any) -> None:
    none = offered("hermes", choice, tools=tools)
    assert none.grammar() is None
    assert none.for_template is None
    assert none.messages([{"role": "user", "content": "hi"}]) == [{"role": "user", "content": "hi"}]
    assert parsed(none, tokenizer().encode(f" {HERMES_CALL}\n")) == (f" {HERMES_CALL}\n", [])


def test_tools_that_may_not_be_called_are_not_told_of() -> None:
    silent = offered("hermes", "none")
    assert silent.grammar() is None
    assert silent.for_template is None


CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
]


def test_a_template_that_knows_tools_gets_them_and_objects_as_arguments() -> None:
    tools = offered("hermes")
    assert tools.for_template == TOOLS
    messages = tools.messages(CONVERSATION)
    assert messages[2]["tool_calls"][0]["function"]["arguments"] == {"city": "Rome"}
    assert [message for message in messages if "tool_calls" not in message] == [
        *CONVERSATION[:2],
        CONVERSATION[3],
    ]


def test_other_templates_get_plain_words() -> None:
    tools = offered("untaught")
    assert tools.for_template is None
    system, user, call, result = tools.messages(CONVERSATION)
    assert system["role"] == "system"
    assert system["content"].startswith("Be brief.\n\nYou may call functions")
    assert all(json.dumps(each) in system["content"] for each in TOOLS)
    assert user == CONVERSATION[1]
    assert call == {"role": "assistant", "content": HERMES_CALL}
    assert result == {"role": "user", "content": "<tool_response>\nsunny\n</tool_response>"}
    first, _ = tools.messages([{"role": "user", "content": "Hi"}])
    assert first["role"] == "system"


@pytest.mark.parametrize(
    ("calls", "reason"),
    [
        ("x", "messages[0].tool_calls must be a list"),
        (["x"], "messages[0].tool_calls[0] must be"),
        ([{"function": {"arguments": "{}"}}], "messages[0].tool_calls[0] must be"),
        ([{"function": {"name": "x", "arguments": "{"}}], "arguments must be the JSON text of an object"),
        (
            [{"function": {"name": "x", "arguments": "[" * 90_000}}],
            "arguments must be the JSON text of an object",
        ),
        ([{"function": {"name": "x", "arguments": "3"}}], "arguments must be the JSON text of an object"),
        ([{"function": {"name": "x", "arguments": '{"a":' * 40 + "1" + "}" * 40}}], "deeper than 32 levels"),
    ],
)
def test_a_call_in_a_conversation_that_is_none(calls: Any, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        offered("hermes").messages([{"role": "assistant", "content": "", "tool_calls": calls}])
    assert reason in str(caught.value)
