"""Tools: the functions that a request offers to the model, and whether it may call them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from intaglio.errors import UsageError
from intaglio.models.json_text import shown
from intaglio.models.tokenizer import Tokenizer
from intaglio.server.bounds import Bounds, kind
from intaglio.server.schema_tree import Schema
from intaglio.server.schemas import Budget, checked
from intaglio.server.structured import Grammar
from intaglio.server.tool_formats import Format, format_of
from intaglio.server.tool_grammar import ToolGrammar
from intaglio.server.tool_parser import ToolParser
from intaglio.server.tool_prompt import Message, knows_tools, told

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}

DEFAULTS = Bounds()
Choice = Literal["none", "auto", "required"]


@dataclass(frozen=True)
class Tools:
    """`functions`: schemas of the arguments of those that may be called, by name; `listed`: all, as given.

    A request without any has one too: it reads conversations in which calls were made.
    """

    functions: Mapping[str, Schema]
    listed: Sequence[Mapping[str, Any]]
    choice: Choice
    parallel: bool
    tokenizer: Tokenizer

    @classmethod
    def parse(
        cls,
        tools: Any,
        tool_choice: Any,
        parallel_tool_calls: bool | None,
        *,
        tokenizer: Tokenizer,
        bounds: Bounds = DEFAULTS,
    ) -> Tools:
        """From OpenAI's fields of these names; UsageError names the one at fault."""
        listed = _listed(tools, bounds)
        functions = _functions(listed, bounds)
        choice, callable_ = _choice(tool_choice, functions)
        told_of = listed if choice != "none" else []
        return cls(callable_, told_of, choice, parallel_tool_calls is not False, tokenizer)

    def messages(self, messages: Sequence[Message]) -> list[Message]:
        """The conversation as the model's template takes it, given `for_template` as its tools."""
        return told(messages, self.listed, self.tokenizer.template_source)

    @property
    def for_template(self) -> list[Mapping[str, Any]] | None:
        """What Tokenizer.chat is given as `tools`."""
        return list(self.listed) if self.listed and knows_tools(self.tokenizer.template_source) else None

    def grammar(self, answer: Grammar | None = None) -> Grammar | None:
        """That keeps calls to their schemas, and an answer without calls to `answer`; None: anything goes."""
        if self.choice == "none":
            return answer
        rules = ToolGrammar(self._format, self.functions, self.parallel, self.tokenizer)
        if self.choice == "required":
            return rules.forced()
        return rules.free() if answer is None else rules.or_else(answer)

    def parser(self) -> ToolParser:
        """For the text of one answer."""
        return ToolParser(self._format, () if self.choice == "none" else self.functions)

    @property
    def needs_control_tokens(self) -> bool:
        """Whether the parser must see those in the text: the marker of calls is one."""
        return self.choice != "none" and (self._format.marker, True) in self.tokenizer.added.values()

    @property
    def _format(self) -> Format:
        return format_of(self.tokenizer.template_source or "")


def _listed(tools: Any, bounds: Bounds) -> list[Mapping[str, Any]]:
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise UsageError(f"tools is {kind(tools)}, expected a list")
    if len(tools) > bounds.tools:
        raise UsageError(f"tools has {len(tools)} functions, at most {bounds.tools} are taken")
    bounds.spelled(tools, "tools", bounds.tools_bytes)
    return tools


def _functions(listed: Sequence[Mapping[str, Any]], bounds: Bounds) -> dict[str, Schema]:
    functions: dict[str, Schema] = {}
    budget = Budget(bounds, bounds.tools_schemas)
    for index, tool in enumerate(listed):
        function = _function(tool, f"tools[{index}]")
        name = _name(function.get("name"), f"tools[{index}].function.name")
        if name in functions:
            raise UsageError(f"tools[{index}].function.name is {shown(name)}, as of another before it")
        functions[name] = _parameters(function, f"tools[{index}].function.parameters", budget)
    return functions


def _function(given: Any, where: str) -> Mapping[str, Any]:
    """That of {"type": "function", "function": {…}}."""
    function = given.get("function") if isinstance(given, dict) else None
    if not isinstance(function, dict) or given.get("type") != "function":
        raise UsageError(f'{where} must be {{"type": "function", "function": {{"name", …}}}}')
    return function


def _name(given: Any, where: str) -> str:
    if not isinstance(given, str) or not NAME.fullmatch(given):
        raise UsageError(f"{where} must be 1 to 64 letters, digits, dashes and underscores")
    return given


def _parameters(function: Mapping[str, Any], where: str, budget: Budget) -> Schema:
    schema = function.get("parameters")
    if schema is None:
        return NO_ARGUMENTS
    schema = checked(schema, where, budget)
    types = schema.get("type", "object")
    if types != "object" and "object" not in (types if isinstance(types, list) else ()):
        raise UsageError(f"{where} must describe an object")
    return {**schema, "type": "object"}


def _choice(given: Any, functions: Mapping[str, Schema]) -> tuple[Choice, Mapping[str, Schema]]:
    """Whether to call, and what may be called."""
    if given is None or given == "auto":
        return "auto" if functions else "none", functions
    if given == "none":
        return "none", functions
    if not functions:
        raise UsageError("tool_choice asks for a call, and tools has no function")
    if given == "required":
        return "required", functions
    if isinstance(given, str):
        raise UsageError(f"tool_choice is {shown(given)}, expected none, auto, required or a function")
    name = _name(_function(given, "tool_choice").get("name"), "tool_choice.function.name")
    if name not in functions:
        raise UsageError(f"tool_choice names {shown(name)}, which is not among the tools")
    return "required", {name: functions[name]}
