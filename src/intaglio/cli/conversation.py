"""A conversation on the terminal: reads lines, streams answers, forgets the oldest messages when it must."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from intaglio.cli.console import note
from intaglio.cli.generate import statistics
from intaglio.errors import ERROR, IntaglioError, UsageError

if TYPE_CHECKING:
    from intaglio.engine.llm import LLM
    from intaglio.engine.output import SamplingParams

HELP = """/reset  forget the conversation
/help   this
/exit   leave (or Ctrl-D)
Ctrl-C stops an answer."""
ENDS = {"abort": " stopped", "length": " cut off"}
ROOM = 64  # tokens an answer must at least have room for, unless fewer are asked for


class Conversation:
    """Messages so far, and the loop that adds to them."""

    def __init__(self, llm: LLM, params: SamplingParams, system: str | None, *, quiet: bool) -> None:
        self.llm = llm
        self.params = params
        self.quiet = quiet
        self.start = [{"role": "system", "content": system}] if system else []
        self.messages = list(self.start)

    def run(self) -> None:
        """Until /exit or the end of the input."""
        name = self.llm.checkpoint.name
        if not self.llm.tokenizer.has_chat_template:
            raise UsageError(f"{name} has no chat template, it was not made for conversations: try generate")
        if sys.stdin.isatty():
            note(f"{name}, context of {self.llm.max_context} tokens. /help for help.")
        while (line := self._read()) is not None:
            if line.startswith("/"):
                if line == "/exit":
                    return
                self._obey(line)
            elif line:
                self._answer(line)

    def _read(self) -> str | None:
        """The next line; None at the end of the input."""
        if not sys.stdin.isatty():
            line = sys.stdin.readline()
            return line.strip() if line else None
        import readline  # noqa: F401 - gives input() its editing and history

        try:
            return input("> ").strip()
        except EOFError:
            note()
            return None
        except KeyboardInterrupt:
            note("\n/exit or Ctrl-D leaves.")
            return ""

    def _obey(self, line: str) -> None:
        if line == "/reset":
            self.messages = list(self.start)
            note("The conversation is forgotten.")
        else:
            note(HELP if line == "/help" else f"there is no {line.split()[0]}:\n{HELP}")

    def _answer(self, line: str) -> None:
        """Stream the answer to one line; what was said when Ctrl-C came is kept."""
        self.messages.append({"role": "user", "content": line})
        try:
            request = self.llm.submit(self._fit(), self.params)  # refuses what has no room
        except IntaglioError as error:
            self.messages.pop()
            note(f"{ERROR}{error}")
            return
        with stoppable() as stopped:
            while not (request.finished or stopped()):
                self.llm.step()
                _write(request.fresh())
        self.llm.drop(request)
        _write(request.fresh() + "\n")
        self.messages.append({"role": "assistant", "content": request.text})
        if not self.quiet:
            note(statistics(request.timing) + ENDS.get(request.finish_reason or "", ""))

    def _fit(self) -> list[int]:
        """The prompt's tokens, after forgetting as many of the oldest messages as it takes."""
        room = min(self.params.max_tokens, ROOM)
        forgotten, oldest = 0, len(self.start)
        tokens = self.llm.chat_prompt(self.messages)
        while len(tokens) + room > self.llm.max_context and len(self.messages) > oldest + 1:
            del self.messages[oldest : oldest + 2]  # a question and its answer
            forgotten += 2
            tokens = self.llm.chat_prompt(self.messages)
        if forgotten:
            note(
                f"(the context of {self.llm.max_context} tokens is full:"
                f" the oldest {forgotten} messages are forgotten)"
            )
        return tokens


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks to stop instead of interrupting a step half done; a second one interrupts."""
    presses: list[int] = []

    def pressed(number: int, frame: Any) -> None:
        if presses:
            raise KeyboardInterrupt
        presses.append(number)

    previous = signal.signal(signal.SIGINT, pressed)
    try:
        yield lambda: bool(presses)
    finally:
        signal.signal(signal.SIGINT, previous)
