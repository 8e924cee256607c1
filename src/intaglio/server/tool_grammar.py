"""The grammar of an answer that may, or must, call functions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from intaglio.models.tokenizer import Tokenizer
from intaglio.server.schema_tree import Schema
from intaglio.server.structured import Grammar, of_lark, quoted, spelt, with_part
from intaglio.server.tool_formats import Format

TEXT = r"TEXT: /(.|\n)*/"
PLAIN = r"PLAIN: /[^{](.|\n)*/"


@dataclass(frozen=True)
class ToolGrammar:
    """Of calls in `form`; `functions`: schemas of their arguments; `several`: one call may follow another."""

    form: Format
    functions: Mapping[str, Schema]
    several: bool
    tokenizer: Tokenizer

    def forced(self) -> Grammar:
        """Calls and nothing else."""
        return self._with("start: calls")

    def or_else(self, answer: Grammar) -> Grammar:
        """Calls, or an answer of that grammar."""
        return with_part(self._with("start: calls | @answer"), "answer", answer)

    def free(self) -> Grammar:
        """Any text, after which calls may come: what begins with their marker is whole, and the end."""
        marker, marks, ends = self.form.marker, self._marks(), self.tokenizer.eos_ids
        if marker in marks:
            return self._with("start: free* calls?", f"free: <[^{_listed([*ends, marks[marker]])}]>")
        controls = _listed(set(marks.values()) - set(ends))
        before, after = (f"(TEXT <[{controls}]>)*", f"(<[{controls}]> TEXT)*") if controls else ("", "")
        if marker:
            rest = f"head {self._pieces(self.form.opening[1:])} several"
            head = f"head[lazy]: TEXT {quoted(marker)}"
            return self._with(f"start: {before} (TEXT | {rest})", head, TEXT)
        lead = f"<[{controls}]>*" if controls else ""
        return self._with(f"start: {lead} (calls | PLAIN {after})?", PLAIN, TEXT)

    def _with(self, *rules: str) -> Grammar:
        """These rules, which refer to `calls`, or to `several` where they open them themselves."""
        form = self.form
        again = f"({self._pieces(form.between)} call)*" if self.several and form.between else ""
        lines = [
            *rules,
            f"calls: {self._pieces(form.opening)} several",
            f"several: call {again} {self._pieces(form.closing)}",
            "call: " + " | ".join(f"call_{index}" for index, _ in enumerate(self.functions)),
        ]
        for index, (name, schema) in enumerate(self.functions.items()):
            begin = f'{{"name": {json.dumps(name)}, "{form.key}": '
            lines.append(f'call_{index}: {quoted(begin)} arguments_{index} "}}"')
            lines.append(f"arguments_{index}: %json {json.dumps(spelt(schema))}")
        return of_lark("\n".join(lines))

    def _pieces(self, pieces: Iterable[str]) -> str:
        marks = self._marks()
        return " ".join(f"<[{marks[piece]}]>" if piece in marks else quoted(piece) for piece in pieces)

    def _marks(self) -> dict[str, int]:
        """Tokens that are no text for llguidance."""
        return {
            text: token
            for token, (text, control) in self.tokenizer.added.items()
            if control or (text.startswith("<") and text.endswith(">"))
        }


def _listed(tokens: Iterable[int]) -> str:
    return ",".join(map(str, sorted(tokens)))
