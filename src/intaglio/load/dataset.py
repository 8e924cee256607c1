"""Dataset: prompts from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from intaglio.errors import UsageError
from intaglio.load.ask import Ask, Form, Prompt

MOST = 1 << 30  # bytes of a file
PART = "file"  # of requests that do not name theirs


class Line(msgspec.Struct):
    """A line of a .jsonl file: one of `prompt` (a text, or tokens) and `messages`, and what else it says."""

    prompt: str | list[int] | None = None
    messages: list[dict[str, Any]] | None = None
    max_tokens: int | None = None
    part: str = PART


class Dataset(msgspec.Struct, frozen=True):
    """`count`: how many are sent, from the first again where the file has fewer; None: each once."""

    path: Path
    limit: int
    count: int | None = None

    def asks(self, form: Form) -> list[Ask]:
        """In the order of the file."""
        lines = self.lines(form.chat)
        count = len(lines) if self.count is None else self.count
        return [self._ask(index, lines[index % len(lines)], form) for index in range(count)]

    def lines(self, chat: bool) -> list[Line]:
        """Raises UsageError: no such file, a line that is no prompt, messages where a prompt is asked for."""
        read = {".txt": _texts, ".jsonl": _lines}.get(self.path.suffix)
        if read is None:
            raise UsageError(
                f"--dataset {self.path}: expected a .txt file, one prompt a line, or a .jsonl file"
            )
        found = read(self.path, self._text())
        if not found:
            raise UsageError(f"--dataset {self.path}: no prompt in it")
        if not chat and any(line.messages is not None for line in found):
            raise UsageError(f"--dataset {self.path}: messages need --endpoint /v1/chat/completions")
        if chat and any(isinstance(line.prompt, list) for line in found):
            raise UsageError(
                f"--dataset {self.path}: prompts that are tokens need --endpoint /v1/completions"
            )
        return found

    def _ask(self, index: int, line: Line, form: Form) -> Ask:
        prompt: Prompt | None = line.prompt if line.messages is None else line.messages
        assert prompt is not None
        limit = line.max_tokens or self.limit
        tokens = len(prompt) if isinstance(line.prompt, list) else None
        return Ask(index, line.part, form.body(prompt, limit), tokens, limit)

    def _text(self) -> str:
        try:
            if self.path.stat().st_size > MOST:
                raise UsageError(f"--dataset {self.path}: more than {MOST >> 30} GB")
            return self.path.read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--dataset {self.path}: {(error.strerror or str(error)).lower()}") from None
        except UnicodeDecodeError as error:
            raise UsageError(f"--dataset {self.path}: not UTF-8 at byte {error.start}") from None


def _texts(path: Path, text: str) -> list[Line]:
    return [Line(prompt=line) for line in text.split("\n") if line.strip()]


def _lines(path: Path, text: str) -> list[Line]:
    decode = msgspec.json.Decoder(Line).decode
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            one = decode(line)
        except msgspec.DecodeError as error:
            raise UsageError(f"--dataset {path}, line {number}: {error}") from None
        if (one.prompt is None) == (one.messages is None):
            raise UsageError(f"--dataset {path}, line {number}: expected either a prompt or messages")
        if one.max_tokens is not None and one.max_tokens < 1:
            raise UsageError(
                f"--dataset {path}, line {number}: max_tokens {one.max_tokens}: expected at least 1"
            )
        found.append(one)
    return found
