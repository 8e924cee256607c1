"""The parser of answers that call functions: text comes in pieces, and goes out as soon as it is certain."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Callable, Collection

from intaglio.engine.stop import overlap
from intaglio.server.tool_formats import Format
from intaglio.server.tool_pieces import CallPiece, Words

MOST_HEAD = 200  # characters from a marker to the arguments: a name has 64
MOST_TAIL = 64  # and from these to what closes the call
LETTERS = string.ascii_letters + string.digits


class ToolParser:
    """For one answer. A call is one from its name on, which is one of `names`, and an object's { after it.

    What turns out to be none, and a marker that was cut off, is text. Arguments are passed on as they come.
    """

    def __init__(self, form: Format, names: Collection[str]) -> None:
        self._form = form
        self._names = names
        lead, close, between = _parts(form)
        calls = [f'{{"name":"{name}","{form.key}":' for name in names]
        self._heads = [*calls, *(lead + call for call in calls if lead)]
        self._tails = ["}" + close, "}" + between]
        self._head, self._tail = _patterns(form)
        self._buffer = ""
        self._opened = ""  # the marker of a call whose name is still to come
        self._blanks = ""  # after words: nothing if a call follows
        self._nesting = Nesting()
        self._out: list[Words | CallPiece] = []
        self._state: Callable[[], bool] = self._begin
        self.calls = 0

    def push(self, text: str) -> list[Words | CallPiece]:
        """What became certain with this text."""
        self._buffer += text
        while self._state():
            pass
        out, self._out = self._out, []
        return out

    def finish(self) -> list[Words | CallPiece]:
        """What is left when no more text comes."""
        out = self.push("")
        if self._state != self._closing:
            self._say(self._opened + self._buffer)
        if self._blanks and not self.calls:
            self._out.append(Words(self._blanks))
        return out + self._out

    def finish_reason(self, reason: str) -> str:
        """OpenAI's, of an answer that ended for `reason`."""
        return "tool_calls" if self.calls and reason == "stop" else reason

    # each state takes what it can from the buffer, and tells whether the next has something to do

    def _begin(self) -> bool:
        if not self._buffer:
            return False
        if not self._names:
            self._state = self._pass
        elif self._form.marker:
            self._state = self._words
        else:
            self._state = self._naming if self._buffer.startswith("{") else self._pass
        return True

    def _pass(self) -> bool:
        text, self._buffer = self._buffer, ""
        if text:
            self._out.append(Words(text))
        return False

    def _words(self) -> bool:
        before, marker, after = self._buffer.partition(self._form.marker)
        if marker:
            self._say(before)
            self._buffer, self._opened, self._state = after, marker, self._naming
            return True
        certain = len(before) - overlap(before, self._form.marker)
        self._say(before[:certain])
        self._buffer = before[certain:]
        return False

    def _naming(self) -> bool:
        found = self._head.match(self._buffer)
        if found and found[1] in self._names:
            self._open(found[1])
            self._buffer = self._buffer[found.end() :]
            self._state = self._arguments
        elif found or not self._may_be_call():
            self._say(self._opened)
            self._opened = ""
            self._state = self._words if self._form.marker else self._pass
        else:
            return False
        return True

    def _arguments(self) -> bool:
        length, whole = self._nesting.read(self._buffer)
        text, self._buffer = self._buffer[:length], self._buffer[length:]
        if text:
            self._out.append(CallPiece(self.calls - 1, text))
        if whole:
            self._state = self._closing
        return whole

    def _closing(self) -> bool:
        found = self._tail.match(self._buffer)
        if found:
            self._buffer = self._buffer[found.end() :]
        elif self._may_close():
            return False
        else:
            self._buffer = self._buffer.lstrip().removeprefix("}")
        again = found is not None and found[1] is not None
        self._state = self._naming if again else self._words if self._form.marker else self._pass
        return True

    def _may_close(self) -> bool:
        """Whether what came after arguments begins what ends a call."""
        begun = "".join(self._buffer.split())
        return len(self._buffer) <= MOST_TAIL and any(tail.startswith(begun) for tail in self._tails)

    def _may_be_call(self) -> bool:
        """Whether what came after a marker begins a call that may be made."""
        begun = "".join(self._buffer.split())
        return len(self._buffer) <= MOST_HEAD and any(head.startswith(begun) for head in self._heads)

    def _open(self, name: str) -> None:
        unique = "".join(secrets.choice(LETTERS) for _ in range(self._form.id_length))
        marked = unique if self._form.id_length < 10 else f"call_{unique}"
        self._out.append(CallPiece(self.calls, "", marked, name))
        self.calls += 1
        self._opened = self._blanks = ""
        self._nesting = Nesting()

    def _say(self, text: str) -> None:
        """Words, but for blanks at their end."""
        text = self._blanks + text
        words = text.rstrip()
        self._blanks = text[len(words) :]
        if words:
            self._out.append(Words(words))


class Nesting:
    """Reads one JSON object, which comes in pieces, to its end."""

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = self._escaped = False

    def read(self, text: str) -> tuple[int, bool]:
        """Characters of `text` that belong to the object, and whether they end it."""
        for at, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped, self._quoted = character == "\\", character != '"'
            elif character == '"':
                self._quoted = True
            else:
                self._depth += (character == "{") - (character == "}")
                if character == "}" and not self._depth:
                    return at + 1, True
        return len(text), False


def _parts(form: Format) -> tuple[str, str, str]:
    """Between a marker and a call, after the last call, and between two of one marker; without blanks."""
    lead, close, between = ("".join(part).strip() for part in (form.opening[1:], form.closing, form.between))
    return lead, close, "" if form.marker in between else between


def _patterns(form: Format) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """From a marker to the arguments, with the name; from these to the end, or to the next call."""
    lead, close, between = _parts(form)
    begin = rf"\s*(?:{re.escape(lead)}\s*)?" if lead else r"\s*"
    head = rf'{begin}\{{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"{form.key}"\s*:\s*(?=\{{)'
    again = re.escape(between) or "(?!)"
    return re.compile(head), re.compile(rf"\s*\}}\s*(?:({again})|{re.escape(close)})")
