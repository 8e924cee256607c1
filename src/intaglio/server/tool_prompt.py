"""How a conversation tells of functions: by the model's template, or in plain words where it knows none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from intaglio.errors import UsageError
from intaglio.server.bounds import Bounds
from intaglio.server.tool_formats import HERMES

Message = Mapping[str, Any]

BOUNDS = Bounds()

INSTRUCTIONS = """You may call functions to assist with the user query. These are their signatures:
<tools>
{signatures}
</tools>

For each call write a JSON object with the function's name and arguments within <tool_call></tool_call>:
<tool_call>
{{"name": <name>, "arguments": <arguments>}}
</tool_call>"""


def knows_tools(template: str | None) -> bool:
    """Whether the source of a template tells of tools."""
    return "tools" in (template or "")


def told(
    messages: Sequence[Message], tools: Iterable[Mapping[str, Any]], template: str | None
) -> list[Message]:
    """The messages as the template takes them, calls and their results too; UsageError if malformed."""
    objects = [_with_objects(message, f"messages[{index}]") for index, message in enumerate(messages)]
    if knows_tools(template):
        return objects
    signatures = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    plain = [_plain(message) for message in objects]
    return _instructed(plain, INSTRUCTIONS.format(signatures=signatures)) if signatures else plain


def _with_objects(message: Message, where: str) -> Message:
    """Arguments of calls as objects: OpenAI has them as JSON text, templates spell them themselves."""
    if not (calls := message.get("tool_calls")):
        return message
    if not isinstance(calls, list):
        raise UsageError(f"{where}.tool_calls must be a list")
    return {**message, "tool_calls": [_call(c, f"{where}.tool_calls[{i}]") for i, c in enumerate(calls)]}


def _call(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise UsageError(f'{where} must be {{"id", "type": "function", "function": {{"name", "arguments"}}}}')
    arguments = function.get("arguments") or "{}"
    try:
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise UsageError(f"{where}.function.arguments must be the JSON text of an object")
    BOUNDS.depth_of(arguments, f"{where}.function.arguments")
    return {**call, "function": {**function, "arguments": arguments}}


def _plain(message: Message) -> Message:
    """A message in words that any template takes."""
    content = message.get("content") or ""
    if message.get("role") == "tool":
        return {"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"}
    if not (calls := message.get("tool_calls")):
        return message
    spelled = [HERMES.call(call["function"]["name"], call["function"]["arguments"]) for call in calls]
    return {"role": message.get("role"), "content": "\n".join([content, *spelled] if content else spelled)}


def _instructed(messages: Sequence[Message], instructions: str) -> list[Message]:
    """With the instructions at the end of the system's message."""
    first, rest = (messages[0], messages[1:]) if messages else ({}, messages)
    if first.get("role") != "system":
        return [{"role": "system", "content": instructions}, *messages]
    return [{**first, "content": f"{first.get('content') or ''}\n\n{instructions}"}, *rest]
