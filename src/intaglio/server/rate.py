"""A rate: events a second, over the last few seconds."""

from __future__ import annotations

WINDOW = 5  # seconds


class Rate:
    """A ring of counts, one a second. One thread adds, any may read; `now` is monotonic seconds."""

    def __init__(self) -> None:
        self._counts = [0] * WINDOW
        self._seconds = [-WINDOW] * WINDOW  # which second each count is of

    def add(self, count: int, now: float) -> None:
        """So many events happened just now."""
        second = int(now)
        at = second % WINDOW
        if self._seconds[at] != second:
            self._counts[at] = 0  # first: a reader must not take the old count for this second's
            self._seconds[at] = second
        self._counts[at] += count

    def per_second(self, now: float) -> float:
        """The mean over the second that is under way and those before it in the ring."""
        oldest = int(now) - WINDOW + 1
        counted = sum(n for n, at in zip(self._counts, self._seconds, strict=True) if at >= oldest)
        return counted / (now - oldest) if now > oldest else 0.0
