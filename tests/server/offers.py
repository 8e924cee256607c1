"""Three tools, offered to models of several families, and what a client gets of their answers."""

from __future__ import annotations

import json
from typing import Any

import jsonschema

from intaglio.server.tool_pieces import whole
from intaglio.server.tools import Tools
from tests.server.answers import tokenizer

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 5}, "days": {"$ref": "#/$defs/days"}},
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"days": {"type": "integer", "minimum": 1, "maximum": 14}},
}
ALL = {"properties": {"n": {"type": "integer"}}, "additionalProperties": False}
SCHEMAS = {"weather": CITY, "weather_all": ALL, "now": {"type": "object", "maxProperties": 0}}


def tool(name: Any, parameters: Any = None, **more: Any) -> dict[str, Any]:
    function = {"name": name, "description": f"The {name}.", **more}
    return {
        "type": "function",
        "function": {**function, **({"parameters": parameters} if parameters else {})},
    }


TOOLS = [tool("weather", CITY), tool("weather_all", ALL, strict=True), tool("now")]

# the model's template, and the tokens that its tokenizer has beside letters
FAMILIES = {
    "untaught": tokenizer(),
    "untaught, thinking": tokenizer(None, (("<think>", True), ("</think>", False))),
    "hermes": tokenizer("{% if tools %}<tool_call>{% endif %}"),
    "qwen": tokenizer("{{ tools }}<tool_call>", (("<tool_call>", False), ("</tool_call>", False))),
    "mistral": tokenizer("{{ tools }}[TOOL_CALLS]", (("[TOOL_CALLS]", True),)),
    "mistral's letters": tokenizer("{{ tools }}[TOOL_CALLS]"),
    "llama": tokenizer('{{ tools }}"parameters": ', (("<|python_tag|>", True),)),
}
HERMES_CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
CALLS = {
    **dict.fromkeys(FAMILIES, HERMES_CALL),
    **dict.fromkeys(
        ["mistral", "mistral's letters"], '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Rome"}}]'
    ),
    "llama": '{"name": "weather", "parameters": {"city": "Rome"}}',
}


def offered(family: str, choice: Any = None, parallel: bool | None = None, tools: Any = TOOLS) -> Tools:
    return Tools.parse(tools, choice, parallel, tokenizer=FAMILIES[family])


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def parsed(tools: Tools, tokens: list[int]) -> tuple[str | None, list[dict[str, Any]]]:
    """What a client gets of an answer, which is read token by token."""
    decoder = tools.tokenizer.stream(skip_special=not tools.needs_control_tokens)
    parser = tools.parser()
    pieces = [piece for token in tokens for piece in parser.push(decoder.push(token))]
    return whole([*pieces, *parser.push(decoder.flush()), *parser.finish()])


def check_calls(calls: list[dict[str, Any]]) -> None:
    for call in calls:
        arguments = json.loads(call["function"]["arguments"])
        jsonschema.Draft202012Validator(SCHEMAS[call["function"]["name"]]).validate(arguments)
    assert len({call["id"] for call in calls}) == len(calls)
