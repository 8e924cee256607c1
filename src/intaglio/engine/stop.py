"""Stop strings: text is held back while it may still become one."""

from __future__ import annotations

from collections.abc import Sequence


class StopBuffer:
    """Pieces of text go in, text that certainly precedes any stop string comes out."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.matched: str | None = None

    def push(self, piece: str) -> str:
        """What can be shown now. After a match `matched` is set and nothing more comes out."""
        if self.matched is not None:
            return ""
        text = self._held + piece
        found = [(text.find(stop), -len(stop), stop) for stop in self._stops if stop in text]
        if found:
            at, _, self.matched = min(found)  # the earliest; of those that begin together the longest
            self._held = ""
            return text[:at]
        keep = max((overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, when no more text will come."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[len(text) - n :])), 0)
